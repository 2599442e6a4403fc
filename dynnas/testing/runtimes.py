"""The conformance suite of runtimes: `check_runtime` over any subclass of `Runtime`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dynnas.errors import TargetError
from dynnas.language.parser import parse_space
from dynnas.nn.exits.exits import sureness_at
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.networks.network import Network
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.plain import Compilable, as_compilable
from dynnas.runtimes.runtime import Runtime
from dynnas.settings.settings import TargetSettings
from dynnas.space.moves import largest
from dynnas.testing.conformance import lively

M = TypeVar("M", bound=nn.Module)

TOLERANCES = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
"""Allowed difference from torch in float32, relative to max(1, largest |output|)."""

INT8_TOLERANCE = 0.2
"""The same of a network in int8."""

SHAPE = 3, 12, 12
IMAGES = 6

_SPACE = """
input: {channels: 3, classes: 5, resolutions: 12}
stem: {width: 8}
stages:
  - {block: mbconv, depth: 2, width: 8, expand: 2OP}
  - {block: conv, depth: 1, width: 16, stride: 2}
head: {width: 16}
"""
_DYNAMIC = ", op: condconv, experts: 2"
_EXITS = "exits: {positions: [stage1], count: 1, thresholds: 0.5, width: 8}"


def check_runtime(runtime: Runtime, device: str = "cpu", dtype: str = "float32") -> None:
    """Check everything that timing, devices elsewhere and export rely on.

    Args:
        runtime: installed here. device, dtype: one of its `dtypes`.

    Raises:
        AssertionError: the runtime breaks the contract; says how.
    """
    for check in runtime_checks():
        check(runtime, TargetSettings(device=device, runtime=runtime.name, dtype=dtype))


def runtime_checks() -> Iterator[Callable[[Runtime, TargetSettings], None]]:
    """Yield the checks one by one, for parametrised tests."""
    yield check_facts
    yield check_answers
    yield check_travel
    yield check_batches
    yield check_that_the_network_is_left_alone
    yield check_that_outputs_stay
    yield check_int8


def check_facts(runtime: Runtime, target: TargetSettings) -> None:
    """Check that the runtime states what it serves, and refuses the rest."""
    name = runtime.name
    assert name.isidentifier(), f"{name!r} is no name for a space file"
    assert target.device in runtime.dtypes, f"{name} does not serve {target.device}"
    unknown = {dtype for dtypes in runtime.dtypes.values() for dtype in dtypes} - {*TOLERANCES}
    assert not unknown, f"{name}: no dtypes of dynnas: {unknown}"
    assert runtime.can_run(target.device), f"{name} says that it cannot run here; install {runtime.package}"
    assert name in runtime.version(), f"{name}: its version does not begin with its name"
    runtime.check(target.device, target.dtype)


def check_answers(runtime: Runtime, target: TargetSettings) -> None:
    """Check that networks of all kinds give torch's answers, one image at a time."""
    for kind, network in networks():
        images = decided_images(network)
        runner = runtime.load(runtime.compile(network, target))
        for image in images.split(1):
            _compare(runtime, kind, runner(image.numpy()), network, image, target.dtype)


def check_batches(runtime: Runtime, target: TargetSettings) -> None:
    """Check that several images in a call are answered as each alone would be."""
    for kind, network in networks():
        images = decided_images(network)
        runner = runtime.load(runtime.compile(network, replace(target, batch=len(images))))
        _compare(runtime, f"{kind}, in a batch", runner(images.numpy()), network, images, target.dtype)


def check_travel(runtime: Runtime, target: TargetSettings) -> None:
    """Check that an artifact read from its bytes answers as the one that was compiled."""
    for kind, network in networks():
        image = decided_images(network)[:1]
        artifact = runtime.compile(network, target)
        assert artifact.runtime == runtime.name, f"{runtime.name}: an artifact for {artifact.runtime!r}"
        said = (artifact.device, artifact.dtype, artifact.batch)
        assert said == (target.device, target.dtype, target.batch), (
            f"{runtime.name}: its artifact says {said}"
        )
        assert artifact.metadata.get("shape") == " ".join(map(str, SHAPE)), f"{runtime.name}: no shape said"
        runner = runtime.load(Artifact.from_bytes(artifact.to_bytes()))
        _compare(runtime, f"{kind}, sent", runner(image.numpy()), network, image, target.dtype)


def check_that_the_network_is_left_alone(runtime: Runtime, target: TargetSettings) -> None:
    """Check that compiling changes neither the network nor torch's random numbers and threads."""
    for kind, network in networks():
        before = _state(network)
        runtime.load(runtime.compile(network, target))
        assert _state(network) == before, (
            f"{runtime.name}: compiling changes a {kind} network or torch's state"
        )


def check_that_outputs_stay(runtime: Runtime, target: TargetSettings) -> None:
    """Check that a call does not change what an earlier one returned, and returns float32."""
    _, network = next(networks())
    first, second = decided_images(network)[:2].split(1)
    runner = runtime.load(runtime.compile(network, target))
    found = runner(first.numpy())
    kept = found.copy()
    runner(second.numpy())
    assert found.dtype == np.float32, f"{runtime.name}: outputs are {found.dtype}, not float32"
    assert np.array_equal(found, kept), f"{runtime.name}: a call changes the output of the one before"


def check_int8(runtime: Runtime, target: TargetSettings) -> None:
    """Check that networks in int8 give nearly torch's answers, or that the runtime refuses to quantise."""
    _, network = next(networks())
    images = decided_images(network)
    if "int8" not in runtime.quantizations or target.dtype != "float32":
        try:
            runtime.quantize(network, target, images)
        except TargetError:
            return
        assert "int8" in runtime.quantizations, f"{runtime.name}: it quantises and does not say so"
        return
    artifact = runtime.quantize(network, target, images)
    assert artifact.quantized == "int8", f"{runtime.name}: its artifact does not say that it is in int8"
    runner = runtime.load(Artifact.from_bytes(artifact.to_bytes()))
    with torch.no_grad():
        expected = network(images).numpy()
    found = np.concatenate([runner(image.numpy()) for image in images.split(1)])
    allowed = INT8_TOLERANCE * max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(found - expected).max())
    assert difference <= allowed, (
        f"{runtime.name}: in int8 outputs differ by {difference:.2g} from torch's, allowed is {allowed:.2g}"
    )


def networks() -> Iterator[tuple[str, Compilable]]:
    """Yield a module of any class, a static network, and one with mixed kernels and an early exit."""
    yield "plain", as_compilable(_made(lambda: _Plain().eval()), SHAPE)
    yield "static", _made(lambda: _staged(_SPACE.replace("OP", "")))
    yield "dynamic", _made(lambda: _staged(_SPACE.replace("OP", _DYNAMIC) + _EXITS))


@torch.no_grad()
def decided_images(network: Compilable) -> Tensor:
    """Return images (IMAGES, *SHAPE) that leave the network by exits far from their thresholds."""
    images = torch.randn(16 * IMAGES, *SHAPE, generator=torch.Generator().manual_seed(0))
    distance = torch.ones(len(images))
    for place, output in zip(network.config.exits, network.logits(images), strict=False):
        distance = distance.minimum((sureness_at(place, output) - place.threshold).abs())
    return images[distance.argsort(descending=True)[:IMAGES]]


class _Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


def _made(make: Callable[[], M]) -> M:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make()
        lively(network)
    return network


@torch.no_grad()
def _staged(text: str) -> Network:
    space = parse_space(text)
    return Network(space.network_config(largest(space), 3, 5)).eval()


def _state(network: nn.Module) -> tuple[str, bool, int, bytes]:
    random = torch.get_rng_state().numpy().tobytes()
    return weights_digest(network), network.training, torch.get_num_threads(), random


@torch.no_grad()
def _compare(
    runtime: Runtime, kind: str, found: np.ndarray, network: Compilable, images: Tensor, dtype: str
) -> None:
    expected = network(images).numpy()
    assert found.shape == expected.shape, (
        f"{runtime.name}: {kind}: outputs {found.shape}, not {expected.shape}"
    )
    allowed = TOLERANCES[dtype] * max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(found - expected).max())
    assert difference <= allowed, (
        f"{runtime.name}: {kind}: outputs differ by {difference:.2g} from torch's, allowed is {allowed:.2g}"
    )
