"""The knob of blocks whose inner channels are a multiple of their input's."""

from __future__ import annotations

from dynnas.space.knob import Knob, real

EXPAND = Knob("expand", real(1, 32), "inner channels of a block over its input channels", default=4.0)
