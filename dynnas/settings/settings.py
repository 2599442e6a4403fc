"""The optional sections of a space file that say how the study is run, with their defaults.

The parser, the JSON Schema and the command line's flags are all made from these definitions: the types say
what is allowed, `metadata` says the rest ("help", and "choices", "pattern", "minimum" or "maximum" where they
apply). `choices` may be a registry, or a function that gives them, for those that plug-ins add to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dynnas.settings.metrics import limit_names, objective_names
from dynnas.settings.registries import ALGORITHMS, RUNTIMES, SAMPLERS
from dynnas.space.gene import QUANTIZATIONS
from dynnas.space.rule import Pattern

_HOST_AND_PORT = r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]:/@]+):[0-9]{1,5}"
_ACCOUNT = r"([\w.-]+@)?([\w.][\w.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[\w./+-]*)?"
_PROGRAM = r"([\w.:][\w.:-]*)?/[\w./+-]+"
ADDRESS = Pattern(
    "tcp://host:port, tcp+tls://host:port, ssh://user@host, adb://serial/program",
    f"(tcp(\\+tls)?://{_HOST_AND_PORT}|ssh://{_ACCOUNT}|adb://{_PROGRAM})",
)
REFERENCE = Pattern("package.module:object", r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*(\.\w+)*")
CLUSTER = Pattern("host:port", _HOST_AND_PORT)


def _setting(default: Any, help: str, **rules: Any) -> Any:
    if default == {}:
        return field(default_factory=dict, metadata={"help": help, **rules})
    return field(default=default, metadata={"help": help, **rules})


@dataclass(frozen=True)
class DataSettings:
    """`data`: the images and how they are split."""

    source: str = _setting(
        "digits",
        "scenes, digits, fashion-mnist, cifar10, the path of a folder or .npz file, "
        "or package.module:function",
    )
    task: str | None = _setting(
        None,
        "what targets mean: classification, multi_label, regression, segmentation, detection, or "
        "package.module:object; "
        "told by the targets if not given; functions is a task of two functions, named in task_options",
    )
    task_options: Mapping[str, Any] = _setting(
        {},
        "arguments of the task by name, as {label_smoothing: 0.1}, {class_weights: [1, 5]}, of detection "
        "{overlap: 0.5, most: 50}, or of functions {step: package.module:function, score: "
        "package.module:function, metrics: {psnr: maximize}}",
        free=True,
    )
    search_images: int | None = _setting(
        None,
        "images taken from the training set to rank candidates; a tenth of it (at most 5000) if not given",
        minimum=1,
    )
    train_images: int | None = _setting(None, "use only this many training images", minimum=1)
    augment: str = _setting(
        "auto",
        "augmentation of training images; auto is what suits the data set, crop is random resized crops and "
        "mirrors, and package.module:object a callable, such as the transforms of torchvision",
        choices=("auto", "none", "shift", "flip", "crop"),
        pattern=REFERENCE,
    )
    size: tuple[int, ...] = _setting(
        (),
        "height and width to which the pictures of a folder are brought, or the side of a square; the median "
        "of their shorter sides, at most 224, if not given",
        minimum=1,
    )
    fit: str | None = _setting(
        None,
        "how a folder's pictures of another shape are brought to it: cut to the middle, padded with black, "
        "or stretched; crop if not given, and pad where there are boxes",
        choices=("crop", "pad", "stretch"),
    )
    memory_gb: float = _setting(
        2.0, "decoded pictures of a folder that take more than this are streamed from disk", minimum=0.0
    )
    cache_gb: float = _setting(4.0, "decoded pictures kept on disk where they are streamed", minimum=0.0)
    workers: int | None = _setting(
        None,
        "processes that decode streamed pictures; half of the processors, at most 8, if not given",
        minimum=0,
    )
    seed: int = _setting(0, "draws the split", minimum=0)


@dataclass(frozen=True)
class TrainSettings:
    """`train`: the supernet's training."""

    epochs: int = _setting(12, "passes over the training images", minimum=1)
    batch: int = _setting(128, "images a batch", minimum=2)
    accumulate: int = _setting(
        1, "batches whose mean gradient makes a step, where a larger batch does not fit in memory", minimum=1
    )
    optimizer: str = _setting(
        "sgd", "optimizer; sgd has Nesterov momentum", choices=("sgd", "adamw", "rmsprop")
    )
    lr: float = _setting(0.2, "peak learning rate", minimum=0.0)
    momentum: float = _setting(
        0.9, "momentum of sgd and rmsprop; the first beta of adamw", minimum=0.0, maximum=0.999
    )
    weight_decay: float = _setting(
        1e-4, "weight decay of weights; batch norm and biases have none", minimum=0.0
    )
    warmup_epochs: float = _setting(1.0, "linear warm-up before the cosine schedule", minimum=0.0)
    clip_norm: float = _setting(5.0, "largest gradient norm; 0 for no clipping", minimum=0.0)
    algorithms: Mapping[str, Mapping[str, Any] | bool] = _setting(
        {},
        "settings of the recipe's algorithms by their names, more algorithms, and `false` for one that is to "
        "be left out",
        registry=ALGORITHMS,
    )
    experts: str = _setting(
        "shared", "whether the op types of a layer share one bank of experts", choices=("shared", "separate")
    )
    precision: str = _setting(
        "auto",
        "numeric type of training; auto takes the faster by a trial, if the training is long enough",
        choices=("auto", "float32", "bfloat16"),
    )
    layout: str = _setting(
        "auto",
        "memory layout; auto takes the faster by a trial, if the training is long enough",
        choices=("auto", "channels_first", "channels_last"),
    )
    calibration_images: int = _setting(
        2048, "training images that set a candidate's batch-norm statistics", minimum=2
    )
    processes: int = _setting(
        1,
        "processes that train together, each on its part of a batch; one a GPU where there are some",
        minimum=1,
    )
    init: str | None = _setting(
        None,
        "a checkpoint (a state dict by torch.save, or .safetensors) whose tensors the supernet begins with, "
        "by name and shape",
    )
    seed: int = _setting(0, "seed of weights, batches and sampled networks", minimum=0)

    def facts(self) -> dict[str, Any]:
        """Return the facts that name a training: all settings."""
        return asdict(self)

    def with_algorithms(self, **settings: Mapping[str, Any] | bool) -> TrainSettings:
        """Return the same settings with these of algorithms added; False leaves an algorithm out."""
        merged: dict[str, Mapping[str, Any] | bool] = dict(self.algorithms)
        for name, given in settings.items():
            held = merged.get(name)
            both = isinstance(given, Mapping) and isinstance(held, Mapping)
            merged[name] = {**held, **given} if both else given  # type: ignore[dict-item]
        return replace(self, algorithms=merged)


@dataclass(frozen=True)
class SearchSettings:
    """`search`: how the space is searched."""

    trials: int = _setting(
        100, "candidates to evaluate, unless another condition ends the search earlier", minimum=1
    )
    minutes: float | None = _setting(None, "end a run of the search after this time", minimum=0.0)
    target: Mapping[str, float] = _setting(
        {},
        "end when a candidate reaches all of these",
        choices=objective_names,
        by_device=True,
        of_task=("maximize", "minimize"),
        minimum=0.0,
    )
    patience: int | None = _setting(
        None, "end after this many trials that did not enlarge the front's hypervolume", minimum=1
    )
    sampler: str = _setting(
        "guided",
        "who proposes candidates",
        choices=SAMPLERS,
    )
    starts: tuple[str, ...] = _setting(
        (),
        "what is proposed first: architectures as `width=32 op=dynamic`, or the fronts of studies, by name, "
        "folder or front.json",
    )
    earlier: tuple[str, ...] = _setting(
        (),
        "studies of the same networks, by name, folder or front.json, whose results guided begins with; for "
        "another device, say",
    )
    objectives: tuple[str, ...] = _setting(
        ("accuracy", "latency_ms"),
        "what is ranked; latency_ms@NAME is that of one of `devices`",
        choices=objective_names,
        by_device=True,
        of_task=("maximize", "minimize"),
    )
    constraints: Mapping[str, float] = _setting(
        {},
        "upper limits in the metrics' units",
        choices=limit_names,
        by_device=True,
        of_task=("minimize",),
        minimum=0.0,
    )
    population: int = _setting(10, "population of nsga2 and nsga3, and random start of tpe and gp", minimum=2)
    controls: bool = _setting(
        True, "also evaluate random, static-only and uniform-width networks to compare with"
    )
    seed: int = _setting(0, "draws the candidates", minimum=0)
    workers: int = _setting(1, "processes that evaluate; 1 is the search itself", minimum=1)
    ray: str | None = _setting(
        None,
        "the Ray cluster that evaluates: local starts one here, auto is the one that this machine is part of",
        choices=("local", "auto"),
        pattern=CLUSTER,
    )


@dataclass(frozen=True)
class TargetSettings:
    """`target`: where latency is measured."""

    device: str = _setting(
        "cpu",
        "the device that will run the model; an ssh address is an account on any machine with dynnas, a "
        "tcp address one where `dynnas serve` runs, an adb address a program of ONNX Runtime on an Android "
        "device",
        choices=("cpu", "cuda"),
        pattern=ADDRESS,
    )
    runtime: str = _setting(
        "auto",
        "auto is onnxruntime on a CPU, torch on CUDA, and what a remote device offers; onnxruntime_portable "
        "runs a graph that is not laid out for one kind of processor",
        choices=lambda: ("auto", *RUNTIMES),
    )
    threads: int = _setting(1, "CPU threads of the runtime", minimum=1)
    dtype: str = _setting(
        "float32",
        "numeric type; supported types depend on runtime and device",
        choices=("float32", "bfloat16", "float16"),
    )
    quantize: tuple[str, ...] = _setting(
        ("none",),
        "quantisation of weights and activations: none, int8 (by onnxruntime, onnxruntime_portable or "
        "litert), or both, among which every candidate chooses",
        choices=QUANTIZATIONS,
    )
    batch: int = _setting(1, "images in a call; latencies are those of a call", minimum=1)
    images: int = _setting(
        64,
        "real search images whose ways through an input-dependent network are counted; at most 64 of them, "
        "which stand for all, are timed in a search",
        minimum=1,
    )
    seconds: float = _setting(0.4, "most seconds for measuring a candidate", minimum=0.01)
    precision: float = _setting(
        0.005, "half-width of a latency's 95% interval at which measuring ends earlier; 0 never", minimum=0
    )

    @property
    def remote(self) -> bool:
        """Return whether the device is another machine."""
        return ADDRESS.matches(self.device)

    @property
    def host_device(self) -> str:
        """Return the device of this machine on which everything but timing runs: training, accuracy."""
        return "cpu" if self.remote else self.device


@dataclass(frozen=True)
class Settings:
    """Every section of a space file that is not the space itself.

    `devices` are further targets by their names: a network is timed on each, beside `target`.
    """

    data: DataSettings = field(default_factory=DataSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    target: TargetSettings = field(default_factory=TargetSettings)
    devices: Mapping[str, TargetSettings] = field(default_factory=dict)
