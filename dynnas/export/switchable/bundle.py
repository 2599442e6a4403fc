"""The folder of a switchable model: one ONNX file and one of torch, compared network by network."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dynnas.data.dataset import Dataset
from dynnas.errors import ExportError
from dynnas.export.bundle import (
    appearing,
    check_free,
    finish_bundle,
    make_manifest,
    metadata_of,
    write_script,
)
from dynnas.export.card import card
from dynnas.export.formats.format import ANY_BATCH, ONE_IMAGE, ModelFile, predict_with
from dynnas.export.formats.onnx import Onnx
from dynnas.export.parity import Answer, answer, compare
from dynnas.export.switchable.graph import MEMBER, to_switchable_onnx
from dynnas.export.switchable.model import Member, load_switchable, save_switchable
from dynnas.export.switchable.sharing import share
from dynnas.export.timing import time_artifact
from dynnas.nn.networks.network import Network
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.metadata import metadata_bytes
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.preprocessing import prepare_images

if TYPE_CHECKING:
    from dynnas.export.formats.format import Outputs, Predict

ONNX_FILE, TORCH_FILE = "model.onnx", "model.pt"


class _Facts(Onnx):
    """The facts for manifest and card; it is no format of one network, and not registered."""

    name = "switchable"
    example: ClassVar[tuple[str, ...]] = (
        "from run import Model",
        "model = Model()",
        "print(model.budget_ms(3))  # the best network that takes at most 3 ms answers from now on",
        'print(model(model.read("picture.png")))',
    )


def export_switchable(
    networks: Mapping[str, Network],
    dataset: Dataset,
    folder: str | Path,
    *,
    images: int = 256,
    overwrite: bool = False,
    facts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write networks that share their weights as one model that switches between them at run time.

    `model.onnx` takes `member` beside `image`; `model.pt` is for `load_switchable`; `run.py` runs the first.
    Each network of each file is compared with torch on real images, scored and timed as it ships.

    Args:
        networks: by their keys, the best first; of one supernet, calibrated, in eval mode. Others are right
            as well, but share nothing.
        dataset, folder, images, overwrite, facts: as in `dynnas.export.export_model`.

    Returns:
        The manifest. Its `members` are the best first; `sizes` are the bytes of both files, of the largest
        network as `model.onnx` of its own, and of all of these together.

    Raises:
        ExportError: there are fewer than two networks, the folder is taken, or a network disagrees.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    if len(networks) < 2:
        raise ExportError(
            f"export: a switchable model holds two networks or more, not {len(networks)}; "
            "pick several, such as --pick front"
        )
    for key, network in networks.items():
        if not isinstance(network, Network):
            kind = type(getattr(network, "module", network)).__name__
            raise ExportError(
                f"export: {key} is a {kind}; a switchable model holds networks of space files: export each "
                "by itself"
            )
    folder = Path(folder).resolve()
    check_free(folder, overwrite)
    sizes = {network.config.shape[1:] for network in networks.values()}
    size = sizes.pop() if len(sizes) == 1 else dataset.size
    with appearing(folder) as bundle:
        work = _Export(networks, dataset, size, images, bundle)
        work.write_onnx(metadata_of(work.networks[0], dataset, None, facts or {}))
        members, artifacts = work.compare_onnx()
        save_switchable(work.networks, work.sharing, members, size, bundle / TORCH_FILE)
        artifacts += work.compare_torch(members)
        write_script(bundle)
        manifest = make_manifest(work.networks[0], dataset, _Facts(), artifacts, bundle)
        manifest["input"]["shape"][2:] = manifest["size"] = list(size)
        manifest |= {"members": [asdict(each) for each in members], "self_check": {}, "sizes": work.sizes()}
        listed = ", ".join(f"{each.key} ({each.ms:.3g} ms)" for each in members)
        text = card(manifest, {"networks, the best first": listed, **(facts or {})}, _Facts.example)
        finish_bundle(bundle, manifest, text)
    return manifest


class _Export:
    """The steps of an export."""

    def __init__(
        self,
        networks: Mapping[str, Network],
        dataset: Dataset,
        size: tuple[int, int],
        images: int,
        bundle: Path,
    ) -> None:
        self.keys = list(networks)
        self.networks = [copy.deepcopy(network).cpu().eval() for network in networks.values()]
        self.sharing = share(self.networks)
        self._size, self._bundle = size, bundle
        self._alone: list[int] = []
        chosen = dataset.search[:images].to("cpu")
        given = prepare_images(self.networks[0], dataset, chosen.images, size)
        self._expected = []
        for network in self.networks:
            own = prepare_images(network, dataset, chosen.images)
            expected = answer(network, own, chosen.targets, dataset.task)
            self._expected.append(replace(expected, images=given[expected.rows].numpy()))

    def write_onnx(self, metadata: Mapping[str, str]) -> None:
        """Write the ONNX file."""
        said = {
            **metadata,
            "dynnas.members": json.dumps(self.keys),
            "dynnas.input_shape": json.dumps(self._size),
        }
        models = [to_onnx(network) for network in self.networks]
        self._alone = [model.ByteSize() for model in models]
        whole = to_switchable_onnx(self.networks, models, self.sharing, self._size)
        (self._bundle / ONNX_FILE).write_bytes(whole.SerializeToString() + metadata_bytes(said))

    def compare_onnx(self) -> tuple[list[Member], list[dict[str, Any]]]:
        """Load the ONNX file again, compare and time every network.

        Returns:
            The members, and a row of the manifest for each.
        """
        runner = OnnxRunner((self._bundle / ONNX_FILE).read_bytes(), threads=1)
        members, rows = [], []
        for number, (key, network, expected) in enumerate(
            zip(self.keys, self.networks, self._expected, strict=True)
        ):

            def predict(
                images: np.ndarray, number: int = number, exits: bool = bool(network.config.exits)
            ) -> Outputs:
                outputs = runner.outputs(images, {MEMBER: np.array([number])})
                return outputs["logits"], outputs["exit"] if exits else None

            python = f'session.run(None, {{"image": image, "member": [{number}]}})'
            model = ModelFile(ONNX_FILE, 1, f"network {key}: {ONE_IMAGE}", python)
            row = _checked(model, predict, expected)
            ways = (*(place.name for place in network.config.exits), "head")
            members.append(Member(key, row["timing"]["mean_ms"], row["score"], ways))
            rows.append(row)
        return members, rows

    def compare_torch(self, members: Sequence[Member]) -> list[dict[str, Any]]:
        """Load torch's file again, compare and time every network; return rows of the manifest."""
        model, rows = load_switchable(self._bundle / TORCH_FILE), []
        for member, expected in zip(members, self._expected, strict=True):
            model.switch(member.key)
            about = ModelFile(
                TORCH_FILE,
                None,
                f"network {member.key}: {ANY_BATCH}",
                f'model.switch("{member.key}"); model(image)',
            )
            predict = predict_with(model)
            rows.append(_checked(about, predict, replace(expected, exits=None)))
        return rows

    def sizes(self) -> dict[str, int]:
        """Return the bytes of the files, and of the networks as ONNX files of their own."""
        files = {file: (self._bundle / file).stat().st_size for file in (ONNX_FILE, TORCH_FILE)}
        return {**files, "largest_alone": max(self._alone), "all_alone": sum(self._alone)}


def _checked(model: ModelFile, predict: Predict, expected: Answer) -> dict[str, Any]:
    parity = compare(model, predict, expected)
    return {**asdict(model), **asdict(parity), "timing": asdict(time_artifact(predict, expected.images))}
