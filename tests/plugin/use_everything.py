"""Uses each thing that the installed package `dynnas-mine` adds; `tests/test_outside_package.py` runs it.

It is no test file of its own: registries find the package only where it is installed.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import dynnas
import dynnas.nn as dnn
from dynnas.candidates.candidate import Extractor
from dynnas.data.load import load_data
from dynnas.export.bundle import export_model
from dynnas.export.formats import FORMATS
from dynnas.language.parser import parse_space
from dynnas.language.schema import json_schema
from dynnas.nn.gates.family import GATES
from dynnas.nn.operators import OPERATORS
from dynnas.registry import Registry
from dynnas.runtimes.compile import compile_network, load_artifact
from dynnas.samplers.make import make_sampler
from dynnas.settings.metrics import MEASUREMENTS
from dynnas.settings.registries import RUNTIMES, SAMPLERS
from dynnas.settings.settings import DataSettings, TargetSettings
from dynnas.space.moves import sample
from dynnas.supernet.staged import staged_supernet
from dynnas.tasks import TASKS
from dynnas.testing import (
    check_data,
    check_format,
    check_measurement,
    check_runtime,
    check_sampler,
    check_task,
)
from dynnas.testing.conformance import CHECKS, Case, cases

SPACE = """
name: everything
input: {resolutions: 8}
stem: {width: 8, activation: [relu, slope]}
stages:
  - {width: 8, depth: 2, block: [basic, squared], swell: [1, 2], op: [static, peakconv], peaks: [2, 3],
     attention: [none, spread], attention_share: [0.25, 0.5], activation: [relu, slope],
     activation_slope: [0.1, 0.2], gate: [none, halves]}
head: {width: 8}
data: {source: stripes, task: ordinal}
train: {epochs: 1, batch: 16}
target: {runtime: plain_torch, seconds: 0.02, images: 8}
search: {objectives: [distance, depth], sampler: backwards, trials: 3, controls: false}
"""

OPERATORS_OF_MINE = {
    "block": "squared",
    "op": "peakconv",
    "attention": "spread",
    "activation": "slope",
    "gate": "halves",
}


def mine() -> Iterator[Case]:
    """A case of the conformance suite for each operator of the package."""
    every = [case for case in cases() if hasattr(case.config, "gate")]
    for kind, name in OPERATORS_OF_MINE.items():
        found = [case for case in every if getattr(case.config, kind).name == name]
        assert len(found) >= len(OPERATORS["activation"])  # each pair with another kind of operator
        yield found[0]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", list(dict.fromkeys(mine())), ids=str)
def test_conformance(check: Callable[[Case], None], case: Case) -> None:
    check(case)


def test_all_come_from_the_package() -> None:
    registries: dict[str, Registry] = {
        **{name: OPERATORS[kind] for kind, name in OPERATORS_OF_MINE.items() if kind != "gate"},
        "halves": GATES,
        "backwards": SAMPLERS,
        "plain_torch": RUNTIMES,
        "ordinal": TASKS,
        "depth": MEASUREMENTS,
        "numbers": FORMATS,
    }
    assert {registry.origin(name) for name, registry in registries.items()} == {"dynnas-mine"}


def test_operators_are_words_of_space_files() -> None:
    space = parse_space(SPACE)
    assert space.gene("stage1.1.op").values == ("static", "peakconv")
    assert space.gene("stage1.1.peaks").condition == (("stage1.1.op", ("peakconv",)),)
    stage = json_schema()["properties"]["stages"]["items"]["properties"]
    assert {"peaks", "swell", "attention_share", "activation_slope"} <= set(stage)
    supernet = staged_supernet(space, channels=1, classes=3).train()
    images = torch.randn(4, 1, 8, 8)
    rng = random.Random(0)
    for _ in range(5):
        architecture = sample(space, rng)
        torch.manual_seed(0)  # gates draw in training
        expected = supernet.extract(architecture)(images)
        torch.manual_seed(0)
        torch.testing.assert_close(supernet(architecture, images)[-1], expected, rtol=0, atol=1e-6)


def test_operators_are_layers_of_any_network() -> None:
    layer = dnn.Conv2d(4, 6, 3, op="peakconv", peaks=2)
    assert layer.weight.shape == (2, 6, 4, 3, 3)
    y = dnn.attention("spread", 6, share=0.5)(layer(torch.randn(2, 4, 8, 8)))
    assert torch.equal(dnn.activation("slope", 6, slope=0.2)(y), torch.nn.functional.leaky_relu(y, 0.2))


def test_the_sampler_draws() -> None:
    space = parse_space(SPACE)
    front = dynnas.search(
        parse_space("choices: {a: [1, 2, 3], b: [x, y]}"),
        Evaluator(),
        sampler="backwards",
        trials=6,
        objectives={"loss": "minimize"},
    )
    assert front.members
    assert make_sampler("backwards", space, population=4, seed=0) is not None


class Evaluator:
    """The smaller the better."""

    def evaluate(self, architecture):
        return {"loss": float(architecture["a"])}


def test_data_task_measurement_runtime_and_format_are_used_by_a_search(tmp_path: Path) -> None:
    file = tmp_path / "everything.yaml"
    file.write_text(SPACE)
    front = dynnas.search(dynnas.load_space(file), folder=tmp_path / "study")
    member = front.members[0]
    assert member.metrics["depth"] == 2
    assert 0 <= member.metrics["distance"] <= 2
    dataset = load_data(DataSettings(source="stripes", task="ordinal"))
    assert (dataset.name, dataset.task.name) == ("stripes", "ordinal")
    network = front.study.network(member.key)
    target = TargetSettings(runtime="plain_torch", device="cpu")
    artifact = compile_network(network, target)
    image = np.zeros((1, 1, 8, 8), np.float32)
    expected = network(torch.from_numpy(image)).detach().numpy()
    np.testing.assert_allclose(load_artifact(artifact)(image), expected, atol=1e-6)
    export_model(network, dataset, tmp_path / "bundle", "numbers")
    assert {"weights.npz", "network.json"} <= {path.name for path in (tmp_path / "bundle").iterdir()}


def test_the_data_hold_to_their_contract() -> None:
    check_data("stripes")


def test_the_format_holds_to_its_contract() -> None:
    check_format(FORMATS["numbers"])


def test_the_runtime_holds_to_its_contract() -> None:
    check_runtime(RUNTIMES["plain_torch"]())


def test_the_sampler_holds_to_its_contract() -> None:
    check_sampler("backwards")


def test_the_task_holds_to_its_contract() -> None:
    check_task(TASKS["ordinal"](), torch.arange(24) % 4)


def test_the_measurement_holds_to_its_contract() -> None:
    space = parse_space(SPACE)
    supernet = staged_supernet(space, channels=1, classes=3).eval()
    dataset = load_data(space.settings.data)
    extractor = Extractor(supernet, dataset, space.settings.train, space.settings.target)
    candidate = extractor.candidate(sample(space, random.Random(0)))
    check_measurement(MEASUREMENTS["depth"](), candidate)
