"""Timing on a device in another process, which has nothing but numpy and ONNX Runtime."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import astuple, replace

import numpy as np
import pytest
from support.networks import config, finished, images
from support.served import ROOT, TOKEN, Served, served
from support.small_study import SPACE

from dynnas.errors import StudyError, TargetError
from dynnas.language.parser import parse_space
from dynnas.latency.anchors import build_anchors
from dynnas.latency.fingerprint import environment_fingerprint
from dynnas.latency.latency import AnchorReference
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.remote.client import Device
from dynnas.latency.remote.timer import RemoteTimer, resolve_target
from dynnas.latency.rounds import TimingPlan, Workload
from dynnas.latency.runner import build_runner
from dynnas.latency.throttling import clock_state
from dynnas.settings.settings import TargetSettings

PLAN = TimingPlan(seconds=0.05)


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("DYNNAS_TOKEN", TOKEN)


@pytest.fixture(scope="module")
def server():
    with served() as server:
        yield server


@pytest.fixture
def target(server):
    return TargetSettings(device=server.address, runtime="onnxruntime", seconds=0.05)


def anchors_for(target):
    return build_anchors(parse_space(SPACE), target, 1, 10)


def workload(target, network=None, count=1):
    network = network or finished(config(op="condconv", width=3))
    return Workload(build_runner(network, target), list(images(count)[:, None].numpy()))


def test_a_device_without_torch_times_and_offers_what_it_has(server, target):
    assert server.offered == ["onnxruntime", "onnxruntime_portable"]
    network = finished(config(op="condconv", exits=1))
    everyone = [workload(target, network, count=5), workload(target)]
    anchors = anchors_for(target)
    timer = RemoteTimer(target)
    times = timer(everyone, anchors, PLAN)
    assert times.shape[0] == 4
    assert times.shape[1] >= 20
    assert (times > 0).all()
    assert timer.peak_memory_mib(everyone)[0] > 0
    (energy,) = timer.energy(everyone[:1], 0.0)
    assert (energy.energy_mj is None) == bool(energy.reason)
    here, there = clock_state(), timer.clock()  # the same machine
    for known, told in zip(astuple(here), astuple(there), strict=True):
        assert (known is None) == (told is None)
    timer.close()


def test_a_meter_measures_there(target):
    meter = LatencyMeter(target, anchors_for(target))
    latency = meter.measure(workload(target))
    assert latency.latency_ms > 0
    assert latency.environment == meter.reference.environment == environment_fingerprint(target)["digest"]


def test_networks_and_images_are_sent_once(target, monkeypatch):
    sent, real = [], Device._put
    monkeypatch.setattr(Device, "_put", lambda device, data: sent.append(data) or real(device, data))
    timer, timed = RemoteTimer(target), workload(target, finished(config(op="dynet"), seed=5))
    anchors = anchors_for(target)
    timer([timed], anchors, PLAN)
    first = len(sent)
    timer([timed], anchors, PLAN)
    RemoteTimer(target)([timed], anchors, PLAN)
    assert 0 < first == len(sent)
    assert len(set(sent)) == len(sent)


def test_auto_is_what_the_device_offers(server):
    target = TargetSettings(device=server.address)
    assert resolve_target(target).runtime == "onnxruntime"
    assert resolve_target(TargetSettings()).runtime == "auto"
    with pytest.raises(TargetError, match="only known to who asked it"):
        build_runner(finished(config()), target)


def test_a_runtime_that_the_device_lacks_is_refused(server):
    with pytest.raises(
        TargetError, match="has no runtime torch; it offers onnxruntime, onnxruntime_portable"
    ):
        resolve_target(TargetSettings(device=server.address, runtime="torch"))


def lay_out_otherwise(monkeypatch):
    """As if the device's processor laid kernels out in another way: packed graphs give nonsense there."""
    real = Device.ask_with

    def ask_with(device, header, parts, seconds=60.0):
        reply, arrays = real(device, header, parts, seconds)
        if header["runtime"] == "onnxruntime":
            arrays = {name: array[..., ::-1] if "answer" in name else array for name, array in arrays.items()}
        return reply, arrays

    monkeypatch.setattr(Device, "ask_with", ask_with)


def test_nonsense_of_another_processor_is_found_out(target, monkeypatch):
    lay_out_otherwise(monkeypatch)
    with pytest.raises(TargetError, match=r"packed for processors like this machine's.*onnxruntime_portable"):
        RemoteTimer(target)([workload(target)], (), PLAN)
    assert resolve_target(replace(target, runtime="auto")).runtime == "onnxruntime_portable"


def test_a_damaged_network_is_a_clear_error(target):
    timed = workload(target)
    timed.runner.artifact = replace(timed.runner.artifact, files={"model.onnx": b"no graph"})
    with pytest.raises(TargetError, match="protobuf parsing failed"):
        RemoteTimer(target)([timed], (), PLAN)


def test_another_token_and_none(server, monkeypatch, tmp_path):
    target = TargetSettings(device=server.address)
    monkeypatch.setenv("DYNNAS_TOKEN", "some other token of mine")
    with pytest.raises(TargetError, match="the device has another token"):
        environment_fingerprint(target)
    monkeypatch.delenv("DYNNAS_TOKEN")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(TargetError, match=r"no token; `dynnas serve` shows one .*\$DYNNAS_TOKEN"):
        environment_fingerprint(target)


def test_a_device_with_torch_alone_builds_the_network():
    absent = {
        "onnxruntime",
        "onnx",
        "yaml",
        "typer",
        "optuna",
        "sklearn",
        "openvino",
        "sqlalchemy",
        "PIL",
        "scipy",
    }
    network = finished(config(op="dyconv", exits=1, attention="se"))
    with served(absent=absent) as server:
        target = TargetSettings(device=server.address, runtime="torch")
        assert server.offered[0] == "torch"
        times = RemoteTimer(target)([workload(target, network, 3)], anchors_for(target), PLAN)
        batch = replace(target, batch=4, dtype="bfloat16")
        four = Workload(build_runner(network, batch), [images(4).numpy()])
        assert RemoteTimer(batch)([four], (), PLAN).shape[0] == 1
        assert environment_fingerprint(batch)["dtype"] == "bfloat16"
    assert times.shape[0] == 3


def test_the_environment_is_the_devices_and_is_not_mixed(server, target, tmp_path):
    with served(PYTHONHASHSEED="0") as other:
        fingerprint = environment_fingerprint(target)
        assert environment_fingerprint(replace(target, device=other.address)) == fingerprint
    meter = LatencyMeter(target, anchors_for(target))
    meter.reference.save(tmp_path / "anchors.json")
    assert AnchorReference.load(tmp_path / "anchors.json", target) == meter.reference
    with pytest.raises(StudyError, match="measured in environment"):
        AnchorReference.load(tmp_path / "anchors.json", replace(target, threads=2))


def test_a_killed_server_that_comes_back_goes_on():
    server = Served()
    target = TargetSettings(device=server.address, runtime="onnxruntime_portable")
    timer, timed, anchors = RemoteTimer(target), workload(target), anchors_for(target)
    timer([timed], anchors, PLAN)
    found = []
    long = threading.Thread(target=lambda: found.append(timer([timed], anchors, TimingPlan(seconds=3.0))))
    long.start()
    long.join(1.0)
    server.kill()
    again = Served(port=server.port)
    try:
        long.join(60)
        assert found[0].shape[0] == 3
    finally:
        again.kill()


def search(folder, address, *options, **variables):
    space = folder / "small.yaml"
    space.write_text(
        SPACE.replace(
            "{seconds: 0.02, images: 8}", f'{{seconds: 0.02, images: 8, device: "{address}"}}'
        ).replace("{trials: 10, population: 4}", "{trials: 6, population: 4, controls: false}")
    )
    command = [
        sys.executable,
        "-m",
        "dynnas",
        "search",
        str(space),
        "--studies",
        str(folder),
        "--quiet",
        *options,
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_search_with_a_device_elsewhere_that_is_killed_in_the_middle(tmp_path):
    server = Served()
    searching = search(tmp_path, server.address)
    front = tmp_path / "small" / "front.json"
    try:
        anchors = tmp_path / "small" / "anchors.json"
        while not anchors.exists():
            assert searching.poll() is None, searching.communicate()
        server.kill()
        server = Served(port=server.port)
        _, errors = searching.communicate(timeout=250)
        assert searching.returncode == 0, errors
    finally:
        searching.kill()
        server.kill()
    members = json.loads(front.read_text())["members"]
    assert all(member["latency_ms"]["mean"] > 0 for member in members)
    reference = json.loads((tmp_path / "small" / "anchors.json").read_text())
    assert set(reference) == {"dynnas_anchors", "anchor_ms", "environment"}


@pytest.mark.slow
def test_a_search_whose_device_cannot_be_reached_ends_with_one_message(tmp_path):
    searching = search(tmp_path, "tcp://127.0.0.1:9")
    _, errors = searching.communicate(timeout=200)
    assert searching.returncode == 2
    assert "dynnas: target: device tcp://127.0.0.1:9 cannot be reached" in errors
    assert errors.strip().count("\n") == 0
    assert np.all([not path.name.startswith("front") for path in (tmp_path / "small").iterdir()])
