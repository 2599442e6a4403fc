"""Clock and heat around a measurement, from files as Linux writes them."""

from pathlib import Path

import pytest

from dynnas.latency.throttling import ClockState, Throttling, clock_state


def write(root: Path, **numbers: str) -> None:
    places = {
        "clock": "devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq",
        "heat": "class/thermal/thermal_zone{}/temp",
        "count": "devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count",
    }
    for kind, each in numbers.items():
        for number, text in enumerate(each.split()):
            path = root / places[kind].format(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")


def test_the_state_is_that_of_all_cores_and_the_hottest_zone(tmp_path: Path) -> None:
    write(tmp_path, clock="2400000 2000000", heat="41000 73500 broken", count="3 4")
    assert clock_state(tmp_path) == ClockState(mhz=2200.0, celsius=73.5, throttled=7)
    assert clock_state(tmp_path / "nowhere") == ClockState(None, None, None)


@pytest.mark.parametrize(
    ("before", "after", "slowed", "words"),
    [
        ((2000.0, 50.0, 7), (1900.0, 60.0, 7), False, "2000 to 1900 MHz, 50 to 60 °C, 7 to 7 slowdowns"),
        ((2000.0, None, None), (1700.0, None, None), True, "2000 to 1700 MHz; slowed down, so measure again"),
        ((None, None, 7), (None, None, 9), True, "7 to 9 slowdowns; slowed down, so measure again"),
        ((None, None, None), (2000.0, 50.0, 1), False, "the system does not tell"),
    ],
)
def test_what_changed_is_said(before, after, slowed: bool, words: str) -> None:
    found = Throttling(ClockState(*before), ClockState(*after))
    assert found.slowed is slowed
    assert str(found).startswith(words)
