"""The conformance suite of runtimes: the built-in ones pass, an outside one does, and broken ones do not."""

import pytest
import torch

from dynnas.language.parser import parse_space
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.backends.torch import Torch
from dynnas.runtimes.runtime import get_runtime, offered_runtimes, register_runtime
from dynnas.settings.registries import RUNTIMES
from dynnas.settings.settings import TargetSettings
from dynnas.testing.runtimes import SHAPE, check_runtime, runtime_checks

SLOW = ("ncnn", "torch_compile")  # the latter is left out: it takes minutes
BUILT_IN = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in offered_runtimes("cpu")
    if name != "torch_compile"
]


@pytest.mark.parametrize("check", [*runtime_checks()], ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_runtimes_conform(name, check):
    check(get_runtime(name), TargetSettings(runtime=name))


class Mine(Torch):
    """As anyone would add one, over what another runtime compiles."""

    name = "mine"


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(RUNTIMES, "_entries", {**RUNTIMES})
    return register_runtime(Mine)


def test_an_outside_runtime_is_used_by_name(registered):
    check_runtime(Mine())
    target = TargetSettings(runtime="mine", seconds=0.05)
    parse = "input: {resolutions: 8}\nstem: {width: 4}\nstages: [{width: 8}]\ntarget: {runtime: mine}\n"
    assert parse_space(parse).settings.target.runtime == "mine"
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(400, 5)
    ).eval()
    workload = Workload(build_runner(network, target, SHAPE), [torch.zeros(1, *SHAPE).numpy()])
    assert LatencyMeter(target, [workload]).measure(workload).latency_ms > 0


def broken(**methods):
    return type("Broken", (Torch,), {"name": "torch", **methods})()


def wrong(self, artifact, threads=1):
    made = Torch.load(self, artifact, threads)
    return lambda image: made(image) + 1


def in_place(self, artifact, threads=1):
    made, buffer = Torch.load(self, artifact, threads), []

    def run(image):
        buffer[:] = buffer or [made(image)]
        buffer[0][:] = made(image)
        return buffer[0]

    return run


def forgetful(self, network, target):
    artifact = Torch.compile(self, network, target)
    return Artifact(artifact.files, artifact.entry, artifact.media_type, self.name, {}, artifact.live)


def careless(self, network, target):
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    return Torch.compile(self, network, target)


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        (broken(load=wrong), "outputs differ by 1 from torch's"),
        (broken(load=in_place), "a call changes the output of the one before"),
        (broken(compile=forgetful), "torch: no shape said"),
        (broken(compile=careless), "outputs differ|compiling changes a plain network"),
        (broken(name="my runtime"), "'my runtime' is no name for a space file"),
        (broken(dtypes={"cpu": ("float32", "int4")}), "no dtypes of dynnas: .'int4'"),
        (broken(package="not_installed_here"), "says that it cannot run here; install not_installed_here"),
    ],
)
def test_a_broken_runtime_is_told_what_is_wrong(runtime, message):
    with pytest.raises(AssertionError, match=message):
        check_runtime(runtime)
