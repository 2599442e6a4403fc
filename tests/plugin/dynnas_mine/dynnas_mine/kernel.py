"""PeakConv: experts mixed by a softmax over the peaks of the block's input."""

import torch
from torch import nn

from dynnas.nn.kernels.kernel import Kernel
from dynnas.space.knob import Knob, whole


class PeakRouter(nn.Module):
    """softmax(FC(max over the image)): one coefficient for each expert."""

    def __init__(self, in_channels, experts, convs):
        super().__init__()
        self.convs = tuple(convs)
        self.fc = nn.Linear(in_channels, experts)

    def forward(self, x):
        return dict.fromkeys(self.convs, torch.softmax(self.fc(x.amax((2, 3))), dim=1))


class PeakConv(Kernel):
    """A bank of experts, mixed by what is strongest in each channel."""

    knobs = (Knob("peaks", whole(1, 16), "kernels that are mixed", default=3),)
    capacity = 55

    def __init__(self, shape, peaks=3):
        super().__init__(shape, bank=peaks)

    @classmethod
    def router(cls, in_channels, convs, peaks=3):
        return PeakRouter(in_channels, peaks, convs)
