"""The format to train on from: weights and the network they belong to, batch norm not folded."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from dynnas.errors import ExportError
from dynnas.export.formats.format import ANY_BATCH, Format, ModelFile, predict_with, register_format

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dynnas.export.formats.format import Predict
    from dynnas.nn.networks.network import Network
    from dynnas.runtimes.plain import PlainNetwork

_CLASS = "class"
"""The key of a description under which a class of one's own is named."""


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
        said = json.loads(description.read_text())
        if _CLASS in said:
            raise ExportError(
                f"{weights}: holds the weights of {said[_CLASS]}, a class of your own; make it with the "
                "values in architecture.json, and load them by its load_state_dict"
            )
        network = Network(config_from_dict(said))
        network.load_state_dict(read(weights))
    except ExportError:
        raise
    except Exception as error:  # readers of tensors raise what they like on damaged files
        raise ExportError(
            f"{weights}: not a network that export wrote, or damaged ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no reason given'}); export it again"
        ) from error
    return network.eval()


def write_description(network: Network | PlainNetwork, file: Path) -> None:
    """Write the config of a network, as `build_network` reads it; of one's own class its name alone."""
    from dynnas.nn.config.network_json import config_to_dict

    own = own_module(network)
    if own is not None:
        said = {_CLASS: f"{type(own).__module__}:{type(own).__qualname__}"}
    else:
        said = config_to_dict(cast("Network", network).config)
    file.write_text(json.dumps(said, indent=2) + "\n")


def own_module(network: object) -> nn.Module | None:
    """Return the module of one's own class that a network holds; None for a staged network."""
    from dynnas.runtimes.plain import PlainNetwork

    return network.module if isinstance(network, PlainNetwork) else None


def tensors_of(network: Network | PlainNetwork) -> Mapping[str, Tensor]:
    """Return the tensors that ship, by the names that they have in the class of the network."""
    return (own_module(network) or network).state_dict()


def predict_like(network: Network | PlainNetwork, tensors: Mapping[str, Tensor]) -> Predict:
    """Run a copy of a network of one's own class with the tensors of a file."""
    made = copy.deepcopy(network)
    own = own_module(made)
    assert own is not None
    own.load_state_dict(dict(tensors))
    return predict_masked(made)


def own_lines(network: object, read: str) -> tuple[str, ...]:
    """Return the lines of Python that load a network of one's own class."""
    own = own_module(network)
    assert own is not None
    return (
        "import torch",
        f"network = {type(own).__qualname__}(...)  # your class, with the values in architecture.json",
        f"network.load_state_dict({read})",
        "output = network.eval()(image)",
    )


def predict_masked(network: Network | PlainNetwork) -> Predict:
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

    def write(self, network: Network | PlainNetwork, folder: Path, metadata: Mapping[str, str]) -> None:
        """Write the two files."""
        import torch

        write_description(network, folder / "network.json")
        torch.save(tensors_of(network), folder / "weights.pt")

    def load(self, path: Path) -> Predict:
        """Load the network, as `load_checkpoint` does."""
        return predict_masked(load_checkpoint(path.parent))

    def load_like(self, path: Path, network: Network | PlainNetwork) -> Predict:
        """Load the network; one of one's own class as a copy of `network` with the tensors of the file."""
        import torch

        if own_module(network) is None:
            return self.load(path)
        return predict_like(network, torch.load(path, map_location="cpu", weights_only=True))

    def lines(self, network: Network | PlainNetwork) -> tuple[str, ...]:
        """Return the lines of Python that load `network`."""
        if own_module(network) is None:
            return self.example
        return own_lines(network, 'torch.load("weights.pt", weights_only=True)')
