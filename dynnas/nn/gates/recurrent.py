"""One LSTM that all gates share (SkipNet: Wang et al. 2018, arXiv:1711.09485, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.config.network import RECURRENT_UNITS, RecurrentConfig
from dynnas.nn.gates.state import Carried, Flow

STATE = Carried("recurrent", 2 * RECURRENT_UNITS)
WEIGHT, BIAS = "recurrent/weight", "recurrent/bias"


class Recurrent(nn.Module):
    """The weights of the LSTM: it hands them on with the initial state (hidden and cell, 0)."""

    def __init__(self, config: RecurrentConfig) -> None:
        """Build from its config."""
        super().__init__()
        units = config.units
        self.weight = nn.Parameter(torch.empty(4 * units, 2 * units).uniform_(-(units**-0.5), units**-0.5))
        self.bias = nn.Parameter(torch.zeros(4 * units))
        self.carried = (STATE,)

    def forward(self, x: Tensor | Flow) -> Tensor | Flow:
        """Return the input (B, C, H, W) unchanged, with weights and state beside it."""
        if isinstance(x, Tensor):
            return x
        weights = {WEIGHT: self.weight, BIAS: self.bias}
        assert isinstance(x.x, Tensor)
        beside = {STATE.name: x.x.new_zeros((x.x.shape[0], STATE.channels)), **x.beside}
        return Flow(x.x, beside, x.next, {**x.shared, **weights})


def lstm_step(v: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
    """Return the hidden units (B, units) after one more input, and the new state (B, 2 units).

    The formulas and the order of the gates are those of `torch.nn.LSTMCell`.

    Args:
        v: (B, units). flow: with weights and state; alone, without them, zeros.
    """
    state = flow.value(STATE)
    hidden, cell = (v.new_zeros((v.shape[0], STATE.channels)) if state is None else state).chunk(2, dim=1)
    weight = flow.shared.get(WEIGHT)
    weight = v.new_zeros((2 * STATE.channels, STATE.channels)) if weight is None else weight
    gates = F.linear(torch.cat([v, hidden], dim=1), weight, flow.shared.get(BIAS))
    come, stay, new, go = gates.chunk(4, dim=1)
    cell = torch.sigmoid(stay) * cell + torch.sigmoid(come) * torch.tanh(new)
    hidden = torch.sigmoid(go) * torch.tanh(cell)
    return hidden, torch.cat([hidden, cell], dim=1)
