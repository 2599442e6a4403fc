"""Every network of a space runs in its supernet, also where blocks have other weights for other shapes."""

import pytest
import torch

from dynnas.language.parser import parse_space
from dynnas.nn.layers.resize import resize
from dynnas.nn.registry import BLOCKS
from dynnas.space.moves import enumerate_all
from dynnas.supernet.staged import staged_supernet


@pytest.mark.parametrize("block", BLOCKS)
def test_every_width_and_stride_of_a_block_runs(block: str) -> None:
    space = parse_space(
        f"""
        input: {{channels: 1, classes: 3, resolutions: 12}}
        stem: {{width: [4, 12], stride: 2}}
        stages: [{{block: {block}, depth: 2, width: [4, 12], stride: [1, 2]}}]
        """
    )
    supernet = staged_supernet(space, channels=1, classes=3).train()
    images = torch.randn(2, 1, 12, 12)
    for architecture in enumerate_all(space):
        (logits,) = supernet(architecture, images)
        assert torch.equal(logits, supernet.extract(architecture)(images)), dict(architecture)


def test_stems_of_every_kernel_and_stride_run() -> None:
    space = parse_space(
        """
        input: {channels: 3, classes: 3, resolutions: [12, 16]}
        stem: {width: [4, 6], kernel: [3, 5, 7], stride: [1, 2, 4]}
        stages: [{block: conv, width: 4, stride: 2}]
        """
    )
    supernet = staged_supernet(space, channels=3, classes=3).train()
    images = torch.randn(2, 3, 16, 16)
    for architecture in enumerate_all(space):
        (logits,) = supernet(architecture, images)
        resized = resize(images, int(architecture["resolution"]))
        assert torch.equal(logits, supernet.extract(architecture)(resized)), dict(architecture)
