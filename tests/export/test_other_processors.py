"""A bundle on an emulated processor with other vector registers than this one: never a wrong answer."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from support.networks import config, finished, noise

from dynnas.export import standalone
from dynnas.export.bundle import export_model
from dynnas.runtimes.onnx.packing.layout import block_size

QEMU = shutil.which("qemu-x86_64")  # of version 7 and 8: its processors have AVX2 and no AVX-512

DIRECTLY = """
import sys, onnxruntime, run
content = open(sys.argv[1], "rb").read().removeprefix(run.SEAL)
image = run.test_image(0, (2, 12, 12))
try:
    print(*onnxruntime.InferenceSession(content).run(["logits"], {"image": image})[0][0])
except Exception as error:
    print(type(error).__name__)
"""


def emulated(words, *path):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), *sys.path])}
    command = [QEMU, "-cpu", "max", os.path.realpath(sys.executable), *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(QEMU is None, reason="qemu-x86_64 is not installed")
@pytest.mark.skipif(block_size() != 16, reason="this processor has no AVX-512, as the emulated one has none")
def test_a_packed_graph_gives_no_wrong_answer_on_a_processor_with_other_registers(tmp_path, capsys):
    dataset, bundle = noise(), tmp_path / "model"
    export_model(finished(config("mbconv", "condconv", exits=1, width=3)), dataset, bundle, images=20)
    np.save(tmp_path / "images.npy", dataset.search.images[:6].numpy())
    assert standalone.Model(bundle).file == "model.packed"
    assert standalone.main([str(tmp_path / "images.npy")], bundle) == 0
    here = capsys.readouterr().out

    assert emulated(["-c", "import run; print(run.Model().file)"], bundle) == "model.onnx\n"
    assert emulated([bundle / "run.py", tmp_path / "images.npy"]) == here
    # Without the check that graph fails there, or answers nonsense.
    said = emulated(["-c", DIRECTLY, bundle / "model.packed"], bundle).split()
    right = json.loads((bundle / "manifest.json").read_text())["self_check"]["0"]
    assert said == ["Fail"] or not np.allclose([float(word) for word in said], right, atol=1e-2)
