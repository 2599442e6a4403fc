"""A task made of two functions: the step of a training script, and its scores."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from dynnas.errors import DynnasError, TaskError
from dynnas.metric import Direction, Metric
from dynnas.tasks.importing import imported
from dynnas.tasks.registry import TASKS
from dynnas.tasks.scored import ScoredModel
from dynnas.tasks.task import Task

Model = Callable[[Any], Tensor]
"""The model that the functions get for a network: from images (B, C, H, W) to its outputs (B, ...)."""

Step = Callable[[Model, tuple[Any, Any]], Tensor]
Score = Callable[[Model, Iterable[tuple[Tensor, Tensor]]], Mapping[str, float]]

_FUNCTIONS = ("step", "score", "head", "distill", "confidence")


@TASKS.register("functions")
class Functions(Task):
    """A task of two functions, as training scripts have them.

    Both get a model to be called, and batches (images, targets): images (B, C, H, W) as networks get them,
    normalised and at the size of the data, and targets (B, ...) as the data give them. In a training the
    model is one of the networks that a step trains, called as often as the function likes; in a score it is a
    finished network. On the batch as it came, it answers without being run again.

    Args:
        step: from a model and a batch to the loss, one number for each image (B,) or their mean (). Gates
            that learn by the loss of each image need the former.
        score: from a model and batches, which can be gone through often, to numbers by the names of
            `metrics`.
        metrics: "maximize" or "minimize" by name; the first ranks candidates, and each is an objective or a
            limit.
        name: of the task in studies.
        outputs: how many numbers a network gives for an image or a place; networks of space files ask for it.
        answers: what an output answers for: image, pixels or boxes; heads of space files say the same.
        head: builds the head from the channels and the strides of maps, the finest first; see `Task.head`.
        distill: from outputs and a teacher's (B, ...) to the loss of each image (B,). Without it that is the
            mean squared difference (Ba and Caruana 2014, arXiv:1312.6184).
        confidence: from outputs (B, ...) to how sure they are, from 0 to 1, (B,); exits need it.

    A function may be the text `package.module:function`, as space files have it. Workers, and the process
    that opens a study, import it by that name.

    Raises:
        TaskError: a metric has no direction, or there is none; what should be a function is none.
        DataError: a text names nothing that can be imported.

    Example: an autoencoder, whose targets nobody reads.

        >>> import torch
        >>> import dynnas
        >>> def step(model, batch):
        ...     images, _ = batch
        ...     return (model(images) - images).square().flatten(1).mean(1)
        >>> def score(model, batches):
        ...     errors = torch.cat([step(model, batch) for batch in batches])
        ...     return {"psnr": -10 * errors.mean().log10()}
        >>> task = dynnas.tasks.Functions(step, score, {"psnr": "maximize"})
        >>> images, blurred = torch.zeros(4, 1, 8, 8), lambda images: images + 0.1
        >>> model = dynnas.tasks.ScoredModel(blurred(images), images, images.__getitem__, blurred)
        >>> round(task.score_model(model)["psnr"], 3)
        20.0
    """

    name = "functions"
    metrics: tuple[Metric, ...] = ()  # each has its own

    def __init__(
        self,
        step: Step | str,
        score: Score | str,
        metrics: Mapping[str, Direction],
        *,
        name: str = "functions",
        outputs: int | None = None,
        answers: str = "image",
        head: Callable[[Sequence[int], Sequence[int]], nn.Module] | str | None = None,
        distill: Callable[[Tensor, Tensor], Tensor] | str | None = None,
        confidence: Callable[[Tensor], Tensor] | str | None = None,
    ) -> None:
        if not isinstance(metrics, Mapping) or not metrics:
            raise TaskError(f"task {name}: it needs at least one metric, such as metrics: {{psnr: maximize}}")
        for metric, direction in metrics.items():
            if direction not in ("maximize", "minimize"):
                raise TaskError(
                    f"task {name}: metric {metric!r} is to be {direction!r}; say maximize or minimize"
                )
        self.name, self._outputs, self.answers = name, outputs, answers
        self.metrics = tuple(Metric(str(each), "", way, str(each)) for each, way in metrics.items())
        given = zip(_FUNCTIONS, (step, score, head, distill, confidence), strict=True)
        self._given = {option: each for option, each in given if each is not None}
        self._calls = self._called()
        # Without modules: a function of a script has another one where it is imported.
        called = {option: _name(each).rpartition(":")[2] for option, each in self._given.items()}
        self.identity = tuple(f"{key} {value}" for key, value in {**self.facts(), **called}.items())

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Self:
        """See `Task.of_options`.

        Raises:
            TaskError: step, score or metrics are not said either.
        """
        if missing := [each for each in ("step", "score", "metrics") if each not in options]:
            raise TaskError(
                f"data.task_options: the task functions needs {', '.join(missing)}; say task_options: "
                "{step: package.module:function, score: package.module:function, metrics: {name: maximize}}"
            )
        return super().of_options(options)

    def _called(self) -> dict[str, Callable[..., Any]]:
        found = {}
        for option, each in self._given.items():
            call = imported(each, f"task {self.name}: {option}") if isinstance(each, str) else each
            if not callable(call):
                raise TaskError(f"task {self.name}: {option} is {each!r}; needed is a function")
            found[option] = call
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_calls"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._calls = self._called()

    @property
    def outputs(self) -> int:
        """Return the number that was given; 0 if none was."""
        return self._outputs or 0

    @property
    def has_own_head(self) -> bool:
        """True if a function for the head was given."""
        return "head" in self._calls

    def head(self, in_channels: Sequence[int], strides: Sequence[int], *, dropout: float = 0.0) -> nn.Module:
        """Build what the function builds; dropout is its own affair."""
        if "head" not in self._calls:
            return super().head(in_channels, strides, dropout=dropout)
        built: nn.Module = self._calls["head"](in_channels, strides)
        return built

    def step(self, model: Model, batch: tuple[Any, Any]) -> Tensor:
        """Return the loss of the function for each image, its mean for each where it says no more: (B,).

        Raises:
            TaskError: it is neither one number nor one for each image.
        """
        losses, count = self._call("step", model, batch), len(batch[1])
        if not isinstance(losses, Tensor) or losses.shape not in ((), (count,)):
            told = tuple(losses.shape) if isinstance(losses, Tensor) else f"a {type(losses).__name__}"
            raise TaskError(
                f"task {self.name}: its step gives {told} for {count} images; needed is a tensor with their "
                "mean loss (), or with the loss of each (B,)"
            )
        return losses.expand(count)

    def _call(self, option: str, *given: Any) -> Any:
        """Call a function of the user, and say where it raised an error, if it does."""
        try:
            return self._calls[option](*given)
        except DynnasError:
            raise
        except Exception as error:  # whatever a stranger's function may raise
            *_, (frame, line) = traceback.walk_tb(error.__traceback__)
            raise TaskError(
                f"task {self.name}: its {option} raised {type(error).__name__}: {error} "
                f"({frame.f_code.co_filename}, line {line}, in {frame.f_code.co_name})"
            ) from error

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss (B,) of a step that calls its model once, with the images as they came.

        Raises:
            TaskError: the step needs the images for something else.
        """
        return self.step(lambda images: self._said(images, output), (_NoImages(self.name), target))

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Return the scores by a function that calls its model once, with the images as they came.

        Raises:
            TaskError: it needs the images for something else, or as of `score_model`.
        """
        return self._scores(lambda images: self._said(images, outputs), [(_NoImages(self.name), targets)])

    def _said(self, images: Any, outputs: Tensor) -> Tensor:
        if not isinstance(images, _NoImages):
            raise TaskError(
                f"task {self.name}: where outputs are all that is known, no other image can be seen"
            )
        return outputs

    def score_model(self, model: ScoredModel) -> Mapping[str, float]:
        """Return the scores of the function, in the order of `metrics`.

        Raises:
            TaskError: one is missing, or is not named by `metrics`.
        """
        return self._scores(model, model.batches)

    @torch.no_grad()
    def _scores(self, model: Model, batches: Iterable[tuple[Any, Any]]) -> Mapping[str, float]:
        found = self._call("score", model, batches)
        names = [metric.name for metric in self.metrics]
        if not isinstance(found, Mapping) or {*found} != {*names}:
            told = ", ".join(map(str, found)) if isinstance(found, Mapping) else f"a {type(found).__name__}"
            raise TaskError(
                f"task {self.name}: its score function gives {told or 'nothing'}, and its metrics are "
                f"{', '.join(names)}; needed is one number for each, by its name"
            )
        return {name: float(found[name]) for name in names}

    def distill(self, output: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the loss of the function, or the mean squared difference; there is no temperature.

        Raises:
            TaskError: outputs have other shapes than the teacher's, and no function was given.
        """
        if "distill" in self._calls:
            taught: Tensor = self._calls["distill"](output, teacher)
            return taught
        if output.shape != teacher.shape:
            raise TaskError(
                f"task {self.name}: an output of {tuple(output.shape[1:])} numbers cannot be compared with "
                f"its teacher's of {tuple(teacher.shape[1:])}; give distill, let all networks have one size "
                "of output, or leave out train.algorithms.in_place_distillation"
            )
        return (output - teacher).square().flatten(1).mean(1)

    def confidence(self, output: Tensor, criterion: str = "confidence") -> Tensor:
        """See `Task.confidence`."""
        if "confidence" not in self._calls:
            return super().confidence(output, criterion)
        sure: Tensor = self._calls["confidence"](output)
        return sure

    def summary(self, targets: Tensor) -> str:
        """See `Task.summary`."""
        shape = "x".join(map(str, targets.shape[1:]))
        scores = ", ".join(metric.name for metric in self.metrics)
        told = f"{shape} numbers" if shape else "one number"
        return f"task {self.name}, scored by {scores}, with targets of {told}"

    def facts(self) -> Mapping[str, Any]:
        """Return the names of the functions and the metrics, with their directions."""
        return {
            "task": self.name,
            "outputs": self.outputs,
            "answers": self.answers,
            "metrics": {metric.name: metric.direction for metric in self.metrics},
            **{option: _name(each) for option, each in self._given.items()},
        }


def _name(function: Any) -> str:
    """Return the text by which a function can be imported, or as near as can be."""
    if isinstance(function, str):
        return function
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{getattr(function, '__module__', '')}:{name}"


_MOVES = ("to", "cpu", "cuda", "float", "contiguous")
"""The methods that scripts call of a batch before they give it to a model."""


class _NoImages:
    """A stand-in for images where only outputs are known: whatever is done with it says so."""

    def __init__(self, task: str) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _MOVES:
            return lambda *given, **options: self
        raise self._refusal()

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise next((each for each in args if isinstance(each, cls)), cls("functions"))._refusal()

    def _refusal(self) -> TaskError:
        return TaskError(
            f"task {self._task}: its functions look at the images themselves, which are not known here, "
            "where outputs are compared with targets alone"
        )
