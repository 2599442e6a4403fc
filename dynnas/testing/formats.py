"""The conformance suite of export formats: `check_format` over any subclass of `Format`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np
import torch

from dynnas.errors import ExportError
from dynnas.export.formats import FORMATS
from dynnas.export.formats.format import Format
from dynnas.export.parity import Answer, answer, compare
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.networks.network import Network
from dynnas.runtimes.cascade import Cascade
from dynnas.tasks.builtin.classification import Classification
from dynnas.testing.runtimes import SHAPE, decided_images, networks

KINDS = "static", "dynamic", "cascade"

_METADATA = {"dynnas.made_by": "dynnas.testing", "dynnas.class_names": '["a", "b", "c", "d", "e"]'}
_EXAMPLE = """
import sys
{hide}
import numpy
image = numpy.load("image.npy")
try:
    import torch
    image = torch.from_numpy(image) if {torch} else image
except ImportError:
    pass
{example}
"""


@dataclass(frozen=True)
class FormatSubject:
    """A format with the networks that it is judged on; what it writes is written once.

    Attributes:
        format: to check.
        place: a folder for what it writes.
        kinds: of the networks.
    """

    format: Format
    place: Path
    kinds: tuple[str, ...] = KINDS

    def __str__(self) -> str:
        """Return the name, for messages."""
        return self.format.name

    @cached_property
    def networks(self) -> Mapping[str, Network | Cascade]:
        """A static network, one with an early exit, and a cascade if the format takes them, by kind."""
        single = {kind: network for kind, network in networks() if isinstance(network, Network)}
        found: dict[str, Network | Cascade] = {**single}
        if self.format.cascades:
            members = [single["static"], single["dynamic"]]
            found["cascade"] = Cascade(members, [0.3], ["static", "dynamic"], SHAPE[1:]).eval()
        return {kind: network for kind, network in found.items() if kind in self.kinds}

    @cached_property
    def answers(self) -> Mapping[str, Answer]:
        """The answers of torch for images whose way is clear, by kind."""
        return {kind: _answer(network) for kind, network in self.networks.items()}

    @cached_property
    def written(self) -> Mapping[str, Path]:
        """A folder with the files of each kind, which had another name when they were written."""
        return {kind: self._write(kind) for kind in self.networks}

    def _write(self, kind: str) -> Path:
        network, new = self.networks[kind], self.place / "new"
        new.mkdir()
        before = _state(network)
        self.format.write(network, new, _METADATA)
        assert _state(network) == before, (
            f"format {self}: writing changes a {kind} network or torch's random numbers"
        )
        found = {path.name for path in new.iterdir()}
        expected = {model.file for model in self.format.models}
        assert expected <= found, f"format {self}: {kind}: not written: {sorted(expected - found)}"
        return new.rename(new.with_name(kind))


def check_format(format: Format | type[Format]) -> None:
    """Check all that export relies on, with a static network, one with an early exit, and a cascade.

    Args:
        format: what it needs is installed here.

    Raises:
        AssertionError: the format breaks the contract; says how.
    """
    with tempfile.TemporaryDirectory() as place:
        subject = FormatSubject(format() if isinstance(format, type) else format, Path(place))
        for check in format_checks():
            check(subject)


def format_checks() -> Iterator[Callable[[FormatSubject], None]]:
    """Yield the checks one by one, for parametrised tests."""
    yield check_declaration
    yield check_files
    yield check_outputs
    yield check_example


def check_declaration(subject: FormatSubject) -> None:
    """Check that the format states its name, the files that can be run, and how."""
    format = subject.format
    assert format.name.isidentifier(), f"{format.name!r} is no name for a command line"
    if format.name in FORMATS:
        assert FORMATS[format.name] is type(format), f"format {format.name}: another format has the name"
    assert format.models, f"format {format.name}: it has no file that can be run"
    files = [model.file for model in format.models]
    assert len({*files}) == len(files), f"format {format.name}: a file is there twice: {files}"
    for model in format.models:
        assert PurePath(model.file).name == model.file, (
            f"format {format.name}: {model.file!r} is no file name"
        )
        assert model.batch is None or model.batch > 0, f"{model.file}: batches of {model.batch}"
        assert model.use, f"{model.file}: it does not say what it is for"
        assert model.python, f"{model.file}: it does not say how to run it"
    assert format.example, f"format {format.name}: it has no example"


def check_files(subject: FormatSubject) -> None:
    """Check that the files that can be run are written, and that the network stays as it was."""
    assert set(subject.written) == set(subject.networks)


def check_outputs(subject: FormatSubject) -> None:
    """Check that every file, loaded from elsewhere, says what torch says, by the same exits."""
    for kind, expected in subject.answers.items():
        for model in subject.format.models:
            where = f"format {subject}: {kind}: {model.file}"
            predict = subject.format.load(subject.written[kind] / model.file)
            first, taken = predict(expected.images[:1])
            assert first.dtype == np.float32, f"{where}: outputs are {first.dtype}, not float32"
            kept = first.copy()
            predict(expected.images[1:2])
            assert np.array_equal(first, kept), f"{where}: a call changes the output of the one before"
            told = expected.exits is None or taken is not None
            assert told, f"{where}: it does not say by which exit an image leaves"
            try:
                compare(model, predict, expected)
            except ExportError as error:
                raise AssertionError(f"{where}: {error}") from error


def check_example(subject: FormatSubject) -> None:
    """Check that the example runs beside the files, and without dynnas where it does not import it.

    Where the example is about the script that a bundle has, `dynnas.export.bundle.export_model` writes that.
    Where this system does not run the format, nothing is checked.
    """
    if subject.format.script or not subject.format.runs_here:
        return
    example = "\n".join(subject.format.example)
    program = _EXAMPLE.format(
        hide="" if "dynnas" in example else 'sys.modules["dynnas"] = None',
        torch=any(word in example for word in ("torch", "dynnas")),
        example=example,
    )
    folder = subject.written[subject.kinds[0]]
    np.save(folder / "image.npy", subject.answers[subject.kinds[0]].images[:1])
    command = [sys.executable, "-W", "ignore", "-c", program]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    last = (ran.stderr.splitlines() or [""])[-1]
    assert ran.returncode == 0, f"format {subject}: its example does not run beside its files: {last}"


def _answer(network: Network | Cascade) -> Answer:
    images = decided_images(network)
    return answer(network, images, torch.zeros(len(images), dtype=torch.long), Classification(5))


def _state(network: Network | Cascade) -> tuple[str, bool, bytes]:
    return weights_digest(network), network.training, torch.get_rng_state().numpy().tobytes()
