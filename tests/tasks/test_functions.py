"""Tasks of two functions: a step and a score, as training scripts have them."""

import pickle
from typing import Any

import pytest
import torch
from support import restoring
from torch import Tensor, nn

from dynnas.errors import DataError, TaskError
from dynnas.tasks import Functions, ScoredModel
from dynnas.tasks.named_by import task_named
from dynnas.training import Trainer

OPTIONS = {
    "step": "support.restoring:step",
    "score": "support.restoring:score",
    "metrics": {"psnr": "maximize", "worst": "minimize"},
}
IMAGES = torch.rand(10, 1, 12, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(10) % 2


def halved(images: Tensor) -> Tensor:
    return images / 2


def answered(run=halved, size: int = 4) -> ScoredModel:
    return ScoredModel(halved(IMAGES), LABELS, IMAGES.__getitem__, run, size)


def test_a_score_gets_a_model_and_batches() -> None:
    task = task_named("functions", OPTIONS)
    found = task.score_model(answered())
    errors = (IMAGES / 2).square().flatten(1).mean(1)
    assert found["psnr"] == pytest.approx(float(-10 * errors.mean().log10()))
    assert found["worst"] == pytest.approx(max(float(errors[label == LABELS].mean()) for label in (0, 1)))
    assert [metric.name for metric in task.metrics] == ["psnr", "worst"]


def test_known_outputs_are_not_computed_again_and_others_are() -> None:
    seen: list[Tensor] = []

    def run(images: Tensor) -> Tensor:
        seen.append(images)
        return halved(images)

    model = answered(run)
    batches = model.batches
    assert len(batches) == 3
    for _ in range(2):  # as often as one likes
        for images, _ in batches:
            assert torch.equal(model(images), images / 2)
    assert not seen
    mirrored = [model(images.flip(-1)) for images, _ in batches]
    assert torch.equal(torch.cat(mirrored), IMAGES.flip(-1) / 2)
    assert len(seen) == 3
    first, *_ = list(batches)  # another batch came after it
    assert torch.equal(model(first[0]), IMAGES[:4] / 2)
    model(next(iter(batches))[0]).zero_()
    assert torch.equal(model.outputs, IMAGES / 2)


def test_a_step_may_call_its_model_on_other_images() -> None:
    def step(model, batch):
        images, _ = batch
        views = torch.stack([model(images), model(images.flip(-1))])
        return views.var(0).mean()

    class Counting(nn.Conv2d):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    torch.manual_seed(0)
    network = Counting(1, 1, 3, padding=1)
    views = torch.stack([network(IMAGES), network(IMAGES.flip(-1))])
    (expected,) = torch.autograd.grad(views.var(0).mean(), network.weight)
    before, network.calls = network.weight.detach().clone(), 0
    task = Functions(step, lambda model, batches: {"gap": 0.0}, {"gap": "minimize"})
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(IMAGES, LABELS), 10)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    trainer = Trainer(network, task, loader, optimizer=optimizer)
    loss = trainer.advance()
    assert loss == pytest.approx(float(views.detach().var(0).mean()))
    assert torch.allclose(before - network.weight, expected, atol=1e-6)
    assert network.calls >= 2


def test_outputs_of_other_sizes_are_not_compared() -> None:
    task = Functions(restoring.step, restoring.score, OPTIONS["metrics"])
    one, other = torch.rand(2, 3), torch.rand(2, 3)
    assert torch.equal(task.distill(one, other), (one - other).square().mean(1))
    message = (
        r"an output of \(3,\) numbers cannot be compared with its teacher.s of \(2,\); give distill, let all"
    )
    with pytest.raises(TaskError, match=message):
        task.distill(one, other[:, :2])
    own = Functions(restoring.step, restoring.score, OPTIONS["metrics"], distill=lambda one, other: one[:, 0])
    assert torch.equal(own.distill(one, other[:, :2]), one[:, 0])


def test_a_mean_loss_counts_for_every_image() -> None:
    task = Functions(lambda model, batch: (model(batch[0]) ** 2).mean(), dict, {"a": "minimize"})
    assert task.step(halved, (IMAGES, LABELS)).tolist() == [float((IMAGES / 2).square().mean())] * 10


def test_functions_that_were_named_are_imported_where_they_arrive() -> None:
    task = task_named("functions", OPTIONS)
    assert task.facts() == {"task": "functions", "outputs": 0, "answers": "image", **OPTIONS}
    sent = pickle.loads(pickle.dumps(task))
    assert (sent.facts(), sent.identity) == (task.facts(), task.identity)
    assert sent.score_model(answered()) == task.score_model(answered())
    other = task_named("functions", {**OPTIONS, "metrics": {"psnr": "maximize"}})
    assert other.identity != task.identity


def raising(model: Any, batches: Any) -> Any:
    return {}["psnr"]


def score_of(**found: float) -> dict[str, Any]:
    return {"score": lambda model, batches: found}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": {}}, r"at least one metric, such as metrics: \{psnr: maximize\}"),
        ({"metrics": {"psnr": "up"}}, "metric 'psnr' is to be 'up'; say maximize or minimize"),
        ({"metrics": "psnr"}, "at least one metric"),
        ({"step": 3}, "step is 3; needed is a function"),
        (score_of(psnr=1.0), "gives psnr, and its metrics are psnr, worst; needed is one number for each"),
        (score_of(psnr=1.0, worst=2.0, more=3.0), "gives psnr, worst, more, and its metrics are psnr, worst"),
        ({"score": lambda model, batches: 1.0}, "gives a float, and its metrics are"),
        ({"score": raising}, r"score raised KeyError: 'psnr' \(.*test_functions.py, line \d+, in raising\)"),
        ({"step": lambda model, batch: 1.0}, "its step gives a float for 10 images; needed is a tensor"),
        ({"step": lambda model, batch: model(batch[0])}, r"its step gives \(10, 1, 12, 16\) for 10 images"),
    ],
)
def test_what_functions_do_wrong_is_said(options: dict[str, Any], message: str) -> None:
    def used() -> None:
        task = Functions(**{**OPTIONS, **options})
        task.score_model(answered())
        task.step(halved, (IMAGES, LABELS))

    with pytest.raises(TaskError, match=message):
        used()


def test_texts_that_name_no_function() -> None:
    with pytest.raises(TaskError, match=r"the task functions needs score, metrics; say task_options: \{step"):
        task_named("functions", {"step": OPTIONS["step"]})
    with pytest.raises(DataError, match=r"task functions: step: 'support.restoring:walk' cannot be imported"):
        task_named("functions", {**OPTIONS, "step": "support.restoring:walk"})
    with pytest.raises(TaskError, match=r"the task functions has no 'scores'.*did you mean 'score'"):
        task_named("functions", {**OPTIONS, "scores": 1})


def test_images_that_are_not_known_are_not_made_up() -> None:
    task = Functions(restoring.step, restoring.score, OPTIONS["metrics"])
    with pytest.raises(TaskError, match="look at the images themselves, which are not known here"):
        task.score(IMAGES, LABELS)
    with pytest.raises(TaskError, match="look at the images themselves, which are not known here"):
        task.loss(IMAGES, LABELS)
