"""The sandwich rule, the losses and the schedules, against torch and hand-worked values."""

import math
import random
from itertools import pairwise

import pytest
import torch
from support.runs import forward_of, loss_of, run_of
from torch.nn import functional as F

from dynnas.language.parser import parse_space
from dynnas.nn.context import PLAIN
from dynnas.nn.dynamic_conv.mode import RouterMode
from dynnas.space.moves import largest, smallest
from dynnas.training.algorithms.exits.early_exits import EarlyExits
from dynnas.training.algorithms.label_smoothing import LabelSmoothing
from dynnas.training.algorithms.router_temperature import RouterTemperature
from dynnas.training.algorithms.sampling.sandwich import sandwich
from dynnas.training.algorithms.teaching.in_place_distillation import InPlaceDistillation
from dynnas.training.schedule import Cosine

SPACE = parse_space("choices: {a: [1, 2, 3, 4], b: [x, y, z], c: [1, 2, 3, 4, 5]}")


def test_sandwich_is_largest_smallest_and_randoms():
    drawn = sandwich(SPACE, 2, seed=0, step=5)
    assert drawn[:2] == (largest(SPACE), smallest(SPACE))
    assert 2 <= len(drawn) <= 4
    assert len(set(drawn)) == len(drawn)


def test_sandwich_depends_on_seed_and_step_alone():
    first = sandwich(SPACE, 3, seed=0, step=7)
    random.seed(123)
    assert sandwich(SPACE, 3, seed=0, step=7) == first
    assert {sandwich(SPACE, 3, seed=0, step=step) for step in range(5)} != {first}
    assert sandwich(SPACE, 3, seed=1, step=7) != first


def test_a_space_of_one_network_trains_that_network_once():
    assert len(sandwich(parse_space("choices: {a: [1]}"), 2, seed=0, step=0)) == 1


def test_targets_teach_the_last_output_which_teaches_the_exits():
    exits = [torch.randn(4, 3, requires_grad=True) for _ in range(2)]
    final = torch.randn(4, 3, requires_grad=True)
    labels = torch.tensor([0, 2, 1, 1])
    loss = loss_of(run_of([LabelSmoothing(0.1), EarlyExits(0.5)], labels), forward_of([*exits, final]))
    taught = [F.cross_entropy(logits, final.detach().softmax(1)) for logits in exits]
    expected = F.cross_entropy(final, labels, label_smoothing=0.1) + 0.5 * (taught[0] + taught[1]) / 2
    torch.testing.assert_close(loss, expected)
    loss.backward()
    plain = final.detach().clone().requires_grad_()
    F.cross_entropy(plain, labels, label_smoothing=0.1).backward()
    torch.testing.assert_close(final.grad, plain.grad)  # the exits do not pull at their teacher


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_teacher_and_labels_share_in_teaching_students_and_their_exits(weight: float):
    """The first network of a step is the teacher of the next."""
    teacher = torch.randn(4, 3, requires_grad=True)
    exit_logits, final = torch.randn(4, 3), torch.randn(4, 3)
    labels = torch.tensor([0, 2, 1, 1])
    # Cross entropy is linear in its target, so that one mixed target says the same as two losses.
    by_labels = 0.9 * F.one_hot(labels, 3) + 0.1 / 3
    target = weight * teacher.detach().softmax(1) + (1 - weight) * by_labels
    expected = F.cross_entropy(final, target) + 0.25 * F.cross_entropy(exit_logits, target)
    run = run_of([InPlaceDistillation(weight), LabelSmoothing(0.1), EarlyExits(0.25)], labels)
    own = loss_of(run, forward_of([teacher]))
    torch.testing.assert_close(own, F.cross_entropy(teacher, labels, label_smoothing=0.1))
    loss = loss_of(run, forward_of([exit_logits, final]))
    torch.testing.assert_close(loss, expected)
    assert not loss.requires_grad  # nothing pulls at the teacher


def test_learning_rate_warms_up_and_falls_as_a_cosine():
    rates = [Cosine(warmup_epochs=1)(0.4, step, 1000, 100) for step in range(1000)]
    assert rates[0] == pytest.approx(0.4 / 101)
    assert rates[100] == pytest.approx(0.4)
    assert rates[550] == pytest.approx(0.2)
    assert rates[-1] == pytest.approx(0.2 * (1 - math.cos(math.pi / 900)))
    assert all(a < b for a, b in pairwise(rates[:101]))
    assert all(a > b for a, b in pairwise(rates[100:]))


def test_temperature_falls_to_one_over_half_of_the_training():
    def found(step, **settings):
        run = run_of(total=1000, steps_per_epoch=100, step=step)
        return RouterTemperature(**settings).context(run, PLAIN)[RouterMode].temperature

    assert [found(step) for step in (0, 250, 500, 999)] == pytest.approx([30, 15.5, 1, 1])
    assert found(0, epochs=0) == 1
