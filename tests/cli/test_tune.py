"""`dynnas tune`: measures what a space runs, prints what won, and remembers it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dynnas.latency.tuning import tuning
from dynnas.nn.dynamic_conv.tuned import TunedFile

SPACE = """
name: tiny
input: {channels: 1, classes: 10, resolutions: 8}
stem: {width: 8}
stages: [{block: dwsep, width: 8, stride: 2, op: condconv, experts: 2}]
head: {}
train: {batch: 4, layout: channels_first, precision: float32}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a space file, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "SECONDS", 0.0)
    Path("tiny.yaml").write_text(SPACE, encoding="utf-8")
    Path("choices.yaml").write_text("choices: {edge: [a, b]}\n", encoding="utf-8")


def test_measures_prints_and_remembers(dynnas: Callable) -> None:
    ran = dynnas("tune", "tiny.yaml", "--threads", "1")
    assert ran.status == 0
    ways = TunedFile.load(TunedFile.path()).ways
    assert f"convolutions measured: {len(ways)}, run another way than by the rule:" in ran.out
    assert all(key in ran.out for key in ways)
    assert "cpu 1 threads float32: 8->8 k3 s2 g8 8x8, 4 images, 2 experts, forward and backward" in ways
    assert "tuning kernels" in ran.err


def test_interrupted_it_shows_and_keeps_what_it_has(
    dynnas: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, asked = tuning.measure_problem, []

    def interrupted(problem: object) -> object:
        asked.append(problem)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return measure(problem)  # type: ignore[arg-type]

    monkeypatch.setattr(tuning, "measure_problem", interrupted)
    ran = dynnas("tune", "tiny.yaml", "--quiet")
    assert ran.status == 130
    assert "convolutions measured: 1," in ran.out
    assert len(TunedFile.load(TunedFile.path()).ways) == 1


def test_a_space_without_a_network_is_refused(dynnas: Callable) -> None:
    ran = dynnas("tune", "choices.yaml")
    assert (ran.status, ran.out) == (2, "")
    assert "choices.yaml: a space of plain choices has no convolutions to measure; dynnas tune" in ran.err
