"""The conformance suite of tasks: `check_task` over any task and targets of its kind."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dynnas.errors import TaskError
from dynnas.tasks.task import Task
from dynnas.testing.measurements import check_metric

_CHANNELS = 8
_FIT_STEPS = 200
_SPOIL_STEPS = 40
_RATE = 0.05


@dataclass(frozen=True)
class TaskExample:
    """A task with targets, and outputs from bad to good.

    Attributes:
        task: after `of_data`.
        given: the task as it was given, after `of_data`.
        untouched: the attributes of the task before `of_data`.
        targets: (N, ...).
        untrained: outputs (N, ...) of a tiny network as it was made.
        fitted: its outputs after training by the loss of the task, with features of each image to learn.
        wrong: its outputs after training against the loss.
    """

    task: Task
    given: Task
    untouched: Mapping[str, Any]
    targets: Tensor
    untrained: Tensor
    fitted: Tensor
    wrong: Tensor

    def of_each(self, outputs: Tensor, rate: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return what `rate` gives for each image alone, one after another: (N, ...)."""
        alone = zip(outputs.split(1), self.targets.split(1), strict=True)
        return torch.cat([rate(output, target) for output, target in alone])


def check_task(
    task: Task,
    targets: Tensor,
    *,
    names: Sequence[str] = (),
    outputs: Tensor | None = None,
    size: tuple[int, int] = (8, 8),
) -> None:
    """Check all that training, search, exits and export rely on.

    A tiny network is trained by the loss of the task until its outputs fit, and another one against it. The
    scores must tell them apart, and what is asked of one image must be the same in any batch.

    Args:
        task: to check, before or after `of_data`.
        targets: (N, ...) of some images, eight or more, as a data set gives them.
        names: of the values that targets may have, if data would tell them.
        outputs: (N, ...) of an untrained network, for a task without a head.
        size: height and width of the feature maps that the head gets, here those of the images.

    Raises:
        AssertionError: the task breaks the contract; says how.
    """
    example = task_example(task, targets, names=names, outputs=outputs, size=size)
    for check in task_checks():
        check(example)


def task_checks() -> Iterator[Callable[[TaskExample], None]]:
    """Yield the checks one by one, for parametrised tests."""
    yield check_declaration
    yield check_that_data_are_taken
    yield check_head
    yield check_loss
    yield check_that_training_helps
    yield check_scores
    yield check_quality
    yield check_confidence
    yield check_distillation
    yield check_agreement
    yield check_shipping
    yield check_words
    yield check_smoothing


def task_example(
    task: Task,
    targets: Tensor,
    *,
    names: Sequence[str] = (),
    outputs: Tensor | None = None,
    size: tuple[int, int] = (8, 8),
) -> TaskExample:
    """Train what the checks look at; arguments are those of `check_task`.

    Raises:
        AssertionError: the loss cannot train anything.
        TaskError: the task refuses the targets, or has no head and no `outputs` are given.
    """
    before = dict(vars(task))
    known = task.of_data(targets, names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = torch.randn(len(targets), _CHANNELS, *size)
        head = nn.Identity() if outputs is not None else known.head([_CHANNELS], [1])
        start = features if outputs is None else outputs.detach().float()
        untrained = _said(head, start).detach()
        fitted = _trained(known, head, start, targets, _FIT_STEPS)
        wrong = _trained(known, head, start, targets, -_SPOIL_STEPS)
    return TaskExample(known, task, before, targets, untrained, fitted, wrong)


def _trained(task: Task, head: nn.Module, features: Tensor, targets: Tensor, steps: int) -> Tensor:
    """Learn features and a copy of the head, below zero `steps` against the loss, and return outputs."""
    head = pickle.loads(pickle.dumps(head))
    learnt = features.clone().requires_grad_()
    optimizer = torch.optim.Adam([learnt, *head.parameters()], lr=_RATE)
    for _ in range(abs(steps)):
        optimizer.zero_grad()
        losses = task.loss(_said(head, learnt), targets)
        assert losses.requires_grad, f"task {task.name}: no gradient passes through its loss"
        (losses.sum() if steps > 0 else -losses.sum()).backward()
        optimizer.step()
    return _said(head, learnt).detach()


def _said(head: nn.Module, features: Tensor) -> Tensor:
    return head(features if isinstance(head, nn.Identity) else [features])


def check_declaration(example: TaskExample) -> None:
    """Check that the task has a name, metrics with directions, and facts that a study can keep."""
    task = example.task
    assert task.name.isidentifier(), f"{task.name!r} is no name for a space file"
    assert task.metrics, f"task {task.name}: it has no metrics"
    names = [metric.name for metric in task.metrics]
    assert len({*names}) == len(names), f"task {task.name}: a metric is there twice: {names}"
    for metric in task.metrics:
        check_metric(metric, f"task {task.name}")
    try:
        facts = json.dumps(task.facts(), sort_keys=True)
    except TypeError as error:
        raise AssertionError(f"task {task.name}: its facts are no JSON: {error}") from error
    try:
        sent = pickle.loads(pickle.dumps(task))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise AssertionError(f"task {task.name}: it cannot be sent to a worker: {error}") from error
    there = json.dumps(sent.facts(), sort_keys=True)
    assert there == facts, f"task {task.name}: its facts are {facts}, and of a copy {there}"


def check_that_data_are_taken(example: TaskExample) -> None:
    """Check that `of_data` gives a new task of the same class, and can be repeated."""
    given, task = example.given, example.task
    again = task.of_data(example.targets, task.names)
    assert vars(given) == example.untouched, (
        f"task {task.name}: of_data changes the task; let it return a new one"
    )
    assert type(task) is type(given), f"task {task.name}: of_data gives a {type(task).__name__}"
    assert again.facts() == task.facts(), (
        f"task {task.name}: of_data of what it gave says {dict(again.facts())}, not {dict(task.facts())}"
    )


def check_head(example: TaskExample) -> None:
    """Check that the head gives one output for each image, of any size, and as many numbers as said."""
    task = example.task
    for each in ([2], [2, 4]):
        try:
            head = task.head([_CHANNELS] * len(each), each, dropout=0.5).eval()
        except TaskError:
            return
        for height, width in ((12, 8), (16, 16)):
            maps = [torch.ones(3, _CHANNELS, height // stride, width // stride) for stride in each]
            output = head(maps)
            assert isinstance(output, Tensor), f"task {task.name}: its head gives a {type(output).__name__}"
            assert len(output) == 3, f"task {task.name}: its head gives {tuple(output.shape)} for 3 images"
            if task.answers == "image":
                told = f"task {task.name}: its head gives {tuple(output.shape)}; answers says"
                assert output.shape == (3, task.outputs), f"{told} (3, {task.outputs})"
            assert torch.equal(output, head(maps)), f"task {task.name}: its head draws in eval mode"


def check_loss(example: TaskExample) -> None:
    """Check that the loss is a finite number for each image, by its own output and target alone."""
    task = example.task
    for outputs in (example.untrained, example.fitted, example.wrong):
        before = outputs.clone(), example.targets.clone()
        losses = task.loss(outputs, example.targets)
        assert torch.equal(before[0], outputs), f"task {task.name}: loss changes the outputs"
        assert torch.equal(before[1], example.targets), f"task {task.name}: loss changes the targets"
        _check_numbers(example, "loss", losses)
        _check_each(example, "loss", losses, example.of_each(outputs, task.loss))


def check_that_training_helps(example: TaskExample) -> None:
    """Check that training by the loss makes it smaller, and training against it larger."""
    task = example.task
    fitted, untrained, wrong = (
        task.loss(outputs, example.targets).mean().item()
        for outputs in (example.fitted, example.untrained, example.wrong)
    )
    assert fitted < untrained, (
        f"task {task.name}: its loss was {untrained:.4g}, and {fitted:.4g} after training by it"
    )
    assert wrong > untrained, (
        f"task {task.name}: its loss was {untrained:.4g}, and {wrong:.4g} after training against it"
    )


def check_scores(example: TaskExample) -> None:
    """Check that scores are finite, tell good outputs from bad, and do not depend on the order of images."""
    task, targets = example.task, example.targets
    good, bad = (_scores(example, outputs, targets) for outputs in (example.fitted, example.wrong))
    for metric in task.metrics:
        gain = good[metric.name] - bad[metric.name]
        gain = gain if metric.direction == "maximize" else -gain
        least = math.ulp(0.0) if metric == task.metrics[0] else 0.0
        assert gain >= least, (
            f"task {task.name}: {metric.name} (to {metric.direction}) is {good[metric.name]:.4g} for outputs "
            f"that fit, and {bad[metric.name]:.4g} for outputs of the largest loss"
        )
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(1))
    shuffled = _scores(example, example.untrained[order], targets[order])
    for name, value in _scores(example, example.untrained, targets).items():
        assert math.isclose(value, shuffled[name], rel_tol=1e-5, abs_tol=1e-6), (
            f"task {task.name}: {name} is {value:.6g}, and {shuffled[name]:.6g} in another order of images"
        )


def _scores(example: TaskExample, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
    task = example.task
    before = outputs.clone(), targets.clone()
    scores = task.score(outputs, targets)
    names = {metric.name for metric in task.metrics}
    assert {*scores} == names, f"task {task.name}: score gives {sorted(scores)}; metrics are {sorted(names)}"
    for name, value in scores.items():
        assert isinstance(value, int | float), f"task {task.name}: {name} is {value!r}, which is no number"
        assert math.isfinite(value), f"task {task.name}: {name} is {value!r}"
    assert torch.equal(before[0], outputs), f"task {task.name}: score changes the outputs"
    assert torch.equal(before[1], targets), f"task {task.name}: score changes the targets"
    return scores


def check_quality(example: TaskExample) -> None:
    """Check that quality lies in 0 to 1 and is larger where outputs fit; a task may refuse it."""
    task, targets = example.task, example.targets
    try:
        fitted, wrong = task.quality(example.fitted, targets), task.quality(example.wrong, targets)
    except TaskError:
        return
    for outputs, found in ((example.fitted, fitted), (example.wrong, wrong)):
        _check_share(example, "quality", found)
        _check_each(example, "quality", found, example.of_each(outputs, task.quality))
    good, bad = float(fitted.float().mean()), float(wrong.float().mean())
    assert good > bad, (
        f"task {task.name}: the mean quality is {good:.4g} for outputs that fit, and {bad:.4g} for outputs "
        "of the largest loss"
    )


def check_confidence(example: TaskExample) -> None:
    """Check that each criterion gives a number in 0 to 1 for each image; tasks may refuse all of them."""
    task = example.task
    try:
        task.confidence(example.untrained)
    except TaskError:
        return
    for criterion in task.criteria:
        for outputs in (example.untrained, example.fitted):
            found = task.confidence(outputs, criterion)
            _check_share(example, f"confidence by {criterion}", found)
            alone = [task.confidence(output, criterion) for output in outputs.split(1)]
            _check_each(example, f"confidence by {criterion}", found, torch.cat(alone))
    doubt = task.doubt(example.untrained)
    expected = (len(example.targets), task.doubts)
    assert doubt.shape == expected, f"task {task.name}: doubt gives {tuple(doubt.shape)}, not {expected}"
    assert torch.isfinite(doubt).all(), f"task {task.name}: doubt is not finite"


def check_distillation(example: TaskExample) -> None:
    """Check that nothing is left to learn from a teacher that says the same; a task may refuse."""
    task, teacher = example.task, example.untrained
    for name, distill in (("distill", task.distill), ("distill_alpha", task.distill_alpha)):
        try:
            distill(example.fitted, teacher)
        except TaskError:
            continue
        for temperature in (1.0, 4.0):
            _check_taught(example, f"{name} at temperature {temperature:g}", distill, temperature)


def _check_taught(example: TaskExample, where: str, distill: Callable[..., Tensor], heat: float) -> None:
    teacher, about = example.untrained, f"task {example.task.name}: {where}"
    outputs = [each.clone().requires_grad_() for each in (teacher, example.fitted)]
    same, other = (distill(each, teacher, heat) for each in outputs)
    _check_numbers(example, where, other)
    at_teacher, elsewhere = (
        torch.autograd.grad(loss.sum(), output)[0].abs().max().item()
        for loss, output in zip((same, other), outputs, strict=True)
    )
    assert elsewhere > 0, f"{about}: no gradient reaches the outputs"
    assert at_teacher <= 1e-3 * max(1.0, elsewhere), (
        f"{about}: what says the same as the teacher is still to change"
    )
    assert (same <= other + 1e-5).all(), f"{about}: other outputs have a smaller loss than the teacher's own"
    pairs = zip(example.fitted.split(1), teacher.split(1), strict=True)
    _check_each(example, where, other, torch.cat([distill(*pair, heat) for pair in pairs]))


def check_agreement(example: TaskExample) -> None:
    """Check that outputs agree with themselves."""
    task = example.task
    same = task.agrees(example.fitted, example.fitted.clone())
    expected = (len(example.targets),)
    assert same.dtype == torch.bool, f"task {task.name}: agrees gives {same.dtype}, not torch.bool"
    assert same.shape == expected, f"task {task.name}: agrees gives {tuple(same.shape)}, not {expected}"
    assert same.all(), f"task {task.name}: outputs do not agree with themselves"


class _Post(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, output: Tensor) -> Tensor:
        return self.task.post(output)


def check_shipping(example: TaskExample) -> None:
    """Check that what a shipped model gives is a tensor, and made of operations that can be exported."""
    task = example.task
    shipped = task.post(example.untrained)
    assert isinstance(shipped, Tensor), f"task {task.name}: post gives a {type(shipped).__name__}"
    assert len(shipped) == len(example.targets), (
        f"task {task.name}: post gives {tuple(shipped.shape)} for {len(example.targets)} images"
    )
    try:
        program = torch.export.export(_Post(task), (example.untrained,)).module()
    except Exception as error:  # whatever torch may raise
        raise AssertionError(f"task {task.name}: post cannot be exported: {error}") from error
    assert torch.equal(program(example.untrained), shipped), f"task {task.name}: exported, post differs"


def check_words(example: TaskExample) -> None:
    """Check that targets and outputs are told in words, and that missing names are names."""
    task = example.task
    told = {
        "summary": task.summary(example.targets),
        "describe": task.describe(example.fitted[0]),
        "describe_target": task.describe_target(example.targets[0]),
    }
    for method, text in told.items():
        assert isinstance(text, str), f"task {task.name}: {method} gives {text!r}, which is no text"
        assert text.strip(), f"task {task.name}: {method} says nothing"
    unknown = {*task.missing(example.targets)} - {*task.names}
    assert not unknown, f"task {task.name}: missing gives {sorted(unknown)}, which are none of its names"


def check_smoothing(example: TaskExample) -> None:
    """Check that the smoothed task is a task of the same outputs, and another object where it differs."""
    task = example.task
    before = dict(task.facts())
    smooth = task.smoothed(0.1)
    assert dict(task.facts()) == before, f"task {task.name}: smoothed changes it; let it return a new one"
    assert isinstance(smooth, type(task)), f"task {task.name}: smoothed gives a {type(smooth).__name__}"
    _check_numbers(example, "loss, smoothed,", smooth.loss(example.untrained, example.targets))


def _check_numbers(example: TaskExample, what: str, found: Tensor) -> None:
    name, count = example.task.name, len(example.targets)
    assert found.shape == (count,), (
        f"task {name}: {what} has the shape {tuple(found.shape)} for {count} images, not ({count},)"
    )
    assert torch.isfinite(found).all(), f"task {name}: {what} is not finite"


def _check_share(example: TaskExample, what: str, found: Tensor) -> None:
    _check_numbers(example, what, found)
    low, high = float(found.min()), float(found.max())
    assert low >= 0, f"task {example.task.name}: {what} is {low:.4g}, below 0"
    assert high <= 1 + 1e-6, f"task {example.task.name}: {what} is {high:.4g}, above 1"


def _check_each(example: TaskExample, what: str, together: Tensor, alone: Tensor) -> None:
    assert torch.allclose(together.float(), alone.float(), rtol=1e-4, atol=1e-5), (
        f"task {example.task.name}: {what} of an image depends on the others of its batch"
    )
