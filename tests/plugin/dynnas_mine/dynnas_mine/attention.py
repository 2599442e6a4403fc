"""An attention by how much each channel varies over the image."""

import torch
from torch import nn

from dynnas.nn.registry import Attention
from dynnas.space.knob import Knob, real


class Spread(Attention):
    """x * sigmoid(FC(ReLU(FC(variance of x)))), with `share` * C hidden units."""

    knobs = (Knob("share", real(0.05, 1), "hidden units over channels", default=0.25),)
    capacity = 25

    def __init__(self, channels, share=0.25):
        super().__init__()
        hidden = max(1, round(channels * share))
        self.reduce, self.expand = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x):
        variance = (x - x.mean((2, 3), keepdim=True)).square().mean((2, 3))
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(variance))))[:, :, None, None]
