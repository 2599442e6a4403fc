"""A network as numpy's arrays and its config as JSON."""

import json
from typing import ClassVar

from dynnas.export.formats.format import ANY_BATCH, Format, ModelFile, register_format


@register_format
class Numbers(Format):
    """`weights.npz` and `network.json`."""

    name = "numbers"
    cascades = False
    models: ClassVar = (ModelFile("weights.npz", None, ANY_BATCH, "numpy"),)
    example: ClassVar = ("import numpy", 'weights = numpy.load("weights.npz")')

    def write(self, network, folder, metadata):
        import numpy as np

        from dynnas.nn.config.network_json import config_to_dict

        np.savez(
            folder / "weights.npz", **{name: value.numpy() for name, value in network.state_dict().items()}
        )
        (folder / "network.json").write_text(json.dumps(config_to_dict(network.config)))

    def load(self, path):
        import numpy as np
        import torch

        from dynnas.export.formats.checkpoint import predict_masked
        from dynnas.nn.config.network_json import config_from_dict
        from dynnas.nn.networks.network import Network

        network = Network(config_from_dict(json.loads((path.parent / "network.json").read_text())))
        state = {name: torch.from_numpy(value) for name, value in np.load(path).items()}
        network.load_state_dict(state)
        return predict_masked(network.eval())
