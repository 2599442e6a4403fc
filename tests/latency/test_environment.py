"""The fingerprint: the same for the same machine and target, in every process."""

import json
import subprocess
import sys
from dataclasses import replace

import onnxruntime

from dynnas.latency.environment import clock_policy
from dynnas.latency.fingerprint import environment_fingerprint
from dynnas.settings.settings import TargetSettings

TARGET = TargetSettings()


def test_another_process_finds_the_same():
    code = (
        "import json; from dynnas.latency.fingerprint import environment_fingerprint as find;"
        "from dynnas.settings.settings import TargetSettings; print(json.dumps(find(TargetSettings())))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(found) == environment_fingerprint(TARGET)


def test_what_times_depend_on_changes_the_digest(monkeypatch):
    fingerprints = [
        environment_fingerprint(TARGET),
        environment_fingerprint(replace(TARGET, threads=2)),
        environment_fingerprint(replace(TARGET, runtime="torch")),
        environment_fingerprint(replace(TARGET, runtime="torch", dtype="bfloat16")),
        environment_fingerprint(replace(TARGET, batch=4)),
    ]
    monkeypatch.setattr(onnxruntime, "__version__", "0.0")
    fingerprints.append(environment_fingerprint(TARGET))
    assert len({fingerprint["digest"] for fingerprint in fingerprints}) == 6


def test_what_times_do_not_depend_on_does_not():
    other = replace(TARGET, seconds=9.0, images=3, runtime="onnxruntime")
    assert environment_fingerprint(other) == environment_fingerprint(TARGET)


def test_it_can_be_read():
    fingerprint = environment_fingerprint(TARGET)
    assert fingerprint["runtime"].startswith("onnxruntime ")
    assert int(fingerprint["cores"]) >= 1
    assert len(fingerprint["digest"]) == 12


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_clock_is_as_the_system_says(tmp_path):
    assert clock_policy(tmp_path) == "unknown"
    for core, governor in enumerate(("powersave", "performance")):
        write(tmp_path / f"cpu{core}" / "cpufreq" / "scaling_governor", f"{governor}\n")
    assert clock_policy(tmp_path) == "performance, powersave"
    write(tmp_path / "intel_pstate" / "no_turbo", "1\n")
    assert clock_policy(tmp_path) == "performance, powersave, boost off"
    write(tmp_path / "cpufreq" / "boost", "1\n")
    assert clock_policy(tmp_path) == "performance, powersave, boost on"
