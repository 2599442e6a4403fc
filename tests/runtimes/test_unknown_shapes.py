"""Graphs that branch on values whose sizes only running tells."""

import numpy as np
import pytest
import torch
from onnx import TensorProto
from onnx.helper import make_tensor_value_info

from dynnas.language.parser import parse_space
from dynnas.nn.networks.network import Network
from dynnas.runtimes.compile import compile_network
from dynnas.runtimes.onnx.assembly import renamed
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.settings.settings import TargetSettings
from dynnas.space.moves import largest

FILE = """
input: {channels: 1, classes: 10, resolutions: 8}
stem: {width: 8, stride: 1}
stages:
  - {block: mbconv, depth: 2, width: 8, stride: 2, kernel: 3, expand: 2,
     attention: gather_excite, gate: width, layers: {1: {op: dynet, group: 1, gate: halt}}}
"""


@pytest.mark.parametrize("shape", [None, [], [1, None, 4], [None, 0]])
def test_what_is_unknown_of_a_value_stays_so(shape):
    before, after = (make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("a", "b"))
    assert renamed(before, "b") == after


@torch.no_grad()
def test_a_map_that_is_enlarged_to_a_computed_size_is_branched_on():
    torch.manual_seed(0)
    space = parse_space(FILE)
    network = Network(space.network_config(largest(space), 1, 10)).eval()
    runner = OnnxRunner(compile_network(network, TargetSettings()).data, threads=1)
    images = torch.randn(4, 1, 8, 8)
    answers = np.concatenate([runner(image[None].numpy()) for image in images])
    np.testing.assert_allclose(answers, network(images).numpy(), rtol=1e-3, atol=1e-4)
