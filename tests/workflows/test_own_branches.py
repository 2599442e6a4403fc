"""A class of one's own with gates and exits, from the search to the exported graph."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.graphs import session_of
from support.own_branches import Branchy

import dynnas as dn
from dynnas.data.load import load_data
from dynnas.export.bundle import export_model
from dynnas.metrics.parts import parts_of
from dynnas.report.plots.diagram import draw_parts
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.study.front import StudyFront
from dynnas.workflows.latency import latency_of

TRAIN = TrainSettings(epochs=2, batch=64, calibration_images=64, precision="float32", layout="channels_first")


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> StudyFront:
    space = dn.Space.of(
        Branchy,
        width=8,
        depth=[1, 2],
        op=["static", "condconv"],
        gate=["none", "width"],
        threshold=[0.15, 0.2],
        channels=1,
        classes=10,
    )
    return dn.search(
        space,
        data=load_data(DataSettings(train_images=512)),
        target=dn.Target("cpu", seconds=0.02, images=64),
        train=TRAIN,
        limits={"latency_ms": 50},
        trials=4,
        controls=False,
        folder=tmp_path_factory.mktemp("studies") / "branchy",
    )


def test_its_latency_is_that_of_many_images(front: StudyFront) -> None:
    for member in front.study.candidates:
        metrics = member.metrics
        assert metrics["mean_ms"] == metrics["latency_ms"] > 0
        assert metrics["worst_ms"] >= metrics["median_ms"]  # the same where all images leave by one exit
        shares = [metrics[f"exit_share.{name}"] for name in ("exit0", "exit1", "head")]
        assert sum(shares) == pytest.approx(1)
        assert metrics["expected_macs"] < metrics["macs"]
        assert metrics["worst_macs"] <= metrics["macs"]
    assert any(member.metrics["worst_ms"] > member.metrics["median_ms"] for member in front.study.candidates)


def test_what_comes_back_runs_each_image_as_it_was_scored(front: StudyFront) -> None:
    member = front.pick("most-accurate")
    network, data = front.study.load(member.key), front.study.dataset
    assert type(network) is Branchy
    again = Branchy(**member.architecture).eval()
    again.load_state_dict(network.state_dict(), strict=True)
    images = data.normalise(data.search.images)
    with torch.no_grad():
        said = again(images)
        assert torch.equal(said, network(images))
    right = (said.argmax(1) == data.search.targets).float().mean()
    assert float(right) == pytest.approx(member.metrics["accuracy"], abs=2e-3)


def test_it_ships_with_its_branches(front: StudyFront, tmp_path: Path) -> None:
    member = front.pick("most-accurate")
    study = front.study
    manifest = export_model(study.network(member.key), study.dataset, tmp_path / "out", images=64)
    assert all(artifact["agreement"] == 1 for artifact in manifest["artifacts"])
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    assert "If" in {node.op_type for node in graph.node}
    session = session_of(tmp_path / "out" / "model.onnx")
    image = study.dataset.normalise(study.dataset.search.images[:1])
    with torch.no_grad():
        expected = study.load(member.key)(image).numpy()
    (found, *_) = session.run(None, {"image": image.numpy()})
    assert np.allclose(found, expected, atol=1e-3)


def test_its_parts_are_those_of_its_stages_and_exits(front: StudyFront) -> None:
    network = front.study.network(front.pick("most-accurate").key)
    parts = {part.name: part for part in parts_of(network)}
    assert {name for name, part in parts.items() if part.exit} == {"exits.exits.0", "exits.exits.1"}
    assert [*parts][-1] == "exits.exits.2"
    assert "exits.stages.1.1" in parts
    assert parts["exits.stages.1.1"].kind == "Skippable"
    assert parts["exits.stages.1.1"].dynamic
    stored = sum(parameter.numel() for parameter in network.parameters())
    assert sum(part.params for part in parts.values()) + len(network.module.scale) == stored
    drawing = draw_parts([*parts.values()])
    assert drawing.count("<rect") == 2 * (len(parts) - 2)
    assert "….exits.0" in drawing


def test_the_latency_report_tells_where_images_leave(front: StudyFront) -> None:
    found = latency_of(front.study, front[0].key, images=24, batch=8).measured
    assert [way.name for way in found.ways] == ["exit0", "exit1", "head"]
    assert len(found.image_ms) == len(found.image_macs) == 24
    assert all(way.mean_ms is not None and way.mean_ms > 0 for way in found.ways if way.share)
    assert [batch.execution for batch in found.batches] == ["masked"]
