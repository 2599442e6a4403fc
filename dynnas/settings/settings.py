"""The optional sections of a space file that say how the study is run, with their defaults.

The parser, the JSON Schema and the command line's flags are all made from these definitions: the types say
what is allowed, `metadata` says the rest ("help", and "choices", "pattern", "minimum" or "maximum" where they
apply). `choices` may be a function that gives them, for those that plug-ins add to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any

from dynnas.settings.metrics import limit_names, objective_names
from dynnas.settings.registries import RUNTIMES, SAMPLERS
from dynnas.settings.rule import Pattern

_HOST_AND_PORT = r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]:/@]+):[0-9]{1,5}"
_ACCOUNT = r"([\w.-]+@)?([\w.][\w.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[\w./+-]*)?"
ADDRESS = Pattern("tcp://host:port, ssh://user@host", f"(tcp://{_HOST_AND_PORT}|ssh://{_ACCOUNT})")
CLUSTER = Pattern("host:port", _HOST_AND_PORT)


def _setting(default: Any, help: str, **rules: Any) -> Any:
    if isinstance(default, dict | list):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help, **rules})
    return field(default=default, metadata={"help": help, **rules})


def choices_of(setting: Field[Any]) -> tuple[str, ...]:
    """The texts that a setting may be, or the keys of its table; none if it may be any."""
    choices = setting.metadata.get("choices", ())
    return tuple(choices()) if callable(choices) else tuple(choices)


@dataclass(frozen=True)
class DataSettings:
    """`data`: the images and how they are split."""

    source: str = _setting(
        "digits",
        "digits, fashion-mnist, cifar10, the path of a folder or .npz file, or package.module:function",
    )
    task: str | None = _setting(
        None,
        "what targets mean: classification, multi_label, regression, segmentation, or package.module:object; "
        "told by the targets if not given",
    )
    search_images: int | None = _setting(
        None,
        "images taken from the training set to rank candidates; a tenth of it (at most 5000) if not given",
        minimum=1,
    )
    train_images: int | None = _setting(None, "use only this many training images", minimum=1)
    augment: str = _setting(
        "auto",
        "how training images are varied; auto is what suits the data set",
        choices=("auto", "none", "shift", "flip"),
    )
    seed: int = _setting(0, "draws the split", minimum=0)


@dataclass(frozen=True)
class TrainSettings:
    """`train`: the supernet's training."""

    epochs: int = _setting(12, "passes over the training images", minimum=1)
    batch: int = _setting(128, "images a step", minimum=2)
    lr: float = _setting(0.2, "peak learning rate of SGD with Nesterov momentum", minimum=0.0)
    momentum: float = _setting(0.9, "momentum of SGD", minimum=0.0, maximum=0.999)
    weight_decay: float = _setting(1e-4, "for weights; batch norm and biases have none", minimum=0.0)
    warmup_epochs: float = _setting(1.0, "linear warm-up before the cosine schedule", minimum=0.0)
    label_smoothing: float = _setting(0.1, "of the labels' cross entropy", minimum=0.0, maximum=0.99)
    teacher_weight: float = _setting(
        0.5,
        "how much the largest network teaches the others; labels do the rest",
        minimum=0.0,
        maximum=1.0,
    )
    clip_norm: float = _setting(5.0, "largest gradient norm; 0 for no clipping", minimum=0.0)
    random_networks: int = _setting(
        2, "random networks of the sandwich rule, beside largest and smallest", minimum=0
    )
    exit_weight: float = _setting(0.5, "weight of an early exit's loss beside the final head's", minimum=0.0)
    temperature: float = _setting(30.0, "dyconv's softmax temperature at the start", minimum=1.0)
    temperature_epochs: float | None = _setting(
        None, "epochs over which the temperature falls to 1; half of the training if not given", minimum=0.0
    )
    routing_dropout: float = _setting(
        0.0, "dropout of what condconv's routers see", minimum=0.0, maximum=0.95
    )
    gate_weight: float = _setting(10.0, "weight of the loss that keeps gates to their targets", minimum=0.0)
    gate_estimator: str = _setting(
        "gumbel",
        "how gates learn: by draws, by their largest logit, by shares of everything that are not drawn, or "
        "by what becomes of an image after a draw (reinforce)",
        choices=("gumbel", "straight", "soft", "reinforce"),
    )
    gate_reinforce_epochs: float = _setting(
        0.0, "so many epochs at the end in which gates learn by reinforce, after the other way", minimum=0.0
    )
    gate_temperature: float = _setting(1.0, "softmax temperature of gates that learn", minimum=0.01)
    gate_guidance: float = _setting(
        0.0,
        "weight of the loss that teaches gates which images are easy: those that the network is right about "
        "with every gate at its cheapest; 0 for none",
        minimum=0.0,
    )
    gate_similarity: float = _setting(
        0.0, "weight of the loss by which images that look alike are to use like channels", minimum=0.0
    )
    gate_sparsity: float = _setting(
        0.0,
        "what an image pays for all of the gated blocks if it is as easy as can be; hard ones pay nothing",
        minimum=0.0,
    )
    experts: str = _setting(
        "shared", "whether the op types of a layer share one bank of experts", choices=("shared", "separate")
    )
    precision: str = _setting(
        "auto",
        "arithmetic of training; auto takes the faster by a short trial",
        choices=("auto", "float32", "bfloat16"),
    )
    layout: str = _setting(
        "auto",
        "memory layout; auto takes the faster by a short trial",
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
    seed: int = _setting(0, "draws weights, batches and sampled networks", minimum=0)

    def facts(self) -> dict[str, Any]:
        """What names a training: all settings, but those of gates only where they are not the usual ones.

        Trainings from before there were gates keep their names, and so can be continued.
        """
        usual = {each.name: each.default for each in fields(self) if each.name.startswith("gate_")}
        return {
            name: value for name, value in asdict(self).items() if name not in usual or value != usual[name]
        }


@dataclass(frozen=True)
class SearchSettings:
    """`search`: how the space is searched."""

    trials: int = _setting(100, "candidates to evaluate, unless something else ends it before", minimum=1)
    minutes: float | None = _setting(None, "end a run of the search after this time", minimum=0.0)
    target: Mapping[str, float] = _setting(
        {},
        "end when a candidate reaches all of these",
        choices=objective_names,
        minimum=0.0,
    )
    patience: int | None = _setting(
        None, "end after so many trials that did not enlarge the front's hypervolume", minimum=1
    )
    sampler: str = _setting(
        "guided",
        "who proposes candidates",
        choices=lambda: tuple(SAMPLERS),
    )
    objectives: tuple[str, ...] = _setting(
        ("accuracy", "latency_ms"),
        "what is ranked",
        choices=objective_names,
    )
    constraints: Mapping[str, float] = _setting(
        {}, "upper limits in the metrics' units", choices=limit_names, minimum=0.0
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
        "tcp address one where `dynnas serve` runs",
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
        "arithmetic of the runtime; supported types depend on runtime and device",
        choices=("float32", "bfloat16", "float16"),
    )
    batch: int = _setting(1, "images in a call; latencies are those of a call", minimum=1)
    images: int = _setting(64, "real search images over which an input-dependent network is timed", minimum=1)
    seconds: float = _setting(0.4, "time spent on measuring a candidate, at most", minimum=0.01)
    precision: float = _setting(
        0.005, "half-width of a latency's 95% interval at which measuring ends earlier; 0 never", minimum=0
    )

    @property
    def remote(self) -> bool:
        """Whether the device is another machine."""
        return ADDRESS.matches(self.device)

    @property
    def host_device(self) -> str:
        """Where this machine computes what is not timed: training, accuracy."""
        return "cpu" if self.remote else self.device


@dataclass(frozen=True)
class Settings:
    """Every section of a space file that is not the space itself."""

    data: DataSettings = field(default_factory=DataSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    target: TargetSettings = field(default_factory=TargetSettings)
