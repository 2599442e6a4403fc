"""Layout and precision by trial: asked for, they are taken; else the clearly faster one."""

import time

import pytest
import torch

from dynnas.language.parser import parse_space
from dynnas.supernet.staged import staged_supernet
from dynnas.training.algorithm import Pass
from dynnas.training.algorithms.sampling.sandwich import sandwich
from dynnas.training.execution import Execution, _faster, choose_execution, run_trial
from dynnas.training.models import model_of

CPU = torch.device("cpu")
FLOAT32, BFLOAT16 = (Execution("channels_first", precision) for precision in ("float32", "bfloat16"))
SPACE = """
input: {channels: 1, classes: 3, resolutions: 8}
stem: {width: 4}
stages: [{block: mbconv, width: [4, 8], op: [static, dyconv]}]
head: {width: 8}
"""


@pytest.mark.parametrize(
    ("float32", "bfloat16", "expected"),
    [
        ([9, 1, 1, 1], [9, 0.8, 0.8, 0.8], BFLOAT16),
        ([9, 1, 1, 1], [9, 0.95, 0.95, 0.95], FLOAT32),  # hardly faster
        ([9, 1, 5, 5], [9, 0.95, 0.8, 2], BFLOAT16),  # the best round counts
        ([1, 1, 1, 1], [0.1, 2, 2, 2], FLOAT32),  # the round that warms up does not
    ],
)
def test_the_clearly_faster_way_wins(float32, bfloat16, expected):
    seconds = {FLOAT32: iter(float32), BFLOAT16: iter(bfloat16)}
    assert _faster(lambda way: next(seconds[way]), [FLOAT32, BFLOAT16]) == expected


def test_a_single_way_is_not_timed():
    assert _faster(lambda way: pytest.fail("timed"), [BFLOAT16]) == BFLOAT16


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_asked_for_is_taken(layout, precision):
    chosen = choose_execution(lambda execution: None, [layout], [precision], CPU, measure=True, steps=9)
    assert chosen == Execution(layout, precision)


@pytest.mark.parametrize(("steps", "expected"), [(533, FLOAT32), (534, BFLOAT16)])
def test_a_short_training_spares_itself_the_trials(steps, expected):
    """Sixteen trials, four of each layout and each precision, may take 3% of the steps."""
    ways, asked = [FLOAT32, BFLOAT16], []

    def trial(execution):
        asked.append(execution)
        time.sleep(0.02 if execution.precision == "float32" else 0.0)

    layouts, precisions = ("channels_first", "channels_last"), [way.precision for way in ways]
    chosen = choose_execution(trial, layouts, precisions, CPU, measure=False, steps=steps)
    assert chosen.precision == expected.precision
    assert len(asked) == (16 if steps > 533 else 0)


def test_the_trial_runs_every_network_of_a_step_and_leaves_no_gradient():
    supernet = staged_supernet(parse_space(SPACE), channels=1, classes=3)
    networks = [Pass(each) for each in sandwich(supernet.space, 2, seed=0, step=0)]
    ran = []
    supernet.register_forward_hook(lambda _, inputs, outputs: ran.append(inputs[0]))
    run_trial(model_of(supernet), networks, torch.randn(4, 1, 8, 8), CPU, FLOAT32)
    assert ran == [network.architecture for network in networks]
    assert all(parameter.grad is None for parameter in supernet.parameters())
