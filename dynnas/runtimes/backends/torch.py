"""Torch: eagerly on a CPU and with CUDA graphs on CUDA, or compiled by inductor."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, ClassVar

from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.runtime import BatchExecution, BatchRunner, Runner, Runtime, register_runtime

if TYPE_CHECKING:
    from dynnas.nn.networks.network import Network
    from dynnas.runtimes.plain import Compilable
    from dynnas.settings.settings import TargetSettings


@register_runtime
class Torch(Runtime):
    """Plain torch: eagerly on a CPU, with CUDA graphs on CUDA; Python decides at exits and gates."""

    name = "torch"
    dtypes: ClassVar = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "bfloat16", "float16")}
    package = "torch"
    extra = "torch"
    rank = 3
    regroups_gates = True

    def compile(self, network: Compilable, target: TargetSettings) -> Artifact:
        """Compile to the network itself, its config and weights as files.

        An own module becomes torch's exported program.
        """
        from dynnas.runtimes.torch.artifact import torch_artifact

        return torch_artifact(network, target, self.name)

    def load(self, artifact: Artifact, threads: int = 1) -> Runner:
        """Load the network folded, channels-last on a CPU and captured on CUDA."""
        from dynnas.runtimes.torch.artifact import read_torch_artifact
        from dynnas.runtimes.torch.eager import eager_runner

        network = read_torch_artifact(artifact)
        return eager_runner(network, artifact.device, threads, artifact.dtype, artifact.batch)

    def run_batches(self, network: Network, target: TargetSettings, execution: BatchExecution) -> BatchRunner:
        """Return the folded network, run eagerly."""
        from dynnas.runtimes.torch.batches import TorchBatchRunner

        return TorchBatchRunner(network, target, execution)


@register_runtime
class TorchCompile(Runtime):
    """Torch's compiler: the parts of a network through inductor; Python decides between them."""

    name = "torch_compile"
    dtypes: ClassVar = Torch.dtypes
    package = "torch"
    extra = "torch"
    rank = 4

    def can_run(self, device: str) -> bool:
        """Return whether torch is installed and, for a CPU, a C++ compiler."""
        compilers = (os.environ.get("CXX", "c++"), "g++", "clang++")
        return super().can_run(device) and (device == "cuda" or any(map(shutil.which, compilers)))

    def compile(self, network: Compilable, target: TargetSettings) -> Artifact:
        """Compile as for `torch`.

        The compiler's output depends on the machine, so the real compilation happens when it is
        loaded.
        """
        from dynnas.runtimes.torch.artifact import torch_artifact

        return torch_artifact(network, target, self.name)

    def load(self, artifact: Artifact, threads: int = 1) -> Runner:
        """Load the network folded and compiled, which takes seconds to minutes."""
        from dynnas.runtimes.torch.artifact import read_torch_artifact
        from dynnas.runtimes.torch.compiled import compiled_runner

        network = read_torch_artifact(artifact)
        return compiled_runner(network, artifact.device, threads, artifact.dtype, artifact.batch)
