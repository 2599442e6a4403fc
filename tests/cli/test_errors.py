"""Bad invocations: one message on standard error that says what is wrong, exit code 2, no traceback."""

from collections.abc import Callable
from pathlib import Path

import pytest

SPACE = """
name: tiny
input: {channels: 1, classes: 10, resolutions: 8}
stem: {width: 8}
stages: [{block: dwsep, width: [8, 16], stride: 2}]
head: {}
"""

SEARCH = ("search", "tiny.yaml", "--quiet")

CASES = [
    (("frobnicate",), "No such command 'frobnicate'"),
    ((), "Missing command"),
    (("search",), "search: give a space file, the name of one (dynnas spaces lists them), or --data for one"),
    (("front",), "Missing argument 'STUDY'"),
    (("export", "tiny"), "Missing option '--out'"),
    (
        ("export", "tiny", "--out", "x", "--format", "tflite"),
        "unknown format 'tflite' (did you mean 'litert'?); known: checkpoint, ",
    ),
    (("dashboard", "tiny", "--port", "70000"), "Invalid value for '--port'"),
    (("space", "nothing.yaml"), "nothing.yaml:1:1: the space file cannot be read: No such file or directory"),
    (("space", "broken.yaml"), "broken.yaml:1:9: stages: found 3"),
    (("schema", "--out", "nowhere/schema.json"), "nowhere/schema.json: No such file or directory"),
    ((*SEARCH, "--trials", "many"), "--trials: found many; allowed: a whole number of at least 1"),
    ((*SEARCH, "--trials", "0"), "--trials: found 0; allowed: a whole number of at least 1"),
    ((*SEARCH, "--epochs", "0"), "--epochs: found 0; allowed: a whole number of at least 1"),
    ((*SEARCH, "--seed", "-1"), "--seed: found -1; allowed: a whole number of at least 0"),
    ((*SEARCH, "--threads", "0"), "--threads: found 0; allowed: a whole number of at least 1"),
    ((*SEARCH, "--sampler", "nsga4"), "--sampler: found nsga4 (did you mean 'nsga3'?); allowed: guided"),
    ((*SEARCH, "--device", "gpu"), "--device: found gpu (did you mean 'cpu'?); allowed: cpu, cuda"),
    ((*SEARCH, "--max", "latency=5"), "--max: found latency=5 (did you mean 'latency_ms'?)"),
    ((*SEARCH, "--max", "latency_ms"), "--max latency_ms: found nothing; allowed: a number"),
    ((*SEARCH, "--max", "macs=few"), "--max macs: found few; allowed: a number"),
    ((*SEARCH, "--max", "macs=nan"), "--max macs: found nan; allowed: a number"),
    ((*SEARCH, "--name", "../up"), "--name: found ../up"),
    ((*SEARCH, "--data", "nothing.npz"), "nothing.npz"),
    ((*SEARCH, "--storage", "nosql://here"), "storage: cannot open 'nosql://here'"),
    ((*SEARCH, "--storage", "nonsense"), "storage: cannot open 'nonsense'"),
    (("search", "choices.yaml"), "choices"),
    (("front", "nothing"), "nothing"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with one good space file, a broken one, and one without a network."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(SPACE, encoding="utf-8")
    Path("broken.yaml").write_text("stages: 3\n", encoding="utf-8")
    Path("choices.yaml").write_text("choices: {edge: [a, b]}\n", encoding="utf-8")


def test_a_storage_that_cannot_be_opened_is_not_the_studys(dynnas: Callable) -> None:
    ran = dynnas(*SEARCH, "--storage", "sqlite:////nowhere/trials.db")
    assert (ran.status, "unable to open database file" in ran.err) == (2, True)
    assert not Path("studies/tiny/settings.json").exists()


@pytest.mark.parametrize(("words", "message"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_one_message_and_exit_code_2(words: tuple[str, ...], message: str, dynnas: Callable) -> None:
    ran = dynnas(*words)
    assert message in ran.err
    assert ran.err.startswith("dynnas: ")
    assert (ran.status, ran.out) == (2, "")
    assert "Traceback" not in ran.err


def test_all_bad_flags_are_named_at_once(dynnas: Callable) -> None:
    ran = dynnas(*SEARCH, "--trials", "0", "--max", "speed=1", "--max", "params=-1", "--sampler", "ga")
    assert [line.partition(" found")[0] for line in ran.err.splitlines()] == [
        "dynnas: --trials:",
        "--sampler:",
        "--max:",
        "--max params:",
    ]


@pytest.mark.parametrize("place", [0, 2])
def test_debug_shows_the_traceback(place: int, dynnas: Callable) -> None:
    words = ["space", "nothing.yaml"]
    words.insert(place, "--debug")
    with pytest.raises(Exception, match="cannot be read"):
        dynnas(*words)
