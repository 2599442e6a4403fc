"""NCNN on a CPU: small, without dependencies, made for phones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar

from dynnas.errors import TargetError, require
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.runtime import Runner, Runtime, register_runtime

if TYPE_CHECKING:
    from dynnas.runtimes.plain import Compilable
    from dynnas.settings.settings import TargetSettings

NCNN_PARAM = "application/vnd.ncnn.param"


@register_runtime
class Ncnn(Runtime):
    """NCNN, with a model for each part between exits: it decides behind each of them whether to go on.

    NCNN has no branches of its own: networks with gates or a glance are refused. A batch is run
    image by image.
    """

    name = "ncnn"
    dtypes: ClassVar = {"cpu": ("float32",)}
    package = "ncnn"
    extra = "ncnn"
    rank = 5

    def compile(self, network: Compilable, target: TargetSettings) -> Artifact:
        """Convert every part.

        Raises:
            TargetError: the network is a cascade, has gates, a glance or exits that are no classifiers, or
                operators that NCNN has not.
        """
        from dynnas.runtimes.cascade import Cascade
        from dynnas.runtimes.metadata import describe
        from dynnas.runtimes.ncnn.conversion import to_ncnn
        from dynnas.runtimes.ncnn.session import CRITERIA, EXITS, PARAM

        if isinstance(network, Cascade):
            raise TargetError("target: runtime ncnn runs no cascades; use runtime onnxruntime, or torch")
        config = network.config
        if config.decides or config.glance:
            raise TargetError(
                "target: runtime ncnn has no branches, and this network has gates or a glance; use another"
            )
        for place in config.exits:
            if place.task is not None or place.criterion not in CRITERIA:
                raise TargetError(
                    "target: runtime ncnn decides at exits of classifiers alone, by "
                    f"{', '.join(CRITERIA)}; one here goes by {place.criterion}; use another runtime"
                )
        files = to_ncnn(network)
        exits = json.dumps([(place.threshold, place.criterion) for place in config.exits])
        metadata = describe(network, target) | {EXITS: exits}
        return Artifact(files, PARAM.format(0), NCNN_PARAM, self.name, metadata)

    def load(self, artifact: Artifact, threads: int = 1) -> Runner:
        """Load the parts on a CPU."""
        from dynnas.runtimes.ncnn.session import EXITS, NcnnRunner

        return NcnnRunner(artifact.files, artifact.metadata[EXITS], threads)

    def version(self) -> str:
        """Return name and version.

        Raises:
            MissingExtraError: it is not installed.
        """
        return f"{self.name} {require(self.package, self.extra).__version__}"
