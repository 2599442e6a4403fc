"""The folder that ships: artifacts, loaded again and compared, and a manifest that explains their use."""

from __future__ import annotations

import copy
import hashlib
import json
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dynnas import __version__
from dynnas.data.dataset import Dataset, Split
from dynnas.data.streaming.images import read_images
from dynnas.errors import ExportError, require
from dynnas.export.card import LICENCES, card
from dynnas.export.formats import FORMATS
from dynnas.export.formats.format import ANY_BATCH, ONE_IMAGE, Format, ModelFile, get_format
from dynnas.export.parity import Answer, answer, compare
from dynnas.export.pictures import FILE, Pictures, check_pictures, pictures_graph, takes_pictures
from dynnas.export.timing import time_artifact
from dynnas.nn.config.network import RESOLUTION_SLOT, NetworkConfig
from dynnas.nn.gates.family import GATES
from dynnas.runtimes.cascade import Cascade, Finished
from dynnas.runtimes.plain import PlainNetwork, exits_of
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.space.architecture import Architecture

if TYPE_CHECKING:
    from dynnas.export.formats.format import Predict

MODEL = "model.onnx"
MANIFEST, SCRIPT, CARD = "manifest.json", "run.py", "README.md"
VERSION = 1

SELF_CHECKS = 4
"""Test images on which `run.py` compares a graph with the manifest before it is used."""

INT8_TOLERANCE = 0.1
"""The tolerance of that comparison in int8: processors round differently."""


_OUTPUTS = {
    "classification": "one value for each class name",
    "multi_label": "one value for each class name: above 0 it is there",
    "regression": "one value for each name, in standard deviations from the mean",
    "segmentation": "one value for each class name and place",
    "detection": "boxes: x1, y1, x2, y2 in pixels of the data, score, class; those of score 0 are none",
}


def export_model(
    network: Finished,
    dataset: Dataset,
    folder: str | Path,
    format: str = "onnx",
    *,
    architecture: Architecture | None = None,
    images: int = 256,
    overwrite: bool = False,
    facts: Mapping[str, str] | None = None,
    int8_images: torch.Tensor | None = None,
) -> dict[str, Any]:
    """Write `network` as a bundle: it appears in `folder` whole and checked against torch, or not at all.

    Args:
        network: calibrated, in eval mode; or a cascade of such networks.
        dataset: its search images are compared; its normalisation and class names go into the manifest.
        folder: is made; an empty one is taken.
        format: a name in `dynnas.export.FORMATS`, such as `onnx` or `checkpoint`.
        architecture: written beside the artifacts if given.
        images: how many to compare.
        overwrite: replace an earlier bundle in `folder`.
        facts: what else is known of it, for the model card, as `facts_of` gives them.
        int8_images: training images, as `dynnas.candidates.candidate.int8_images` gives them, to quantise the
            network to int8 by.

    Returns:
        The manifest, as it stands in `manifest.json`.

    Raises:
        ExportError: the format is unknown or takes no cascades, the folder is taken, or an artifact disagrees
            with the network.
        MissingExtraError: a package that the format needs is not installed.
    """
    chosen_format = get_format(format)
    if int8_images is not None:
        chosen_format = chosen_format.in_int8(int8_images)
    if isinstance(network, Cascade) and not chosen_format.cascades:
        takes = ", ".join(name for name, each in FORMATS.items() if each.cascades)
        raise ExportError(f"export: the format {format} holds one network; a cascade ships as {takes}")
    folder = Path(folder).resolve()
    check_free(folder, overwrite)
    network = copy.deepcopy(network).cpu().eval()
    with appearing(folder) as bundle:
        chosen_format.write(network, bundle, metadata_of(network, dataset, architecture, facts or {}))
        if architecture is not None:
            (bundle / "architecture.json").write_text(architecture.to_json() + "\n")
        chosen = dataset.search[:images].to("cpu")
        expected = answer(
            network, prepare_images(network, dataset, chosen.images), chosen.targets, dataset.task
        )
        loaded = [
            (model, chosen_format.load_like(bundle / model.file, network)) for model in chosen_format.models
        ]
        checks = {model.file: _check(model, predict, expected, chosen_format) for model, predict in loaded}
        pictures = None
        if chosen_format.script and chosen_format.exact:
            pictures = _pictures(network, dataset, bundle, chosen, expected)
        if chosen_format.script:
            write_script(bundle)
        artifacts = [
            asdict(model) | _use(model, network, chosen_format.branches_at_gates) | checks[model.file]
            for model in chosen_format.models
        ]
        manifest = make_manifest(network, dataset, chosen_format, artifacts, bundle)
        if pictures:
            manifest["pictures"] = asdict(pictures)
        if chosen_format.script:
            manifest |= _checks_of_script(network, dataset, None if chosen_format.exact else loaded[0][1])
        finish_bundle(bundle, manifest, card(manifest, facts or {}, chosen_format.lines(network)))
    return manifest


def finish_bundle(bundle: Path, manifest: dict[str, Any], text: str) -> None:
    """Write the model card `text` and the manifest, which gets the card's digest."""
    (bundle / CARD).write_text(text, encoding="utf-8")
    manifest["files"][CARD] = _file(bundle / CARD)
    (bundle / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def write_script(bundle: Path) -> None:
    """Write the script that runs ONNX models beside them."""
    script = resources.files("dynnas.export").joinpath("standalone.py")
    (bundle / SCRIPT).write_text(script.read_text(encoding="utf-8"), encoding="utf-8")


def metadata_of(
    network: Finished, dataset: Dataset, architecture: Architecture | None, facts: Mapping[str, str]
) -> dict[str, str]:
    """Return the metadata of a model's file, as far as its format can hold it; lists are JSON."""
    said = {
        "made_by": f"dynnas {__version__}",
        "task": dataset.task.name,
        "class_names": json.dumps(list(dataset.task.names)),
        "input_shape": json.dumps(list(network.config.shape)),
        "mean": json.dumps(list(dataset.mean)),
        "std": json.dumps(list(dataset.std)),
        "prepare": _prepare(dataset),
        "data": f"{dataset.name} {dataset.digest}",
        "data_size": json.dumps(list(dataset.size)),
        "exits": json.dumps([place.name for place in exits_of(network)]),
        **({"architecture": architecture.to_json()} if architecture is not None else {}),
        **({"facts": json.dumps(dict(facts))} if facts else {}),
    }
    return {f"dynnas.{name}": value for name, value in said.items()}


def _prepare(dataset: Dataset) -> str:
    scaled = "pixels to 0..1" if dataset.scale == 255 else f"pixels divided by {dataset.scale:g}"
    return (
        f"{scaled}, subtract mean {_numbers(dataset.mean)}, divide by std {_numbers(dataset.std)}, "
        "resize (bilinear, antialiased)"
    )


def _pictures(
    network: Finished, dataset: Dataset, bundle: Path, chosen: Split, expected: Answer
) -> Pictures | None:
    """Write the graph that takes bytes and compare it; None for data that are no bytes."""
    if not takes_pictures(dataset):
        return None
    onnx = require("onnx", "onnx")
    model = onnx.load_model(str(bundle / MODEL))
    data = pictures_graph(model, dataset, network.config.shape[1:]).SerializeToString()
    (bundle / FILE).write_bytes(data)
    pixels = read_images(chosen.images)[torch.from_numpy(expected.rows)]
    return check_pictures(data, dataset, pixels, torch.from_numpy(expected.outputs))


def _check(model: ModelFile, predict: Predict, expected: Answer, chosen: Format) -> dict[str, Any]:
    """Compare a file that was loaded again, and time it where this system runs it."""
    parity = compare(model, predict, expected, chosen.exact)
    timing = asdict(time_artifact(predict, expected.images)) if chosen.runs_here else None
    return {**asdict(parity), "timing": timing}


def _checks_of_script(network: Finished, dataset: Dataset, predict: Predict | None) -> dict[str, Any]:
    """Return what `run.py` compares before it uses a graph, and how closely."""
    if predict is None:
        return {"self_check": _self_check(network, dataset)}
    return {"self_check": _self_check(network, dataset, predict), "tolerance": INT8_TOLERANCE}


def _self_check(
    network: Finished, dataset: Dataset, predict: Predict | None = None
) -> dict[str, list[float]]:
    """Return the logits of the script's test images by their numbers, without those that rounding decides.

    They are those of torch, or of `predict`, where that is not exact.
    """
    from dynnas.export.standalone import compared, test_image  # needs onnxruntime, which wrote the bundle

    found: dict[str, list[float]] = {}
    for number in range(SELF_CHECKS):
        image = torch.from_numpy(test_image(number, network.config.shape))
        try:
            expected = answer(network, image, torch.zeros(1, dtype=torch.long), dataset.task)
        except ExportError:  # an exit or a gate could go either way
            continue
        outputs = expected.outputs if predict is None else predict(expected.images)[0]
        numbers = compared(dict(dataset.task.facts()), outputs[0])
        found[str(number)] = [float(f"{number:.7g}") for number in numbers.tolist()]
    return found


def verify_bundle(folder: str | Path) -> dict[str, Any]:
    """Check the files of a bundle against its manifest, and return the manifest.

    Raises:
        ExportError: there is no manifest, or a file is missing or was changed.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise ExportError(
            f"{folder}: no {MANIFEST}, so this is not an exported model; give a folder that export wrote"
        )
    manifest = json.loads((folder / MANIFEST).read_text())
    for name, file in manifest["files"].items():
        found = _digest(folder / name) if (folder / name).is_file() else "no file"
        if found != file["sha256"]:
            raise ExportError(
                f"{folder / name}: found {found}, the manifest says {file['sha256']}; export it again"
            )
    return manifest


def check_free(folder: Path, overwrite: bool) -> None:
    """Raise an error unless `folder` may be written.

    Raises:
        ExportError: something is there.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST).is_file():
        raise ExportError(
            f"{folder}: exists and is no exported model, so it is left alone; give another folder"
        )
    if not overwrite:
        raise ExportError(
            f"{folder}: holds an exported model already; give another folder, or ask to overwrite"
        )


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Open a folder that becomes `folder` at the end, and vanishes if something fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as workplace:
        new, old = Path(workplace, "new"), Path(workplace, "old")
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)


def make_manifest(
    network: Finished, dataset: Dataset, chosen: Format, artifacts: list[dict[str, Any]], bundle: Path
) -> dict[str, Any]:
    """Return what the manifest says of a network, of the files in `bundle`, and of `artifacts` among them."""
    config = network.config
    own = isinstance(network, PlainNetwork)
    exits = [_exit(place) for place in exits_of(network)]
    outputs = {"logits": _OUTPUTS.get(dataset.task.name, f"the output for the task {dataset.task.name}")}
    ways = [*(place["name"] for place in exits), "head"]
    if isinstance(network, Cascade):
        ways[-1] = f"network{len(ways)}"
        members = [stage.network for stage in network.members]
    else:
        members = [network]
    if exits:
        outputs["exit"] = "index into ways, by which the image left"
    return {
        "dynnas_export": VERSION,
        "format": chosen.name,
        **chosen.details,
        "versions": {"dynnas": __version__, "torch": metadata.version("torch")},
        "input": {
            "name": "image",
            "shape": ["batch", *config.shape],
            "type": "float32",
            "prepare": _prepare(dataset),
            "mean": list(dataset.mean),
            "std": list(dataset.std),
            "data_size": list(dataset.size),
            "fit": dataset.fit,
            "white": dataset.scale,
        },
        "data": {
            "name": dataset.name,
            "size": list(dataset.size),
            "digest": dataset.digest,
            "licence": LICENCES.get(dataset.name, "not known; it is that of your images"),
        },
        "outputs": outputs,
        "task": dict(dataset.task.facts()),
        "score": {"name": dataset.task.metrics[0].name, "unit": dataset.task.metrics[0].unit},
        "class_names": list(dataset.task.names),
        "size": list(config.shape[1:]),
        "exits": exits,
        "ways": ways,
        "gates": [gate for member in members for gate in _gates(member.config)],
        "looks": [
            {"size": look.size, "of": look.given} for member in members if (look := member.config.glance)
        ],
        "left_out_by_gates": chosen.branches_at_gates,
        "left_out_by_exits": chosen.branches_at_gates or (chosen.branches_at_exits and not own),
        "artifacts": artifacts,
        "timed_on": f"{platform.machine()}, {platform.system()}",
        "files": {
            path.relative_to(bundle).as_posix(): _file(path)
            for path in sorted(bundle.rglob("*"))
            if path.is_file()
        },
    }


def _exit(place: Any) -> dict[str, Any]:
    """Return what the manifest says of an early exit."""
    return {name: getattr(place, name) for name in ("name", "after", "criterion", "threshold")}


def _use(model: ModelFile, network: Finished | PlainNetwork, branches: bool) -> dict[str, str]:
    """Return what a file of a network of one's own class is for; nothing for others."""
    if not isinstance(network, PlainNetwork):
        return {}
    if not exits_of(network):
        words = ("one image at a time", "any number of images at a time")
    else:
        words = (ONE_IMAGE if branches else "one image at a time, with every exit computed", ANY_BATCH)
    return {"use": model.use.replace(ONE_IMAGE, words[0]).replace(ANY_BATCH, words[1])}


def _numbers(values: Sequence[float]) -> str:
    """Spell numbers as `(0.4914, 0.4822, 0.4465)`."""
    return f"({', '.join(f'{value:.6g}' for value in values)})"


def _gates(config: NetworkConfig) -> Iterator[dict[str, Any]]:
    """Yield the deciding modules, the share of multiply-adds asked for, and whether graphs branch there."""
    if choice := config.choice:
        yield {"block": RESOLUTION_SLOT, "gate": choice.words, "target": choice.target, "branches": True}
    for slot, block in config.gated:
        # What is no family of blocks, such as `DynamicResolution`, has a branch for each alternative.
        branches = block.gate.name not in GATES or GATES[block.gate.name].leaves_out(block)
        yield {"block": slot, "gate": block.gate.name, "target": block.gate["target"], "branches": branches}


def _file(path: Path) -> dict[str, Any]:
    return {"sha256": _digest(path), "bytes": path.stat().st_size}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
