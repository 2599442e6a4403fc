"""The studies of segmentation and detection: their spaces, their fixed networks, and the smallest run."""

import importlib.util
import json
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from support.boxes import voc
from support.scripts import load_script

from dynnas.language import parser
from dynnas.language.parser import load_space
from dynnas.space.moves import smallest
from dynnas.tasks import Detection

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture(scope="module")
def networks():
    spec = importlib.util.spec_from_file_location("camvid_networks", STUDIES / "camvid" / "networks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
def test_enet_has_the_weights_of_the_paper_and_answers_at_full_size(networks) -> None:
    enet = networks.ENet(12).eval()
    assert sum(parameter.numel() for parameter in enet.parameters()) == pytest.approx(370_000, rel=0.05)
    assert enet(torch.zeros(1, 3, 48, 64)).shape == (1, 12, 48, 64)
    assert networks.UNet(11).eval()(torch.zeros(1, 3, 46, 60)).shape == (1, 11, 46, 60)


@torch.no_grad()
def test_detectors_answer_in_pixels_of_the_pictures() -> None:
    space = load_space(STUDIES / "blood-cells" / "blood-cells.yaml").of_data((3, 480, 640), Detection(3))
    architecture = smallest(space.restrict({"resolution": [(240, 320)]}))
    assert architecture["resolution"] == (240, 320)
    detector = space.build(architecture)
    places = detector.train()(torch.zeros(2, 3, 240, 320))[..., 4:6]
    assert (places.amin((0, 1)).tolist(), places.amax((0, 1)).tolist()) == ([8, 8], [632, 480])


@torch.no_grad()
def test_the_detector_with_a_shelf_backbone_answers_in_pixels(timm: object) -> None:
    module = load_script(STUDIES / "blood-cells" / "networks.py", "blood_cells_networks")
    detector = module.ShelfDetector(3, width=8)
    places = detector.train()(torch.zeros(2, 3, 64, 96))[..., 4:6]
    assert places.shape[1] == 8 * 12 + 4 * 6 + 2 * 3
    assert (places.amin((0, 1)).tolist(), places.amax((0, 1)).tolist()) == ([4, 4], [92, 60])
    assert detector.eval()(torch.zeros(2, 3, 64, 96)).shape == (2, 100, 6)


def run_small(
    study: str, changes: Mapping[str, str], words: Sequence[object], monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, float]]:
    """What the program of a study found with its space changed, given these words."""
    folder = STUDIES / study
    text = (folder / f"{study}.yaml").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    out = words[words.index("--out") + 1]
    monkeypatch.setattr(parser, "load_space", lambda path: parser.parse_space(text))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "argv", ["run.py", *map(str, words)])
    # Both studies have modules of these names, and what is imported keeps the space of the other.
    for name in ("networks", "compared"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    runpy.run_path(str(folder / "run.py"), run_name="__main__")
    for name in ("networks", "compared"):
        monkeypatch.delitem(sys.modules, name)
    return json.loads((Path(str(out)) / "results.json").read_text())


FAST = {"seconds: 1.0": "seconds: 0.02"}


@pytest.mark.slow
def test_the_smallest_run_of_blood_cells(
    timm: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = voc(tmp_path / "cells", names=("cell", "dot", "rod"))
    words = ["--data", cells, "--seeds", 0, "--epochs", 1, "--trials", 2, "--out", tmp_path]
    small = {"[[180, 240], [240, 320]]": "[[64, 96]]", **FAST}
    rows = run_small("blood-cells", small, words, monkeypatch)
    assert {row["network"] for row in rows} == {"searched", "alone", "shelf"}
    assert all(0 <= row["test_ap50"] <= 1 < row["macs"] for row in rows)


@pytest.mark.slow
def test_the_smallest_run_of_camvid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "data")
    rng, held = np.random.default_rng(0), {"classes": np.array([*map(str, range(11)), "void"])}
    from test_packed_masks import encoded

    for part, count in (("train", 16), ("search", 4), ("test", 4)):
        masks = rng.integers(0, 12, (count, 6, 8)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
        pictures = [encoded(np.repeat(20 * mask[..., None], 3, 2), "jpeg") for mask in masks]
        files = {"jpeg": pictures, "png": [encoded(mask, "png") for mask in masks]}
        for kind, contents in files.items():
            held[f"{part}_{kind}"] = np.frombuffer(b"".join(contents), np.uint8)
            held[f"{part}_{kind}_offsets"] = np.cumsum([0, *map(len, contents)])
    np.savez(tmp_path / "roads.npz", **held)
    words = ["--data", tmp_path / "roads.npz", "--seeds", 0, "--epochs", 1, "--trials", 2, "--out", tmp_path]
    small = {
        "[[144, 192], [192, 256]]": "[[36, 48], [48, 64]]",
        "{trials: 60}": "{trials: 80, controls: false}",
        **FAST,
    }
    rows = run_small("camvid", small, words, monkeypatch)
    assert {row["network"] for row in rows} == {"searched", "alone", "enet", "unet"}
    assert all(0 <= row["test_mean_iou"] <= 1 < row["macs"] for row in rows)
    # The scenes of this test are of the size at which they are seen.
    of_studies = [row for row in rows if row["network"] != "alone"]
    assert all(row["full_mean_iou"] == pytest.approx(row["test_mean_iou"], abs=1e-6) for row in of_studies)
