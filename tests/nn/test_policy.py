"""Gates that read one policy network: the same values in every execution, and a cost of its own."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import networks
from support.contexts import decisions, executed
from support.gated import assert_masked_equals_real, macs_of_runs
from support.reading import WIDTH, of_two_minds, reading_config

from dynnas.errors import SpaceError
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.config.choice import Choice
from dynnas.nn.config.network import PolicyConfig
from dynnas.nn.config.network_json import config_from_dict, config_to_dict
from dynnas.nn.context import tracing
from dynnas.nn.exits.exits import leave
from dynnas.nn.gates.policy import Policy, PolicyLogits
from dynnas.nn.gates.state import Carried, Flow, Pack, Unpack, alive
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.gate_use import GateUse
from dynnas.nn.networks.network import build

FAMILIES = ("none", "skip", "width", "channels")


def test_values_are_packed_in_front_and_unpacked() -> None:
    vector, map_, short = Carried("v", 3), Carried("m", 2, spatial=True), Carried("s", 1, lasts=False)
    x = torch.randn(2, 4, 5, 6)
    flow = Flow(x, {"v": torch.randn(2, 3), "m": torch.randn(2, 2, 5, 6)}, {"s": torch.randn(2, 1)})
    packed = Pack((vector, map_, short))(flow)
    assert packed.x.shape == (2, 3 + 2 + 1 + 4, 5, 6)
    assert torch.equal(packed.x[:, -4:], x)
    found = Unpack((vector, map_, short))(packed)
    assert torch.equal(found.x, x)
    for carried in (vector, map_, short):
        assert torch.equal(found.value(carried), flow.value(carried))
    assert set(found.next) == {"s"}
    assert not Pack((vector,))(Flow(x)).x[:, :3].any()  # nobody has handed it on


def test_what_lasts_is_alive_until_it_is_last_read() -> None:
    lasting, short = Carried("a", 1), Carried("b", 1, lasts=False)
    slots = [(lasting,), (), (short,), (short, lasting), (), (short,)]
    found = [alive(slots, at) for at in range(7)]
    assert found == [(), (lasting,), (lasting,), (lasting, short), (), (), ()]


@settings(max_examples=16, deadline=None)
@given(
    st.tuples(*[st.sampled_from(FAMILIES)] * 2, st.sampled_from(["none", "width", "channels"])),
    st.sampled_from(["policy", "recurrent", ("policy", "block", "recurrent")]),
    st.integers(0, 2),
    st.integers(1, 7),
)
@torch.no_grad()
def test_masked_equals_real(gates, reads, exits, batch) -> None:
    if set(gates) == {"none"}:
        return
    network = of_two_minds(reading_config(gates, reads, exits))
    x = networks.images(batch, seed=batch)
    with decisions(network) as found:
        network.logits(x)
    assert len(found) == len(network.config.gated)
    assert_masked_equals_real(network, x)


@torch.no_grad()
def test_all_gates_see_the_embedding_and_nothing_else() -> None:
    network = of_two_minds(reading_config(("skip", "channels", "width")))
    x = networks.images(9)
    embedded = network.slots["policy"](x)
    assert embedded.shape == (9, WIDTH)
    with decisions(network) as found:
        network.logits(x)
    for slot, decision in zip(("stage1__1", "stage1__2", "stage2__0"), found, strict=True):
        gated = network.slots[slot]
        features = gated.gate[0]
        expected = embedded @ features.expand.weight.T + features.expand.bias
        expected = expected + (1 - features.target) * features.logits_by_target
        torch.testing.assert_close(gated.gate(embedded), expected)
        assert torch.equal(gated.decide(embedded).choice, decision.choice)
    assert len(found[0].choice.unique(dim=0)) == 2  # images differ


@torch.no_grad()
def test_open_gates_are_none() -> None:
    network = of_two_minds(reading_config(("skip", "width", "channels")))
    x = networks.images(5)
    closed = network.logits(x)[0]
    network = executed(network, "masked", choice="all")
    plain = build_plain(network)
    assert torch.equal(network.logits(x)[0], plain.logits(x)[0])
    assert not torch.allclose(closed, plain.logits(x)[0])


def build_plain(network):
    plain = type(network)(network.config.without_gates()).eval()
    values = {name.replace(".block.", "."): value for name, value in network.state_dict().items()}
    plain.load_state_dict({name: values[name] for name in plain.state_dict()})
    return plain


@pytest.mark.parametrize("exits", [0, 1])
@torch.no_grad()
def test_the_policy_network_is_paid_once_by_every_image(exits: int) -> None:
    config = reading_config(("skip", "width", "channels"), exits=exits)
    network = of_two_minds(config)
    x = networks.images(16)
    with decisions(network) as found:
        logits = network.logits(x)
    _, left = leave(logits, network.config.exits)
    use = GateUse.of(cost(network.config), left, found)
    assert list(use.image_macs) == macs_of_runs(network, x, left.tolist())
    # 12x12 images of 2 channels: convolutions at 6x6, 3x3, 2x2 and 1x1, and the last layer.
    policy = 36 * 9 * 2 * 2 + 9 * 9 * 2 * 3 + 4 * 9 * 3 * 6 + 9 * 6 * 6 + 6 * 6
    first, *_ = cost(config).exit_macs
    plain, *_ = cost(config.without_gates()).exit_macs
    gates = 0 if exits else WIDTH * (2 + 4 + 16)  # before the exit there is none
    assert first - plain == policy + gates


def test_the_classifier_of_the_policy_network_teaches_it_and_does_not_ship() -> None:
    policy = Policy(PolicyConfig(2, WIDTH, 5)).train()
    x = networks.images(8)
    with tracing(policy, PolicyLogits) as trace:
        policy(x)
    (logits,) = (each.logits for each in trace.of(PolicyLogits))
    assert logits.shape == (8, 5)
    torch.nn.functional.cross_entropy(logits, torch.arange(8) % 5).backward()
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in policy.parameters())
    with tracing(policy) as trace:
        policy.eval()(x)
    assert not trace.of(PolicyLogits)
    policy.settle()
    assert not [name for name, _ in policy.named_parameters() if name.startswith("classifier")]


def test_gradients_of_decisions_reach_the_policy_network() -> None:
    network = networks.finished(reading_config(("skip", "width", "channels"))).train()
    with decisions(network) as found:
        (logits,) = network.logits(networks.images(16))
    (found[0].usage[:, -1].sum() + found[1].usage[:, -1].sum()).backward(retain_graph=True)
    for name, parameter in network.slots["policy"].named_parameters():
        learns = parameter.grad is not None and float(parameter.grad.abs().sum()) > 0
        assert learns != name.startswith("classifier"), name
    before = network.slots["stage2__0"].gate[0].expand.weight.grad
    assert before is None
    logits.square().sum().backward()
    for slot in ("stage1__1", "stage1__2", "stage2__0"):
        for name, parameter in network.slots[slot].gate.named_parameters():
            assert float(parameter.grad.abs().sum()) > 0, (slot, name)


def test_accuracy_counts_its_policies() -> None:
    network = of_two_minds(reading_config(("skip", "skip", "width")))
    score = accuracy(network, networks.noise(), "search")
    assert 2 <= score.gates.policies <= 2 * 2 * 4


def test_configs_survive_json_and_older_ones_are_as_they_were() -> None:
    config = reading_config(("skip", "width", "channels"), ("policy", "block", "policy"))
    assert config_from_dict(config_to_dict(config)) == config
    stored = config_to_dict(networks.config())
    assert "policy" not in stored
    assert stored["blocks"][0][1]["gate"] == {"name": "none"}


def test_what_makes_no_sense_says_so() -> None:
    block = reading_config(("skip", "none", "none")).blocks[1][1]
    with pytest.raises(SpaceError, match="gate 'positions' looks at its block's input, not at 'policy'"):
        build(
            replace(block, gate=Choice.of("positions", target=0.5, tiles=2, reads="policy", policy_width=6))
        )
