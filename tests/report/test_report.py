"""What a report says of a study, without a browser."""

import html
import json
import re
import shlex
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dynnas.cli.options import command_of
from dynnas.language.parser import load_space, parse_space
from dynnas.pareto.front import ScoredArchitecture
from dynnas.pareto.importance import importances
from dynnas.report.conclusions import conclusions
from dynnas.report.markdown import markdown
from dynnas.report.page.charts import front_chart, growth_chart
from dynnas.report.page.page import html_page
from dynnas.report.summary import StudySummary, summarize
from dynnas.space.gene import Gene
from dynnas.space.space import Space
from dynnas.study.controls import Controls
from dynnas.study.folder import StudyFolder
from dynnas.study.study import Study
from dynnas.workflows.run_table import run_table_study

TABLE = """
name: cells
choices: {width: [8, 16, 32], op: [none, conv], kernel: [3, 5]}
evaluator: {table: cells.csv, objectives: {quality: maximize, cost: minimize}}
search: {trials: 12, sampler: random}
"""


class Well(HTMLParser):
    """Whether every element is closed where it should be."""

    EMPTY = frozenset({"meta", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_names_nothing_twice(report: Path) -> None:
    parser = Well()
    parser.feed(report.read_text(encoding="utf-8"))
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))


def test_the_chart_has_the_front_and_all_it_is_held_against(study: Study) -> None:
    chart = front_chart(study)
    counts = {series["name"]: len(series["points"]) for series in chart["series"]}
    assert counts["front"] == len(study.front)
    assert counts["searched"] == len(study.candidates)
    assert counts["random"] == len(study.controls.random)
    (front,) = (series for series in chart["series"] if series["name"] == "front")
    assert [point["y"] for point in front["points"]] == [
        pytest.approx(100 * member.metrics["accuracy"])
        for member in sorted(study.front, key=lambda member: member.metrics["latency_ms"])
    ]


def test_growth_ends_at_the_fronts_hypervolume(study: Study) -> None:
    chart = growth_chart(study)
    assert chart is not None
    volumes = [point["y"] for point in chart["series"][0]["points"]]
    assert volumes == sorted(volumes)
    assert volumes[-1] == pytest.approx(study.growth.volumes[-1])


def test_shares_of_images_add_up_and_are_those_of_the_trial(study: Study, summary: StudySummary) -> None:
    assert summary.exit_images
    metrics = {member.key: member.metrics for member in study.front}
    for key, ways in summary.exit_images.items():
        assert sum(way.share for way in ways) == pytest.approx(1)
        for way in ways:
            assert way.share == pytest.approx(metrics[key][f"exit_share.{way.name}"], abs=1e-6)
        right = sum(way.share * (way.accuracy or 0) for way in ways)
        assert right == pytest.approx(metrics[key]["accuracy"], abs=1e-6)
        early = [image.confidence for way in ways[:-1] for image in way.examples]
        assert early == sorted(early, reverse=True) or len(ways) > 2


def test_the_command_is_the_one_that_made_it(study: Study) -> None:
    words = shlex.split(command_of(study))
    assert words[:3] == ["dynnas", "search", str(study.folder.space)]
    assert words[words.index("--name") + 1] == "small"
    assert words[words.index("--trials") + 1] == "20"
    assert "--epochs" not in words


def test_markdown_has_the_numbers(study: Study, summary: StudySummary, command: str) -> None:
    text = markdown(summary, command)
    for member in study.front:
        assert re.search(rf"\| {member.key} +\| +{100 * member.metrics['accuracy']:.2f} ", text)
    assert f"```bash\n{command}\n```" in text
    assert "5 networks trained alone for 3 epochs: Kendall's tau 1.00 (95%: 0.90 to 1.00)." in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


def test_what_is_missing_is_named_with_the_reason(study: Study, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "copy")
    shutil.copytree(study.folder.path, folder.path)
    shutil.rmtree(folder.supernet)
    folder.audit.write_text("{")
    found = summarize(Study(folder))
    missing = dict(found.missing)
    assert "the supernet is not trained (no checkpoint)" in missing["images that leave early and late"]
    assert "audit.json: damaged" in missing["supernet against stand-alone"]
    page = html_page(found, "dynnas search x")
    assert html.escape(missing["supernet against stand-alone"]) in page


def test_a_running_study_is_reported_as_such(study: Study, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "copy")
    shutil.copytree(study.folder.path, folder.path)
    folder.front.unlink()
    folder.controls.unlink()
    found = summarize(Study(folder))
    page = html_page(found, "dynnas search x")
    assert "dynnas study, still running" in page
    assert "The search has not finished" in page
    assert found.study.front[0].key in page


def test_a_study_of_a_table_leaves_networks_out(tmp_path: Path) -> None:
    (tmp_path / "cells.yaml").write_text(TABLE)
    rows = [
        f"{width},{op},{kernel},{width * (op == 'conv') + kernel},{width * kernel}"
        for width in (8, 16, 32)
        for op in ("none", "conv")
        for kernel in (3, 5)
    ]
    (tmp_path / "cells.csv").write_text("width,op,kernel,quality,cost\n" + "\n".join(rows))
    study = run_table_study(load_space(tmp_path / "cells.yaml"), folder=tmp_path / "cells")
    found = summarize(study)
    page = html_page(found, command_of(study))
    assert re.findall("<h2>(.*?)</h2>", page) == ["The front", "How the search went", "How it was made"]
    assert "| width |" in markdown(found, command_of(study))
    chart = front_chart(study)
    assert (chart["x"]["label"], chart["y"]["label"]) == ("cost", "quality")


def test_importance_finds_the_genes_that_a_metric_is_made_of() -> None:
    space = parse_space("choices: {a: [1, 2, 3], b: [x, y], c: [1, 2, 3, 4], d: [p, q]}")
    rng = np.random.default_rng(0)
    candidates = []
    for _ in range(300):
        values = {gene.name: gene.values[rng.integers(len(gene.values))] for gene in space.genes}
        metric = 10.0 * values["a"] + 4.0 * (values["b"] == "y")
        candidates.append(ScoredArchitecture(space.architecture(values), {"cost": metric}))
    found = importances(space, candidates, "cost")
    assert found is not None
    assert [gene.gene for gene in found.genes[:2]] == ["a", "b"]
    # Shuffling loses twice the part of the variance that a gene makes, when nothing else is in it.
    parts = {"a": np.var([10, 20, 30]), "b": np.var([0, 4])}
    for gene in found.genes[:2]:
        assert gene.loss == pytest.approx(2 * parts[gene.gene] / sum(parts.values()), abs=0.15)
    assert all(gene.loss < 0.02 for gene in found.genes[2:])
    assert found.explained > 0.95
    assert importances(space, candidates[:10], "cost") is None


def test_a_conditional_gene_is_shuffled_where_it_is_active() -> None:
    op = Gene("op", ("static", "mixed"))
    space = Space("conditional", (op, Gene("experts", (2, 4, 8), (("op", ("mixed",)),), ordered=True)))
    rng = np.random.default_rng(0)
    candidates = []
    for _ in range(240):
        mixed = bool(rng.random() < 0.25)
        values = {"op": "mixed", "experts": int(rng.choice([2, 4, 8]))} if mixed else {"op": "static"}
        metric = 100.0 * mixed  # the experts do not matter, though only mixed ones have them
        candidates.append(ScoredArchitecture(space.architecture(values), {"cost": metric}))
    found = importances(space, candidates, "cost")
    assert found is not None
    genes = {gene.gene: gene for gene in found.genes}
    share = np.mean(["experts" in candidate.architecture for candidate in candidates])
    assert genes["experts"].active == pytest.approx(share)
    assert genes["experts"].loss < 0.02 < genes["op"].loss


def test_the_verdict_does_not_hide_that_static_networks_won(study: Study) -> None:
    assert any("hypervolume" in sentence for sentence in conclusions(study))
    losing = Study(study.folder)
    best = {"accuracy": 1.0, "test_accuracy": 1.0, "latency_ms": 1e-6}
    better = replace(study.front[-1], metrics={**study.front[-1].metrics, **best})
    losing.__dict__["controls"] = Controls(static=(better,))
    assert any("here dynamic layers did not pay" in sentence for sentence in conclusions(losing))


def test_the_verdict_on_dynamic_layers_is_that_of_the_test_images(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes, test = {"search": 1.0, "static": 1.25}, {"search": 1.0, "static": 0.9}
    compared = replace(study.comparison, hypervolume=volumes, test=test)
    monkeypatch.setattr(Study, "comparison", compared)
    text = " ".join(conclusions(study))
    assert "10.0% less hypervolume by their scores on the test images: dynamic layers paid." in text
    assert "By those on the search images, which chose the networks, it is 25.0% more." in text


def test_texts_from_outside_cannot_become_markup(summary: StudySummary) -> None:
    page = html_page(summary, "dynnas search '<script>alert(1)</script>'")
    assert "<script>alert(1)" not in page
    documents = re.findall(r'<script type="application/json">(.*?)</script>', page, flags=re.DOTALL)
    assert all(json.loads(document)["series"] for document in documents)


def test_the_command_names_a_database_outside_the_folder(study: Study, tmp_path: Path) -> None:
    folder = shutil.copytree(study.folder.path, tmp_path / "small")
    record = StudyFolder(folder).read_record()
    url = f"sqlite:///{tmp_path}/trials.db?timeout=30"
    StudyFolder(folder).record.write_text(replace(record, storage=url).to_json())
    words = shlex.split(command_of(Study(StudyFolder(folder))))
    assert words[words.index("--storage") + 1] == url
