"""The dropout of routers' inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dynnas.nn.context import Context
from dynnas.nn.dynamic_conv.mode import RouterMode
from dynnas.training.algorithm import Algorithm, Run, register_algorithm, setting


@register_algorithm("routing_dropout")
@dataclass(eq=False)
class RoutingDropout(Algorithm):
    """CondConv's routers lose values of what they see (Yang et al. 2019, arXiv:1904.04971, section 4.1)."""

    name = "routing_dropout"

    rate: float = setting(0.2, "dropout of what condconv's routers see", minimum=0.0, maximum=0.95)

    def context(self, run: Run, context: Context) -> Context:
        """Set the rate."""
        return context.replace(replace(context[RouterMode], dropout=self.rate))
