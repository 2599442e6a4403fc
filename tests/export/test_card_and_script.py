"""The model card, and the script beside a model: what they say and compute is right."""

import hashlib
import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from scipy import stats
from support.networks import config, finished, noise

from dynnas.data.dataset import resize
from dynnas.errors import ExportError
from dynnas.export import standalone
from dynnas.export.bundle import export_model
from dynnas.export.card import interval
from dynnas.export.formats.checkpoint import load_checkpoint
from dynnas.export.formats.safetensors import load_safetensors
from dynnas.metrics.accuracy import predict_logits
from dynnas.nn.exits import select_confident


@pytest.fixture(scope="module")
def dataset():
    return noise()


@pytest.fixture(scope="module")
def network():
    return finished(config("mbconv", "condconv", exits=1))


@pytest.fixture(scope="module")
def bundle(network, dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "model"
    export_model(network, dataset, folder, facts={"network": "abc of the study small"})
    return folder


def answers(network, dataset):
    """Classes and exits that torch gives for the search images."""
    logits = predict_logits(network, dataset, dataset.search.images)
    chosen, exits = select_confident(logits, [place.threshold for place in network.config.exits])
    return chosen.argmax(dim=1).tolist(), exits.tolist()


def test_an_interval_is_wilsons():
    expected = stats.binomtest(45, 50).proportion_ci(method="wilson")
    assert interval(0.9, 50) == pytest.approx((expected.low, expected.high), abs=1e-4)


@pytest.mark.parametrize(("old", "new"), [(28, 28), (28, 12), (32, 24), (8, 20), (13, 7)])
def test_the_script_resizes_as_training_does(old, new):
    images = np.random.default_rng(0).standard_normal((3, old, old)).astype(np.float32)
    expected = resize(torch.from_numpy(images)[None], new)[0].numpy()
    assert_allclose(standalone.resize(images, new), expected, atol=1e-5)


def test_the_script_answers_as_the_network_does(bundle, network, dataset, tmp_path):
    np.save(tmp_path / "images.npy", dataset.search.images.numpy())
    command = [sys.executable, str(bundle / "run.py"), str(tmp_path / "images.npy")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in ran.stdout.splitlines()]
    classes, exits = answers(network, dataset)
    ways = [*(place.name for place in network.config.exits), "head"]
    assert [row[1] for row in rows] == [dataset.class_names[label] for label in classes]
    assert [row[3] for row in rows] == [ways[way] for way in exits]


def test_the_script_reads_pictures_as_the_data_were_read(bundle, dataset, tmp_path):
    from dynnas.data.sources import pictures

    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    model = standalone.Model(bundle)
    model.channels = 3  # the data of this test have two, which no picture has
    expected = pictures.read(tmp_path / "one.png", dataset.resolution, grey=False)
    assert np.array_equal(model.read(tmp_path / "one.png"), expected)


def test_the_script_says_what_it_takes():
    with redirect_stdout(io.StringIO()):
        assert "python run.py picture.png" in standalone.main([])


def test_the_card_says_how_good_it_is_and_how_to_load_it(bundle):
    text = (bundle / "README.md").read_text()
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert "- network: abc of the study small" in text
    assert "- licence of the data: not known" in text
    assert "- opset: 18" in text
    code = text.split("```python\n")[1].split("```")[0].splitlines()
    assert 1 < len(code) <= 5
    for artifact in manifest["artifacts"]:
        assert f"| {artifact['file']} |" in text
        assert f"{100 * artifact['accuracy']:.2f} ({100 * artifact['network_accuracy']:.2f})" in text
    assert (
        hashlib.sha256((bundle / "README.md").read_bytes()).hexdigest()
        == manifest["files"]["README.md"]["sha256"]
    )


def test_an_altered_model_is_refused_by_the_script(bundle, tmp_path):
    for name in ("run.py", "manifest.json", "model.onnx"):
        (tmp_path / name).write_bytes((bundle / name).read_bytes())
    content = bytearray((bundle / "model.onnx").read_bytes())
    content[-20] ^= 1
    (tmp_path / "model.onnx").write_bytes(content)
    ran = subprocess.run([sys.executable, tmp_path / "run.py", "x.npy"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("run.py: ")
    assert "not the file that was exported; export it again" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("format", "file", "load"),
    [("checkpoint", "weights.pt", load_checkpoint), ("safetensors", "model.safetensors", load_safetensors)],
)
def test_damaged_weights_are_one_clear_message(format, file, load, network, dataset, tmp_path):
    export_model(network, dataset, tmp_path / "model", format, images=8)
    path = tmp_path / "model" / file
    assert isinstance(load(tmp_path / "model"), type(network))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    half = path.read_bytes()
    with pytest.raises(ExportError, match=rf"{file}: not a network that export wrote, or damaged") as raised:
        load(tmp_path / "model")
    assert len(str(raised.value).splitlines()) == 1
    assert path.read_bytes() == half


@pytest.mark.slow
def test_a_new_environment_needs_little_to_run_the_model(tmp_path: Path):
    """With onnxruntime, numpy and pillow alone, on image files: the study's classes on all search images."""
    from support.small_study import small_space

    from dynnas.workflows.run import run_study

    space = small_space(tmp_path, search={"trials": 6, "controls": False})
    study = run_study(space, folder=tmp_path / "small")
    member = study.front.pick("most-accurate")
    network = study.network(member.key)
    export_model(network, study.dataset, tmp_path / "model")
    (tmp_path / "images").mkdir()
    for number, image in enumerate(study.dataset.search.images):
        Image.fromarray(image[0].numpy()).save(tmp_path / "images" / f"{number:05}.png")

    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install = [python, "-m", "pip", "install", "-q", "onnxruntime", "numpy", "pillow"]
    subprocess.run(install, check=True, capture_output=True)
    for absent in ("torch", "dynnas", "onnx"):
        code = f"import importlib.util as u; print(u.find_spec({absent!r}))"
        found = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, env={})
        assert found.stdout == "None\n"
    ran = subprocess.run(
        [python, tmp_path / "model/run.py", tmp_path / "images"], capture_output=True, text=True, env={}
    )
    assert ran.returncode == 0, ran.stderr
    classes, _ = answers(network, study.dataset)
    told = [line.split("\t")[1] for line in ran.stdout.splitlines()]
    assert told == [study.dataset.class_names[label] for label in classes]
