"""The examples of own classes: transformers and hybrids keep the contract, branch for real, and ship."""

import random
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support.scripts import load_script

from dynnas.nn.context import Context, supplied
from dynnas.runtimes.onnx.graph import to_onnx, to_packed_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.moves import largest, sample
from dynnas.testing import check_space

FOLDER = Path(__file__).parents[2] / "docs" / "examples"
SMALL = {"vit": {"size": 8, "patches": (2, 4)}, "levit": {"size": 16}}


@pytest.fixture(scope="module", params=["vit", pytest.param("levit", marks=pytest.mark.slow)])
def example(request: pytest.FixtureRequest) -> ModuleType:
    return load_script(FOLDER / f"{request.param}.py", request.param)


def images(example: ModuleType, count: int) -> torch.Tensor:
    side = SMALL[example.__name__]["size"]
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_it_keeps_the_contract_of_a_space(example: ModuleType) -> None:
    space = example.space_of(**SMALL[example.__name__])
    assert space.size > 200
    checked = check_space(space, images(example, 4), networks=4)
    assert len(checked.architectures) == 4


@pytest.mark.sampled(1)
@pytest.mark.parametrize("export", [to_onnx, to_packed_onnx])
def test_graphs_branch_and_say_what_torch_says(example: ModuleType, export) -> None:
    space = example.space_of(**SMALL[example.__name__])
    rng = random.Random(1)
    with_exit = {"exit": True, "threshold": 0.7}
    drawn = [dict(largest(space)), *(dict(sample(space, rng)) for _ in range(2))]
    for values in drawn:
        torch.manual_seed(0)
        network = space.build(space.architecture(values | with_exit)).train()
        for _ in range(5):
            network(images(example, 16))
        network.eval()
        x = images(example, 8)
        with torch.no_grad(), supplied(network, Context()):
            early, _ = network.body.outputs(_input(network, x))
            network.body.thresholds = (float(network.body.confidence(early).median()) + 1e-4,)
            expected = network(x).numpy()
        with torch.no_grad():
            assert_allclose(network(x).numpy(), expected, rtol=1e-4, atol=1e-4)  # masked equals real
        model = export(PlainNetwork(network, x.shape[1:], 10).eval())
        assert "If" in {node.op_type for node in model.graph.node}
        runner = OnnxRunner(model.SerializeToString(), threads=1)
        found = np.concatenate([runner(image[None].numpy()) for image in x])
        assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def _input(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    hook = network.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(x)
    hook.remove()
    return seen[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_is_searched_and_exported(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main(str(tmp_path / "study"), trials=2, epochs=1)
    printed = capsys.readouterr().out
    assert "model.onnx differs from torch by at most" in printed
    assert (tmp_path / "study" / "knee" / "manifest.json").exists()
