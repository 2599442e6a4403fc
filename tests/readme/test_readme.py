"""What README and guides tell a reader to run, run as it stands there, on spaces with little to do.

A fenced block under `<!-- kind: name -->` belongs to the test that asks for it.
"""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support.markdown import ROOT, marked_blocks
from support.programs import run_program
from support.served import TOKEN, served

from dynnas.cli.app import main
from dynnas.language.parser import parse_space

BLOCKS = marked_blocks()
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}
SHORT = {
    "data": {"train_images": 128, "search_images": 64},
    "train": {"epochs": 1, "precision": "float32", "layout": "channels_first"},
    "search": {"trials": 3, "controls": False},
    "target": {"seconds": 0.02},
}


def commands(block: str) -> list[list[str]]:
    """The `dynnas` commands of a block as argument lists, without comments and installation."""
    lines = [line.split(" && ")[-1] for line in BLOCKS[block].splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("dynnas ")]


def dynnas(folder: Path, *arguments: str) -> str:
    """What a command prints, run in `folder`, in this process: to start Python each time takes a minute."""
    out, err = io.StringIO(), io.StringIO()
    with (
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit, match=r"^\d+$") as end,
    ):
        main(arguments)
    assert end.value.code == 0, err.getvalue()
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader has it after the quick start."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "spaces").mkdir()
    for path in (ROOT / "spaces").glob("*.yaml"):
        space = yaml.safe_load(path.read_text(encoding="utf-8"))
        space |= SHORT | {"data": {**space.get("data", {}), **SHORT["data"]}}
        (folder / "spaces" / path.name).write_text(yaml.safe_dump(space), encoding="utf-8")
    (quick_start,) = commands("run: quick start")
    run_program(f"from dynnas.cli.app import main; main({quick_start})", folder)
    return folder


def test_the_quick_start_leaves_what_it_says(folder: Path) -> None:
    left = {path.name for path in (folder / "studies/mobile").iterdir()}
    assert {"front.json", "front.png", "study.db"} <= left


def test_front_and_export_follow_the_quick_start(folder: Path) -> None:
    front, report, export, _ = commands("run: after the quick start")
    assert "accuracy %" in dynnas(folder, *front)
    dynnas(folder, *report)
    assert (folder / "studies/mobile/report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    dynnas(folder, *export)
    assert list((folder / "knee").glob("*.onnx"))


@pytest.mark.parametrize("block", ["run: tutorial space", "run: tutorial results", "run: tutorial report"])
def test_commands_of_the_tutorials_show_something(folder: Path, block: str) -> None:
    for command in commands(block):
        assert len(dynnas(folder, *command)) > 20


def test_a_model_is_made_as_the_tutorials_say(folder: Path) -> None:
    (export,) = commands("run: tutorial export")
    dynnas(folder, *export)
    assert (folder / "model/run.py").exists()
    shown, kept = commands("run: tutorial pick")
    assert "accuracy" in dynnas(folder, *shown)
    assert json.loads(dynnas(folder, *kept[: kept.index(">")]))["members"]
    (train,) = commands("run: tutorial train")
    assert "trained %" in dynnas(folder, *train, "--epochs", "1")


@pytest.mark.slow
def test_a_model_goes_to_a_phone(folder: Path) -> None:
    pytest.importorskip("executorch.exir", reason="executorch is not installed")
    (export,) = commands("run: tutorial phone")
    dynnas(folder, *export)
    assert (folder / "phone/model.pte").stat().st_size > 1000


@pytest.mark.slow
def test_a_model_goes_to_apple(folder: Path) -> None:
    pytest.importorskip("coremltools", reason="coremltools is not installed")
    (export,) = commands("run: coreml")
    dynnas(folder, *export[: export.index("#")] if "#" in export else export)
    assert (folder / "apple/model.mlpackage/Manifest.json").exists()


@pytest.mark.slow
def test_a_model_goes_to_android(folder: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    (export,) = commands("run: litert")
    dynnas(folder, *export[: export.index("#")] if "#" in export else export)
    assert (folder / "android/model.tflite").read_bytes()[4:8] == b"TFL3"


@pytest.mark.slow
def test_a_study_is_timed_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BLOCKS["run: serve"].split() == ["python", "-m", "dynnas.latency.remote.serve", "--port", "7411"]
    monkeypatch.setenv("DYNNAS_TOKEN", TOKEN)
    (search,) = commands("run: search elsewhere")
    with served() as device:
        dynnas(folder, *(word.replace("7411", str(device.port)) for word in search))
    assert (folder / "studies/elsewhere/front.json").exists()


def test_the_dashboard_answers(folder: Path) -> None:
    command = [sys.executable, "-m", "dynnas", *commands("run: after the quick start")[3], "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=ENV, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = re.search(r"http://\S+", server.stdout.readline())
            assert address is not None
            with urllib.request.urlopen(f"{address[0]}api/studies", timeout=30) as reply:
                assert b'"mobile"' in reply.read()
        finally:
            server.terminate()


def test_a_member_is_trained_and_compressed(folder: Path) -> None:
    train, compress = commands("run: after the search")
    assert "trained %" in dynnas(folder, *train, "--epochs", "1")
    assert "times smaller" in dynnas(folder, *compress)


@pytest.mark.slow
def test_a_member_is_tuned_for_int8(folder: Path) -> None:
    (compress,) = commands("run: qat")
    assert "times smaller" in dynnas(folder, *compress, "--epochs", "1")


@pytest.mark.slow
def test_networks_of_the_front_ship_as_one_and_are_chained(folder: Path) -> None:
    (quick_start,) = commands("run: quick start")
    longer = ("--studies", "longer", "--epochs", "8", "--trials", "12")  # so that the front has two networks
    dynnas(folder, *quick_start, *longer)
    (cascade,) = commands("run: cascade")
    assert "cascades.json" in dynnas(folder, *cascade, *longer[:2])
    (export,) = commands("run: switchable")
    dynnas(folder, *export, *longer[:2])
    assert (folder / "several/model.onnx").exists()


def test_own_data_is_a_folder_of_pictures(folder: Path) -> None:
    random = np.random.default_rng(0)
    for label, brightness in (("dark", 60), ("bright", 200)):
        (folder / "pictures" / label).mkdir(parents=True)
        for index in range(150):
            pixels = random.integers(brightness - 50, brightness + 50, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / label / f"{index}.png")
    (command,) = commands("run: own data")
    dynnas(folder, *command)
    assert (folder / "studies/pictures/front.json").exists()


def test_space_shows_a_table(folder: Path) -> None:
    (command,) = commands("run: space")
    assert "architectures" in dynnas(folder, *command)


@pytest.mark.slow
def test_tuning_writes_what_it_measured(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path))
    (command,) = commands("run: tune")
    assert "times as fast" in dynnas(folder, *command)
    assert (tmp_path / "kernels.json").exists()


@pytest.mark.slow
def test_latency_is_shown_and_measured_again(folder: Path) -> None:
    (latency,) = commands("run: latency")
    assert "how it was measured" in dynnas(folder, *latency)
    (measure,) = commands("run: measure")
    assert "mean ms" in dynnas(folder, *measure)


@pytest.mark.slow
def test_a_space_is_calibrated(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path))
    (calibrate,) = commands("run: calibrate")
    few = ("--samples", "10", "--held-out", "3", "--seconds", "1")
    assert "measured twice (noise)" in dynnas(folder, *calibrate, *few)


def test_the_space_with_gates_is_one() -> None:
    space = parse_space(BLOCKS["space: gates"], "exits-and-gates.md")
    assert {"stage1.0.gate", "stage1.1.gate_target"} <= {gene.name for gene in space.genes}


def test_the_space_file_is_one() -> None:
    space = parse_space(BLOCKS["space: example"], "space-file.md")
    assert {"stage1.2.experts", "exits.stage1.threshold"} <= {gene.name for gene in space.genes}


def test_a_table_is_searched(tmp_path: Path) -> None:
    (tmp_path / "cells.yaml").write_text(BLOCKS["space: of a table"], encoding="utf-8")
    rows = [f"{a},{b},{1 - 0.5 / (1 + a + 2 * b)},{1 + a + b}" for a in range(3) for b in range(3)]
    table = "\n".join(["layer1,layer2,accuracy,flops", *rows])
    (tmp_path / "results.csv").write_text(table, encoding="utf-8")
    assert "members: 5" in dynnas(tmp_path, "search", "cells.yaml", "--trials", "9")


def test_the_python_snippet_prints_the_front(tmp_path: Path) -> None:
    code = BLOCKS["run: python"]
    fastest, *_, best = run_program(code, tmp_path).splitlines()
    assert "{'edge0': 'none', 'edge1': 'none'}" in fastest
    assert "{'edge0': 'conv5', 'edge1': 'conv5'}" in best


def test_an_own_and_a_trained_network_are_searched(tmp_path: Path) -> None:
    own, trained = BLOCKS["run: own network"], BLOCKS["run: trained network"]
    assert own.count("trials=20") == trained.count("trials=20") == 1
    code = f"{own}\nprint(type(network).__name__)\n{trained}"
    short = code.replace("trials=20", "trials=3, controls=False, train=TrainSettings(epochs=1)")
    said = run_program(f"from dynnas.settings.settings import TrainSettings\n{short}", tmp_path).splitlines()
    assert "Net" in said
    assert "  body.0.0.conv.width: 8, 16, 24, 32" in said
    for name in ("Net", "smaller"):
        assert (tmp_path / f"studies/{name}/front.json").exists()


def test_an_own_op_takes_part_in_the_supernet(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "dynnas", tmp_path / "dynnas")
    new = "dynnas/nn/kernels/peakconv.py"
    (tmp_path / new).write_text(BLOCKS[f"file: {new}"], encoding="utf-8")
    code = """
import random, torch
from dynnas.language.parser import parse_space
from dynnas.space.moves import sample
from dynnas.supernet.staged import staged_supernet

space = parse_space('''
input: {resolutions: 8}
stem: {width: 8}
stages: [{block: mbconv, depth: 2, width: 16, op: peakconv, experts: [2, 3]}]
head: {}
''')
network = sample(space, random.Random(0))
supernet = staged_supernet(space, channels=1, classes=3).train()
images = torch.randn(4, 1, 8, 8)
assert torch.equal(supernet(network, images)[-1], supernet.extract(network)(images))
"""
    command = [sys.executable, "-c", code]  # beside its own copy of dynnas
    ran = subprocess.run(command, cwd=tmp_path, env=ENV, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_ci_runs_the_test_command() -> None:
    installs_and_tests = BLOCKS["run: tests"].strip().split(" && ")
    script = (ROOT / ".ci/run").read_text(encoding="utf-8").replace(" -q", "").splitlines()
    assert [line for line in script if line in installs_and_tests] == installs_and_tests


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 900
