"""Early exits around modules of any kind."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from dynnas.nn import EarlyExits


class Counted(nn.Module):
    """Adds up how many images it has run."""

    def __init__(self, module):
        super().__init__()
        self.module, self.images = module, 0

    def forward(self, x):
        self.images += len(x)
        return self.module(x)


def network(threshold=0.5, **more):
    torch.manual_seed(0)
    stages = [Counted(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()))]
    stages += [Counted(nn.Conv2d(4, 4, 3, stride=2)), Counted(nn.Conv2d(4, 6, 3))]
    exits = [
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)) for channels in (4, 4, 6)
    ]
    for exit in exits:
        nn.init.normal_(exit[2].weight, std=4.0)
    return EarlyExits(stages, exits, threshold=threshold, **more)


def images(batch=32):
    return torch.randn(batch, 3, 9, 9, generator=torch.Generator().manual_seed(1))


def test_in_training_all_outputs_are_returned():
    outputs = network().train()(images())
    assert [output.shape for output in outputs] == [(32, 5)] * 3
    sum(output.square().sum() for output in outputs).backward()


@torch.no_grad()
def test_each_image_leaves_at_the_first_exit_that_is_sure_enough():
    ours = network((0.7, 0.66)).eval()
    outputs, (y, taken) = ours.outputs(images()), ours.leave(images())
    for row in range(32):
        sure = [float(output[row].softmax(0).max()) for output in outputs]
        at = 0 if sure[0] >= 0.7 else 1 if sure[1] >= 0.66 else 2
        assert int(taken[row]) == at
        assert_close(y[row], outputs[at][row], rtol=1e-4, atol=1e-4)
    assert {*taken.tolist()} == {0, 1, 2}
    assert_close(ours(images()), y, rtol=0, atol=0)


@torch.no_grad()
def test_no_stage_runs_an_image_that_has_left():
    ours = network((0.7, 0.66)).eval()
    _, taken = ours.leave(images())
    run = [int((taken >= number).sum()) for number in range(3)]
    assert [stage.images for stage in ours.stages] == run
    assert 32 == run[0] > run[1] > run[2] > 0
    ours(images()[taken == 0][:1])
    assert [stage.images for stage in ours.stages] == [run[0] + 1, run[1], run[2]]


@torch.no_grad()
def test_a_stage_need_not_have_an_exit_and_outputs_may_be_maps():
    stages = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)]
    exits = [None, nn.Conv2d(4, 2, 1), nn.Sequential(nn.Conv2d(4, 2, 1), nn.Upsample(size=(5, 5)))]
    ours = EarlyExits(stages, exits, confidence=lambda y: y.mean((1, 2, 3)).sigmoid()).eval()
    first, last = ours.outputs(images())
    ours.thresholds = (float(ours.confidence(first).median()),)
    y, taken = ours.leave(images())
    assert y.shape == first.shape == last.shape == (32, 2, 5, 5)
    assert taken.sum() == 15  # half of the images are below the median
    for row, at in enumerate(taken.tolist()):
        assert_close(y[row], (first, last)[at][row], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_an_exported_graph_selects_what_branching_runs():
    ours = network((0.7, 0.66)).eval()
    expected = ours(images())
    ours.stages = nn.ModuleList(stage.module for stage in ours.stages)  # that count nothing
    batch = {"x": {0: torch.export.Dim("batch", min=2)}}
    exported = torch.export.export(ours, (images(4),), dynamic_shapes=batch)
    assert_close(exported.module()(images()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("exits", "threshold", "message"),
    [
        ([None, None], 0.5, "2 stages and 2 exits; allowed: .* an exit for the last"),
        ([nn.Identity()], 0.5, "2 stages and 1 exits; allowed"),
        (
            [nn.Identity(), nn.Identity()],
            (0.5, 0.5),
            r"thresholds are \(0.5, 0.5\); allowed: 1, one for each",
        ),
        ([nn.Identity(), nn.Identity()], 1.5, "one for each exit but the last, each from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(exits, threshold, message):
    with pytest.raises(ValueError, match=message):
        EarlyExits([nn.Identity(), nn.Identity()], exits, threshold=threshold)
