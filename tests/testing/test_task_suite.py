"""The conformance suite of tasks: every registered one passes, and broken ones are told what is wrong."""

import functools

import pytest
import torch
from torch.nn import functional as F

from dynnas.metric import Metric
from dynnas.tasks import TASKS, Classification, Functions, Regression
from dynnas.testing.tasks import check_task, task_checks, task_example

DRAW = torch.Generator().manual_seed(0)


def boxes(count):
    """One or two boxes of two classes in each image of 8 x 8 pixels: (N, 2, 5)."""
    corners = torch.randint(0, 4, (count, 2, 2), generator=DRAW).float()
    sizes = torch.randint(2, 5, (count, 2, 2), generator=DRAW)
    kinds = torch.arange(2 * count).reshape(count, 2, 1) % 2
    kinds[::3, 1] = -1
    return torch.cat([kinds, corners, corners + sizes], -1)


TARGETS = {
    "classification": torch.arange(24) % 3,
    "multi_label": torch.rand(24, 4, generator=DRAW) < 0.4,
    "regression": torch.randn(24, 2, generator=DRAW) * 5 + 20,
    "detection": boxes(24),
    "segmentation": torch.randint(0, 3, (24, 8, 8), generator=DRAW),
    "functions": torch.rand(24, 1, 6, 6, generator=DRAW),
}
"""Targets for each registered task; add some for a new one."""


def absolute(model, batch):
    images, targets = batch
    return (model(images.float()) - targets).abs().flatten(1).mean(1)


def error(model, batches):
    errors = [absolute(model, batch) for batch in batches]
    return {"mae": torch.cat(errors).mean()}


def of_functions():
    return Functions(absolute, error, {"mae": "minimize"})


@functools.cache
def example(name):
    if name == "functions":
        return task_example(of_functions(), TARGETS[name], outputs=torch.zeros_like(TARGETS[name]))
    return task_example(TASKS[name](), TARGETS[name])


@pytest.mark.parametrize("check", [*task_checks()], ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", TASKS)
def test_registered_tasks_conform(name, check):
    check(example(name))


def test_a_variant_of_a_task_conforms():
    weighted = Classification(["a", "b", "c"], class_weights=[1, 2, 3], label_smoothing=0.1)
    check_task(weighted, TARGETS["classification"])
    check_task(Regression(loss="huber"), torch.arange(12.0))


def broken(**members):
    """A classification with other methods."""
    return type("Broken", (Classification,), {"__module__": __name__, **members})()


def mean_loss(self, output, target):
    return F.cross_entropy(output, target, reduction="none").mean().expand(len(target))


def constant_loss(self, output, target):
    return F.cross_entropy(output.detach(), target, reduction="none")


def scaled_in_place(self, output, target):
    return F.cross_entropy(output.mul_(1.0 if output.requires_grad else 0.5), target, reduction="none")


def wrong_score(self, outputs, targets):
    return {"accuracy": float((outputs.argmax(1) != targets).float().mean())}


def first_score(self, outputs, targets):
    return {"accuracy": float(outputs[0].argmax() == targets[0]) + float(outputs[0, 0])}


def entropy(self, output, criterion="confidence"):
    return -(output.softmax(1) * output.log_softmax(1)).sum(1)


def remember(self, targets, names=()):
    self.names = ("a", "b", "c")
    return self


def towards_labels(self, output, teacher, temperature=1.0):
    return F.cross_entropy(output, teacher.argmax(1), reduction="none")


class Finest(torch.nn.Sequential):
    def forward(self, maps):
        return super().forward(maps[0])


class Unheard(Classification):
    def head(self, in_channels, strides, *, dropout=0.0):
        return Finest(torch.nn.Conv2d(in_channels[0], self.outputs, 1), torch.nn.Flatten())


ONE = (Metric("accuracy", "share", "maximize", "right"),)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (broken(name="two words"), "'two words' is no name for a space file"),
        (broken(metrics=()), "it has no metrics"),
        (broken(metrics=ONE * 2), "a metric is there twice: .'accuracy', 'accuracy'."),
        (broken(metrics=(Metric("accuracy", "share", "up", "right"),)), "accuracy: direction 'up'"),
        (broken(metrics=(Metric("params", "share", "maximize", "right"),)), "has the name of Metric"),
        (broken(facts=lambda self: {"task": self}), "its facts are no JSON"),
        (broken(loss=lambda self, o, t: F.cross_entropy(o, t)), r"the shape \(\) for 24 images, not \(24,\)"),
        (broken(loss=mean_loss), "loss of an image depends on the others of its batch"),
        (broken(loss=constant_loss), "no gradient passes through its loss"),
        (broken(loss=scaled_in_place), "loss changes the outputs"),
        (broken(metrics=ONE, score=wrong_score), r"accuracy \(to maximize\) is 0 for outputs that fit, and"),
        (broken(score=wrong_score), r"score gives \['accuracy'\]; metrics are"),
        (broken(metrics=ONE, score=first_score), "in another order of images"),
        (broken(confidence=entropy), "confidence by confidence is 1.*, above 1"),
        (broken(quality=lambda self, o, t: torch.ones(len(t))), "the mean quality is 1 for outputs that fit"),
        (broken(distill=towards_labels), "what says the same as the teacher is still to change"),
        (broken(of_data=remember), "of_data changes the task"),
        (broken(agrees=lambda self, o, other: o == other), r"agrees gives \(24, 3\), not \(24,\)"),
        (broken(doubts=2), r"doubt gives \(24, 3\), not \(24, 2\)"),
        (broken(post=lambda self, o: o.softmax(1).tolist()), "post gives a list"),
        (broken(post=lambda self, o: o if o.sum().item() > 0 else -o), "post cannot be exported"),
        (broken(describe=lambda self, o: int(o.argmax())), "describe gives [012], which is no text"),
        (broken(missing=lambda self, targets: ("eel",)), r"missing gives \['eel'\], which are none"),
        (Unheard(), r"its head gives \(3, 72\); answers says \(3, 3\)"),
    ],
)
def test_a_broken_task_is_told_what_is_wrong(task, message):
    globals()["Broken"] = type(task)  # so that it can be pickled
    with pytest.raises(AssertionError, match=message):
        check_task(task, TARGETS["classification"])
