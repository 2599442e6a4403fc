"""Tokens of a transformer that halt when they have been computed enough (A-ViT: Yin et al. 2022, CVPR)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.errors import SpaceError
from dynnas.nn.blocks_by_name import gate_around, real_in_evaluation
from dynnas.nn.config.network import BlockConfig
from dynnas.nn.context import PLAIN, Context
from dynnas.nn.dynamic_conv.selection import is_recorded
from dynnas.nn.gates.families.halt import ENOUGH
from dynnas.nn.gates.families.positions import usage_of_parts
from dynnas.nn.gates.gate import Decision, Gated
from dynnas.nn.gates.state import Flow
from dynnas.nn.slicing import groups

UNSEEN = -1e4
"""The number that is added to the attention to a token that has halted."""


class TokenLayer(nn.Module):
    """A layer of a vision transformer, whose tokens may be told not to look at some of them.

    Attention and an MLP, each behind a norm and added to its input. Heads have a fixed width, so that another
    number of heads leaves each head as it is.

    Args:
        width: numbers of a token. heads: of the attention. head: numbers of a head.
        ratio: hidden units of the MLP, as a multiple of the width.
    """

    elastic: ClassVar = {"qkv.*": groups(3, "heads"), "out.weight": groups("heads", axis=1)}

    def __init__(self, width: int, heads: int, head: int = 16, ratio: float = 4.0) -> None:
        super().__init__()
        self.heads, self.head = heads, head
        self.norm1, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * heads * head)
        self.out = nn.Linear(heads * head, width)
        hidden = int(width * ratio)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, halted: Tensor | None = None) -> Tensor:
        """Map tokens (B, N, width) to the same shape; nobody looks at `halted` ones, (B, N) bool."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, self.head)).permute(2, 0, 3, 1, 4)
        mask = None if halted is None else UNSEEN * halted[:, None, None].to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class HaltingTokens(nn.Module):
    """Layers of a transformer, run one after the other until each token has had enough of them.

    With the first number t_0 of a token behind layer l, its halting probability is
    h_l = sigmoid(scale t_0 - center) (equation 4 of the paper), 1 behind the last layer. A token halts at the
    first layer N where h_1 + .. + h_N reaches 1 - 0.01; its output is the mean of what it was behind the
    layers by h_1 .. h_N-1 and what these leave of 1 (equations 5 and 9). Nobody looks at a token that has
    halted (section 3.2), so that leaving it out gives the same.

    In training all tokens are computed. In evaluation a layer runs those that are left, image by image. A
    graph for one image takes them out as well, and has an `If` at each layer for when none is left; a graph
    for a batch computes all tokens. Multiply-adds are counted by the tokens that ran.
    `dynnas.training.Trainer` keeps them to the target, by the gradient of the remaining probabilities, in the
    place of the paper's ponder loss and of its prior for the depth at which tokens halt. The authors' scale
    and center are 10 and 30, for networks that were trained before; these are for new ones, whose tokens
    begin around 0.

    Args:
        layers: from tokens (B, N, width), and which of them have halted, (B, N) bool or None, to the same
            shape, such as `TokenLayer`.
        tokens: N.
        target: the share of the layers' multiply-adds to be used, in the mean over images.
        scale, center: of the halting probability.

    Raises:
        SpaceError: there are no layers or tokens, or the target is not above 0 and at most 1.
    """

    def __init__(
        self,
        layers: Iterable[nn.Module],
        tokens: int,
        target: float = 0.5,
        scale: float = 1.0,
        center: float = 3.0,
    ) -> None:
        super().__init__()
        found = list(layers)
        if not found or tokens < 1:
            raise SpaceError(f"HaltingTokens: {tokens} tokens; allowed: 1 or more, and at least one layer")
        self.first, self.scale, self.center = found[0], scale, center
        self.halts = nn.ModuleList(
            _Halting(layer, tokens, target, scale, center, last=layer is found[-1]) for layer in found[1:]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, width) to the same shape."""
        x = self.first(x)
        if not len(self.halts):
            return x
        zeros, ones = torch.zeros_like(x), torch.ones_like(x[..., :1])
        packed = counted(x, zeros, ones, halting(x, self.scale, self.center))
        for halt in self.halts:
            packed = halt(packed)
        return packed[..., x.shape[2] : -1]


def counted(tokens: Tensor, mean: Tensor, left: Tensor, h: Tensor) -> Tensor:
    """Return rows of tokens, of their mean so far and of what is left of 1: (B, N, 2 * width + 1).

    Args:
        tokens: what a layer made of them, (B, N, width). mean: before that, (B, N, width).
        left: of 1 before that, (B, N, 1). h: their halting probabilities, (B, N, 1).
    """
    share = torch.where(left - h <= ENOUGH, left, h)
    return torch.cat([tokens, mean + share * tokens, left - share], dim=2)


def halting(tokens: Tensor, scale: float, center: float) -> Tensor:
    """Return the halting probabilities (B, N, 1) of tokens (B, N, width)."""
    return torch.sigmoid(scale * tokens[..., :1] - center)


class _Halting(Gated):
    """A layer on rows of a token, the mean of what it was so far, and the probability that is left of 1."""

    name = "halt"
    shares_norms = False
    branches = False

    def __init__(
        self, layer: nn.Module, tokens: int, target: float, scale: float, center: float, last: bool
    ) -> None:
        config = gate_around("HaltingTokens", layer, tokens, "halt", target)
        super().__init__(config, start=(), features=lambda *_: nn.Identity(), block=_Packed(layer))
        self.scale, self.center, self.last = scale, center, last

    @classmethod
    def alternatives(cls, config: BlockConfig) -> tuple[str, ...]:
        return tuple(f"{count} tokens" for count in range(config.in_channels + 1))

    def choices(self) -> Tensor:
        tokens = self.config.in_channels
        return torch.arange(tokens) < torch.arange(tokens + 1)[:, None]

    def forward(self, x: Tensor | Flow, *, context: Context | None = None) -> Any:
        return super().forward(x, context=real_in_evaluation(self, context))

    def decide(self, seen: Tensor, context: Context = PLAIN) -> Decision:
        left = seen[..., -1]
        run = (left > ENOUGH).to(left.dtype)
        usage = usage_of_parts(run + left - left.detach())
        return Decision(run, usage, in_a_run=True)

    def branches_on(self, flow: Flow) -> bool:
        return True

    def ways(self) -> int:
        return 2

    def votes(self, flow: Flow) -> tuple[Tensor, Flow]:
        assert isinstance(flow.x, Tensor)
        most = flow.x[..., -1].amax(1) - ENOUGH
        return torch.stack([torch.zeros_like(most), most], dim=1), flow

    def alternative(self, flow: Flow, index: int) -> Flow:
        x = flow.x
        assert isinstance(x, Tensor)
        if index == 0:
            return flow.hand_on(x)
        run = x[0, :, -1] > ENOUGH
        # In the example of a graph no token may be left, and torch fails at empty attention.
        return flow.hand_on(self._of_some(x, (run | ~run.any()).nonzero().flatten()))

    def masked(self, x: Tensor, decision: Decision, counted: bool = False) -> Tensor:
        run = decision.weights[..., None]
        y = self._goes_on(x, self.block(x, halted=decision.weights == 0))
        return torch.where(run > 0, y, x)

    def alone(self, x: Tensor, choice: Tensor, decision: Decision) -> Tensor:
        rows = choice.nonzero().flatten().to(x.device)
        return self._of_some(x, rows) if len(rows) else x

    def whole(self, x: Tensor) -> Tensor:
        return self._goes_on(x, self.block(x))

    def _of_some(self, x: Tensor, rows: Tensor) -> Tensor:
        """Run the layer on the tokens (n,) of packed rows (B, N, ...), and leave the others as they are."""
        some = x.index_select(1, rows)
        y = self._goes_on(some, self.block(some))
        if is_recorded():  # for one image: one index for each row, where index_copy has one for each number
            return x[0].index_put((rows,), y[0])[None]
        return x.index_copy(1, rows, y)

    def _goes_on(self, packed: Tensor, tokens: Tensor) -> Tensor:
        """Return the rows (B, n, ...) of tokens that the layer has run, (B, n, width)."""
        width = tokens.shape[2]
        mean, left = packed[..., width:-1], packed[..., -1:]
        h = torch.ones_like(left) if self.last else halting(tokens, self.scale, self.center)
        return counted(tokens, mean, left, h)


class _Packed(nn.Module):
    """A layer on the tokens of packed rows."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, packed: Tensor, halted: Tensor | None = None) -> Tensor:
        found: Tensor = self.layer(packed[..., : (packed.shape[-1] - 1) // 2], halted)
        return found
