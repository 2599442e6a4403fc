"""An exported model in JavaScript (Node and a browser), in C++, and by the oldest ONNX Runtime."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.chromium import DESKTOP, browser
from support.networks import config, finished, noise

from dynnas.export.bundle import export_model
from dynnas.export.standalone import Model
from dynnas.nn.layers.resize import resize
from dynnas.runtimes.preprocessing import prepare_images

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
OLDEST = "onnxruntime==1.15.0"  # the first that has a wheel for Python 3.11 on the package index

NODE = """
import ort from "onnxruntime-node";
import { readFile } from "node:fs/promises";
import { Model } from "./model.mjs";
const model = await Model.load(ort, "model/", readFile);
const told = [];
for (const pixels of JSON.parse(await readFile("images.json", "utf8"))) told.push(await model.run(pixels));
console.log(JSON.stringify(told));
"""
PAGE = """<!doctype html>
<script src="ort.wasm.min.js"></script>
<script type="module">
  import { Model } from "./model.mjs";
  window.told = (async () => {
    const model = await Model.load(ort, "model/");
    const told = [];
    for (const pixels of await (await fetch("images.json")).json()) told.push(await model.run(pixels));
    return JSON.stringify(told);
  })();
</script>
"""
WAIT = """
const done = arguments[0];
const look = () => window.told ? window.told.then(done, done) : setTimeout(look, 50);
look();
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bundle with an exit, the images, and what torch's twin `run.py` says of them."""
    folder = tmp_path_factory.mktemp("languages")
    dataset = noise()
    network = finished(config("mbconv", "condconv", exits=1, width=3))
    x = prepare_images(network, dataset, dataset.search.images[:20])
    sure = network.logits(x)[0].softmax(dim=1).amax(dim=1)  # of these images half leave by the exit
    place = replace(network.config.exits[0], threshold=sure.sort().values[9:11].mean().item())
    network.config = replace(network.config, exits=(place,))
    export_model(network, dataset, folder / "model", images=20)
    images = dataset.search.images[:20].numpy()
    np.save(folder / "images.npy", images)
    (folder / "images.json").write_text(json.dumps([image.ravel().tolist() for image in images]))
    (folder / "model.mjs").write_text((EXAMPLES / "model.mjs").read_text())
    return folder


def expected(folder):
    model = Model(folder / "model")
    return [model(image) for image in np.load(folder / "images.npy")]


def agrees(told, folder):
    answers = expected(folder)
    assert len({answer.exit for answer in answers}) == 2, "both exits are taken"
    assert [one["name"] for one in told] == [answer.name for answer in answers]
    assert [one["exit"] for one in told] == [answer.exit for answer in answers]
    np.testing.assert_allclose(
        [one["confidence"] for one in told], [a.confidence for a in answers], atol=1e-5
    )


@pytest.fixture(scope="module")
def npm(folder):
    """The two packages of ONNX Runtime, from npm's registry."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    (folder / "package.json").write_text("{}")
    command = [
        "npm",
        "install",
        "--ignore-scripts",
        "--no-audit",
        "onnxruntime-web@1.30.0",
        "onnxruntime-node@1.30.0",
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def test_node_says_the_same(npm):
    (npm / "node.mjs").write_text(NODE)
    ran = subprocess.run(["node", "node.mjs"], cwd=npm, capture_output=True, text=True, check=True)
    agrees(json.loads(ran.stdout), npm)


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012  # as in the base class
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format, *args):
        pass


def test_a_browser_says_the_same(npm, tmp_path):
    built = npm / "node_modules" / "onnxruntime-web" / "dist"
    for name in ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        shutil.copy(built / name, npm / name)
    (npm / "page.html").write_text(PAGE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=npm))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with browser(tmp_path / "profile", DESKTOP) as driver:
            driver.set_script_timeout(200)
            driver.get(f"http://127.0.0.1:{server.server_port}/page.html")
            agrees(json.loads(driver.execute_async_script(WAIT)), npm)
    finally:
        server.shutdown()
        server.server_close()


def test_a_program_in_c_plus_plus_says_the_same(folder, tmp_path):
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    home = Path(openvino.__file__).parent
    (library,) = (home / "libs").glob("libopenvino.so.*")
    program = tmp_path / "model"
    command = ["g++", "-std=c++17", EXAMPLES / "model.cpp", f"-I{home / 'include'}", library, "-o", program]
    subprocess.run([*command, f"-Wl,-rpath,{home / 'libs'}"], check=True)
    dataset = noise()
    prepared = dataset.normalise(dataset.search.images[:20])
    (tmp_path / "images.f32").write_bytes(resize(prepared, 12).numpy().tobytes())
    ran = subprocess.run(
        [program, folder / "model" / "model.onnx", tmp_path / "images.f32"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split(" exit ") for line in ran.stdout.splitlines()]
    answers, ways = expected(folder), Model(folder / "model").ways
    assert [ways[int(way)] for _, way in rows] == [answer.exit for answer in answers]
    logits = np.array([[float(number) for number in numbers.split()] for numbers, _ in rows])
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, [answer.value for answer in answers], atol=1e-4)


def test_the_oldest_onnx_runtime_says_the_same(folder, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", OLDEST, "numpy<2"], check=True, capture_output=True)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [python, folder / "model" / "run.py", folder / "images.npy"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split("\t") for line in ran.stdout.splitlines()]
    answers = expected(folder)
    assert [(row[1], row[3]) for row in rows] == [(answer.name, answer.exit) for answer in answers]
    told = "import run; print(run.Model().file)"
    command = [python, "-c", told]
    file = subprocess.run(command, cwd=folder / "model", env=env, capture_output=True, text=True, check=True)
    assert file.stdout.strip() == Model(folder / "model").file == "model_packed.onnx"
