"""Leaky ReLU with a slope to choose."""

from torch import nn

from dynnas.nn.facts import LOCAL
from dynnas.nn.registry import Activation
from dynnas.space.knob import Knob, real


class Slope(Activation, nn.LeakyReLU):
    """x where it is positive, else `slope` * x."""

    knobs = (Knob("slope", real(0.01, 0.5), "slope below zero", default=0.1),)
    provides = frozenset({LOCAL})
    capacity = 15

    def __init__(self, channels, slope=0.1):
        super().__init__(slope)
