"""Checks of a device's answers: it may be faulty, or not what it says it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from dynnas.errors import TargetError
from dynnas.latency.energy import Energy
from dynnas.latency.throttling import ClockState
from dynnas.runtimes.onnx.placement import Placement

MOST_SECONDS = 3600.0
"""Longest time of a call that is believed."""

MOST_MIB = 2.0**24


class Replies:
    """Reads the answers of a device.

    Args:
        address: of the device, for messages.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def offers(self, header: Mapping[str, Any]) -> tuple[list[str], int]:
        """Return the names of runtimes, and the message limit in bytes.

        Raises:
            TargetError: the answer is nonsense; so for all.
        """
        runtimes, most = header.get("runtimes"), header.get("most")
        if not isinstance(runtimes, list) or not all(isinstance(name, str) for name in runtimes):
            raise self._nonsense("runtimes", runtimes)
        if not isinstance(most, int) or isinstance(most, bool) or most < 0:
            raise self._nonsense("a message limit", most)
        return runtimes, most

    def environment(self, header: Mapping[str, Any]) -> dict[str, str]:
        """Return the environment of its times."""
        environment = header.get("environment")
        if not isinstance(environment, dict) or len(environment) > 100:
            raise self._nonsense("an environment", environment)
        return {str(name)[:100]: str(value)[:1000] for name, value in environment.items()}

    def missing(self, header: Mapping[str, Any], known: Mapping[str, bytes]) -> list[str]:
        """Return which of the `known` parts it lacks."""
        missing = header.get("missing", [])
        if not isinstance(missing, list) or any(
            not isinstance(each, str) or each not in known for each in missing
        ):
            raise self._nonsense("digests that it lacks", missing)
        return missing

    def times(self, arrays: Mapping[str, np.ndarray], networks: int) -> np.ndarray:
        """Return the seconds of calls (networks, rounds)."""
        times = arrays.get("times")
        if (
            times is None
            or times.dtype.kind != "f"
            or times.ndim != 2
            or len(times) != networks
            or not times.size
        ):
            found = None if times is None else f"{times.dtype} {times.shape}"
            raise self._nonsense(f"times of {networks} networks", found)
        if not ((times > 0) & (times < MOST_SECONDS)).all():  # false for nan, too
            raise self._nonsense("times of calls in seconds", f"{times.min()} to {times.max()}")
        return times

    def energies(self, header: Mapping[str, Any], networks: int) -> list[Energy]:
        """Return the energy of each network."""
        energies = header.get("energies")
        try:
            found = [Energy(each["energy_mj"], str(each["reason"])[:1000]) for each in energies or ()]
        except (TypeError, KeyError) as error:
            raise self._nonsense(f"energies of {networks} networks", energies) from error
        told = [each.energy_mj for each in found if each.energy_mj is not None]
        if len(found) != networks or not all(map(_is_number, told)):
            raise self._nonsense(f"energies of {networks} networks", energies)
        return found

    def memory_mib(self, header: Mapping[str, Any], networks: int) -> list[float]:
        """Return the peak memory of each network."""
        sizes = header.get("mib")
        if not isinstance(sizes, list) or len(sizes) != networks or not all(map(_is_number, sizes)):
            raise self._nonsense(f"peak memories of {networks} networks", sizes)
        if max(sizes, default=0.0) > MOST_MIB:
            raise self._nonsense("peak memories in MiB", sizes)
        return [float(size) for size in sizes]

    def placements(self, header: Mapping[str, Any], networks: int) -> list[Placement | None]:
        """Return where the nodes of each network run; None for a runtime without execution providers."""
        told = header.get("placements")
        if not isinstance(told, list) or len(told) != networks:
            raise self._nonsense(f"placements of {networks} networks", told)
        return [None if each is None else self._placement(each) for each in told]

    def clock(self, header: Mapping[str, Any]) -> ClockState:
        """Return the clock and the heat of its processor."""
        told = header.get("clock")
        names = [each.name for each in fields(ClockState)]
        values = [told.get(name) for name in names] if isinstance(told, dict) else [math.nan]
        for value in values:
            if value is not None and not _is_finite(value):  # a temperature may lie below 0
                raise self._nonsense("the clock and heat of its processor", told)
        return ClockState(*values)

    def _placement(self, told: Any) -> Placement:
        try:
            nodes = {
                str(provider)[:100]: {str(op)[:100]: int(count) for op, count in counts.items()}
                for provider, counts in told["nodes"].items()
            }
            placement = Placement(str(told["provider"])[:100], nodes)
        except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
            raise self._nonsense("the placement of a network", told) from error
        if any(not 0 < count < 2**31 for counts in nodes.values() for count in counts.values()):
            raise self._nonsense("the placement of a network", told)
        return placement

    def _nonsense(self, wanted: str, found: object) -> TargetError:
        return TargetError(
            f"target: device {self._address} was asked for {wanted}, and answered {str(found)[:200]}; "
            "see that the same version of dynnas runs there"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
