"""Detection: overlaps and suppression beside brute force, scores beside COCO's own evaluation, learning."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dynnas.errors import TaskError
from dynnas.tasks import Detection, DetectionHead, Detections
from dynnas.tasks.assignment import assign
from dynnas.tasks.boxes import giou, iou, suppressed
from dynnas.tasks.detection_head import places


def boxes_of(count: int, seed: int, side: float = 100.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=rng) * side
    return torch.cat([low, low + 1 + torch.rand(count, 2, generator=rng) * side / 2], 1)


def overlap(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def test_overlaps_of_pairs() -> None:
    ones, others = boxes_of(7, 0), boxes_of(5, 1)
    expected = [[overlap(one, other) for other in others.tolist()] for one in ones.tolist()]
    assert torch.allclose(iou(ones, others), torch.tensor(expected), atol=1e-5)
    same = giou(ones, ones)
    assert torch.allclose(same, torch.ones(7))
    # One unit square two units beside another: no overlap, union 2, and both lie in 3 by 1.
    apart = giou(torch.tensor([0.0, 0, 1, 1]), torch.tensor([2.0, 0, 3, 1]))
    assert float(apart) == pytest.approx(-1 / 3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 40), threshold=st.sampled_from([0.2, 0.5, 0.7]))
def test_suppression_is_the_greedy_one(seed: int, count: int, threshold: float) -> None:
    boxes = boxes_of(count, seed, side=40.0)
    kept: list[int] = []
    for number, box in enumerate(boxes.tolist()):
        if all(overlap(box, boxes[other].tolist()) <= threshold for other in kept):
            kept.append(number)
    got = suppressed(boxes[None], threshold, rounds=12)[0]
    assert got.nonzero().flatten().tolist() == kept


def raw(boxes: Tensor, logits: Tensor, side: float = 128.0) -> Tensor:
    """Outputs (B, L, 7 + classes) of places at the middle of an image."""
    place = torch.tensor([side - 4, side - 4, 8.0]).expand(*boxes.shape[:-1], 3)
    return torch.cat([boxes, place, logits], -1)


def test_detections_are_sorted_suppressed_by_class_and_cut_at_the_border() -> None:
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [1.0, 0, 11, 10], [1.0, 0, 11, 10], [50.0, 50, 200, 60], [-9.0, 70, 9, 80]]
    )
    logits = torch.tensor([[2.0, -9], [3.0, -9], [-9, 1.0], [0.0, -9], [-9, -1.0]])
    found = Detections(most=4)(raw(boxes, logits)[None])[0]
    assert found[:, 5].tolist() == [0, 1, 0, 1]
    assert torch.allclose(found[:, 4], torch.tensor([3.0, 1.0, 0.0, -1.0]).sigmoid())
    assert found[:, :4].tolist() == [[1, 0, 11, 10], [1, 0, 11, 10], [50, 50, 128, 60], [0, 70, 9, 80]]
    assert Detections()(raw(boxes, logits)[None])[0, 4].tolist() == [0.0] * 6


def scene(images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Targets of up to six boxes, and detections near some of them and elsewhere."""
    rng = np.random.default_rng(seed)
    targets, outputs = torch.full((images, 6, 5), -1.0), torch.zeros(images, 12, 6)
    for image in range(images):
        boxes = boxes_of(6, seed + image)
        for row in range(int(rng.integers(0, 7))):
            targets[image, row] = torch.tensor([float(rng.integers(3)), *boxes[row].tolist()])
        scores = np.sort(rng.uniform(0.05, 1, 12))[::-1].round(2)
        for row in range(12):
            box = boxes[row % 6] + torch.from_numpy(rng.normal(0, 3, 4)).float()
            box[2:] = torch.maximum(box[2:], box[:2] + 1)
            kind = targets[image, row % 6, 0].item() if rng.random() < 0.7 else float(rng.integers(3))
            outputs[image, row] = torch.tensor([*box.tolist(), float(scores[row]), max(0.0, kind)])
    return outputs, targets


def coco_scores(outputs: Tensor, targets: Tensor, classes: int) -> tuple[float, float]:
    """AP at 0.5 to 0.95 and at 0.5, by faster-coco-eval."""
    coco = pytest.importorskip("faster_coco_eval", reason="pip install faster-coco-eval")
    corners = lambda box: [box[0], box[1], box[2] - box[0], box[3] - box[1]]  # noqa: E731
    annotations, found = [], []
    for image, (rows, said) in enumerate(zip(targets.tolist(), outputs.tolist(), strict=True)):
        for kind, *box in (row for row in rows if row[0] >= 0):
            x, y, width, height = corners(box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image + 1,
                    "category_id": int(kind) + 1,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
        found += [
            {"image_id": image + 1, "category_id": int(row[5]) + 1, "bbox": corners(row), "score": row[4]}
            for row in said
            if row[4] > 0
        ]
    images = [{"id": image + 1, "width": 300, "height": 300} for image in range(len(targets))]
    categories = [{"id": kind + 1, "name": str(kind)} for kind in range(classes)]
    truth = coco.COCO({"images": images, "annotations": annotations, "categories": categories})
    run = coco.COCOeval_faster(truth, truth.loadRes(found), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    return float(run.stats[0]), float(run.stats[1])


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_coco(seed: int) -> None:
    outputs, targets = scene(9, 100 * seed)
    scores = Detection(3).score(outputs, targets)
    ap, ap50 = coco_scores(outputs, targets, 3)
    assert (scores["ap"], scores["ap50"]) == (pytest.approx(ap, abs=1e-6), pytest.approx(ap50, abs=1e-6))
    assert 0 < scores["ap"] < scores["ap50"] < 1


def test_a_perfect_answer_scores_one_and_none_zero() -> None:
    _, targets = scene(5, 3)
    perfect = torch.zeros(5, 6, 6)
    perfect[..., :4], perfect[..., 5] = targets[..., 1:], targets[..., 0].clamp(min=0)
    perfect[..., 4] = (targets[..., 0] >= 0).float()
    task = Detection(3)
    assert task.score(perfect, targets) == pytest.approx({"ap50": 1, "ap": 1, "recall": 1}, abs=1e-9)
    assert task.score(torch.zeros(5, 6, 6), targets) == {"ap50": 0, "ap": 0, "recall": 0}
    assert task.quality(perfect, targets).tolist() == [1.0] * 5
    assert task.agrees(perfect, perfect.flip(1)).all()
    moved = perfect.clone()
    moved[..., :4] += 20
    sure = (targets[..., 0] >= 0).any(1)
    assert (task.agrees(perfect, moved) == ~sure).all()


def test_places_are_assigned_to_the_boxes_that_they_lie_in() -> None:
    centres = places(4, 4, 8)
    assert centres[:5].tolist() == [[4, 4], [12, 4], [20, 4], [28, 4], [4, 12]]
    boxes = torch.cat([centres - 4, centres + 4], 1)
    output = torch.cat([boxes, centres, torch.full((16, 1), 8.0), torch.zeros(16, 2)], 1)[None]
    target = torch.tensor([[[1.0, 0, 0, 16, 16], [0.0, 25, 25, 27, 27], [-1.0, 0, 0, 0, 0]]])
    wanted, matched, taken = assign(output, target)
    # Four places lie in the first box; no place lies in the second, and the nearest takes it.
    assert taken[0].nonzero().flatten().tolist() == [0, 1, 4, 5, 15]
    assert matched[0, 15].tolist() == [25, 25, 27, 27]
    assert wanted[0, :, 1].nonzero().flatten().tolist() == [0, 1, 4, 5]
    assert wanted[0, [0, 1, 4, 5], 1].tolist() == pytest.approx([0.25] * 4)  # the overlap of 8 x 8 in 16 x 16
    assert wanted[0, 15].tolist() == pytest.approx([4 / 64, 0])
    nothing = assign(output, torch.full((1, 2, 5), -1.0))
    assert not nothing[0].any()
    assert not nothing[2].any()


def squares(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Bright and dark squares on grey, 32 x 32."""
    rng = np.random.default_rng(seed)
    images, targets = torch.full((count, 1, 32, 32), 0.5), torch.full((count, 2, 5), -1.0)
    for image in range(count):
        for row, left in enumerate(rng.permutation([0, 16])[: rng.integers(1, 3)].tolist()):
            side, kind = int(rng.integers(6, 12)), int(rng.integers(2))
            x, y = left + int(rng.integers(0, 16 - side)), int(rng.integers(0, 32 - side))
            images[image, 0, y : y + side, x : x + side] = float(kind)
            targets[image, row] = torch.tensor([kind, x, y, x + side, y + side], dtype=torch.float32)
    return images, targets


class Detector(nn.Module):
    """Maps at the strides 4 and 8."""

    def __init__(self) -> None:
        super().__init__()
        unit = lambda i, o: nn.Sequential(  # noqa: E731
            nn.Conv2d(i, o, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()
        )
        self.four, self.eight = nn.Sequential(unit(1, 16), unit(16, 32)), unit(32, 32)
        self.head = DetectionHead([32, 32], [4, 8], 2)

    def forward(self, x: Tensor) -> Tensor:
        four = self.four(x)
        return self.head([four, self.eight(four)])


def test_a_detector_learns_to_find_squares() -> None:
    torch.manual_seed(0)
    images, targets = squares(96, 0)
    task, model = Detection().of_data(targets, ["dark", "bright"]), Detector()
    assert task.summary(targets).startswith("boxes of 2 classes in training (dark ")
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(150):
        part = slice(16 * (step % 6), 16 * (step % 6) + 16)
        optimizer.zero_grad()
        losses = task.loss(model(images[part]), targets[part])
        assert losses.shape == (16,)
        losses.mean().backward()
        optimizer.step()
    fresh, truth = squares(32, 1)
    with torch.no_grad():
        found = model.eval()(fresh)
    assert found.shape == (32, 80, 6)
    assert task.score(found, truth)["ap50"] > 0.8
    assert task.quality(found, truth).mean() > 0.7
    assert (task.confidence(found) > 0.3).float().mean() > 0.9


def test_rare_and_small_things_are_learned_among_many_large_ones() -> None:
    """One dark square of 5 pixels among four bright ones of 20, on 640 places: learned in 60 steps."""
    rng = np.random.default_rng(0)
    images, targets = torch.full((40, 1, 64, 128), 0.5), torch.full((40, 5, 5), -1.0)
    for image in range(40):
        for row, (left, top) in enumerate(rng.permutation(list(itertools.product([0, 42, 84], [0, 32])))[:5]):
            side = 20 if row else 5
            x, y = left + int(rng.integers(0, 12)), top + int(rng.integers(0, 12))
            images[image, 0, y : y + side, x : x + side] = float(row > 0)
            targets[image, row] = torch.tensor([row > 0, x, y, x + side, y + side], dtype=torch.float32)
    torch.manual_seed(0)
    task, model = Detection(2), Detector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(60):
        part = slice(8 * (step % 5), 8 * (step % 5) + 8)
        optimizer.zero_grad()
        task.loss(model(images[part]), targets[part]).mean().backward()
        optimizer.step()
    with torch.no_grad():
        found = model.eval()(images)
    rare = targets.clone()
    rare[rare[..., 0] == 1] = -1
    assert task.score(found, rare)["ap50"] > 0.8
    assert task.score(found, targets)["ap50"] > 0.8


def test_the_loss_of_classes_is_focal() -> None:
    """Quality focal loss (Li 2020, equation 3): cross entropy times the square of what is missed."""
    output, target = torch.zeros(1, 3, 8), torch.tensor([[[0.0, 0, 0, 10, 10]]])
    output[0, :, :4] = torch.tensor([[0.0, 0, 10, 10], [0, 0, 4, 4], [50, 50, 60, 60]])
    output[0, :, 4:6] = torch.tensor([[5.0, 5], [60, 5], [55, 55]])
    output[0, :, 7] = torch.tensor([0.4, -1.0, -3.0])
    sure = 1 / (1 + np.exp(-np.array([0.4, -1.0, -3.0])))
    wanted = np.array([1.0, 0, 0])
    entropy = -(wanted * np.log(sure) + (1 - wanted) * np.log(1 - sure))
    assert float(Detection(1).loss(output, target)) == pytest.approx(((wanted - sure) ** 2 * entropy).sum())


def test_what_is_distilled_from_equal_outputs_is_the_least() -> None:
    torch.manual_seed(0)
    model, images = Detector(), squares(4, 0)[0]
    task = Detection(2)
    teacher = model(images).detach()
    near = task.distill(teacher, teacher)
    assert near.shape == (4,)
    far = teacher.clone()
    far[..., :4] += 5
    far[..., 7:] += 1
    assert (task.distill(far, teacher) > near).all()
    detections = torch.zeros(4, 3, 6)
    detections[:, 0] = torch.tensor([2.0, 2, 12, 12, 0.9, 1])
    as_target = torch.tensor([1.0, 2, 2, 12, 12]).expand(4, 1, 5)
    assert torch.allclose(task.distill(teacher, detections), task.loss(teacher, as_target))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.zeros(3, 2), r"targets are torch.float32 of shape \(3, 2\); needed are floats \(N, M, 5\)"),
        (torch.tensor([[[4.0, 0, 0, 1, 1]]]), "classes reach to 4 but there are 2; number them from 0"),
        (torch.tensor([[[1.0, 3, 0, 3, 1]]]), r"the box \[3.0, 0.0, 3.0, 1.0\] is empty; x2 is above x1"),
    ],
)
def test_targets_that_are_none(targets: Tensor, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Detection(2).of_data(targets)


def test_one_map_is_enough_for_the_head_of_the_task() -> None:
    head = Detection(3).head([6], [16])
    assert head.train()(torch.zeros(2, 6, 3, 5)).shape == (2, 15, 10)
    assert head.eval()(torch.zeros(2, 6, 3, 5)).shape == (2, 15, 6)
    assert len(set(itertools.chain(*Detection(3).facts()))) > 0
