"""The model card, and the script beside a model: what they say and compute is right."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from support.networks import CHANNELS, CLASSES, RESOLUTION, config, finished, noise

from dynnas.data.sources import pictures
from dynnas.data.sources.pictures import Form
from dynnas.errors import ExportError
from dynnas.export import standalone
from dynnas.export.bundle import export_model
from dynnas.export.formats.checkpoint import load_checkpoint
from dynnas.export.formats.safetensors import load_safetensors
from dynnas.metrics.accuracy import predict_logits
from dynnas.nn.exits.exits import select_confident
from dynnas.nn.layers.resize import resize
from dynnas.runtimes.onnx.graph import to_onnx


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


@pytest.mark.parametrize(("old", "new"), [(28, 28), (28, 12), (32, 24), (8, 20), (13, 7)])
def test_the_script_resizes_as_training_does(old, new):
    images = np.random.default_rng(0).standard_normal((3, old, old)).astype(np.float32)
    expected = resize(torch.from_numpy(images)[None], new)[0].numpy()
    assert_allclose(standalone.resize(images, (new, new)), expected, atol=1e-5)


def test_the_script_answers_as_the_network_does(bundle, network, dataset, tmp_path):
    np.save(tmp_path / "images.npy", dataset.search.images.numpy())
    command = [sys.executable, str(bundle / "run.py"), str(tmp_path / "images.npy")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in ran.stdout.splitlines()]
    classes, exits = answers(network, dataset)
    ways = [*(place.name for place in network.config.exits), "head"]
    assert [row[1] for row in rows] == [dataset.task.names[label] for label in classes]
    assert [row[3] for row in rows] == [ways[way] for way in exits]


def test_the_script_reads_pictures_as_the_data_were_read(bundle, dataset, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    model = standalone.Model(bundle)
    model.channels = 3  # the data of this test have two, which no picture has
    for fit in ("crop", "pad", "stretch"):
        model.fit = fit
        expected = pictures.read(tmp_path / "one.png", Form(*dataset.size, fit=fit))
        assert np.array_equal(model.read(tmp_path / "one.png"), expected)


def copied(bundle, folder, change):
    """A bundle with `change` made to the graphs and the manifest in it, whose digests are right again."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    change(folder, manifest)
    for name, file in manifest["files"].items():
        if (folder / name).exists():
            file["sha256"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_the_script_runs_the_graph_that_was_measured(bundle, network, dataset):
    model = standalone.Model(bundle)
    assert model.file == "model_packed.onnx"
    classes, exits = answers(network, dataset)
    for pixels, label, way in zip(dataset.search.images[:20].numpy(), classes, exits, strict=False):
        assert model(pixels)[:3:2] == (dataset.task.names[label], model.ways[way])


def test_the_self_check_is_what_torch_says(bundle, network):
    known = json.loads((bundle / "manifest.json").read_text())["self_check"]
    assert len(known) > 0
    for number, logits in known.items():
        image = torch.from_numpy(standalone.test_image(int(number), (CHANNELS, RESOLUTION, RESOLUTION)))
        assert_allclose(logits, network(image)[0].detach().numpy(), rtol=1e-5, atol=1e-5)


def test_a_graph_for_other_processors_is_not_run(bundle, network, tmp_path):
    def change(folder, manifest):
        other = finished(network.config, seed=1)  # stands for a graph that answers nonsense here
        (folder / "model_packed.onnx").write_bytes(to_onnx(other).SerializeToString())

    assert standalone.Model(copied(bundle, tmp_path / "wrong", change)).file == "model.onnx"

    def damage(folder, manifest):
        (folder / "model_packed.onnx").write_bytes(b"not a graph")

    assert standalone.Model(copied(bundle, tmp_path / "damaged", damage)).file == "model.onnx"
    uncheckable = copied(
        bundle, tmp_path / "uncheckable", lambda folder, manifest: manifest["self_check"].clear()
    )
    assert standalone.Model(uncheckable).file == "model.onnx"


def test_a_graph_that_answers_wrong_on_any_machine_is_an_error(bundle, tmp_path):
    def change(folder, manifest):
        manifest["self_check"] = {number: [0.0] * CLASSES for number in manifest["self_check"]}

    folder = copied(bundle, tmp_path / "wrong", change)
    with pytest.raises(
        ValueError, match=r"no model here gives the logits of manifest\.json; export it again"
    ):
        standalone.Model(folder)


@pytest.mark.parametrize("scale", [255, 1], ids=["from 0 to 255", "from 0 to 1"])
def test_the_script_takes_floats_as_the_data_may_have_them(scale, bundle, dataset, tmp_path, capsys):
    images = dataset.search.images[:12].numpy()
    np.save(tmp_path / "bytes.npy", images)
    np.save(tmp_path / "floats.npy", images / np.float32(255 / scale))
    printed = []
    for name in ("bytes", "floats"):
        assert standalone.main([str(tmp_path / f"{name}.npy")], bundle) == 0
        printed.append([line.split("\t")[1:] for line in capsys.readouterr().out.splitlines()])
    assert len(printed[0]) == 12
    assert printed[0] == printed[1]


def test_one_image_of_floats_is_from_0_to_1(bundle, dataset):
    model = standalone.Model(bundle)
    pixels = dataset.search.images[0].numpy()
    assert model(pixels / 255).value == pytest.approx(model(pixels).value)
    with pytest.raises(
        ValueError, match=r"float64 pixels from 0\.0 to 25\d\.0; allowed are 0 to 255 or, as floats"
    ):
        model(pixels.astype(float))


def test_pictures_of_16_bits_keep_their_brightness(bundle, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "8.png")
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "16.png")
    model = standalone.Model(bundle)
    model.channels = 1
    assert np.array_equal(model.read(tmp_path / "16.png")[0], pixels)
    assert np.array_equal(model.read(tmp_path / "16.png"), model.read(tmp_path / "8.png"))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_pictures_of_16_bits_are_read_as_training_reads_them(bundle, tmp_path, fit):
    model = standalone.Model(bundle)
    model.shape, model.white, model.fit, model.data_size = (1, 8, 8), 65535, fit, (9, 12)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 65536, (20, 16)).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(rng.integers(0, 256, (20, 16)).astype(np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(rng.integers(0, 256, (20, 16, 3)).astype(np.uint8)).save(tmp_path / "colour.png")
    for path in tmp_path.iterdir():
        trained_on = pictures.read(path, Form(9, 12, grey=True, fit=fit, deep=True))
        assert np.array_equal(model.read(path), trained_on)


@pytest.mark.parametrize("white", [65535, 1], ids=["16 bits", "floats"])
def test_the_script_takes_pixels_as_the_data_have_them(white, network, dataset, tmp_path, capsys):
    def scaled(split):
        pixels = split.images.double() * (white / 255)
        return replace(split, images=pixels.float() if white == 1 else pixels.to(torch.int32))

    other = replace(
        dataset,
        search=scaled(dataset.search),
        train=scaled(dataset.train),
        test=scaled(dataset.test),
        scale=white,
    )
    export_model(network, other, tmp_path / "model", images=16)
    np.save(tmp_path / "images.npy", other.search.images[:12].numpy())
    assert standalone.main([str(tmp_path / "images.npy")], tmp_path / "model") == 0
    classes, _ = answers(network, dataset)
    printed = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
    assert printed == [dataset.task.names[label] for label in classes[:12]]
    model = standalone.Model(tmp_path / "model")
    model.channels = 3
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    assert_allclose(model.read(tmp_path / "one.png"), pixels.transpose(2, 0, 1) / 255, atol=1e-6)
    assert f"pixels divided by {white}, subtract mean" in (tmp_path / "model" / "README.md").read_text()


def test_bad_files_do_not_stop_the_others(bundle, dataset, tmp_path):
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images.npy", dataset.search.images[:3].numpy())
    np.save(tmp_path / "deep.npy", dataset.search.images[:3].numpy().astype(np.uint16) * 257)
    np.save(tmp_path / "flat.npy", np.zeros((16, 16), np.uint8))
    (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG nothing")
    names = ["images", "flat.npy", "absent.npy", "deep.npy", "images.npy"]
    command = [sys.executable, bundle / "run.py", *(tmp_path / name for name in names)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 2
    assert len(ran.stdout.splitlines()) == 3
    said = ran.stderr.splitlines()
    assert [line.split(":")[0] for line in said] == ["run.py"] * 4
    assert "broken.png: not a readable image" in said[0]
    assert "flat.npy: an array of the shape (16, 16); needed is (C, H, W) or (N, C, H, W)" in said[1]
    assert "No such file" in said[2]
    assert re.search(r"deep\.npy: uint16 pixels from \d+ to 65535; allowed are 0 to 255", said[3])


def test_the_card_gives_the_numbers_of_the_normalisation(bundle):
    assert "subtract mean (0.4, 0.5), divide by std (0.2, 0.3)" in (bundle / "README.md").read_text()


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
        assert f"{100 * artifact['score']:.2f} ({100 * artifact['network_score']:.2f})" in text
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
    assert told == [study.dataset.task.names[label] for label in classes]
