"""A report of what became elastic in a trained network, and what did not, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ElasticReport:
    """Choices of a network, and reasons where there are none.

    Attributes:
        network: name of its class.
        choices: values by gene, the trained network's last.
        left_out: by module, or by what cannot be chosen of it, the reason.
        parameters: their number in the largest and in the smallest network.
    """

    network: str
    choices: Mapping[str, tuple[Any, ...]]
    left_out: Mapping[str, str]
    parameters: tuple[int, int]

    def __str__(self) -> str:
        """Return a table in plain text."""
        largest, smallest = self.parameters
        lines = [f"{self.network}: {largest:,} parameters, {smallest:,} in the smallest network"]
        lines += [f"  {name}: {', '.join(map(str, values))}" for name, values in self.choices.items()]
        if self.left_out:
            lines += ["not elastic:", *(f"  {name}: {reason}" for name, reason in self.left_out.items())]
        return "\n".join(lines)


NO_REPORT = ElasticReport("", {}, {}, (0, 0))
"""The report of a network that is still looked at."""
