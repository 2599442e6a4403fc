"""The hidden channels of a block, between its convolutions: all of them, or those that a gate chose.

A block whose hidden channels can be gated takes a `Hidden` in its `forward`, says how many they are by
`hidden_channels(config)`, and hands it every part that makes or reads them:

- `take(x)`: the input stands for the hidden channels, where no convolution makes them;
- `into(unit, x, route)`: a unit from the input to the hidden channels;
- `within(unit, y, route)`: from hidden channels to hidden channels;
- `attend(attention, y)`: an attention over hidden channels;
- `out_of(unit, y, route)`: from hidden channels to the output.

What is not chosen counts as zero for whatever reads it. `MaskedHidden` computes everything and multiplies;
`ChosenHidden` leaves it out. Both give the same.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from dynnas.nn.layers.channel_selection import Channels, pick, spread
from dynnas.nn.layers.layers import ConvUnit, is_elementwise


class Hidden:
    """All hidden channels, for every image: the block without a gate."""

    def take(self, x: Tensor) -> Tensor:
        """Return the block's input (B, C, H, W) as its hidden channels."""
        return x

    def into(self, unit: ConvUnit, x: Tensor, route: Any) -> Tensor:
        """Expand the input (B, C, H, W) to hidden channels (B, hidden, H', W')."""
        return unit(x, route)

    def within(self, unit: ConvUnit, y: Tensor, route: Any) -> Tensor:
        """Run a unit from hidden to hidden channels, (B, hidden, H, W)."""
        return unit(y, route)

    def attend(self, attention: nn.Module, y: Tensor) -> Tensor:
        """Attend over hidden channels (B, hidden, H, W)."""
        return attention(y)

    def out_of(self, unit: ConvUnit, y: Tensor, route: Any) -> Tensor:
        """Project hidden channels (B, hidden, H, W) to the output (B, Co, H', W')."""
        return unit(y, route)


ALL_HIDDEN = Hidden()


class MaskedHidden(Hidden):
    """Every image's own channels, by multiplying: for batches, and for gates that learn.

    What no other channel reads is left unmasked, so that batch norms see what they would see without a gate
    where they can.

    Args:
        weights: (B, hidden), what each channel counts: 0 for one that is not there.
        counted: batch norms are told which images have each channel, (B, hidden) bool, as a second argument:
            for `dynnas.training.batchnorm.calibrate`, whose norms take it.
    """

    def __init__(self, weights: Tensor, counted: bool = False) -> None:
        self._weights = weights[:, :, None, None]
        # What is there is scaled once, on the way out, which is also where a gate gets its gradient.
        self._open = weights.detach() > 0
        self._counted = counted

    def into(self, unit: ConvUnit, x: Tensor, route: Any) -> Tensor:
        y = unit.conv(x, route)
        y = unit.norm(y, self._open) if self._counted else unit.norm(y)
        return unit.act(y if unit.by_element else self._mask(y))

    def within(self, unit: ConvUnit, y: Tensor, route: Any) -> Tensor:
        return self.into(unit, y if _keeps_apart(unit) else self._mask(y), route)

    def attend(self, attention: nn.Module, y: Tensor) -> Tensor:
        return y if is_elementwise(attention) else attention(self._mask(y))

    def out_of(self, unit: ConvUnit, y: Tensor, route: Any) -> Tensor:
        return unit(y * self._weights, route)

    def _mask(self, y: Tensor) -> Tensor:
        return y * self._open[:, :, None, None]


class ChosenHidden(Hidden):
    """Selects the same channels for all images, and computes nothing for the others; in eval mode.

    Args:
        channels: those that are there. size: of all hidden channels.
        weights: (B, those that are there), what each counts; None where each counts as it is.
    """

    def __init__(self, channels: Channels, size: int, weights: Tensor | None = None) -> None:
        self._channels, self._size = channels, size
        self._weights = None if weights is None else weights.reshape(*weights.shape, 1, 1)

    def take(self, x: Tensor) -> Tensor:
        return pick(x, self._channels)

    def into(self, unit: ConvUnit, x: Tensor, route: Any) -> Tensor:
        return unit.part(x, route, None, self._channels)

    def within(self, unit: ConvUnit, y: Tensor, route: Any) -> Tensor:
        return unit.part(y, route, self._channels, self._channels)

    def attend(self, attention: nn.Module, y: Tensor) -> Tensor:
        if is_elementwise(attention):
            return y
        # Attentions read all channels, each in its own place.
        return pick(attention(spread(y, self._channels, self._size)), self._channels)

    def out_of(self, unit: ConvUnit, y: Tensor, route: Any) -> Tensor:
        y = y if self._weights is None else y * self._weights
        return unit.part(y, route, self._channels, None)


def _keeps_apart(unit: ConvUnit) -> bool:
    """Return whether no channel of a unit's output depends on another channel of its input.

    A convolution with modules of its own looks at all of its input to decide what it does.
    """
    return unit.conv.shape.depthwise and not list(unit.conv.children())
