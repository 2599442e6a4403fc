"""The commands around a study, on one that is as small as it can be."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

SPACE = """
name: tiny
input: {resolutions: 8}
stem: {width: 8}
stages: [{block: dwsep, width: [8, 16], stride: 2, op: [static, condconv], experts: 2}]
head: {width: 16}
data: {source: digits, train_images: 256, search_images: 64}
train: {epochs: 1, precision: float32, layout: channels_first}
search: {trials: 4}
target: {seconds: 0.02}
"""

ESCAPE = "\x1b"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.yaml").write_text(SPACE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def search(folder: Path) -> tuple[str, ...]:
    """The words of the command that makes the study."""
    return ("search", str(folder / "tiny.yaml"), "--studies", str(folder / "studies"))


@pytest.fixture(scope="module")
def searched(search: tuple[str, ...], dynnas: Callable) -> tuple[int, str, str]:
    """What that command left behind when it ran first."""
    return dynnas(*search)


@pytest.fixture
def study(folder: Path, searched: object) -> str:
    """The study's folder, as STUDY."""
    return str(folder / "studies/tiny")


def test_search_ends_with_the_front_its_controls_and_where_things_lie(
    searched: tuple[int, str, str], folder: Path
) -> None:
    status, out, err = searched
    assert status == 0, err
    assert "tiny: digits on cpu, threads: 1; members: " in out
    assert all(f" {heading} " in out for heading in ("key", "accuracy %", "test %", "p95", "MACs", "trial"))
    assert "half as many random networks" in out
    assert re.search(r"^Take [0-9a-f]{12}, the knee of the front: ", out, flags=re.MULTILINE)
    for name in ("front.json", "front.png"):
        assert str(folder / "studies/tiny" / name) in out
        assert (folder / "studies/tiny" / name).exists()


def test_without_a_terminal_progress_is_plain_lines(searched: tuple[int, str, str]) -> None:
    _, out, err = searched
    assert ESCAPE not in out + err
    assert re.search(r"^training 2/2, .*, took .*, loss ", err, flags=re.MULTILINE)
    assert re.search(r"^search 4/4, ", err, flags=re.MULTILINE)


def test_the_same_command_finds_everything_done(
    searched: tuple[int, str, str], search: tuple[str, ...], dynnas: Callable
) -> None:
    again = dynnas(*search, "--quiet")
    assert (again.status, again.out, again.err) == (0, searched[1], "")


def test_the_front_as_json_says_all_of_each_member(study: str, dynnas: Callable) -> None:
    shown, printed = dynnas("front", study), dynnas("front", study, "--json")
    members = json.loads(printed.out)["members"]
    assert members
    for member in members:
        assert f" {member['key']} " in shown.out
        assert "Take " in shown.out
        assert member.keys() >= {"key", "trial", "architecture", "accuracy", "latency_ms", "macs", "params"}
        assert member["accuracy"].keys() >= {"search", "test"}
        assert member["latency_ms"].keys() >= {"mean", "median", "p95"}


def test_a_study_is_found_by_name(folder: Path, study: str, dynnas: Callable) -> None:
    by_name = dynnas("front", "tiny", "--studies", str(folder / "studies"))
    assert by_name == dynnas("front", study)


@pytest.mark.parametrize(
    ("format", "files"),
    [
        ("onnx", {"model.onnx", "model_batch.onnx"}),
        ("pt2", {"model.pt2"}),
        ("checkpoint", {"weights.pt"}),
    ],
)
def test_export_writes_what_agrees_with_torch(
    format: str, files: set[str], study: str, tmp_path: Path, dynnas: Callable
) -> None:
    out = tmp_path / "model"
    ran = dynnas("export", study, "--pick", "fastest", "--format", format, "--out", str(out))
    assert ran.status == 0, ran.err
    assert "same answer %" in ran.out
    assert files <= {path.name for path in out.iterdir()}
    taken = dynnas("export", study, "--format", format, "--out", str(out))
    assert (taken.status, "holds an exported model already" in taken.err) == (2, True)
    assert dynnas("export", study, "--format", format, "--out", str(out), "--overwrite").status == 0


def test_a_front_is_exported_as_one_model_that_switches(study: str, tmp_path: Path, dynnas: Callable) -> None:
    members = json.loads(dynnas("front", study, "--json").out)["members"]
    ran = dynnas("export", study, "--format", "switchable", "--out", str(tmp_path / "model"))
    assert ran.status == (0 if len(members) > 1 else 2), ran.err
    if len(members) > 1:
        manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
        assert {member["key"] for member in manifest["members"]} == {member["key"] for member in members}
        assert "the largest network alone" in ran.out
    two = dynnas("export", study, "--pick", "knee", "--pick", "fastest", "--out", str(tmp_path / "other"))
    assert (two.status, "one file holds several with --format switchable alone" in two.err) == (2, True)


def test_trained_networks_join_the_study_and_are_exported(
    study: str, tmp_path: Path, dynnas: Callable
) -> None:
    ran = dynnas("train", study, "--pick", "front", "--epochs", "1", "--from", "scratch", "--teacher", "none")
    assert ran.status == 0, ran.err
    members = json.loads(dynnas("front", study, "--json").out)["members"]
    written = json.loads(Path(study, "trained.json").read_text())["networks"]
    assert [each["key"] for each in written] == [member["key"] for member in members]
    name, out = written[0]["name"], str(tmp_path / "model")
    assert f" {name} " in ran.out
    exported = dynnas("export", study, "--pick", members[0]["key"], "--weights", name, "--out", out)
    assert f"weights of training {name}" in exported.out, exported.err
    unknown = dynnas("export", study, "--weights", "none", "--out", out, "--overwrite")
    assert (unknown.status, "allowed are best, inherited, " in unknown.err) == (2, True)


def test_a_pass_says_what_it_did(study: str, dynnas: Callable) -> None:
    ran = dynnas("compress", study, "--pick", "fastest", "--pass", "int8", "--weights", "inherited")
    assert ran.status == 0, ran.err
    (written,) = json.loads(Path(study, "compressed.json").read_text())["networks"]
    assert f" {written['name']} " in ran.out
    assert written["after"]["file"] in ran.out
    assert "times smaller" in " ".join(ran.out.split())
    wrong = dynnas("compress", study, "--pass", "int8", "--bits", "3")
    assert (wrong.status, "pass int8 has no option bits" in wrong.err) == (2, True)


def test_an_audit_says_how_the_ranks_agree(study: str, dynnas: Callable) -> None:
    ran = dynnas("audit", study, "--networks", "3", "--epochs", "1", "--quiet")
    assert ran.status == 0, ran.err
    assert "Kendall's tau" in ran.out
    assert "neighbours on the front inside the noise: " in ran.out
    assert {"audit.json", "audit.png"} <= {path.name for path in Path(study).iterdir()}


def test_an_unknown_pick_names_the_members(study: str, tmp_path: Path, dynnas: Callable) -> None:
    ran = dynnas("export", study, "--pick", "smallest", "--out", str(tmp_path / "model"))
    key = json.loads(dynnas("front", study, "--json").out)["members"][0]["key"]
    assert ran.status == 2
    assert "'smallest'" in ran.err
    assert key in ran.err


def test_limits_that_nothing_keeps_are_named(search: tuple[str, ...], dynnas: Callable) -> None:
    ran = dynnas(*search, "--name", "limited", "--max", "latency_ms=0.000001", "--max", "macs=1e9")
    assert ran.status == 2
    assert "no candidate kept the limits latency_ms=1e-06, macs=1e+09; loosen them" in ran.err


def test_other_settings_are_another_study(search: tuple[str, ...], study: str, dynnas: Callable) -> None:
    ran = dynnas(*search, "--epochs", "2")
    assert ran.status == 2
    assert "train.epochs is 2, was 1" in ran.err


def test_fresh_names_what_it_deletes_and_asks(search: tuple[str, ...], study: str, dynnas: Callable) -> None:
    before = Path(study, "front.json").stat().st_mtime_ns
    refused = dynnas(*search, "--fresh")
    assert refused.status == 2
    assert "front.json" in refused.err
    assert "--yes" in refused.err
    assert Path(study, "front.json").stat().st_mtime_ns == before
    agreed = dynnas(*search, "--fresh", "--yes")
    assert agreed.status == 0
    assert "training 2/2" in agreed.err
    assert Path(study, "front.json").stat().st_mtime_ns > before


def test_ctrl_c_says_how_to_continue(search: tuple[str, ...], folder: Path) -> None:
    words = (*search, "--name", "interrupted", "--epochs", "500")
    command = [sys.executable, "-m", "dynnas", *words]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr is not None
        assert run.stderr.readline().startswith("data: ")
        assert run.stderr.readline().startswith("training: ")
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert out == ""
    assert err.strip().splitlines()[-1] == (
        f"dynnas: interrupted; nothing finished is lost, the same command continues: dynnas {' '.join(words)}"
    )
    assert "Traceback" not in err


@pytest.mark.slow
def test_the_dashboard_serves_the_page_and_the_trials(study: str) -> None:
    command = [sys.executable, "-m", "dynnas", "dashboard", study, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[0]
        try:
            with urllib.request.urlopen(address, timeout=30) as reply:
                assert b"<title>Optuna Dashboard</title>" in reply.read()
            with urllib.request.urlopen(f"{address}api/studies/1?after=0", timeout=30) as reply:
                trials = json.load(reply)["trials"]
        finally:
            server.send_signal(signal.SIGINT)
            _, err = server.communicate(timeout=30)
    assert len(trials) == 4
    assert {trial["state"] for trial in trials} == {"Complete"}
    assert (server.returncode, err.strip()) == (130, "dynnas: interrupted")
