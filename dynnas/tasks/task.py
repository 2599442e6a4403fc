"""The contract of a task: the meaning of a network's outputs and of its inputs' targets.

Outside of `dynnas.tasks` outputs and targets are tensors whose first axis is the batch, and nothing else is
known about them.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from dynnas.errors import TaskError, nearest
from dynnas.metric import Metric
from dynnas.tasks.intervals import Interval, mean_interval
from dynnas.tasks.scored import ScoredModel
from dynnas.tasks.view import View


class Task(ABC):
    """The meaning of outputs and targets.

    `outputs`, `loss` and `score` are what a task must have. The rest has a default, which is a refusal with a
    reason where there can be no other: a network with early exits needs `confidence`, a search with
    in-place distillation `distill`.

    Every method works on a batch: outputs (B, ...) and targets (B, ...), on the device where they are.

    Attributes:
        name: by which networks and studies name their task.
        metrics: what `score` gives; the first ranks candidates unless another is asked for.
        names: of the values that a target may have, such as classes, in their order; empty if it has none.
        answers: what an output answers for: "image" for one row of numbers, "pixels" for a map of them, or
            "boxes". Heads of space files say the same.
        criteria: by what an exit may be told how sure it is, besides `learned`.
        identity: what else than its name tells one task from another, in words; studies compare it.
    """

    name: str
    metrics: tuple[Metric, ...]
    names: tuple[str, ...] = ()
    answers: str = "image"
    criteria: ClassVar[tuple[str, ...]] = ("confidence",)
    identity: tuple[str, ...] = ()

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Self:
        """Make the task with options by name, as a space file gives them: arguments of its class.

        Raises:
            TaskError: it has no such argument, or refuses the value.
        """
        known = [name for name in inspect.signature(cls).parameters if name not in cls.made_of]
        for name in options:
            if name not in known:
                raise TaskError(
                    f"data.task_options: the task {cls.name} has no {name!r}{nearest(name, known)}; allowed: "
                    f"{', '.join(known) or 'none'}"
                )
        try:
            return cls(**options)
        except (TypeError, ValueError) as error:
            raise TaskError(f"data.task_options: {cls.name} does not take them ({error})") from error

    made_of: ClassVar[frozenset[str]] = frozenset()
    """The arguments that no text can say."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Return how many numbers a network gives for an image, or for each place: the size of its head."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each image: (B,)."""

    @abstractmethod
    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Return the value of each of `metrics` over a whole split, outputs (N, ...) and targets (N, ...)."""

    def step(self, model: Callable[[Any], Tensor], batch: tuple[Any, Any]) -> Tensor:
        """Return the loss of each image (B,) of a training's batch; by default `loss` of what the model says.

        Args:
            model: from inputs to outputs (B, ...): one output of a network that is trained. What it says of
                the batch's own inputs is known; of any others, the network is run once more.
            batch: inputs (B, ...) and targets (B, ...).
        """
        inputs, targets = batch
        return self.loss(model(inputs), targets)

    def score_model(self, model: ScoredModel) -> Mapping[str, float]:
        """Return the value of each of `metrics` for a model; by default `score` of its outputs."""
        return self.score(model.outputs, model.targets)

    def intervals(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Interval]:
        """Return the 95% interval of scores over a split, (N, ...) both, by the names of metrics.

        By default there is none. `dynnas.tasks.intervals` has what a task may take: Wilson's for shares of
        images, the bootstrap for whatever can be computed a few hundred times.
        """
        return {}

    def gain(self, outputs: Tensor, others: Tensor, targets: Tensor) -> tuple[float, float, float] | None:
        """Return how much better `outputs` (N, ...) answer than `others`, with its 95% interval.

        It is the mean difference of `quality`, image by image, with its low and its high end; None where
        the quality of a single answer is not known.
        """
        try:
            return mean_interval(self.quality(outputs, targets) - self.quality(others, targets))
        except TaskError:
            return None

    def head(self, in_channels: Sequence[int], strides: Sequence[int], *, dropout: float = 0.0) -> nn.Module:
        """Build the head, from maps of a backbone to an output (B, ...).

        It is called with the maps [(B, Ci, Hi, Wi), ...], the finest first. Networks of space files end in
        it where `head: {kind: task}` says so; `dynnas.tasks.WithHead` puts it on any backbone.

        Args:
            in_channels: of each map, the finest first.
            strides: pixels of the image between two places of each map.
            dropout: probability, before the last layer.

        Raises:
            TaskError: the task has none; its networks must bring their own.
        """
        raise TaskError(
            f"task {self.name}: it has no head, so only networks of your own can be trained for it "
            "(Space.of(...)); for others let it define head(in_channels, strides, *, dropout)"
        )

    @property
    def has_own_head(self) -> bool:
        """True if it says which head stands on a backbone, and is none of the tasks that come with dynnas."""
        owner = next(each for each in type(self).__mro__ if "head" in vars(each))
        return not owner.__module__.startswith("dynnas.tasks.")

    def rescaled(self, output: Tensor, scale: tuple[float, float]) -> Tensor:
        """Return an output (B, ...) of images that were seen at another size, in pixels of the data.

        By default it is `output`, which is not in pixels.

        Args:
            scale: pixels of the data for one pixel that was seen, along x and y.
        """
        return output

    def distill(self, output: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the loss of each image with a `teacher`'s output as its target: (B,).

        Its gradient is as large as that of `loss` at any temperature. Outputs that have none take no notice.

        Raises:
            TaskError: the task cannot be taught so.
        """
        raise TaskError(
            f"task {self.name}: outputs cannot be distilled; leave out "
            "train.algorithms.in_place_distillation, or let the task define "
            "distill(output, teacher, temperature)"
        )

    def distill_alpha(
        self,
        output: Tensor,
        teacher: Tensor,
        temperature: float = 1.0,
        *,
        alphas: Sequence[float] = (-1.0, 1.0),
        clip: float = 5.0,
    ) -> Tensor:
        """Return the loss of each image by the largest of several alpha-divergences from its teacher: (B,).

        Args:
            temperature: as of `distill`.
            alphas, clip: as `dynnas.tasks.divergence` takes them.

        Raises:
            TaskError: outputs are no distributions.
        """
        raise TaskError(
            f"task {self.name}: its outputs are not distilled by alpha-divergences; say divergence: kl in "
            "train.algorithms.in_place_distillation, or let the task define "
            "distill_alpha(output, teacher, temperature, *, alphas, clip)"
        )

    def confidence(self, output: Tensor, criterion: str = "confidence") -> Tensor:
        """Return the confidence of each output, from 0 to 1: (B,).

        Args:
            criterion: one of `criteria`.

        Raises:
            TaskError: outputs do not tell.
        """
        raise TaskError(
            f"task {self.name}: its outputs do not tell how sure they are, so no image can leave a network "
            "early; take a space without exits, or let the task define confidence(output, criterion)"
        )

    def quality(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the quality of the answer for each image, from 0 to 1 (right): (B,).

        Their mean is not always one of the scores. Early exits and gates learn by it.

        Raises:
            TaskError: that cannot be told of a single image.
        """
        raise TaskError(
            f"task {self.name}: how good a single answer is, is not known; let the task define "
            "quality(output, target), or take a space without exits and leave out "
            "train.algorithms.gate_guidance"
        )

    def agrees(self, output: Tensor, other: Tensor) -> Tensor:
        """Return whether two outputs for each image agree, up to rounding: (B,) bool.

        By default they do, for their numbers are compared anyhow; classes may differ by next to nothing.
        """
        return torch.ones(len(output), dtype=torch.bool, device=output.device)

    def moved(self, target: Tensor, view: View) -> Tensor:
        """Return where the targets (B, ...) of images lie in the varied ones, that show `view`: (B, ...).

        By default a target belongs to its image as a whole, and stays what it is.

        Raises:
            TaskError: a target is of places in its image, and the task does not say how it moves.
        """
        if target.ndim <= 2:
            return target
        raise TaskError(
            f"task {self.name}: how targets of shape {tuple(target.shape[1:])} move with their images is not "
            "known; say data.augment: none, let the data set itself vary both, or let the task define "
            "moved(target, view)"
        )

    def difference(self, output: Tensor, other: Tensor) -> Tensor:
        """Return how far two outputs for each image lie apart: (B,), by default the largest of any number."""
        return (output - other).abs().flatten(1).amax(1)

    def in_shape(self, output: Tensor, shape: Sequence[int]) -> Tensor:
        """Return an output (B, ...) as the answer of a larger `shape` (...) that says the same.

        Networks of a cascade answer alike by it. It is in operations that can be exported.

        Raises:
            TaskError: it has another shape, and the task does not say what the answer would be.
        """
        if tuple(output.shape[1:]) == tuple(shape):
            return output
        raise TaskError(
            f"task {self.name}: one network answers in the shape {tuple(output.shape[1:])} and another in "
            f"{tuple(shape)}; the networks of a cascade answer in one shape: take such networks, or let the "
            "task define in_shape(output, shape)"
        )

    def doubt(self, output: Tensor) -> Tensor:
        """Return the numbers (B, `doubts`) that an exit of the criterion `learned` reads of its output."""
        return self.confidence(output)[:, None]

    doubts: ClassVar[int] = 1
    """The number of values that `doubt` returns."""

    def post(self, output: Tensor) -> Tensor:
        """Return a shipped model's result for `output` (B, ...), in operations that can be exported.

        By default it is `output` itself.
        """
        return output

    def of_data(self, targets: Tensor, names: Sequence[str] = ()) -> Self:
        """Return the task with the facts that only data can tell, such as the number of classes.

        The targets are checked.

        Args:
            targets: of the training split, (N, ...). names: of the values that they may have, if known.

        Raises:
            TaskError: the targets are not of this task, or contradict what it was made with.
        """
        return self

    def summary(self, targets: Tensor) -> str:
        """Describe the targets of a split in a few words: (N, ...)."""
        shape = "x".join(map(str, targets.shape[1:]))
        return f"{self.name} of {f'{shape} numbers' if shape else 'one number'}"

    def missing(self, targets: Tensor) -> tuple[str, ...]:
        """Return the `names` that no target of a split (N, ...) has: its score says nothing about them."""
        return ()

    def describe(self, output: Tensor) -> str:
        """Describe an output of one image, (...), in a word or two."""
        return "x".join(map(str, output.shape))

    def describe_target(self, target: Tensor) -> str:
        """Describe the target of one image, (...), in a word or two."""
        return "x".join(map(str, target.shape))

    def smoothed(self, share: float) -> Self:
        """Return the task with label smoothing: the loss spreads this share of every target over all classes.

        Of a task that says by itself how, or whose targets cannot be spread, it is the task itself.
        """
        return self

    def facts(self) -> Mapping[str, Any]:
        """Return the facts that name the task and its options, as JSON.

        They are equal where training and scores are equal.
        """
        return {"task": self.name, "outputs": self.outputs}
