"""A bundle on an emulated processor with other vector registers than this one: never a wrong answer."""

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
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
session = onnxruntime.InferenceSession(sys.argv[1], options)
for image in numpy.load(sys.argv[2]).astype("float32"):
    try:
        print(session.run(["exit"], {"image": image[None, :, :12, :12]}))
    except Exception as error:
        print("Fail", "with blocks of 16 channels, and this one has others: use model.onnx" in str(error))
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
    assert standalone.Model(bundle).file == "model_packed.onnx"
    assert standalone.main([str(tmp_path / "images.npy")], bundle) == 0
    here = capsys.readouterr().out

    assert emulated(["-c", "import run; print(run.Model().file)"], bundle) == "model.onnx\n"
    assert emulated([bundle / "run.py", tmp_path / "images.npy"]) == here
    # Any other program gets an error for each image, by whichever exit it would leave.
    said = emulated(["-c", DIRECTLY, bundle / "model_packed.onnx", tmp_path / "images.npy"])
    assert said.splitlines() == ["Fail True"] * 6
