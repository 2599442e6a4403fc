"""Core ML packages, for iPhones, iPads and Macs."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from dynnas.errors import ExportError, require
from dynnas.export.formats.format import Format, ModelFile, register_format

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from dynnas.export.formats.format import Outputs, Predict
    from dynnas.runtimes.cascade import Finished

FILE = "model.mlpackage"
IMAGE, LOGITS, EXIT = "image", "logits", "exit"


@register_format
class CoreMl(Format):
    """An ML program for one image, with a fixed shape and no branches: gates and exits become masks.

    It computes in float32, so that its answers are those of torch; Apple's tools make float16 by default,
    which is what the neural engine takes. iOS 16 and macOS 13 are the oldest that run it.

    Only macOS has Core ML. Elsewhere the saved package is read again and its program evaluated in torch, by
    `dynnas.export.mil`: that checks its operations and weights, and measures no time.
    """

    name = "coreml"
    models: ClassVar = (
        ModelFile(
            FILE,
            1,
            "one image at a time, with every exit computed; in float32, on the CPU and the graphics card of "
            "iOS 16, macOS 13 and newer",
            f'coremltools.models.MLModel("{FILE}").predict({{"{IMAGE}": image}})',
        ),
    )
    example: ClassVar = (
        "import coremltools  # runs models on macOS; in Swift, MLModel(contentsOf:) of the compiled package",
        f'outputs = coremltools.models.MLModel("{FILE}").predict({{"{IMAGE}": image}})["{LOGITS}"]',
    )
    branches_at_exits = False
    details: ClassVar = {"computes": "float32; Apple's default is float16, which is faster and rounds"}

    @property
    def runs_here(self) -> bool:
        """Return whether this system has Core ML."""
        return sys.platform == "darwin"

    def write(self, network: Finished, folder: Path, metadata: Mapping[str, str]) -> None:
        """Trace, convert, save, and compare what the package says of its inputs and outputs.

        Raises:
            MissingExtraError: coremltools is not installed.
            ExportError: the converter does not know an operator of the network.
        """
        import torch

        from dynnas.runtimes.branching import MaskedNetwork, says_exit
        from dynnas.runtimes.folding import fold_batchnorm
        from dynnas.runtimes.plain import blank_images

        with _silent():
            tools = require("coremltools", "coreml")
            module = MaskedNetwork(fold_batchnorm(network).cpu()).eval()
            image = blank_images(network.config)
            names = [LOGITS, EXIT] if says_exit(network) else [LOGITS]
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                model = _convert(tools, module, image, names)
            model.short_description = "A network that dynnas exported"
            model.user_defined_metadata.update(metadata)
            model.save(str(folder / FILE))
        self._check(folder / FILE, {IMAGE: list(image.shape)}, names)

    def load(self, path: Path) -> Predict:
        """Load the package: on macOS Core ML runs it, elsewhere its program is evaluated in torch."""
        run = self._by_core_ml(path) if self.runs_here else self._by_torch(path)

        def predict(images: np.ndarray) -> Outputs:
            found = run(images)
            taken = found.get(EXIT)
            return found[LOGITS], None if taken is None else taken.reshape(-1).astype("int64")

        return predict

    def _by_core_ml(self, path: Path) -> Any:  # only where there is macOS
        with _silent():
            tools = require("coremltools", "coreml")
            model = tools.models.MLModel(str(path), compute_units=tools.ComputeUnit.CPU_ONLY)
        return lambda images: model.predict({IMAGE: images})

    def _by_torch(self, path: Path) -> Any:
        import torch

        from dynnas.export.mil import MilProgram

        with _silent():
            program = MilProgram(path)
        return lambda images: {
            name: found.numpy() for name, found in program({IMAGE: torch.from_numpy(images)}).items()
        }

    def _check(self, path: Path, inputs: Mapping[str, list[int]], outputs: list[str]) -> None:
        """Compare the description of a saved package with what was asked for.

        Raises:
            ExportError: it is another one.
        """
        with _silent():
            tools = require("coremltools", "coreml")
            said = tools.utils.load_spec(str(path)).description
        types = tools.proto.FeatureTypes_pb2.ArrayFeatureType
        found = {
            each.name: (list(each.type.multiArrayType.shape), each.type.multiArrayType.dataType)
            for each in said.input
        }
        asked = {name: (shape, types.FLOAT32) for name, shape in inputs.items()}
        made = {each.name: each.type.multiArrayType.dataType for each in said.output}
        wanted = {name: types.INT32 if name == EXIT else types.FLOAT32 for name in outputs}
        if found != asked or made != wanted:
            raise ExportError(
                f"{path.name}: says of itself {found} -> {made}, asked for were {asked} -> {wanted}; nothing "
                "was kept, use another format and report it"
            )


def _convert(tools: ModuleType, module: nn.Module, image: Any, names: list[str]) -> Any:
    """Return the converted module.

    Raises:
        ExportError: the converter does not know an operator.
    """
    import numpy as np
    import torch

    kinds = {EXIT: np.int32}
    with _as_core_ml_takes_it():
        traced = torch.jit.trace(module, (image,), check_trace=False)
    try:
        return tools.convert(
            traced,
            inputs=[tools.TensorType(IMAGE, tuple(image.shape))],
            outputs=[tools.TensorType(name, dtype=kinds.get(name, np.float32)) for name in names],
            convert_to="mlprogram",
            minimum_deployment_target=tools.target.iOS16,
            compute_precision=tools.precision.FLOAT32,
            skip_model_load=True,
        )
    except Exception as error:  # the converter raises what it likes
        traceback.clear_frames(error.__traceback__)  # they hold its temporary folder
        said = next(iter(str(error).splitlines()), "no reason given")
        raise ExportError(
            f"coreml: coremltools does not convert this network ({type(error).__name__}: {said[:300]}); take "
            "another format, such as onnx"
        ) from error


@contextlib.contextmanager
def _as_core_ml_takes_it() -> Iterator[None]:
    """Make operations inside ones that the converter knows, for a trace.

    The bias of a convolution is added by itself, for in Core ML it is a constant, and that of a mixed kernel
    depends on the image; where it is one, the converter joins the two again. Sizes are plain numbers.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Known(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            if function is not torch.conv2d:
                made = function(*args, **kwargs)
                if isinstance(made, torch.Size):
                    return torch.Size([int(size) for size in made])
                return int(made) if function is torch.Tensor.size else made
            bias = args[2] if len(args) > 2 else kwargs.pop("bias", None)
            without: tuple[Any, ...] = (*args[:2], None, *args[3:])
            made = function(*without, **kwargs)
            return made if bias is None else made + bias.reshape(-1, 1, 1)

    with Known():
        yield


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the progress bars, warnings and remarks of coremltools from the screen."""
    logger = logging.getLogger("coremltools")
    level, off = logger.level, logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)  # torchao, which it imports, remarks as well
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(off)
            logger.setLevel(level)
