"""A study that chooses between float32 and int8: searched, finished, continued, trained and exported."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.graphs import session_of
from support.small_study import small_space

from dynnas.candidates.candidate import Candidate, Extractor, int8_images
from dynnas.data.load import load_data
from dynnas.errors import ExportError, StudyError, TargetError
from dynnas.export.bundle import export_model
from dynnas.language.parser import parse_space
from dynnas.metrics.score import Score
from dynnas.nn.kernels.static import Static
from dynnas.pareto.front import ScoredArchitecture
from dynnas.report.conclusions import int8_text
from dynnas.report.study import study_table
from dynnas.runtimes.compile import check_quantizes, compile_network
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.runtimes.runtime import get_runtime
from dynnas.settings.metrics import INT8_RATIO
from dynnas.settings.settings import TargetSettings, TrainSettings
from dynnas.space.architecture import Architecture
from dynnas.space.gene import QUANTIZE
from dynnas.space.moves import largest, smallest
from dynnas.study.scores import artifact_scores
from dynnas.study.study import Study, open_study
from dynnas.supernet.staged import staged_supernet
from dynnas.workflows.calibrate import calibrate_space
from dynnas.workflows.run import run_study
from dynnas.workflows.train import recipe_of, train_members

BOTH = {"quantize": ("none", "int8")}


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> Extractor:
    space = small_space(tmp_path_factory.mktemp("space"), target=BOTH)
    supernet = staged_supernet(space, channels=1, classes=10).eval()
    target = TargetSettings(seconds=0.02, images=8, quantize=("none", "int8"))
    return Extractor(supernet, load_data(space.settings.data), TrainSettings(calibration_images=64), target)


def candidate_of(extractor: Extractor, quantize: str, exits: bool = False) -> Candidate:
    space = extractor.supernet.space
    values = dict(largest(space)) if exits else dict(smallest(space))
    return extractor.candidate(space.architecture({**values, QUANTIZE: quantize}))


def test_the_target_makes_a_gene_behind_all_others(tmp_path: Path) -> None:
    plain, both = small_space(tmp_path), small_space(tmp_path, target=BOTH)
    assert both.genes[:-1] == plain.genes
    assert both.genes[-1].name == QUANTIZE
    assert both.genes[-1].values == ("int8", "none")
    assert both.size == 2 * plain.size
    assert largest(both)[QUANTIZE] == "none"
    values = {gene.name: gene.values[0] for gene in plain.genes}
    assert both.architecture(values)[QUANTIZE] == "none"
    assert small_space(tmp_path, target={"quantize": ("int8",)}).size == plain.size
    assert small_space(tmp_path, target={"quantize": ("none",)}).digest == plain.digest
    read = parse_space("model: torch.nn:Linear\nchoices: {in_features: 2, out_features: [2, 3]}\n"
                       "target: {quantize: [none, int8]}")  # fmt: skip
    assert [gene.name for gene in read.genes] == ["in_features", "out_features", QUANTIZE]
    assert read.build(largest(read)).out_features == 3


def test_a_space_may_be_restricted_to_one_of_them(tmp_path: Path) -> None:
    both = small_space(tmp_path, target=BOTH)
    assert both.restrict({QUANTIZE: ("int8",)}).gene(QUANTIZE).values == ("int8",)
    assert both.restrict({"op": ("static",)}).gene(QUANTIZE).values == ("int8", "none")


def test_both_share_weights_and_statistics(extractor: Extractor) -> None:
    one, other = (candidate_of(extractor, quantize) for quantize in ("none", "int8"))
    assert one.key != other.key
    assert (one.quantized, other.quantized) == (False, True)
    for mine, theirs in zip(
        one.calibrated.state_dict().values(), other.calibrated.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("exits", [False, True])
def test_the_score_in_int8_is_that_of_the_graph(extractor: Extractor, exits: bool) -> None:
    candidate = candidate_of(extractor, "int8", exits)
    found = Score().measure(candidate)
    session = session_of(candidate.artifact.data)
    search = candidate.dataset.search
    prepared = prepare_images(candidate.calibrated, candidate.dataset, search.images).numpy()
    said = [session.run(None, {"image": image[None]}) for image in prepared]
    right = np.array([int(outputs[0].argmax()) for outputs in said]) == search.targets.numpy()
    assert found["accuracy"] == pytest.approx(right.mean())
    if exits:
        left = np.array([int(outputs[1][0]) for outputs in said])
        assert found["exit_share.head"] == pytest.approx((left == 1).mean())
    assert "QuantizeLinear" in {node.op_type for node in _nodes(candidate.artifact.data)}
    assert candidate.artifact.quantized == "int8"
    assert candidate_of(extractor, "none", exits).artifact.quantized == "none"


def test_ranges_are_those_of_training_images(extractor: Extractor) -> None:
    candidate = candidate_of(extractor, "int8")
    images = int8_images(candidate.calibrated, candidate.dataset, TrainSettings(calibration_images=64))
    assert images.shape == (64, *candidate.config.shape)
    again = compile_network(candidate.calibrated, candidate.target, int8_images=images)
    assert again.data == candidate.artifact.data
    brighter = compile_network(candidate.calibrated, candidate.target, int8_images=2 * images)
    assert brighter.data != candidate.artifact.data


def test_what_has_no_int8_is_refused(extractor: Extractor) -> None:
    with pytest.raises(
        TargetError, match=r"runtime torch has no int8.*onnxruntime or onnxruntime_portable or litert"
    ):
        check_quantizes(get_runtime("torch"), TargetSettings(runtime="torch"))
    with pytest.raises(TargetError, match="int8 runs one image a call"):
        check_quantizes(get_runtime("onnxruntime"), TargetSettings(batch=8))
    with pytest.raises(StudyError, match=r"knows nothing of int8 \(target.quantize\)"):
        calibrate_space(extractor.supernet.space)


def test_the_report_says_when_int8_makes_networks_slower() -> None:
    architectures = [Architecture((("depth", 1), (QUANTIZE, kind))) for kind in ("int8", "none")]
    front = [
        ScoredArchitecture(each, {"accuracy": 0.5, INT8_RATIO: ratio})
        for each, ratio in zip(architectures, (0.8, 1.9), strict=True)
    ]
    assert int8_text(front) == (
        "1 of the front's networks are in int8. In int8 they take 0.80 to 1.90 times as long as in float32, "
        "and 1 of 2 get slower by it."
    )
    assert int8_text([replace(each, metrics={"accuracy": 0.5}) for each in front]) == ""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("int8")
    search = {"trials": 8, "controls": False}
    space = small_space(folder, train={"epochs": 2}, search=search, target=BOTH)
    return run_study(space, folder=folder / "small")


@pytest.mark.slow
def test_a_study_chooses_and_goes_on(study: Study) -> None:
    kinds = {candidate.architecture[QUANTIZE] for candidate in study.candidates}
    assert kinds == {"none", "int8"}
    for member in study.front:
        assert member.metrics[INT8_RATIO] > 0
    columns = [column.name for column in study_table(study).columns]
    assert {"type", "int8 / float32"} <= {*columns}
    settings = replace(study.settings, search=replace(study.settings.search, trials=10))
    path = study.folder.path
    again = run_study(replace(study.space, settings=settings), folder=path)
    assert len(again.candidates) > len(study.candidates)
    assert {each.key for each in study.candidates} <= {each.key for each in again.candidates}
    assert open_study(path).space.gene(QUANTIZE).values == ("int8", "none")


@pytest.mark.slow
def test_an_int8_network_ships_as_it_was_scored(study: Study, tmp_path: Path) -> None:
    key = next(each.key for each in study.candidates if each.architecture[QUANTIZE] == "int8")
    candidate = study.candidate(key)
    images = int8_images(candidate.calibrated, study.dataset, study.settings.train)
    bundle = tmp_path / "bundle"
    manifest = export_model(candidate.copy(), study.dataset, bundle, images=10_000, int8_images=images)
    (artifact,) = manifest["artifacts"]
    scored = {each.key: each.metrics["accuracy"] for each in study.candidates}[key]
    assert artifact["score"] == pytest.approx(scored, abs=2 / artifact["images"])
    assert "- weights and activations: int8" in (bundle / "README.md").read_text()
    pictures = tmp_path / "pictures.npy"
    np.save(pictures, study.dataset.test.images[:3].numpy())
    ran = subprocess.run(
        [sys.executable, bundle / "run.py", pictures],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert len(ran.stdout.splitlines()) >= 3
    changed = json.loads((bundle / "manifest.json").read_text())
    changed["self_check"] = {row: [-number for number in each] for row, each in changed["self_check"].items()}
    (bundle / "manifest.json").write_text(json.dumps(changed))
    ran = subprocess.run(
        [sys.executable, bundle / "run.py", pictures], capture_output=True, text=True, check=False
    )
    assert ran.returncode != 0
    assert "no model here gives the logits" in ran.stderr
    with pytest.raises(ExportError, match="the format pt2 has no int8"):
        export_model(candidate.copy(), study.dataset, tmp_path / "other", "pt2", int8_images=images)


@pytest.mark.slow
def test_an_int8_network_is_trained_for_int8_and_judged_so(study: Study) -> None:
    member = next(each for each in study.candidates if each.architecture[QUANTIZE] == "int8")
    recipe = recipe_of(study.settings.train, "inherited", weights="int8", teacher="none")
    (trained,) = train_members(study, [member], recipe)
    network = study.trained_network(trained)
    images = int8_images(network, study.dataset, study.settings.train)
    artifact = compile_network(network, TargetSettings(), int8_images=images)
    assert trained.scores == artifact_scores(artifact, network, study.dataset)
    assert trained.weights == "int8"
    kernels = [each.weight for each in network.modules() if isinstance(each, Static)]
    assert kernels
    assert all(len(channel.unique()) < 256 for kernel in kernels for channel in kernel)


def _nodes(data: bytes):
    import onnx

    def inside(graph):
        for node in graph.node:
            yield node
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    yield from inside(attribute.g)

    return inside(onnx.load_model_from_string(data).graph)
