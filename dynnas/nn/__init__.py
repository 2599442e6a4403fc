"""Layers as plain torch modules, static and dynamic, which serve networks of any kind.

`Conv2d` is torch's with dynamic kernels to choose from, `EarlyExits` lets images leave early, `attention` and
`activation` make modules by name. What is registered under a name is imported when a registry is first read.
"""

from dynnas.nn.by_name import activation, attention
from dynnas.nn.conv2d import Conv2d
from dynnas.nn.early_exits import EarlyExits
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS

__all__ = ["ACTIVATIONS", "ATTENTIONS", "KERNELS", "Conv2d", "EarlyExits", "activation", "attention"]
