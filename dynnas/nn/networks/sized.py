"""The base of networks that say, as staged ones do, what images they take."""

from __future__ import annotations

from typing import Any

from torch import nn


class SizedNetwork(nn.Module):
    """A network of images (B, C, H, W) whose `config.shape` is their (C, H, W).

    Those of the data may be of another size, and are resized before the network is run.
    """

    config: Any
