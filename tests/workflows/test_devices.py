"""Several devices in one study: a latency, a limit and a front for each."""

import json
from pathlib import Path

import pytest
from support.small_study import SPACE

import dynnas
from dynnas.errors import SpaceError, StudyError, TargetError
from dynnas.language.parser import load_space, parse_space
from dynnas.language.schema import json_schema
from dynnas.latency.latency import AnchorReference
from dynnas.metric import Metric
from dynnas.report.page.sections import front_section
from dynnas.report.study import study_table
from dynnas.report.summary import summarize
from dynnas.report.tables.devices import devices_table
from dynnas.search.evaluators.supernet import open_devices
from dynnas.settings.metrics import find_metric
from dynnas.settings.settings import TargetSettings
from dynnas.study.devices import front_on
from dynnas.study.study import Study, open_study
from dynnas.workflows.remeasure import measure_all, measure_front

DEVICES = """
devices:
  plain: {runtime: onnxruntime_portable, seconds: 0.02, images: 8}
  eager: {runtime: torch, seconds: 0.02, images: 8}
"""
TEXT = (
    SPACE.replace("train_images: 512", "train_images: 64, search_images: 64")
    .replace("{epochs: 4,", "{epochs: 1,")
    .replace(
        "search: {trials: 10, population: 4}",
        "search: {trials: 3, population: 2, controls: false, objectives: [accuracy, latency_ms@plain],"
        " constraints: {latency_ms@eager: 1000}}",
    )
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("devices")
    (folder / "small.yaml").write_text(TEXT + DEVICES)
    front = dynnas.search(load_space(folder / "small.yaml"), folder=folder / "small")
    assert len(front)
    return open_study(folder / "small")


def test_every_candidate_is_timed_on_every_device(study: Study) -> None:
    names = ["latency_ms", "latency_ms@plain", "p95_ms@plain", "latency_ms@eager", "p95_ms@eager"]
    for candidate in study.candidates:
        assert all(candidate.metrics[name] > 0 for name in names)
    scales = {name: AnchorReference.read(study.folder.anchors_on(name)) for name in study.settings.devices}
    assert scales["eager"].environment != scales["plain"].environment
    assert {path.name for path in study.folder.owned()} >= {"anchors-plain.json", "anchors-eager.json"}


def test_the_front_is_that_of_the_objectives_and_finished_on_every_device(study: Study) -> None:
    assert [objective.name for objective in study.front.objectives] == ["accuracy", "latency_ms@plain"]
    tried = {candidate.key: candidate.metrics for candidate in study.candidates}
    for member in study.front:
        for name in ("latency_ms@plain", "latency_ms@eager"):
            assert member.metrics[name] != tried[member.key][name]  # timed once more, with all members
    assert front_on(study, "plain").objectives == study.front.objectives
    assert {each.key for each in front_on(study, "plain")} == {each.key for each in study.front}
    eager = front_on(study, "eager")
    best = max(study.candidates, key=lambda each: each.metrics["accuracy"]).metrics["accuracy"]
    assert eager[-1].metrics["accuracy"] == best
    assert eager[0].metrics["latency_ms@eager"] == min(
        metrics["latency_ms@eager"] for metrics in tried.values()
    )
    cheapest = study.front[0].metrics["latency_ms@plain"]
    limit = max(member.metrics["latency_ms@plain"] for member in study.front) + 1
    assert study.front.pick(f"latency_ms@plain<={limit}") == study.front.pick("most-accurate")
    assert cheapest > 0


def test_tables_and_page_have_each_device(study: Study) -> None:
    table = study_table(study)
    names = [column.name for column in table.columns]
    for device in ("plain", "eager"):
        at = names.index(f"latency_ms@{device}")
        assert [row[at] for row in table.rows] == [
            f"{member.metrics[f'latency_ms@{device}']:.4g}" for member in study.front
        ]
    plain, eager = devices_table(study).rows
    assert plain[:4] == ("plain", "cpu, onnxruntime_portable", str(len(study.front)), str(len(study.front)))
    assert eager[:2] == ("eager", "cpu, torch")
    fastest = front_on(study, "eager")[0].metrics
    assert eager[4] == f"{100 * fastest['accuracy']:.2f} at {fastest['latency_ms@eager']:.4g} ms"
    page = front_section(summarize(study)).body
    assert "device-plain" in page
    assert "latency by which candidates are ranked, on eager [ms]" in page


@pytest.mark.slow
def test_all_devices_are_measured_again(study: Study) -> None:
    before = {member.key: member.metrics["latency_ms@eager"] for member in study.front}
    again = measure_front(study)
    assert all(member.metrics["latency_ms@eager"] != before[member.key] for member in again.front)
    scale = study.folder.anchors_on("eager")
    scale.write_text(scale.read_text().replace(AnchorReference.read(scale).environment, "elsewhere"))
    with pytest.raises(StudyError, match=r"devices\.eager: .*measured in environment elsewhere.*--all"):
        measure_front(study)
    moved = measure_all(study)
    assert AnchorReference.read(scale).environment != "elsewhere"
    tried = {candidate.key: candidate.metrics for candidate in study.candidates}
    for candidate in moved.candidates:
        assert candidate.metrics["latency_ms@eager"] != tried[candidate.key]["latency_ms@eager"]
        assert candidate.metrics["accuracy"] == tried[candidate.key]["accuracy"]


def test_a_device_that_cannot_be_used_is_named(study: Study, tmp_path: Path) -> None:
    space = parse_space(SPACE + "devices: {there: {runtime: onnxruntime_cuda}}")
    refusal = r"devices\.there: .*onnxruntime_cuda serves the device cuda, not cpu"
    with pytest.raises(TargetError, match=refusal):
        open_devices(lambda name: tmp_path / name, space, study.dataset)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("devices: {8bit: {}}", "devices: found '8bit' as a name; allowed: letters, digits and '_'"),
        ("devices: [cpu]", "devices: found a list.*; allowed: a mapping from names to targets"),
        ("devices: {a: {thread: 2}}", r"devices\.a: unknown key 'thread' \(did you mean 'threads'"),
        (
            "devices: {phone: {}}\nsearch: {objectives: [accuracy, latency_ms@fone]}",
            "search.objectives: found 'latency_ms@fone'.*did you mean 'latency_ms@phone'",
        ),
        ("search: {constraints: {latency_ms@phone: 5}}", "unknown key 'latency_ms@phone'"),
    ],
)
def test_problems_are_located(text: str, problem: str) -> None:
    with pytest.raises(SpaceError, match=problem):
        parse_space(SPACE.replace("search: {trials: 10, population: 4}\n", "") + text)


def test_the_schema_takes_what_the_parser_takes() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    yaml = pytest.importorskip("yaml")
    validator = jsonschema.Draft202012Validator(json_schema())
    assert not list(validator.iter_errors(yaml.safe_load(TEXT + DEVICES)))
    for wrong in (
        "devices: {8bit: {}}",
        "devices: {a: {thread: 2}}",
        "search: {constraints: {macs@phone: 5}}",
        "search: {objectives: [accuracy@phone]}",
    ):
        document = {**yaml.safe_load(SPACE), **yaml.safe_load(wrong)}
        assert list(validator.iter_errors(document))


def test_settings_are_kept_and_metrics_known(study: Study) -> None:
    assert study.settings.devices == {
        "plain": TargetSettings(runtime="onnxruntime_portable", seconds=0.02, images=8),
        "eager": TargetSettings(runtime="torch", seconds=0.02, images=8),
    }
    assert json.loads(study.folder.record.read_text())["settings"]["devices"]["eager"]["runtime"] == "torch"
    assert find_metric("p95_ms@eager") == Metric(
        "p95_ms@eager", "ms", "minimize", "95th percentile of the latency, on eager"
    )
    assert find_metric("macs@eager") is None
    assert find_metric("latency_ms@") is None
