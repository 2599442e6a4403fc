"""Label smoothing."""

from __future__ import annotations

from dataclasses import dataclass

from dynnas.training.algorithm import Algorithm, Run, register_algorithm, setting


@register_algorithm("label_smoothing")
@dataclass(eq=False)
class LabelSmoothing(Algorithm):
    """Targets give a part of their weight to all classes alike (Szegedy et al. 2016, arXiv:1512.00567).

    What else reads the task's loss, such as how easy an image is, reads it without smoothing.
    """

    name = "label_smoothing"

    share: float = setting(0.1, "what the other classes get", minimum=0.0, maximum=0.99)

    def on_start(self, run: Run) -> None:
        """Use the smoothed loss of targets."""
        if self.share:
            run.target_loss = run.loss_of(run.task.smoothed(self.share))
