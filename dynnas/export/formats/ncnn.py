"""NCNN's own format, for phones: a model for each part between exits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dynnas.export.formats.format import ONE_IMAGE, Format, ModelFile, predict_by, register_format

if TYPE_CHECKING:
    from dynnas.export.formats.format import Predict
    from dynnas.runtimes.cascade import Finished

FIRST, EXITS = "part0.param", "exits.json"


@register_format
class NcnnModel(Format):
    """The artifact of the runtime `ncnn`, file by file; there is no place for metadata."""

    name = "ncnn"
    models: ClassVar = (
        ModelFile(
            FIRST,
            1,
            f"{ONE_IMAGE}; the weights of each part are in the .bin beside it, and exits.json has thresholds",
            'extractor.input("in0", ncnn.Mat(image[0]).clone()); extractor.extract("out0")',
        ),
    )
    example: ClassVar = (
        "from pathlib import Path",
        "from dynnas.runtimes.ncnn.session import NcnnRunner  # needs numpy and ncnn alone",
        'files = {path.name: path.read_bytes() for path in Path().glob("part*")}',
        f'outputs = NcnnRunner(files, Path("{EXITS}").read_text())(image)',
    )
    cascades: ClassVar[bool] = False

    def write(self, network: Finished, folder: Path, metadata: Mapping[str, str]) -> None:
        """Write the files.

        Raises:
            MissingExtraError: ncnn or pnnx is not installed.
            TargetError: the network has gates, or operators that NCNN has not.
        """
        from dynnas.runtimes.ncnn import session
        from dynnas.runtimes.runtime import get_runtime
        from dynnas.settings.settings import TargetSettings

        artifact = get_runtime("ncnn").compile(network, TargetSettings(runtime="ncnn"))
        for name, content in artifact.files.items():
            (folder / name).write_bytes(content)
        (folder / EXITS).write_text(artifact.metadata[session.EXITS])

    def load(self, path: Path) -> Predict:
        """Load all parts on one thread."""
        from dynnas.runtimes.ncnn.session import NcnnRunner

        files = {each.name: each.read_bytes() for each in path.parent.glob("part*")}
        runner = NcnnRunner(files, (path.parent / EXITS).read_text())
        return predict_by(runner.outputs)
