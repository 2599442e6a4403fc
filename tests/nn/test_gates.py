"""Gates: masked and real execution are the same network, and a gate that is open is no gate."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import networks
from support.contexts import decisions, executed, running
from support.gated import gated_config, with_gate
from support.gated import undecided as undecided_network
from support.slot_configs import block, pictures

from dynnas.errors import SpaceError
from dynnas.nn.config.choice import Choice
from dynnas.nn.config.network import BlockConfig
from dynnas.nn.config.vocabulary import refused
from dynnas.nn.gates.controls import hold_gates
from dynnas.nn.gates.estimators import Chooser, top_k
from dynnas.nn.gates.family import GATES
from dynnas.nn.gates.gate import hidden_channels
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.networks.network import build
from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS, BLOCKS
from dynnas.testing.conformance import lively


def gated(gate, kind="mbconv", target=0.5, **more):
    return with_gate(block(kind, **{"expand": 2.0, **more}), gate, target)


def undecided(config):
    """A module whose gate is of two minds: random weights alone would mostly say one thing."""
    module = lively(build(config)).eval()
    with torch.no_grad():
        features = module.gate[0]
        features.expand.weight.mul_(4)
        logits = features(pictures(40)).flatten(0, -2)
        features.expand.bias.sub_(logits.median(0).values)
    return module


def fit(words, knob, gate):
    return [word for word in words if not refused(knob, word, "gate", gate)]


@st.composite
def gated_blocks(draw) -> BlockConfig:
    gate = draw(st.sampled_from(list(GATES)))
    kind = draw(st.sampled_from(fit(BLOCKS, "block", gate)))
    allowed = [op for op in fit(KERNELS, "op", gate) if not refused("block", kind, "op", op)]
    op = draw(st.sampled_from(allowed))
    width = draw(st.integers(4, 11))
    keeps = GATES[gate].keeps_shape
    return with_gate(
        block(
            kind,
            op,
            in_channels=width,
            out_channels=width if keeps else draw(st.integers(4, 11)),
            stride=1 if keeps else draw(st.sampled_from([1, 2])),
            kernel=draw(st.sampled_from([1, 3, 5])),
            expand=draw(st.sampled_from([1.0, 1.5, 3.0])),
            bank=draw(st.integers(1, 3)),
            attention=draw(st.sampled_from(fit(ATTENTIONS, "attention", gate))),
            activation=draw(st.sampled_from(fit(ACTIVATIONS, "activation", gate))),
            rank=0.5 if kind == "lowrank" else None,
        ),
        gate,
        draw(st.sampled_from([0.1, 0.4, 0.7, 1.0])),
        draw(st.integers(2, 6)),
        draw(st.integers(2, 4)),
    )


@settings(max_examples=60, deadline=None)
@given(gated_blocks(), st.integers(1, 5), st.tuples(st.integers(1, 6), st.integers(1, 6)))
@torch.no_grad()
def test_masked_equals_real(config, batch, size):
    module = lively(build(config)).eval()
    x = torch.randn(batch, config.in_channels, *size, generator=torch.Generator().manual_seed(batch))
    with decisions(module) as masked:
        expected = module(x)
    module = executed(module, "real")
    with decisions(module) as real:
        found = module(x)
    alone = torch.cat([module(image[None]) for image in x])
    assert torch.equal(masked[0].choice, real[0].choice)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)
    torch.testing.assert_close(alone, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("alternative", range(4))
@torch.no_grad()
def test_each_width_is_a_block_that_is_built_so_narrow(alternative):
    """By hand: a block of fewer hidden channels with the leading weights of the wide one."""
    config = gated("width", expand=3.0)
    module = lively(build(config)).eval()
    module = executed(module, "real")
    module.gate[0].expand.weight.zero_()
    module.gate[0].logits_by_target.zero_()
    module.gate[0].expand.bias.copy_(torch.eye(4)[alternative])
    hidden = (6, 12, 18, 24)[alternative]
    narrow = build(replace(config.without_gate(), block=Choice.of("mbconv", expand=hidden / 8))).eval()
    wide = module.block.state_dict()
    for name, tensor in narrow.state_dict().items():
        tensor.copy_(wide[name][tuple(slice(size) for size in tensor.shape)])
    x = pictures(3)
    torch.testing.assert_close(module(x), narrow(x))


@torch.no_grad()
def test_skipping_gives_the_input_and_running_gives_the_block():
    module = undecided(gated("skip", kind="conv"))
    x = pictures(40)
    for execution in ("masked", "real"):
        module = executed(module, execution)
        with decisions(module) as found:
            y = module(x)
        runs = found[0].choice[:, 1]
        assert 0 < runs.sum() < 40
        torch.testing.assert_close(y[runs], module.block(x[runs]))
        assert torch.equal(y[~runs], x[~runs])


@torch.no_grad()
def test_a_skipped_block_is_not_run():
    module = undecided(gated("skip"))
    module = executed(module, "real")
    seen = []
    module.block.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    x = pictures(40)
    with decisions(module) as found:
        module(x)
    assert seen == [int(found[0].choice[:, 1].sum())]
    seen.clear()
    for image in x:
        module(image[None])
    assert seen == [1] * int(found[0].choice[:, 1].sum())


@torch.no_grad()
def test_the_channels_kept_are_those_of_most_saliency():
    module = lively(build(gated("channels", target=0.3))).eval()
    x = pictures(6)
    with decisions(module) as found:
        module(x)
    logits, weights = module.gate(x), found[0].weights
    assert (weights > 0).sum(1).tolist() == [5] * 6  # 0.3 of 16
    for row, kept in zip(logits, weights, strict=True):
        assert sorted(row.topk(5).indices.tolist()) == kept.nonzero().flatten().tolist()
    saliency = torch.nn.functional.softplus(logits)
    expected = saliency / saliency.mean(1, keepdim=True)
    torch.testing.assert_close(weights[weights > 0], expected[weights > 0])


@pytest.mark.parametrize("gate", [gate for gate in GATES if gate != "halt"])  # all images run its first block
@torch.no_grad()
def test_an_open_gate_is_no_gate(gate):
    module = undecided(gated(gate))
    x = pictures(40)
    module = executed(module, "masked", choice="all")
    assert torch.equal(module(x), module.block(x))
    module = executed(module, "masked")
    assert not torch.allclose(module(x), module.block(x))


@pytest.mark.parametrize("estimator", ["gumbel", "straight", "soft"])
@pytest.mark.parametrize("gate", ["skip", "width"])
def test_estimators_are_hard_where_they_say_so_and_let_gradients_pass(gate, estimator):
    module = build(gated(gate)).train()
    module = running(module, GateMode(estimator=estimator, temperature=1.0))
    x = pictures(30)
    torch.manual_seed(0)
    with decisions(module) as found:
        y = module(x)
    rows = found[0].usage.detach()
    hard = bool(((rows == 0) | (rows == 1)).all())
    assert hard == (estimator != "soft")
    torch.testing.assert_close(rows.sum(1), torch.ones(30))
    y.square().sum().backward()
    assert float(module.gate[0].expand.weight.grad.abs().sum()) > 0


def test_gumbel_draws_by_the_softmax_and_evaluation_takes_the_largest():
    chooser = Chooser().train()
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(20_000, 3)
    torch.manual_seed(0)
    shares = chooser(logits).mean(0)
    torch.testing.assert_close(shares, logits[0].softmax(0), rtol=0, atol=0.015)
    assert torch.equal(chooser.eval()(logits[:2]), torch.tensor([[0.0, 0.0, 1.0]] * 2))


def test_top_k_keeps_the_largest():
    x = torch.tensor([[1.0, 5.0, 3.0, 2.0]], requires_grad=True)
    kept = top_k(x, 2)
    assert kept.tolist() == [[0.0, 5.0, 3.0, 0.0]]
    kept.sum().backward()
    assert x.grad.tolist() == [[0.0, 1.0, 1.0, 0.0]]


def test_only_what_runs_meanwhile_is_heard():
    module = build(gated("skip")).eval()
    x = pictures(2)
    with decisions(module) as outer:
        module(x)
        with decisions(module) as inner:
            module(x)
    module(x)
    assert (len(outer), len(inner)) == (1, 1)


def test_what_makes_no_sense_says_so():
    with pytest.raises(SpaceError, match="block 'dwsep' has no hidden channels"):
        build(gated("width", kind="dwsep"))
    with pytest.raises(SpaceError, match="keeps the shape of its input"):
        build(gated("skip", out_channels=9))
    with pytest.raises(SpaceError, match="'skip' has a knob 'target', and its config has none"):
        build(gated("skip", target=None))
    with pytest.raises(ValueError, match="unknown execution 'fast'"):
        GateMode("fast")
    with pytest.raises(ValueError, match="unknown estimator 'hard'"):
        GateMode(estimator="hard")
    with pytest.raises(ValueError, match="positive, not 0"):
        GateMode(temperature=0)


def test_only_blocks_with_hidden_channels_count_them():
    have = set()
    for kind in BLOCKS:
        try:
            hidden_channels(block(kind))
        except SpaceError:
            continue
        have.add(kind)
    assert have == {"bottleneck", "mbconv", "basic", "fused_mbconv"}


@torch.no_grad()
def test_a_constant_gate_says_the_same_and_a_random_one_draws_by_its_shares():
    network = undecided_network(gated_config(("skip", "width")))
    batch = networks.images(1000)
    hold_gates(network, {"stage1.1": (0.3, 0.7), "stage2.0": (0.1, 0.2, 0.3, 0.4)}, random=False)
    with decisions(network) as found:
        network.logits(batch)
    assert [decision.usage.mean(0).tolist() for decision in found] == [[0, 1], [0, 0, 0, 1]]
    hold_gates(network, {"stage1.1": (0.3, 0.7), "stage2.0": (0.1, 0.2, 0.3, 0.4)}, random=True)
    with decisions(network) as found:
        masked = network.logits(batch)
    skip, width = (decision.usage.mean(0) for decision in found)
    torch.testing.assert_close(skip, torch.tensor([0.3, 0.7]), rtol=0, atol=0.07)
    torch.testing.assert_close(width, torch.tensor([0.1, 0.2, 0.3, 0.4]), rtol=0, atol=0.07)
    network = executed(network, "real")
    torch.testing.assert_close(network.logits(batch)[0], masked[0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_runs_of_blocks_are_held_by_what_is_run_of_each():
    whole = with_gate(block("mbconv", expand=2.0), "halt")
    config = networks.config()
    slots = [f"stage1.{layer}" for layer in range(4)]
    config = replace(
        config,
        stem=replace(config.stem, out_channels=8),
        blocks=tuple((slot, whole) for slot in slots),
        head=replace(config.head, in_channels=8),
    )
    network = networks.finished(config)
    batch = networks.images(1000)
    for random, shares in ((False, (1, 1, 0, 0)), (True, (1, 0.8, 0.5, 0.1))):
        hold_gates(network, {slot: (1 - run, run) for slot, run in zip(slots, shares, strict=True)}, random)
        with decisions(network) as found:
            masked = network.logits(batch)
        run = torch.stack([decision.usage.mean(0)[1] for decision in found])
        torch.testing.assert_close(run, torch.tensor(shares).float(), rtol=0, atol=0.06 if random else 0)
        network = executed(network, "real")
        torch.testing.assert_close(network.logits(batch)[0], masked[0], rtol=1e-4, atol=1e-4)
        network = executed(network, "masked")


@torch.no_grad()
def test_another_block_ends_a_run_that_is_held():
    halt = with_gate(block("mbconv", expand=2.0), "halt")
    config = networks.config()
    config = replace(
        config,
        stem=replace(config.stem, out_channels=8),
        blocks=tuple((f"stage1.{layer}", halt if layer != 2 else halt.without_gate()) for layer in range(5)),
        head=replace(config.head, in_channels=8),
    )
    network = networks.finished(config)
    shares = {0: (0, 1), 1: (1, 0), 3: (0, 1), 4: (0, 1)}
    hold_gates(network, {f"stage1.{layer}": share for layer, share in shares.items()}, random=False)
    with decisions(network) as found:
        network.logits(networks.images(20))
    assert [decision.usage.mean(0).tolist() for decision in found] == [
        list(share) for share in shares.values()
    ]


@torch.no_grad()
def test_a_random_set_of_channels_differs_from_image_to_image():
    network = undecided_network(gated_config(("skip", "channels")))
    hold_gates(network, {"stage2.0": [1.0] * 16}, random=True)
    with decisions(network) as found:
        network.logits(networks.images(40))
    kept = found[1].choice
    assert kept.sum(1).tolist() == [8] * 40
    assert len(kept.unique(dim=0)) > 30
    assert float(kept.float().mean(0).std()) < 0.12
