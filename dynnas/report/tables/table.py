"""Results as tables of text: a value that the command line prints and tests can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dynnas.nn.config.names import CHOOSE, FIXED, GLANCE
from dynnas.pareto.front import ScoredArchitecture
from dynnas.pareto.noise import AGREEMENT, ARTIFACT_GAP, GAIN, beats_cheaper, half_width
from dynnas.report.plots.axes import ranking_score
from dynnas.settings.metrics import INT8_RATIO, find_metric, on_device
from dynnas.space.architecture import Architecture
from dynnas.space.gene import QUANTIZE
from dynnas.space.space import Space
from dynnas.study.static_part import is_static
from dynnas.study.study import Study


@dataclass(frozen=True)
class Column:
    """A column's heading, and whether its cells are numbers (set flush right)."""

    name: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table of text; every row has one cell for each column, and a note may explain the cells."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def count(value: float) -> str:
    """Return a number of weights or multiply-adds in three figures: 1.23 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


_NOTE = (
    "± is half of a 95% interval. The gain is that of the test images over the network above, in points; "
    "≈ marks one whose 95% interval reaches down to 0: the two cannot be told apart."
)
_ALL_ALIKE = "Test scores are those of the compiled networks, which answer every image as torch does."
_NOT_ALIKE = (
    "Test scores are those of the compiled networks; artifact is their difference to the scores in torch, "
    "and the share of images with the same answer."
)

_SEEN = 5e-5
"""A difference of scores that tables show."""
_INT8 = "int8 / float32 is the time of the same network in int8, as a multiple of that in float32."

_ACCURACY = "accuracy"
_USUAL = {"latency_ms", "mean_ms", "median_ms", "p95_ms", "macs", "params"}


def further_metrics(study: Study) -> tuple[str, ...]:
    """Return what a study's tables show beside the usual: objectives, limits, and latencies elsewhere."""
    elsewhere = (on_device("latency_ms", name) for name in study.settings.devices)
    found = dict.fromkeys((*study.goal.metrics, *elsewhere))
    return tuple(name for name in found if name not in (*_USUAL, score_name(study)))


def score_name(study: Study) -> str:
    """Return the score by which a study ranks: its first objective to be maximised, or that is no cost.

    It is the accuracy where there is none.
    """
    return ranking_score(study.goal)


def front_table(
    front: Sequence[ScoredArchitecture],
    title: str,
    further: Sequence[str] = (),
    genes: Sequence[str] = (),
    score: str = _ACCURACY,
) -> Table:
    """Return one row for each member: its scores, times, size, and dynamic parts.

    Args:
        front: the members. title: of the table. further: names of metrics to show beside the usual ones.
        genes: names of choices to show in the place of dynamic layers and exits, of networks of a class.
        score: name of the metric of the task that ranks.
    """
    share = is_share(score)
    differ = any(_differs(member.metrics) for member in front)
    quantized = any(QUANTIZE in member.architecture for member in front)
    columns = (
        Column("key"),
        Column(f"{score} %" if share else score, numeric=True),
        Column("test %" if share else "test", numeric=True),
        Column("gain", numeric=True),
        *((Column("artifact", numeric=True),) if differ else ()),
        Column("mean ms", numeric=True),
        Column("p95", numeric=True),
        Column("MACs", numeric=True),
        Column("params", numeric=True),
        *(Column(name, numeric=True) for name in further),
        *(map(Column, genes) if genes else (Column("dynamic layers"), Column("exits"))),
        *((Column("type"), Column("int8 / float32", numeric=True)) if quantized else ()),
        Column("trial", numeric=True),
    )
    notes = [_NOTE] if any(GAIN in member.metrics for member in front) else []
    if any(AGREEMENT in member.metrics for member in front):
        notes.append(_NOT_ALIKE if differ else _ALL_ALIKE)
    if quantized:
        notes.append(_INT8)
    rows = tuple(_front_row(member, further, genes, score, differ, quantized) for member in front)
    return Table(title, columns, rows, " ".join(notes))


def metrics_table(front: Sequence[ScoredArchitecture], metrics: Sequence[str], title: str) -> Table:
    """Return one row for each member of a front in a space of plain choices: its metrics and values."""
    genes = list(dict.fromkeys(name for member in front for name in member.architecture))
    numeric = [Column(name, numeric=True) for name in metrics]
    columns = (Column("key"), *numeric, *map(Column, genes), Column("trial", numeric=True))
    rows = tuple(
        (
            member.key,
            *(f"{member.metrics[name]:.6g}" for name in metrics),
            *(str(member.architecture.get(name, "")) for name in genes),
            "" if member.trial is None else str(member.trial),
        )
        for member in front
    )
    return Table(title, columns, rows)


def is_own_class(space: Space) -> bool:
    """Tell whether networks are of a class of the user's, whose choices have names of its own."""
    return space.model is not None and getattr(space.model, "template", None) is None


def is_share(score: str) -> bool:
    """Tell whether a metric is a share, which tables show in percent."""
    metric = find_metric(score)
    return metric is not None and metric.unit == "share"


def score_text(metrics: Mapping[str, float], score: str, name: str) -> str:
    """Spell the metric `name`, in the unit of the score: that itself, or its value on the test split."""
    if is_share(score):
        return _percent(metrics, name)
    return f"{metrics[name]:.4g}" if name in metrics else ""


def _front_row(
    member: ScoredArchitecture,
    further: Sequence[str],
    genes: Sequence[str],
    score: str,
    differ: bool,
    quantized: bool,
) -> tuple[str, ...]:
    architecture = member.architecture
    values = [str(architecture.get(name, "")) for name in genes]
    return (
        member.key,
        score_text(member.metrics, score, score),
        score_text(member.metrics, score, f"test_{score}"),
        _gain(member.metrics),
        *((_artifact(member.metrics, score),) if differ else ()),
        *(_milliseconds(member.metrics, name) for name in ("mean_ms", "p95_ms")),
        *(count(member.metrics[name]) if name in member.metrics else "" for name in ("macs", "params")),
        *(f"{member.metrics[name]:.4g}" if name in member.metrics else "" for name in further),
        *(values or (dynamic_layers(architecture), exits(architecture))),
        *(_quantization(member) if quantized else ()),
        "" if member.trial is None else str(member.trial),
    )


def dynamic_layers(architecture: Architecture) -> str:
    """Count the layers with each dynamic kernel or gate: `2 condconv, 1 dynet, 1 skip`."""
    chosen = (str(value) for name, value in architecture.items() if name.endswith((".op", ".gate")))
    ops = Counter(op for op in chosen if op not in ("static", "none"))
    layers = ", ".join(f"{number} {op}" for op, number in sorted(ops.items()))
    sizes = str(architecture.get(CHOOSE, FIXED))
    if sizes == FIXED:
        return layers
    looking = sizes if sizes.startswith(GLANCE) else f"resolution of {sizes}"
    return ", ".join(filter(None, (looking, layers)))


def exits(architecture: Architecture) -> str:
    """Spell the exits and their thresholds: `stage1 at 0.8`, `stage1 at entropy 0.8`."""
    at = str(architecture.get("exits.at", "none"))
    places = [] if at == "none" else at.split("+")
    criterion = str(architecture.get("exits.criterion", "confidence"))
    by = "" if criterion == "confidence" else f"{criterion} "
    common = architecture.get("exits.threshold")  # one for all of a trained network's
    return ", ".join(
        f"{place} at {by}{architecture.get(f'exits.{place}.threshold', common)}" for place in places
    )


def is_dynamic(architecture: Architecture, space: Space | None = None) -> bool:
    """Tell whether any weight, or what is run, depends on the image.

    Args:
        space: of the architecture; some networks of a class of one's own are built to see it.
    """
    if space is not None and is_own_class(space):
        return not is_static(space, architecture)
    return bool(dynamic_layers(architecture) or exits(architecture))


def _percent(metrics: Mapping[str, float], name: str) -> str:
    if name not in metrics:
        return ""
    noise = half_width(metrics, name)
    return f"{100 * metrics[name]:.2f}" + ("" if noise is None else f" ± {100 * noise:.1f}")


def _gain(metrics: Mapping[str, float]) -> str:
    """Say what a member gains over the one above, with a mark where that may be nothing."""
    if GAIN not in metrics:
        return ""
    mark = "" if beats_cheaper(metrics) else " ≈"
    return f"{100 * metrics[GAIN]:+.1f}{mark}"


def _quantization(member: ScoredArchitecture) -> tuple[str, str]:
    """Return the numeric type of a network, and its time in int8 as a multiple of that in float32."""
    kind = "int8" if member.architecture.get(QUANTIZE) == "int8" else "float32"
    return kind, f"{member.metrics[INT8_RATIO]:.2f}" if INT8_RATIO in member.metrics else ""


def _differs(metrics: Mapping[str, float]) -> bool:
    # Scores that are sums of many numbers differ in their last digits.
    return metrics.get(AGREEMENT, 1.0) < 1 or abs(metrics.get(ARTIFACT_GAP, 0.0)) >= _SEEN


def _artifact(metrics: Mapping[str, float], score: str) -> str:
    """Say how far a compiled network is from torch: `-0.31, 98.9% alike`."""
    if AGREEMENT not in metrics:
        return ""
    unit = 100 if is_share(score) else 1
    return f"{unit * metrics[ARTIFACT_GAP]:+.2f}, {100 * metrics[AGREEMENT]:.1f}% alike"


def _milliseconds(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.3f}" if name in metrics else ""
