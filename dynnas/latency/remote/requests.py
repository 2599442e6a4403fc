"""The requests that a client may send to a device."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from dynnas.errors import DynnasError, TargetError
from dynnas.latency.energy import measure_energy
from dynnas.latency.environment import RunConfig, device_environment
from dynnas.latency.lock import device_lock
from dynnas.latency.remote.blob_cache import BlobCache
from dynnas.latency.remote.memory import peak_memory_mib
from dynnas.latency.rounds import TimingPlan, Workload, time_rounds
from dynnas.latency.throttling import clock_state
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.compile import load_artifact
from dynnas.runtimes.document import read_document
from dynnas.runtimes.onnx.placement import placement_report
from dynnas.runtimes.runtime import get_runtime, offered_runtimes
from dynnas.settings.registries import RUNTIMES

Arrays = Mapping[str, np.ndarray]
Run = Callable[[np.ndarray], np.ndarray]
Reply = tuple[dict[str, Any], dict[str, np.ndarray]]

LOADED = 16
"""Number of networks that stay ready to run."""

MOST_SECONDS = 3600.0
MAX_WORKLOADS = 1000
MOST_THREADS = 1024


class RequestError(DynnasError):
    """Raised for a request that makes no sense."""


class RequestHandler:
    """Answers the requests of all clients of a device, timing one at a time.

    Args:
        device: `cpu` or `cuda`.
        store: what clients have sent.
        most: bytes that a message may have.
        lock_folder: see `device_lock`.
    """

    def __init__(self, device: str, store: BlobCache, most: int, lock_folder: Path | None = None) -> None:
        self._device, self._store, self._most, self._lock_folder = device, store, most, lock_folder
        # Only used by the request that holds the device's lock.
        self._loaded: OrderedDict[tuple[str, RunConfig], Run] = OrderedDict()

    def answer(self, header: Mapping[str, Any], arrays: Arrays, waiting: Callable[[], None]) -> Reply:
        """Return the answer to a request; `waiting` is called now and then while another client is timed.

        Raises:
            DynnasError: the request makes no sense, or cannot be met here.
            Exception: whatever a runtime says of a damaged network.
        """
        match header.get("ask"):
            case "offers":
                return {"runtimes": offered_runtimes(self._device), "most": self._most}, {}
            case "environment":
                return {"environment": self._environment(_run_config(header))}, {}
            case "clock":
                return {"clock": asdict(clock_state())}, {}
            case "put":
                return {"digest": self._store.put(_array(arrays, "data", "uint8").tobytes())}, {}
            case "time" | "memory" | "energy" | "placement" as what:
                return self._measure(what, header, waiting)
            case other:
                raise RequestError(f"a device is not asked for {other!r}")

    def _environment(self, config: RunConfig) -> dict[str, str]:
        environment = device_environment(config, self._device)
        if self._device == "cuda":
            from dynnas.runtimes.torch.cuda import gpu_name

            environment["processor"] = gpu_name()
        return environment

    def _measure(self, what: str, header: Mapping[str, Any], waiting: Callable[[], None]) -> Reply:
        config = _run_config(header)
        pairs = [_pairs(header, name) for name in ("workloads", "anchors")]
        found, missing = self._store.get(digest for part in pairs for pair in part for digest in pair)
        if missing:
            return {"missing": missing}, {}
        with device_lock(self._device, self._lock_folder, waiting):
            if what == "memory":
                sizes = [
                    peak_memory_mib(
                        self._artifact(found[artifact], config), _images(found[images])[0], config.threads
                    )
                    for artifact, images in pairs[0]
                ]
                return {"mib": sizes}, {}
            # Loading too would disturb the network that is being timed.
            workloads, anchors = (
                [Workload(self._load(artifact, found, config), _images(found[i])) for artifact, i in part]
                for part in pairs
            )
            if what == "placement":
                return {"placements": [placement_report(workload.runner) for workload in workloads]}, {}
            seconds = _number(header, "seconds")
            if what == "energy":
                used = [measure_energy(workload, seconds, self._device) for workload in workloads]
                return {"energies": [asdict(energy) for energy in used]}, {}
            plan = TimingPlan(seconds, _number(header, "precision"), int(_number(header, "seed", most=2**53)))
            return {}, _time(workloads, anchors, plan)

    def _artifact(self, data: bytes, config: RunConfig) -> Artifact:
        """Return the artifact that a client has sent, if this device runs such artifacts.

        Raises:
            DocumentError: it is damaged.
            TargetError: its runtime is not offered here, or does not compute so.
            RequestError: it was compiled for something else than what is asked for.
        """
        artifact = Artifact.from_bytes(data)
        offered = offered_runtimes(self._device)
        if artifact.runtime not in offered:
            raise TargetError(
                f"this device has no runtime {artifact.runtime}; it offers {', '.join(offered) or 'none'}"
            )
        compiled = artifact.runtime, artifact.dtype, artifact.batch
        if compiled != (config.runtime, config.dtype, config.batch):
            raise RequestError(f"an artifact for {compiled}, and asked for is {config}")
        get_runtime(artifact.runtime).check(self._device, artifact.dtype)
        return replace(artifact, metadata={**artifact.metadata, "device": self._device})

    def _load(self, digest: str, found: Mapping[str, bytes], config: RunConfig) -> Run:
        key = digest, config
        if key not in self._loaded:
            self._loaded[key] = load_artifact(self._artifact(found[digest], config), config.threads)
        self._loaded.move_to_end(key)
        runner = self._loaded[key]
        while len(self._loaded) > LOADED:
            self._loaded.popitem(last=False)
        return runner


def _time(
    workloads: Sequence[Workload], anchors: Sequence[Workload], plan: TimingPlan
) -> dict[str, np.ndarray]:
    """Return the rounds, and each network's output for its first image.

    The client can tell from it if the network is nonsense.
    """
    if not workloads and not anchors:
        raise RequestError("nothing to time")
    answers = {
        f"answer.{at}": np.asarray(workload.runner(workload.images[0]))
        for at, workload in enumerate([*workloads, *anchors])
    }
    return {"times": time_rounds(workloads, anchors, plan), **answers}


def _run_config(header: Mapping[str, Any]) -> RunConfig:
    runtime, dtype = header.get("runtime"), header.get("dtype")
    if runtime not in RUNTIMES or dtype not in ("float32", "bfloat16", "float16"):
        raise RequestError(f"no runtime {runtime!r} in {dtype!r}; known are {', '.join(RUNTIMES)}")
    threads, batch = (int(_number(header, name, most=MOST_THREADS)) for name in ("threads", "batch"))
    return RunConfig(str(runtime), max(1, threads), str(dtype), max(1, batch))


def _pairs(header: Mapping[str, Any], name: str) -> Sequence[tuple[str, str]]:
    """Return the digests of artifact and images."""
    pairs = header.get(name, [])
    if not isinstance(pairs, list) or len(pairs) > MAX_WORKLOADS:
        raise RequestError(f"{name} should be a list of at most {MAX_WORKLOADS}")
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise RequestError(f"{name} should be pairs of digests")
    return [(artifact, images) for artifact, images in pairs]


def _number(header: Mapping[str, Any], name: str, most: float = MOST_SECONDS) -> float:
    value = header.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise RequestError(f"{name} is {value!r}; allowed is a number from 0 to {most:g}")
    return float(value)


def _array(arrays: Arrays, name: str, dtype: str) -> np.ndarray:
    array = arrays.get(name)
    if array is None or array.dtype != dtype:
        raise RequestError(f"a {dtype} array called {name} is missing")
    return array


def _images(data: bytes) -> list[np.ndarray]:
    """Return the inputs of a network's calls, each (batch, channels, R, R)."""
    images = _array(read_document(data)[1], "images", "float32")
    if images.ndim != 5 or not images.size:
        raise RequestError(f"images of the shape {images.shape}; (calls, batch, channels, R, R) is needed")
    return list(images)
