"""DGC: dynamic group convolution (Su et al. 2020, arXiv:2007.04242)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.context import Context
from dynnas.nn.dynamic_conv.mode import ConvMode
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.conv_shape import ConvShape, convolve
from dynnas.space.knob import Knob, real, whole


class HeadSaliency(nn.Module):
    """Predicts ReLU(FC(ReLU(FC(GAP(x))))) for each head and input channel, with max(1, Ci // 16) units.

    The weights are (heads, hidden, Ci) and (heads, Ci, hidden). All channels start with a saliency of 1.
    """

    def __init__(self, channels: int, heads: int) -> None:
        """Build it for `heads` that look at `channels` channels."""
        super().__init__()
        hidden = max(1, channels // 16)
        self.reduce = nn.Parameter(torch.empty(heads, hidden, channels))
        self.expand = nn.Parameter(torch.empty(heads, channels, hidden))
        self.bias = nn.Parameter(torch.ones(heads, channels))
        nn.init.normal_(self.reduce, std=(2 / channels) ** 0.5)
        nn.init.normal_(self.expand, std=(2 / hidden) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, heads, Ci)."""
        pooled = x.mean((2, 3))
        hidden = F.relu(F.linear(pooled, self.reduce.flatten(0, 1)).unflatten(1, self.reduce.shape[:2]))
        return F.relu((self.expand @ hidden[..., None])[..., 0] + self.bias)


@register_kernel("dgc")
class DynamicGroups(Kernel):
    """Lets heads of output channels choose the input channels that they convolve, for each image.

    A head takes the `kept_inputs` part of largest saliency and weighs them by it (equations 1 to 4). Output o
    belongs to head o % heads, which is the paper's shuffle. One image is convolved with what is left of the
    weights; a batch is masked, since its images choose differently. Convolutions in groups are ordinary. The
    paper's lasso on saliencies is left out: what is kept is fixed, not learned.
    """

    knobs = (
        Knob("heads", whole(1, 64), "sets of output channels that choose for themselves", default=4),
        Knob("kept_inputs", real(0.05, 1.0), "part of the input channels that a head takes", default=0.5),
    )
    capacity = 15
    paper = "Su et al. 2020, arXiv:2007.04242"

    def __init__(self, shape: ConvShape, heads: int = 4, kept_inputs: float = 0.5) -> None:
        """Make a kernel, and what chooses its inputs if they are not in groups already."""
        super().__init__(shape)
        self.heads = min(heads, shape.out_channels)
        self.kept = max(1, math.ceil(kept_inputs * shape.in_channels))
        self.dgc_saliency = HeadSaliency(shape.in_channels, self.heads) if shape.groups == 1 else None

    def forward(self, x: Tensor, route: Tensor | None = None, *, context: Context | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W)."""
        if self.dgc_saliency is None:
            return convolve(x, self.weight, self.bias, self.shape)
        saliency = self.dgc_saliency(x)
        largest = saliency.topk(self.kept, dim=2)
        # A graph of the strategy "auto" is of one image; its sizes are tensors, on which one cannot branch.
        alone = (context or self.context)[ConvMode].strategy == "auto" and (
            torch.jit.is_tracing() or x.shape[0] == 1
        )
        mask = None if alone else (saliency * 0).scatter(2, largest.indices, largest.values)
        # As many outputs for each head: those that are lacking are computed for nothing.
        outputs = self.shape.out_channels
        lacking = self.weight.new_zeros(-outputs % self.heads, *self.shape.weight[1:])
        weights = torch.cat([self.weight, lacking]).unflatten(0, (-1, self.heads))
        found = []
        for head in range(self.heads):
            inputs, weight = x, weights[:, head]
            if mask is None:
                taken, scale = largest.indices[0, head], largest.values[0, head]
                inputs, weight = x.index_select(1, taken), weight.index_select(1, taken)
            else:
                scale = mask[:, head]
            found.append(convolve(inputs * scale[..., None, None], weight, None, self.shape))
        y = torch.stack(found, dim=2).flatten(1, 2)[:, :outputs]
        return y if self.bias is None else y + self.bias[:, None, None]
