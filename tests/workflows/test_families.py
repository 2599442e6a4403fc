"""A short search really runs on the space of every family of blocks, and on that of all that is dynamic."""

from dataclasses import replace
from pathlib import Path

import pytest

from dynnas.language.parser import load_space
from dynnas.nn.gates.family import GATES
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS, BLOCKS
from dynnas.space.architecture import Value
from dynnas.workflows.run import run_study

SPACES = Path(__file__).parents[2] / "spaces"
FAMILIES = ("resnet", "shuffle", "compact", "dynamic", "policy", "resolution", "glance")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_short_search_runs(name: str, tmp_path: Path) -> None:
    space = load_space(SPACES / f"{name}.yaml")
    settings = space.settings
    settings = replace(
        settings,
        data=replace(settings.data, train_images=512, search_images=128),
        train=replace(settings.train, epochs=4, precision="float32", layout="channels_first"),
        search=replace(settings.search, trials=6, population=4, controls=False),
        target=replace(settings.target, seconds=0.02),
    )
    study = run_study(replace(space, settings=settings), folder=tmp_path / "studies" / name)
    assert len(study.candidates) == 6
    best = study.front.pick("most-accurate")
    assert best.metrics["accuracy"] > 0.2
    assert best.metrics["latency_ms"] > 0
    for candidate in study.candidates:
        config = space.network_config(candidate.architecture)
        gated = config.gated
        shares = [name for name in candidate.metrics if name.startswith("gate_share.")]
        assert {name.split(".", 1)[1].rsplit(".", 1)[0] for name in shares if gated} >= {
            slot for slot, block in gated if block.gate.name == "channels"
        }
        assert bool(shares) == config.decides == ("policies" in candidate.metrics)


def test_every_operator_is_in_a_space_that_is_searched() -> None:
    found: set[Value] = set()
    for name in FAMILIES:
        for gene in load_space(SPACES / f"{name}.yaml").genes:
            found.update(gene.values)
    missing = {*BLOCKS, *KERNELS, *ATTENTIONS, *ACTIVATIONS, *GATES, "none"} - found
    assert missing == {"conv", "sign", "relu6", "hswish", "silu"}  # those are in the other spaces
