"""Classification beside torch's and scikit-learn's own figures."""

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score, top_k_accuracy_score
from torch.nn import functional as F

from dynnas.errors import TaskError
from dynnas.tasks import TASKS, Classification
from dynnas.tasks.task import Task

LOGITS = torch.randn(200, 7, generator=torch.Generator().manual_seed(0)).double() * 2
TARGETS = torch.randint(0, 6, (200,), generator=torch.Generator().manual_seed(1))  # class 6 has no image


def test_losses_are_torchs_cross_entropy_for_each_image() -> None:
    task = Classification(7, label_smoothing=0.1, class_weights=range(1, 8))
    expected = F.cross_entropy(
        LOGITS, TARGETS, label_smoothing=0.1, weight=torch.arange(1.0, 8).double(), reduction="none"
    )
    assert torch.equal(task.loss(LOGITS, TARGETS), expected)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_has_the_gradient_of_the_divergence_from_the_teacher(temperature: float) -> None:
    student, teacher = LOGITS.clone().requires_grad_(), LOGITS.flip(0)
    own = torch.autograd.grad(Classification(7).distill(student, teacher, temperature).sum(), student)[0]
    divergence = temperature**2 * F.kl_div(
        (student / temperature).log_softmax(1), (teacher / temperature).softmax(1), reduction="sum"
    )
    assert torch.allclose(own, torch.autograd.grad(divergence, student)[0], atol=1e-12)


def test_scores_are_scikit_learns() -> None:
    scores = Classification(7).score(LOGITS, TARGETS)
    answers = LOGITS.argmax(1)
    assert scores["accuracy"] == pytest.approx((answers == TARGETS).double().mean().item())
    assert scores["f1"] == pytest.approx(f1_score(TARGETS, answers, average="macro", labels=range(6)))
    assert scores["top5_accuracy"] == pytest.approx(
        top_k_accuracy_score(TARGETS, LOGITS, k=5, labels=range(7))
    )
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = balanced_accuracy_score(TARGETS, answers)
    assert scores["balanced_accuracy"] == pytest.approx(expected)
    areas = [roc_auc_score(each == TARGETS, LOGITS.softmax(1)[:, each]) for each in range(6)]
    assert scores["auroc"] == pytest.approx(sum(areas) / 6)
    assert list(scores) == [metric.name for metric in Classification.metrics]


def test_the_number_of_likeliest_classes_is_chosen() -> None:
    task = Classification(7, top=3)
    scores = task.of_data(torch.arange(7)).smoothed(0.1).score(LOGITS, TARGETS)
    assert scores["top3_accuracy"] == pytest.approx(
        top_k_accuracy_score(TARGETS, LOGITS, k=3, labels=range(7))
    )
    assert list(scores) == [metric.name for metric in task.metrics]
    assert (task.facts()["top"], "top" in Classification(7).facts()) == (3, False)
    with pytest.raises(TaskError, match="top is 1; it is at least 2"):
        Classification(7, top=1)


def test_confidence_is_that_of_the_softmax_or_of_its_entropy() -> None:
    task, shares = Classification(7), LOGITS.softmax(1)
    assert torch.equal(task.confidence(LOGITS), shares.max(1).values)
    entropy = torch.distributions.Categorical(probs=shares).entropy()
    expected = 1 - entropy / torch.tensor(7.0).double().log()
    assert torch.allclose(task.confidence(LOGITS, "entropy"), expected)
    assert task.doubt(LOGITS).shape == (200, Classification.doubts)
    assert torch.equal(task.quality(LOGITS, TARGETS).bool(), LOGITS.argmax(1) == TARGETS)


def test_data_say_how_many_classes_there_are_and_what_they_are_called() -> None:
    task = Classification(label_smoothing=0.2).of_data(torch.tensor([0, 2, 1]), ["cat", "dog", "eel"])
    assert (task.outputs, task.names, task.label_smoothing) == (3, ("cat", "dog", "eel"), 0.2)
    assert task.smoothed(0.5) is task
    assert Classification(3).smoothed(0.5).label_smoothing == 0.5
    assert task.describe(torch.tensor([0.0, 2.0, 1.0])) == "dog"
    assert task.describe_target(torch.tensor(2)) == "eel"
    assert Classification().of_data(torch.tensor([0, 3])).names == ("0", "1", "2", "3")
    assert Classification(3).of_data(torch.tensor([0, 2]), "abc").names == ("a", "b", "c")


def test_targets_that_contradict_the_task_are_refused() -> None:
    with pytest.raises(TaskError, match="it has 7 classes but the data 2"):
        Classification(7).of_data(torch.tensor([0, 1]), ["a", "b"])
    with pytest.raises(TaskError, match="reach from 1 to 3 but there are 3 classes; number them from 0"):
        Classification(3).of_data(torch.tensor([1, 3]))
    with pytest.raises(TaskError, match=r"targets are torch.float32 of shape \(2,\)"):
        Classification().of_data(torch.tensor([0.0, 1.0]))
    with pytest.raises(TaskError, match="not known before the data are read"):
        _ = Classification().outputs
    with pytest.raises(TaskError, match="at least 2 classes"):
        Classification(["only"])


def test_the_head_tells_classes_of_feature_maps() -> None:
    head = Classification(7).head([4, 12], [8, 16], dropout=0.5).eval()
    x = torch.randn(4, 12, 5, 3)
    linear = head[-1]
    assert torch.allclose(
        head([torch.zeros(4, 4, 10, 6), x]), F.linear(x.mean((2, 3)), linear.weight, linear.bias), atol=1e-6
    )


def test_a_task_is_found_by_name_and_what_it_lacks_is_said() -> None:
    assert TASKS["classification"] is Classification
    with pytest.raises(TaskError, match=r"unknown task 'clasification' \(did you mean 'classification'\?\)"):
        TASKS["clasification"]

    class Count(Task):
        name, metrics, outputs = "count", (), 1

        def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return (output[:, 0] - target).square()

        def score(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
            return {}

    output = torch.zeros(2, 1)
    with pytest.raises(TaskError, match="task count: its outputs do not tell how sure they are"):
        Count().confidence(output)
    with pytest.raises(TaskError, match=r"leave out train\.algorithms\.in_place_distillation"):
        Count().distill(output, output)
    with pytest.raises(TaskError, match=r"only networks of your own .*Space\.of"):
        Count().head([8], [4])
    with pytest.raises(TaskError, match="how good a single answer is, is not known"):
        Count().quality(output, output)
    assert torch.equal(Count().post(output), output)
