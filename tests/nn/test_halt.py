"""Adaptive computation time: the paper's loop, what an image leaves out, the gradient of the ponder cost."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import networks
from support.contexts import decisions, executed
from support.gated import assert_masked_equals_real, macs_of_runs
from support.reading import halting, halting_config

from dynnas.errors import SpaceError
from dynnas.nn.exits.exits import leave
from dynnas.nn.gates.families.halt import ENOUGH
from dynnas.nn.gates.state import Flow
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.gate_use import GateUse
from dynnas.nn.networks.network import build
from dynnas.training.batchnorm.calibrate import calibrate


def by_the_paper(blocks, gates, x):
    """One image through a run, as written (SACT, section 3.1): the output, N, and its remainder."""
    spent, scores, outputs = 0.0, [], []
    for number, (block, gate) in enumerate(zip(blocks, gates, strict=True), start=1):
        x = block(x)
        outputs.append(x)
        score = 1.0 if number == len(blocks) else float(torch.sigmoid(gate(x)))
        if spent + score >= 1 - ENOUGH:
            remainder = 1 - spent
            shares = [*scores, remainder]
            return sum(p * y for p, y in zip(shares, outputs, strict=True)), number, remainder
        spent += score
        scores.append(score)
    raise AssertionError("the last score is 1")


def run_of(network):
    return [network.slots[f"stage1__{index}"] for index in range(1, len(network.config.blocks) - 1)]


@torch.no_grad()
def before_the_run(network, count):
    return network.slots["stage1__0"](network.slots["stem"](networks.images(count)))


@pytest.mark.parametrize("execution", ["masked", "real", "counted"])
@torch.no_grad()
def test_a_run_is_the_papers_loop(execution: str) -> None:
    network = halting(halting_config(["halt"] * 5))
    gated = run_of(network)
    x = before_the_run(network, 60)
    network = executed(network, execution)
    flow = Flow(x)
    with decisions(*gated) as found:
        for module in gated:
            flow = module(flow)
    blocks, gates = ([getattr(module, part) for module in gated] for part in ("block", "gate"))
    ran = sum(decision.choice[:, 1].long() for decision in found)
    for index, image in enumerate(x):
        y, number, _ = by_the_paper(blocks, gates, image[None])
        torch.testing.assert_close(flow.x[[index]], y, rtol=1e-4, atol=1e-4)
        assert int(ran[index]) == number
    assert len(set(ran.tolist())) >= 3


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(["halt", "halt", "halt", "none", "skip"]), min_size=1, max_size=5),
    st.sets(st.integers(0, 3), max_size=2),
    st.sampled_from(["block", "policy", "recurrent"]),
    st.integers(1, 6),
)
@torch.no_grad()
def test_masked_equals_real(gates, exits, reads, batch) -> None:
    exits = sorted(at for at in exits if at <= len(gates))
    network = halting(halting_config(gates, exits, reads))
    x = networks.images(batch, seed=batch)
    assert_masked_equals_real(network, x)


@torch.no_grad()
def test_a_run_ends_at_another_block() -> None:
    network = halting(halting_config(["halt", "halt", "halt", "none", "halt"]))
    with decisions(network) as found:
        network.logits(networks.images(61, seed=99))
    ran = torch.stack([decision.choice[:, 1] for decision in found])
    assert ran[0].all()
    assert not ran[2].all()
    assert ran[3].all()  # it begins again


@pytest.mark.parametrize("exits", [(), (2,)])
@torch.no_grad()
def test_what_an_image_does_not_run_costs_nothing(exits) -> None:
    network = halting(halting_config(["halt"] * 4, exits))
    x = networks.images(24)
    with decisions(network) as found:
        logits = network.logits(x)
    _, left = leave(logits, network.config.exits)
    use = GateUse.of(cost(network.config), left, found)
    assert list(use.image_macs) == macs_of_runs(network, x, left.tolist())
    assert len(set(use.image_macs)) > 1


@torch.no_grad()
def test_open_gates_are_none() -> None:
    network = halting(halting_config(["halt"] * 3))
    x = networks.images(5)
    closed = network.logits(x)[0]
    network = executed(network, "masked", choice="all")
    plain = type(network)(network.config.without_gates()).eval()
    values = {name.replace(".block.", "."): value for name, value in network.state_dict().items()}
    plain.load_state_dict({name: values[name] for name in plain.state_dict()})
    assert torch.equal(network.logits(x)[0], plain.logits(x)[0])
    assert not torch.allclose(closed, plain.logits(x)[0])


def test_usage_falls_with_the_scores_that_count() -> None:
    """Those before the last, as in N + R, and the last one's: by the slope at 0, as a way back."""
    network = halting(halting_config(["halt"] * 5))
    gated = run_of(network)
    x = before_the_run(network, 40)
    scores = []
    for module in gated:
        module.gate.register_forward_hook(lambda _, __, logit: scores.append(logit) or logit.retain_grad())
    flow = Flow(x)
    with decisions(*gated) as found:
        for module in gated:
            flow = module(flow)
    used = torch.stack([decision.usage[:, 1] for decision in found])
    number = used.detach().sum(0).long()
    used.sum().backward()
    for index, logit in enumerate(scores[:-1]):
        expected = torch.where(index + 1 <= number, -0.25, 0.0)
        torch.testing.assert_close(logit.grad[:, 0], expected)
    assert scores[-1].grad is None or not scores[-1].grad.any()
    assert len(set(number.tolist())) >= 3


def test_gradients_reach_every_gate_but_that_of_the_last_block() -> None:
    network = networks.finished(halting_config(["halt"] * 3)).train()
    (logits,) = network.logits(networks.images(16))
    logits.square().sum().backward()
    for slot, learns in (("stage1__1", True), ("stage1__2", True), ("stage1__3", False)):
        for name, parameter in network.slots[slot].gate.named_parameters():
            found = parameter.grad is not None and float(parameter.grad.abs().sum()) > 0
            assert found == learns, (slot, name)


def test_a_block_that_changes_the_shape_has_no_mean() -> None:
    config = halting_config(["halt"])
    block = config.blocks[1][1]
    with pytest.raises(SpaceError, match="gate 'halt' needs a block that keeps the shape"):
        build(block.__class__(**{**block.__dict__, "out_channels": 9}))


def test_a_block_is_calibrated_on_the_images_that_run_it() -> None:
    network = halting(halting_config(["halt"] * 3))
    gated = network.slots["stage1__3"]
    seen = []
    hook = gated.block.expand.conv.register_forward_hook(lambda _, __, y: seen.append(y))
    calibrate(network, networks.images(40), batch=40)
    hook.remove()
    assert 1 < len(seen[0]) < 40
    torch.testing.assert_close(gated.block.expand.norm.running_mean, seen[0].mean((0, 2, 3)))
    torch.testing.assert_close(gated.block.expand.norm.running_var, seen[0].var((0, 2, 3)))
