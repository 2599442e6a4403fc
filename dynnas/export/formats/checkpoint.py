"""The format to train on from: weights and the network they belong to, batch norm not folded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dynnas.errors import ExportError
from dynnas.export.formats.format import ANY_BATCH, Format, ModelFile, predict_with, register_format

if TYPE_CHECKING:
    from torch import Tensor

    from dynnas.export.formats.format import Predict
    from dynnas.nn.networks.network import Network


def load_checkpoint(folder: Path) -> Network:
    """Load the network of an exported checkpoint, on the CPU in eval mode.

    Nothing in it is unpickled as code.

    Raises:
        ExportError: a file is missing or damaged.
    """
    import torch

    def read(path: Path) -> dict[str, Tensor]:
        return torch.load(path, map_location="cpu", weights_only=True)

    return build_network(folder / "network.json", folder / "weights.pt", read)


def build_network(description: Path, weights: Path, read: Callable[[Path], Mapping[str, Tensor]]) -> Network:
    """Build the network that a file describes, with the tensors that `read` finds in `weights`, in eval mode.

    Raises:
        ExportError: a file is missing or damaged.
    """
    from dynnas.nn.config.network_json import config_from_dict
    from dynnas.nn.networks.network import Network

    try:
        network = Network(config_from_dict(json.loads(description.read_text())))
        network.load_state_dict(read(weights))
    except Exception as error:  # readers of tensors raise what they like on damaged files
        raise ExportError(
            f"{weights}: not a network that export wrote, or damaged ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no reason given'}); export it again"
        ) from error
    return network.eval()


def write_description(network: Network, file: Path) -> None:
    """Write the config of a network, as `build_network` reads it."""
    from dynnas.nn.config.network_json import config_to_dict

    file.write_text(json.dumps(config_to_dict(network.config), indent=2) + "\n")


def predict_masked(network: Network) -> Predict:
    """Run a network on batches, with every exit computed."""
    from dynnas.runtimes.branching import MaskedNetwork

    return predict_with(MaskedNetwork(network))


@register_format
class Checkpoint(Format):
    """The files `weights.pt` for `torch.load(weights_only=True)`, and `network.json`."""

    name = "checkpoint"
    cascades = False
    models: ClassVar = (
        ModelFile("weights.pt", None, ANY_BATCH, 'dynnas.export.load_checkpoint(Path("."))(image)'),
    )
    example: ClassVar = (
        "from pathlib import Path",
        "from dynnas.export import load_checkpoint",
        'logits = load_checkpoint(Path("."))(image)',
    )

    def write(self, network: Network, folder: Path, metadata: Mapping[str, str]) -> None:
        """Write the two files."""
        import torch

        write_description(network, folder / "network.json")
        torch.save(network.state_dict(), folder / "weights.pt")

    def load(self, path: Path) -> Predict:
        """Load the network, as `load_checkpoint` does."""
        return predict_masked(load_checkpoint(path.parent))
