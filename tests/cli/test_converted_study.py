"""A trained network through the commands: elastic, search, and all that takes a finished study.

The network knows what it is asked, so the front has the same two members whatever the training reaches: a
whole network, which is always right, and one of half the channels with an exit and a gate, which cannot be.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.cli import Ran, command
from support.made_once import made_once
from support.textures import TextureNet, texture_net, write_pictures

from dynnas.export import standalone
from dynnas.study.study import open_study

WORDS = ("--gate", "0.5", "--exit", "early", "--op", "condconv", "--resolution", "8")
SMALL = {
    "stem.0.width": 8,
    "early.depth": 1,
    "late.depth": 1,
    "early.0.gate": "skip 0.5",
    "exits.at": "early",
    "exits.threshold": 0.5,
}
SETTINGS = {
    "data": {"source": "pictures.npz"},
    "train": {
        "epochs": 1,
        "batch": 64,
        "lr": 0.001,
        "calibration_images": 32,
        "precision": "float32",
        "layout": "channels_first",
    },
    "search": {"trials": 2, "population": 2, "controls": False, "objectives": ["accuracy", "macs"]},
    "target": {"seconds": 0.01, "images": 4},
}


def make(folder: Path) -> None:
    """Fill a folder with a finished study, as a user does: the space file is edited before the search."""
    torch.save(texture_net().state_dict(), folder / "net.pt")
    write_pictures(folder / "pictures.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model = ("--model", "support.textures:TextureNet", "--input", "1x16x16")
        assert command("elastic", "net.pt", *model, *WORDS).status == 0
        file = yaml.safe_load(Path("net.yaml").read_text())
        listed = {
            name: found if isinstance(found, list) else found["choose"]
            for name, found in file["choices"].items()
        }
        whole = {name: values[-1] for name, values in listed.items() if name != "exits.threshold"}
        settings = json.loads(json.dumps(SETTINGS))
        settings["search"]["starts"] = [
            " ".join(f"{name}={value}" for name, value in values.items()) for values in (whole, whole | SMALL)
        ]
        Path("net.yaml").write_text(yaml.safe_dump(file | settings, sort_keys=False))
        assert command("search", "net.yaml", "--quiet").status == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "converted", make)


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(*words: str) -> Ran:
    ran = command(*words)
    assert ran.status == 0, ran.err
    return ran


def test_search_finds_what_the_network_can_do() -> None:
    small, whole = sorted(open_study("net").front, key=lambda member: member.metrics["macs"])
    assert {name: small.architecture[name] for name in SMALL} == SMALL
    assert whole.metrics["accuracy"] == whole.metrics["test_accuracy"] == 1
    assert small.metrics["accuracy"] < 1
    assert type(open_study("net").load("most-accurate")) is TextureNet


def test_front_and_report() -> None:
    out = run("front", "net").out
    assert all(key in out for key in ("early.0.gate", "skip 0.5", "exits.at"))
    run("report", "net")
    page = Path("studies/net/report.html").read_text()
    assert "early.0" in page


@pytest.mark.slow
def test_latency_names_the_exits() -> None:
    table = run("latency", "net", "--pick", "fastest", "--images", "4", "--batch", "2").out
    assert "exit0" in table
    assert "head" in table


@pytest.mark.slow
def test_audit_ranks_members() -> None:
    run("audit", "net", "--networks", "3", "--epochs", "1", "--quiet")
    found = json.loads(Path("studies/net/audit.json").read_text())
    assert len(found["networks"]) == 3
    assert len({each["inherited"] for each in found["networks"]}) > 1


def test_budget_judges_each_exit() -> None:
    key = open_study("net").front.pick("fastest").key
    assert "leaves at" in run("budget", "net", "--pick", key).out
    found = json.loads(Path(f"studies/net/budget/{key}.json").read_text())
    assert found["ways"] == ["exit0", "head"]
    assert len(found["search_anytime"]) == 2
    study = open_study("net")
    network, data = study.network(key).module, study.dataset
    network.thresholds = (2.0,) * len(network.thresholds)  # every image passes by the exit
    with torch.no_grad():
        right = network(data.normalise(data.test.images)).argmax(1) == data.test.targets
    assert found["test_anytime"][1] == pytest.approx(float(right.float().mean()))
    assert found["exit_macs"][0] < found["exit_macs"][1] <= study.front.pick("fastest").metrics["macs"]
    whole = study.front.pick("most-accurate").key
    assert "has no exits" in command("budget", "net", "--pick", whole).err


@pytest.mark.slow
def test_cascade_is_made_exported_and_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("cascade", "net", "--keep", "1", "--quiet")
    study = open_study("net")
    (member,) = study.cascades
    said = study.cascade_network(member)
    data = study.dataset
    with torch.no_grad():
        right = said(data.normalise(data.search.images)).argmax(1) == data.search.targets
    assert member.metrics["accuracy"] == pytest.approx(float(right.float().mean()))
    run("export", "net", "--pick", "cascade:1", "--out", str(tmp_path / "out"))
    names = [line.split("\t")[1] for line in _answers(tmp_path / "out", tmp_path, capsys)]
    with torch.no_grad():
        expected = said(data.normalise(data.test.images)).argmax(1).tolist()
    assert names == [data.task.names[place] for place in expected]


@pytest.mark.parametrize("pick", ["fastest", pytest.param("most-accurate", marks=pytest.mark.slow)])
def test_a_member_is_exported_and_run(pick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("export", "net", "--pick", pick, "--out", str(tmp_path / "out"))
    study = open_study("net")
    network, data = study.load(pick), study.dataset
    with torch.no_grad():
        expected = network(data.normalise(data.test.images)).argmax(1).tolist()
    lines = [line.split("\t") for line in _answers(tmp_path / "out", tmp_path, capsys)]
    assert [name for _, name, *_ in lines] == [data.task.names[place] for place in expected]
    assert {way for *_, way in lines} <= {"exit0", "head"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["prune", "cluster"])
def test_a_member_with_a_gate_and_an_exit_is_made_smaller(method: str, tmp_path: Path) -> None:
    more = ("--pick", "fastest", "--epochs", "1", "--teacher", "none", "--quiet")
    run("compress", "net", "--pass", method, *more)
    study = open_study("net")
    made = next(each for each in study.compressed if each.method == method)
    assert made.after.bytes < made.before.bytes
    network = study.load(made.key, weights=made.name)
    assert sum(each.numel() for each in network.parameters()) == made.after.params
    run("export", "net", "--pick", "fastest", "--weights", made.name, "--out", str(tmp_path / "out"))


def _answers(bundle: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What `run.py` of a bundle prints of the test images."""
    images = open_study("net").dataset.test.images
    np.save(place / "images.npy", np.asarray(images))
    capsys.readouterr()
    assert standalone.main([str(place / "images.npy")], bundle) == 0
    return capsys.readouterr().out.splitlines()
