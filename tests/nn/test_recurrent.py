"""Gates that share an LSTM: torch's own as a witness, and a state that goes past skipped blocks."""

import torch
from support import networks
from support.contexts import decisions
from support.reading import of_two_minds, reading_config

from dynnas.nn.config.network_json import config_from_dict, config_to_dict
from dynnas.nn.gates.recurrent import BIAS, STATE, WEIGHT, lstm_step
from dynnas.nn.gates.state import Flow
from dynnas.nn.networks.cost import cost


def cell_of(recurrent) -> torch.nn.LSTMCell:
    """torch's, of the same weights."""
    cell = torch.nn.LSTMCell(10, 10)
    with torch.no_grad():
        cell.weight_ih.copy_(recurrent.weight[:, :10])
        cell.weight_hh.copy_(recurrent.weight[:, 10:])
        cell.bias_ih.copy_(recurrent.bias)
        cell.bias_hh.zero_()
    return cell


@torch.no_grad()
def test_a_step_is_that_of_torch() -> None:
    network = networks.finished(reading_config(("skip", "none", "none"), "recurrent"))
    recurrent = network.slots["recurrent"]
    v, state = torch.randn(5, 10), torch.randn(5, 20)
    shared = {WEIGHT: recurrent.weight, BIAS: recurrent.bias}
    hidden, after = lstm_step(v, Flow(v, {STATE.name: state}, shared=shared))
    expected = cell_of(recurrent)(v, state.split(10, dim=1))
    torch.testing.assert_close(hidden, expected[0])
    torch.testing.assert_close(after, torch.cat(expected, dim=1))


@torch.no_grad()
def test_the_state_goes_from_gate_to_gate_also_past_skipped_blocks() -> None:
    """By hand: the blocks one by one, and torch's LSTM over what they see."""
    network = of_two_minds(reading_config(("skip", "skip", "width"), "recurrent"))
    cell = cell_of(network.slots["recurrent"])
    x = networks.images(20)
    with decisions(network) as found:
        (logits,) = network.logits(x)
    y = network.slots["stage1__0"](network.slots["stem"](x))
    state = (torch.zeros(20, 10), torch.zeros(20, 10))
    for slot, decision in zip(("stage1__1", "stage1__2", "stage2__0"), found, strict=True):
        gated = network.slots[slot]
        features = gated.gate[0]
        state = cell(features.pooled(y), state)
        assert torch.equal(gated.gate(state[0]).argmax(1), decision.choice.int().argmax(1))
        y = gated.masked(y, decision)
    torch.testing.assert_close(network.slots["head"](y), logits)
    assert 0 < int(found[0].choice[:, 1].sum()) < 20


def test_gradients_reach_the_lstm_and_all_that_is_before_it() -> None:
    network = networks.finished(reading_config(("skip", "skip", "width"), "recurrent")).train()
    with decisions(network) as found:
        network.logits(networks.images(16))
    found[2].usage[:, -1].sum().backward()
    learns = [network.slots["recurrent"], *(network.slots[f"stage1__{at}"].gate[0].reduce for at in (1, 2))]
    for module in learns:
        assert all(float(parameter.grad.abs().sum()) > 0 for parameter in module.parameters())


def test_every_gate_pays_for_its_step() -> None:
    config = reading_config(("skip", "skip", "none"), "recurrent")
    gate, other = cost(config).gates
    assert gate.macs[0] == other.macs[0] == 8 * 10 + 20 * 40 + 10 * 2
    assert cost(config).params - cost(config.without_gates()).params == (
        840 + 2 * (8 * 10 + 10 + 10 + 10 * 2 + 2)
    )


def test_configs_survive_json() -> None:
    config = reading_config(("skip", "channels", "width"), ("recurrent", "block", "policy"))
    assert config_from_dict(config_to_dict(config)) == config
