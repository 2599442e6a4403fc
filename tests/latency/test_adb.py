"""A device over adb: what is sent, what is run there, and what is made of its answers."""

import math
import os
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.networks import config, finished, images
from support.small_study import SPACE

from dynnas.errors import TargetError
from dynnas.language.parser import parse_space
from dynnas.latency.anchors import build_anchors
from dynnas.latency.fingerprint import environment_fingerprint
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.remote.adb import LEAST_ROUNDS, AdbDevice, AdbTimer
from dynnas.latency.remote.timer import clock_of, resolve_target
from dynnas.latency.resources import call_energies, peak_memories_mib, placements
from dynnas.latency.rounds import TimingPlan, Workload
from dynnas.latency.runner import build_runner
from dynnas.latency.throttling import ClockState
from dynnas.settings.settings import ADDRESS, TargetSettings

ADB = """#!/bin/sh
echo "$@" >> {log}
if [ "$1" = -s ]; then
  if [ "$2" != phone ]; then echo "adb: device '$2' not found" >&2; exit 1; fi
  shift 2
fi
if [ -s {gone} ]; then sed -i 1d {gone}; echo "error: device offline" >&2; exit 1; fi
case "$1" in
  push) cp -r "$2" "$3" && echo "1 file pushed" ;;
  shell) shift; exec sh -c "$*" ;;
esac
"""
GETPROP = """#!/bin/sh
case "$1" in
  ro.product.model) echo Pixel 8 ;;
  ro.soc.model) echo Tensor G3 ;;
  ro.build.version.release) echo 15 ;;
  *) echo arm64-v8a ;;
esac
"""
# A nanosecond a byte of the graph. The lines are those that the program prints with -s.
PERF_TEST = """#!/bin/sh
for model; do :; done
size=$(wc -c < "$model")
seconds=$(awk "BEGIN {{ printf \\"%.9f\\", $size * 1e-9 }}")
echo "$@" >> {log}
echo "Setting intra_op_num_threads to 1
Session creation time cost: 0.217932 s
First inference time cost: 196 ms
Total inference requests: 20
Average inference time cost: 98.961997 ms
Peak working set size: 271122432 bytes
Min Latency: 0.0958204 s
Max Latency: 0.101519 s
P50 Latency: $seconds s
P90 Latency: 0.101519 s"
"""


def script(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class Phone:
    """A folder that `adb` finds as the device `phone`."""

    def __init__(self, folder):
        self.folder, self.log, self.runs = folder / "tmp", folder / "adb.log", folder / "runs.log"
        self.gone = folder / "gone"
        tools = folder / "tools"
        for each in (self.folder, tools):
            each.mkdir()
        script(tools / "adb", ADB.format(log=self.log, gone=self.gone))
        script(tools / "getprop", GETPROP)
        script(self.folder / "perf_test", PERF_TEST.format(log=self.runs))
        self.path = f"{tools}{os.pathsep}{os.environ['PATH']}"

    @property
    def target(self):
        address = f"adb://phone{self.folder}/perf_test"
        return TargetSettings(device=address, runtime="onnxruntime_portable", seconds=0.0)


@pytest.fixture
def phone(tmp_path, monkeypatch):
    made = Phone(tmp_path)
    monkeypatch.setenv("PATH", made.path)
    return made


def workload(target, network, count=1):
    return Workload(build_runner(network, target), list(images(count)[:, None].numpy()))


def test_networks_are_timed_there_as_multiples_of_the_anchors(phone):
    target = resolve_target(phone.target)
    anchors = build_anchors(parse_space(SPACE), target, 1, 10)
    made = workload(target, finished(config(op="condconv", width=3)))
    meter = LatencyMeter(target, anchors)
    latency = meter.measure(made)
    size, *others = (len(each.runner.artifact.data) for each in (made, *anchors))
    assert latency.ratio == pytest.approx(size / math.sqrt(math.prod(others)), rel=1e-3)
    assert latency.latency_ms == pytest.approx(size * 1e-6, rel=1e-3)
    assert latency.rounds == LEAST_ROUNDS
    assert latency.environment == environment_fingerprint(target)["digest"]
    sent = [line for line in phone.log.read_text().splitlines() if " push " in line]
    assert len(sent) == 3  # two anchors and a network, each once
    assert len(list((phone.folder / "dynnas").iterdir())) == 2  # the anchors stay there
    words = phone.runs.read_text().splitlines()[0].split()
    assert words[:-1] == ["-e", "cpu", "-m", "times", "-r", "20", "-x", "1", "-y", "1", "-s"]
    assert words[-1].endswith("/0/model.onnx")


def test_every_input_is_sent_and_run_in_turn(phone):
    made = workload(phone.target, finished(config(exits=1)), count=6)
    AdbTimer(phone.target)([], [made], TimingPlan(seconds=0.0))
    (folder,) = (phone.folder / "dynnas").iterdir()
    for number, image in enumerate(made.images):
        stored = onnx.TensorProto.FromString(
            (folder / str(number) / "test_data_set_0" / "input_0.pb").read_bytes()
        )
        assert stored.name == "image"
        assert np.array_equal(numpy_helper.to_array(stored), image)
        assert (folder / str(number) / "model.onnx").read_bytes() == made.runner.artifact.data
    ran = [line.split("/")[-2] for line in phone.runs.read_text().splitlines()]
    assert ran == [str(number) for number in range(6)] * 2


def test_the_environment_is_what_the_device_says(phone):
    found = environment_fingerprint(phone.target)
    assert found["processor"] == "Pixel 8 Tensor G3"
    assert found["system"] == "Android 15 arm64-v8a"
    assert found["runtime"].startswith("onnxruntime_portable, onnxruntime_perf_test ")
    script(phone.folder / "perf_test", "#!/bin/sh\n# another build\n")
    assert environment_fingerprint(phone.target)["digest"] != found["digest"]


def test_clocks_and_temperatures_are_read_there(phone):
    tools = phone.path.partition(os.pathsep)[0]
    lines = (
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq:1800000",
        "/sys/devices/system/cpu/cpu7/cpufreq/scaling_cur_freq:3000000",
        "/sys/class/thermal/thermal_zone0/temp:-2000",
        "/sys/class/thermal/thermal_zone1/temp:41500",
    )
    script(Path(tools, "grep"), "#!/bin/sh\n" + "".join(f"echo {line}\n" for line in lines))
    assert clock_of(phone.target) == ClockState(2400.0, 41.5, None)
    script(Path(tools, "grep"), "#!/bin/sh\nexit 2\n")  # nothing may be read
    assert clock_of(phone.target) == ClockState(None, None, None)


def test_what_the_program_does_not_tell_is_said(phone):
    network = finished(config())
    made = workload(phone.target, network)
    (energy,) = call_energies([made], phone.target)
    assert (energy.energy_mj, energy.reason) == (None, "onnxruntime_perf_test does not measure energy")
    with pytest.raises(TargetError, match="does not tell the memory of a network"):
        peak_memories_mib([network], [made.images[0]], phone.target)
    assert placements([made], phone.target) == [None]


def test_a_device_that_comes_back_is_waited_for(phone):
    slept = []
    device = AdbDevice(phone.target.device, slept.append)
    phone.gone.write_text("1\n1\n")
    assert device.shell("echo there") == "there\n"
    assert slept == [1.0, 2.0]
    phone.gone.write_text("1\n" * 9)
    with pytest.raises(TargetError, match=r"adb://phone.*: error: device offline; see `adb devices`"):
        device.shell("echo there")
    assert sum(slept) == 34.0
    with pytest.raises(TargetError, match="device 'other' not found; see `adb devices`"):
        AdbDevice("adb://other/tmp/perf_test", slept.append).shell("true")


def test_a_command_that_fails_is_no_lost_device(phone):
    device = AdbDevice(phone.target.device, lambda seconds: pytest.fail("it waited"))
    with pytest.raises(TargetError, match=r"no closed door; tried: adb -s phone shell"):
        device.shell("echo no closed door >&2; exit 3")


@pytest.mark.parametrize(
    "printed", ["", "P50 Latency: 0 s", "P50 Latency: nan s", "P50 Latency: 1e9 s", "P50 Latency: 1e s"]
)
def test_what_is_no_time_loses_a_trial(phone, printed):
    script(phone.folder / "perf_test", f"#!/bin/sh\necho '{printed}'\n")
    made = workload(phone.target, finished(config()))
    with pytest.raises(TargetError, match="printed no median of its runs"):
        AdbTimer(phone.target)([made], [], TimingPlan(seconds=0.0))


def test_without_adb_the_message_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="no adb is installed here; install Android's platform tools"):
        AdbDevice("adb://phone/tmp/perf_test").shell("true")


def test_runtimes_are_those_that_the_program_has():
    target = TargetSettings(device="adb://phone/tmp/perf_test")
    assert resolve_target(target).runtime == "onnxruntime_portable"
    nnapi = TargetSettings(device=target.device, runtime="onnxruntime_nnapi")
    assert resolve_target(nnapi) == nnapi
    for wrong in (
        TargetSettings(device=target.device, runtime="torch"),
        TargetSettings(device=target.device, dtype="float16"),
    ):
        with pytest.raises(TargetError, match="timed by onnxruntime_perf_test, not with runtime"):
            resolve_target(wrong)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("adb://R58M12/data/local/tmp/onnxruntime_perf_test", True),
        ("adb://192.168.1.5:5555/data/local/tmp/perf", True),
        ("adb:///data/local/tmp/perf", True),
        ("adb://R58M12", False),
        ("adb://R58 M12/data/perf", False),
        ("adb://-s/data/$(reboot)", False),
    ],
)
def test_addresses(address, allowed):
    assert ADDRESS.matches(address) is allowed
    if allowed:
        assert AdbDevice(address).program.startswith("/data")
    else:
        with pytest.raises(TargetError, match="allowed is adb://SERIAL/path/of/onnxruntime_perf_test"):
            AdbDevice(address)
