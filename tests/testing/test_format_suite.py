"""The conformance suite of formats: every registered one passes, and broken ones are told what is wrong."""

import pytest
import torch

from dynnas.errors import MissingExtraError
from dynnas.export.formats import FORMATS
from dynnas.export.formats.format import ANY_BATCH, ModelFile
from dynnas.export.formats.pt2 import Pt2
from dynnas.nn.exits.exits import leave
from dynnas.testing.formats import KINDS, FormatSubject, check_format, format_checks

QUICK = {"executorch": ("dynamic",), "ncnn": ("dynamic",), "pt2": ("dynamic",)}
"""The kinds of networks for formats that take many seconds for each; the slow test takes all."""


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    return {
        name: FormatSubject(made(), tmp_path_factory.mktemp(name), QUICK.get(name, KINDS))
        for name, made in FORMATS.items()
    }


@pytest.mark.filterwarnings("ignore")  # executorch gives many
@pytest.mark.parametrize("check", [*format_checks()], ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in QUICK else name for name in FORMATS]
)
def test_registered_formats_conform(name, check, subjects):
    try:
        check(subjects[name])
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", QUICK)
def test_slow_formats_conform_with_networks_of_all_kinds(name):
    check_format(FORMATS[name])


class Pickled(Pt2):
    """The module itself, as anyone would write it first."""

    name = "pickled"
    cascades = False
    models = (ModelFile("model.pt", None, ANY_BATCH, 'torch.load("model.pt", weights_only=False)(image)'),)
    example = ("import torch", 'outputs = torch.load("model.pt", weights_only=False)(image)')

    def write(self, network, folder, metadata):
        torch.save(network, folder / "model.pt")

    def load(self, path):
        network = torch.load(path, weights_only=False)

        @torch.no_grad()
        def predict(images):
            outputs, exits = leave(network.logits(torch.from_numpy(images)), network.config.exits)
            return outputs.numpy(), exits.numpy() if network.config.exits else None

        return predict


def broken(**members):
    return type("Broken", (Pickled,), members)()


def elsewhere(self, network, folder, metadata):
    torch.save(network, folder.parent / "model.pt")


def halved(self, network, folder, metadata):
    with torch.no_grad():
        next(network.parameters()).mul_(0.5)
    torch.save(network, folder / "model.pt")


def negative(self, path):
    predict = Pickled.load(self, path)
    return lambda images: (-predict(images)[0], predict(images)[1])


def without_exit(self, path):
    predict = Pickled.load(self, path)
    return lambda images: (predict(images)[0], None)


def double(self, path):
    predict = Pickled.load(self, path)
    return lambda images: (predict(images)[0].astype("float64"), predict(images)[1])


@pytest.mark.parametrize(
    ("format", "message"),
    [
        (broken(), "its example does not run beside its files: ModuleNotFoundError: .*dynnas"),
        (broken(name="my format"), "'my format' is no name for a command line"),
        (broken(name="onnx"), "another format has the name"),
        (broken(models=()), "it has no file that can be run"),
        (broken(models=(ModelFile("a/model.pt", None, "a", "b"),)), "'a/model.pt' is no file name"),
        (broken(write=elsewhere), r"static: not written: \['model.pt'\]"),
        (broken(write=halved), "writing changes a static network or torch's random numbers"),
        (broken(load=negative), "static: model.pt: model.pt does not agree with the network on 6 images"),
        (broken(load=without_exit), "dynamic: model.pt: it does not say by which exit an image leaves"),
        (broken(load=double), "outputs are float64, not float32"),
    ],
)
def test_a_broken_format_is_told_what_is_wrong(format, message):
    with pytest.raises(AssertionError, match=message):
        check_format(format)
