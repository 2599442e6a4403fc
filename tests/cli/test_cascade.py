"""`dynnas cascade`, and its cascades in the other commands."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dynnas.study.study import open_study

SPACE = """
name: tiny
input: {resolutions: 8}
stem: {width: [4, 16]}
stages: [{block: dwsep, width: [8, 24], stride: 2}]
head: {width: [8, 32]}
data: {source: digits, train_images: 512, search_images: 200}
train: {epochs: 2, precision: float32, layout: channels_first}
search: {trials: 8, controls: false}
target: {seconds: 0.02}
"""


@pytest.fixture(scope="module")
def study(dynnas: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study whose front has all that was tried, for a front of one may be what the clock finds."""
    folder = tmp_path_factory.mktemp("cascade")
    (folder / "tiny.yaml").write_text(SPACE, encoding="utf-8")
    assert dynnas("search", str(folder / "tiny.yaml"), "--studies", str(folder), "--quiet").status == 0
    opened = open_study(folder / "tiny")
    members = sorted(opened.candidates, key=lambda one: one.metrics["macs"])
    document = json.loads(opened.front.to_json())
    from dynnas.pareto.front import scored_to_json

    document["members"] = [scored_to_json(member) for member in members]
    opened.folder.front.write_text(json.dumps(document))
    return folder / "tiny"


@pytest.fixture(scope="module")
def cascaded(study: Path, dynnas: Callable) -> tuple[int, str, str]:
    """What the command said when it ran first."""
    return dynnas("cascade", str(study), "--keep", "3", "--size", "3")


def test_it_ends_with_a_table_and_where_things_lie(
    cascaded: tuple[int, str, str], study: Path, dynnas: Callable
) -> None:
    status, out, err = cascaded
    assert status == 0, err
    written = json.loads((study / "cascades.json").read_text())
    assert 1 <= len(written["members"]) <= 3
    for number, member in enumerate(written["members"], start=1):
        (row,) = (line for line in out.splitlines() if line.split()[:1] == [f"cascade:{number}"])
        metrics = member["metrics"]
        assert f"{100 * metrics['accuracy']:.2f}" in row
        assert f"{100 * metrics['test_accuracy']:.2f}" in row
        assert f"{metrics['latency_ms']:.4f}" in row
        assert f"{metrics['mean_ms']:.4f}" in row
        assert all(key in row for key in member["networks"])
    assert f"cascades: {study / 'cascades.json'}" in out
    assert "timing cascades" in err
    again = dynnas("cascade", str(study), "--keep", "3", "--size", "3", "--quiet")
    assert (again.status, again.out, again.err) == (0, out, "")


def test_front_and_report_show_them(cascaded: object, study: Path, dynnas: Callable) -> None:
    front = dynnas("front", str(study))
    assert "cascade:1 " in front.out
    assert "hypervolume in accuracy and latency grows by" in front.out
    report = dynnas("report", str(study), "--format", "md")
    assert "## Cascades" in report.out
    page = study / "page.html"
    assert dynnas("report", str(study), "--out", str(page)).status == 0
    assert "Cascades of its networks" in page.read_text()
    assert '"style":"diamonds"' in page.read_text()


def test_export_writes_one_that_skips(
    cascaded: object, study: Path, tmp_path: Path, dynnas: Callable
) -> None:
    out = tmp_path / "model"
    ran = dynnas("export", str(study), "--pick", "cascade:1", "--out", str(out))
    assert ran.status == 0, ran.err
    assert f"of tiny, written to {out}" in ran.out
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["ways"][0] == "network1"
    networks = json.loads((study / "cascades.json").read_text())["members"][0]["networks"]
    card = (out / "README.md").read_text()
    assert all(key in card for key in networks)
    assert "multiply-adds in the mean" in card
    refused = dynnas("export", str(study), "--pick", "cascade:1", "--format", "checkpoint", "--out", str(out))
    assert (refused.status, "the format checkpoint holds one network" in refused.err) == (2, True)
    unknown = dynnas("export", str(study), "--pick", "cascade:9", "--out", str(tmp_path / "other"))
    assert (unknown.status, "cascade:9: no cascades have that name" in unknown.err) == (2, True)


@pytest.mark.parametrize("command", ["front", "report", "cascade"])
def test_a_damaged_document_is_one_message(
    command: str, cascaded: object, study: Path, tmp_path: Path, dynnas: Callable
) -> None:
    shutil.copytree(study, tmp_path / "tiny")
    path = tmp_path / "tiny/cascades.json"
    path.write_text(path.read_text()[:200])
    ran = dynnas(command, str(tmp_path / "tiny"))
    assert ran.status == 2
    assert "cascades.json: damaged, or not by dynnas" in ran.err
    assert "Traceback" not in ran.err
    assert len(path.read_text()) == 200


def test_it_says_what_it_cannot_chain(study: Path, tmp_path: Path, dynnas: Callable) -> None:
    table = tmp_path / "results.csv"
    table.write_text("a,b,accuracy,ms\n0,0,0.5,1\n0,1,0.6,2\n1,0,0.7,3\n1,1,0.8,4\n")
    (tmp_path / "table.yaml").write_text(
        "choices: {a: [0, 1], b: [0, 1]}\n"
        "evaluator: {table: results.csv, objectives: {accuracy: maximize, ms: minimize}}\n"
        "search: {trials: 4}\n"
    )
    searched = dynnas("search", str(tmp_path / "table.yaml"), "--studies", str(tmp_path), "--quiet")
    assert searched.status == 0, searched.err
    ran = dynnas("cascade", str(tmp_path / "table"))
    assert (ran.status, "table: a study of a table has no networks to chain" in ran.err) == (2, True)
    missing = dynnas("cascade", str(tmp_path / "nothing"))
    assert (missing.status, "no study" in missing.err) == (2, True)
