"""Plain torch, without a fold or a layout: as the network was written."""

from typing import ClassVar

from dynnas.runtimes.runtime import Runtime, register_runtime


@register_runtime
class PlainTorch(Runtime):
    """The network as it is, in float32."""

    name = "plain_torch"
    dtypes: ClassVar = {"cpu": ("float32",)}
    package = "torch"
    extra = "torch"

    def compile(self, network, target):
        from dynnas.runtimes.torch.artifact import torch_artifact

        return torch_artifact(network, target, self.name)

    def load(self, artifact, threads=1):
        import torch

        from dynnas.runtimes.torch.artifact import read_torch_artifact

        network = read_torch_artifact(artifact)

        @torch.inference_mode()
        def run(image):
            return network(torch.from_numpy(image)).numpy()

        return run
