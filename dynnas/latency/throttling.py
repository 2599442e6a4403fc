"""The clock and the heat of a processor around a measurement: whether it was slowed down meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SYSTEM = Path("/sys")
FALL = 0.1
"""The share by which the clock must fall for a warning; less is what idle and busy cores differ by."""


@dataclass(frozen=True)
class ClockState:
    """The state of a processor; None for what the system does not tell.

    Attributes:
        mhz: mean clock of the cores.
        celsius: temperature of the hottest zone.
        throttled: times that cores were slowed down for heat since the machine was started.
    """

    mhz: float | None
    celsius: float | None
    throttled: int | None

    @staticmethod
    def of(khz: Sequence[int], millicelsius: Sequence[int], throttled: Sequence[int] = ()) -> ClockState:
        """Return the state of the clocks of cores, the temperatures of zones, and the slowdowns of cores."""
        return ClockState(
            mhz=sum(khz) / len(khz) / 1e3 if khz else None,
            celsius=max(millicelsius) / 1e3 if millicelsius else None,
            throttled=sum(throttled) if throttled else None,
        )


@dataclass(frozen=True)
class Throttling:
    """The state before and after a measurement."""

    before: ClockState
    after: ClockState

    @property
    def slowed(self) -> bool:
        """Return whether cores were slowed down for heat, or the clock fell by more than `FALL`."""
        counts = self.before.throttled, self.after.throttled
        clocks = self.before.mhz, self.after.mhz
        hot = counts[0] is not None and counts[1] is not None and counts[1] > counts[0]
        fell = clocks[0] is not None and clocks[1] is not None and clocks[1] < (1 - FALL) * clocks[0]
        return hot or fell

    def __str__(self) -> str:
        """Return in words what changed."""
        pairs = (
            ("MHz", self.before.mhz, self.after.mhz),
            ("°C", self.before.celsius, self.after.celsius),
            ("slowdowns", self.before.throttled, self.after.throttled),
        )
        known = [
            f"{first:.0f} to {last:.0f} {unit}" for unit, first, last in pairs if None not in (first, last)
        ]
        if not known:
            return "the system does not tell"
        return ", ".join(known) + ("; slowed down, so measure again when it is cool" if self.slowed else "")


def clock_state(system: Path = SYSTEM) -> ClockState:
    """Return the state now, as Linux tells it in `system`."""
    cores, zones = system / "devices/system/cpu", system / "class/thermal"
    return ClockState.of(
        _numbers(cores.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")),
        _numbers(zones.glob("thermal_zone*/temp")),
        _numbers(cores.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")),
    )


def _numbers(paths: Iterable[Path]) -> list[int]:
    """Return the whole numbers in those files that can be read."""
    found = []
    for path in paths:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):  # a zone that is asleep, or a number that is none
            continue
    return found
