"""Alpha-divergences against their definition, Kullback and Leibler's, and gradients worked out by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from dynnas.errors import TaskError
from dynnas.tasks import Classification, MultiLabel, Regression, Segmentation
from dynnas.tasks.divergence import adaptive_divergence, alpha_divergence

STUDENT = torch.tensor([[1.0, 0.0, -1.0], [0.3, -2.0, 0.1]], dtype=torch.float64)
TEACHER = torch.tensor([[0.5, 1.0, -2.0], [0.0, 0.0, 3.0]], dtype=torch.float64)


def of_definition(student, teacher, alpha):
    """(sum_i p_i^alpha q_i^(1 - alpha) - 1) / (alpha (alpha - 1)), p of the teacher and q of the student."""
    p, q = teacher.softmax(1), student.softmax(1)
    return ((p**alpha * q ** (1 - alpha)).sum(1) - 1) / (alpha * (alpha - 1))


def value_and_gradient(divergence, student):
    student = student.clone().requires_grad_()
    value = divergence(student)
    return value.detach(), torch.autograd.grad(value.sum(), student)[0]


@pytest.mark.parametrize("alpha", [-1.0, -0.5, 0.5, 2.0])
def test_without_clipping_value_and_gradient_are_those_of_the_definition(alpha):
    ours = value_and_gradient(
        lambda x: alpha_divergence(x.log_softmax(1), TEACHER.log_softmax(1), alpha, math.inf), STUDENT
    )
    torch.testing.assert_close(ours, value_and_gradient(lambda x: of_definition(x, TEACHER, alpha), STUDENT))


@pytest.mark.parametrize(("alpha", "swapped"), [(1.0, False), (0.0, True)])
def test_at_1_and_0_it_is_the_divergence_of_kullback_and_leibler(alpha, swapped):
    def torchs(x):
        q, p = x.log_softmax(1), TEACHER.log_softmax(1)
        return F.kl_div(*((p, q) if swapped else (q, p)), reduction="none", log_target=True).sum(1)

    ours = value_and_gradient(
        lambda x: alpha_divergence(x.log_softmax(1), TEACHER.log_softmax(1), alpha, 1e9), STUDENT
    )
    torch.testing.assert_close(ours, value_and_gradient(torchs, STUDENT))


def test_a_weight_is_clipped_and_counts_as_a_constant():
    """q = (0.9, 0.1), p = (0.1, 0.9), alpha -1: the weights q / p are 9 and 1/9, which become 5 and 1/9."""
    q, p = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.1, 0.9]])
    value, gradient = value_and_gradient(lambda x: alpha_divergence(x, p.log(), -1.0, 5.0), q.log())
    torch.testing.assert_close(value, torch.tensor([(0.9 * 5 + 0.1 / 9 - 1) / 2]))
    torch.testing.assert_close(gradient, torch.tensor([[0.9 * 5, 0.1 / 9]]))  # -q w / alpha


def test_each_image_has_the_larger_of_its_divergences():
    sure, unsure = torch.tensor([0.98, 0.02]).log(), torch.tensor([0.5, 0.5]).log()
    student, teacher = torch.stack([sure, unsure]), torch.stack([unsure, sure])
    low, high = (alpha_divergence(student, teacher, alpha, 50.0) for alpha in (-1.0, 1.0))
    assert low[0] < high[0]
    assert low[1] > high[1]
    found = adaptive_divergence(student, teacher, (-1.0, 1.0), 50.0)
    torch.testing.assert_close(found, torch.stack([high[0], low[1]]))


def test_tasks_take_it_of_their_distributions():
    one = Classification(3).distill_alpha(STUDENT, TEACHER, 2.0)
    expected = adaptive_divergence(
        (STUDENT / 2).log_softmax(1), (TEACHER / 2).log_softmax(1), (-1.0, 1.0), 5.0
    )
    torch.testing.assert_close(one, 4 * expected)
    places = [each.T.reshape(1, 3, 1, 2) for each in (STUDENT, TEACHER)]  # two pixels of one image
    torch.testing.assert_close(Segmentation(3).distill_alpha(*places, 2.0), one.mean().view(1))
    # A label is there or not: two classes, one of whose logits is 0.
    two = [torch.stack([each, torch.zeros_like(each)], 1).log_softmax(1) for each in (STUDENT, TEACHER)]
    torch.testing.assert_close(
        MultiLabel(3).distill_alpha(STUDENT, TEACHER), adaptive_divergence(*two, (-1.0, 1.0), 5.0).mean(1)
    )
    with pytest.raises(TaskError, match="its outputs are not distilled by alpha-divergences"):
        Regression(3).distill_alpha(STUDENT, TEACHER)
