"""Half of a block's inner channels, or all of them."""

import torch

from dynnas.nn.gates.gate import HIDDEN, OPEN_BIAS, Gated, hidden_channels
from dynnas.nn.layers.hidden import ChosenHidden, MaskedHidden


class Halves(Gated):
    """The leading half of the hidden channels, or all, as the gate says."""

    name = "halves"
    requires = (*Gated.requires, HIDDEN)
    capacity = 65
    shares_norms = True
    branches = True

    def __init__(self, config):
        super().__init__(config, start=(0.0, OPEN_BIAS))
        self.hidden = hidden_channels(config)
        self.half = -(-self.hidden // 2)

    @classmethod
    def alternatives(cls, config):
        return ("half", "all")

    def choices(self):
        return torch.eye(2, dtype=torch.bool)

    def masked(self, x, decision, counted=False):
        half, whole = decision.weights.split(1, dim=1)
        masks = [(half + whole).expand(-1, self.half)]
        if self.hidden > self.half:
            masks.append(whole.expand(-1, self.hidden - self.half))
        return self.block(x, MaskedHidden(torch.cat(masks, dim=1), counted))

    def branch(self, x, alternative):
        return self.block(x) if alternative else self.block(x, ChosenHidden(self.half, self.hidden))
