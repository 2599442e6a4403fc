"""Binary activations (Courbariaux et al. 2016, arXiv:1602.02830; XNOR-Net: Rastegari et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from dynnas.nn.facts import LOCAL
from dynnas.nn.registry import Activation, register_activation


@register_activation("sign")
class Sign(Activation):
    """Computes the sign of x, 1 for 0.

    Its gradient is that of x where |x| <= 1, and 0 elsewhere (equation 4 of the paper).
    """

    capacity = 5
    paper = "Courbariaux et al. 2016, arXiv:1602.02830"
    provides = frozenset({LOCAL})

    def __init__(self, channels: int) -> None:
        """Build it for feature maps of any number of channels."""
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape, of -1 and 1."""
        ones = torch.ones_like(x)
        signs = torch.where(x >= 0, ones, -ones)
        if not torch.is_grad_enabled():
            return signs
        kept = x.clamp(-1, 1)
        return kept + (signs - kept).detach()
