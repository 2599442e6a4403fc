"""Multi-label, regression, segmentation and tasks of functions, beside torch and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)
from torch.nn import functional as F

from dynnas.errors import TaskError
from dynnas.tasks import TASKS, MultiLabel, Regression, Segmentation


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_tasks_have_names() -> None:
    assert {"classification", "multi_label", "regression", "segmentation"} <= set(TASKS)
    assert [TASKS[name].name for name in TASKS] == list(TASKS)


def test_multi_label_losses_and_scores() -> None:
    logits, targets = draw(300, 4).round(decimals=1), (draw(300, 4, seed=1) > 0.5).float()
    targets[:, 3] = 0
    task = MultiLabel().of_data(targets, ["a", "b", "c", "d"])
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    assert torch.allclose(task.loss(logits, targets), expected)
    scores = task.score(logits, targets)
    precisions = [average_precision_score(targets[:, row], logits[:, row]) for row in range(3)]  # ties, too
    assert scores["mean_average_precision"] == pytest.approx(np.mean(precisions))
    right = (logits > 0) == (targets > 0)
    assert scores["label_accuracy"] == pytest.approx(right.double().mean().item())
    areas = [roc_auc_score(targets[:, row], logits[:, row]) for row in range(3)]  # ties, too
    assert scores["auroc"] == pytest.approx(np.mean(areas))
    said = [f1_score(targets[:, row], logits[:, row] > 0) for row in range(3)]
    assert scores["label_f1"] == pytest.approx(np.mean(said))
    assert MultiLabel(2).score(torch.zeros(3, 2), torch.zeros(3, 2))["auroc"] == 0.5
    assert scores["exact_match"] == pytest.approx(right.all(1).double().mean().item())
    assert torch.allclose(task.quality(logits, targets), right.float().mean(1))
    assert task.confidence(torch.tensor([[0.0, 0, 0, 0], [99, -99, 99, 99]])).tolist() == [0.0, 1.0]
    assert task.describe(torch.tensor([1.0, -1, 2, -1])) == "a, c"
    assert task.head([6], [4]).eval()([draw(2, 6, 3, 5)]).shape == (2, 4)


def test_what_multi_label_distillation_pulls_at_is_the_teachers_probability() -> None:
    output, teacher = draw(5, 3).requires_grad_(), draw(5, 3, seed=1)
    MultiLabel(3).distill(output, teacher, 2.0).sum().backward()
    assert output.grad is not None
    # T^2 * (1 / T) * (sigmoid(o / T) - sigmoid(t / T)) / labels
    expected = 2.0 * ((output / 2).sigmoid() - (teacher / 2).sigmoid()) / 3
    assert torch.allclose(output.grad, expected.detach(), atol=1e-6)


def test_regression_is_learnt_in_deviations_and_told_in_units() -> None:
    targets = draw(200, 2) * torch.tensor([3.0, 50.0]) + torch.tensor([10.0, -7.0])
    task = Regression().of_data(targets, ["width", "angle"])
    exact = (targets - targets.mean(0)) / targets.std(0, correction=0)
    assert torch.allclose(task.loss(exact, targets), torch.zeros(200), atol=1e-8)
    assert torch.allclose(task.post(exact), targets, atol=1e-4)
    said = exact + 0.3 * draw(200, 2, seed=2)
    assert torch.allclose(task.loss(said, targets), (said - exact).square().mean(1) / 2, atol=1e-5)
    scores, answers = task.score(said, targets), task.post(said)
    roots = mean_squared_error(targets, answers, multioutput="raw_values") ** 0.5
    assert scores["rmse"] == pytest.approx(roots.mean(), rel=1e-4)
    assert scores["r2"] == pytest.approx(r2_score(targets, answers), rel=1e-4)
    single = Regression(loss="huber").of_data(targets[:, 0])
    assert torch.allclose(
        single.loss(said[:, :1], targets[:, 0]),
        F.huber_loss(said[:, 0], exact[:, 0], reduction="none"),
        atol=1e-5,
    )
    assert [metric.direction for metric in task.metrics] == ["minimize", "minimize", "maximize"]


def test_segmentation_losses_and_scores() -> None:
    logits = draw(20, 3, 6, 8)
    targets = torch.randint(0, 3, (20, 12, 16), generator=torch.Generator().manual_seed(3))
    targets[0, :5] = 255
    task = Segmentation().of_data(targets, ["road", "sky", "car"])
    large = F.interpolate(logits, (12, 16), mode="bilinear", align_corners=False)
    expected = [
        F.cross_entropy(large[row : row + 1], targets[row : row + 1], ignore_index=255) for row in range(20)
    ]
    assert torch.allclose(task.loss(logits, targets), torch.stack(expected), atol=1e-6)
    counted = targets != 255
    truth, said = targets[counted].numpy(), large.argmax(1)[counted].numpy()
    scores = task.score(logits, targets.to(torch.uint8))
    assert scores["mean_iou"] == pytest.approx(jaccard_score(truth, said, average="macro"))
    hits = confusion_matrix(truth, said).trace() / len(truth)
    assert scores["pixel_accuracy"] == pytest.approx(hits)
    assert float(task.quality(logits, targets)[0]) == pytest.approx(
        float((large.argmax(1) == targets)[0, 5:].float().mean())
    )
    assert task.confidence(logits).shape == (20,)
    head, fine, coarse = task.head([5, 4], [4, 8], dropout=0.1).eval(), draw(2, 5, 6, 8), draw(2, 4, 3, 4)
    expected = head.classifiers[0](fine) + head.classifiers[1].bias[:, None, None]
    assert torch.allclose(head([fine, 0 * coarse]), expected, atol=1e-6)
    enlarged = F.interpolate(head.classifiers[1](coarse), (6, 8), mode="bilinear", align_corners=False)
    assert torch.allclose(head([fine, coarse]), head.classifiers[0](fine) + enlarged, atol=1e-5)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: MultiLabel().of_data(torch.tensor([0, 1])), r"multi_label: targets are torch\.int64"),
        (lambda: MultiLabel(2).of_data(torch.zeros(4, 3)), "it has 2 labels but the targets have 3"),
        (lambda: Regression().of_data(torch.tensor([1.0, float("nan")])), "finite numbers"),
        (lambda: Regression().of_data(torch.ones(4, 2), "ab"), "'a' is the same for every image"),
        (lambda: Regression(loss="l3"), "allowed are squared, huber"),
        (lambda: Segmentation(2).of_data(torch.tensor([[[0, 2]]])), "from 0 to 2 but there are 2 classes"),
        (lambda: Segmentation().of_data(torch.zeros(3)), "a class for each pixel"),
    ],
)
def test_what_does_not_fit_is_refused(refused, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        refused()
