"""Networks converted to NCNN by its own converter, pnnx: a model for each part between exits."""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from dynnas.errors import TargetError, require
from dynnas.nn.networks.network import Network, Segment
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.ncnn.session import PARAM, WEIGHTS
from dynnas.runtimes.plain import PlainNetwork, blank_images


def to_ncnn(network: Network | PlainNetwork) -> dict[str, bytes]:
    """Return the files of every part of the folded network, by the names that `NcnnRunner` reads.

    Raises:
        MissingExtraError: pnnx is not installed.
        TargetError: NCNN has no such operators.
    """
    folded = fold_batchnorm(network).cpu()
    x, files = blank_images(network.config), dict[str, bytes]()
    with torch.no_grad():
        for number, segment in enumerate(folded.segments()):
            param, weights = _convert(_Part(segment).eval(), x)
            files |= {PARAM.format(number): param, WEIGHTS.format(number): weights}
            x = segment.body(x)
    return files


class _Part(nn.Module):
    """A segment as a function of its input: the output of its exit or of the head, and what goes on."""

    def __init__(self, segment: Segment) -> None:
        super().__init__()
        self.body, self.classifier, self.goes_on = segment.body, segment.classifier, segment.exit is not None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = self.body(x)
        output = self.classifier(features)
        return (output, features) if self.goes_on else output


def _convert(part: nn.Module, x: Tensor) -> tuple[bytes, bytes]:
    """Return the files of a module that takes `x`: its layers, and their weights in float32."""
    pnnx = require("pnnx", "ncnn")
    with tempfile.TemporaryDirectory() as folder:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # tracing warns of what it may miss; answers are compared
            torch.jit.save(torch.jit.trace(part, x, check_trace=False), str(Path(folder, "part.pt")))
        shape = ",".join(map(str, x.shape))
        ran = subprocess.run(
            [pnnx.EXEC_PATH, "part.pt", f"inputshape=[{shape}]", "fp16=0"],
            capture_output=True,
            text=True,
            errors="replace",
            cwd=folder,
        )
        said = [line for line in (ran.stdout + ran.stderr).splitlines() if line.startswith("ignore ")]
        made = [Path(folder, name) for name in ("part.ncnn.param", "part.ncnn.bin")]
        if ran.returncode or said or not all(path.exists() for path in made):
            why = ", ".join(dict.fromkeys(line.split()[1] for line in said)) or ran.stderr.strip()[-300:]
            raise TargetError(f"target: NCNN cannot run this network: it has no {why}; use another runtime")
        param, weights = (path.read_bytes() for path in made)
        return param, weights
