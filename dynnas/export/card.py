"""The model card: the contents of a bundle, accuracy and time, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dynnas.metric import Metric
from dynnas.pareto.front import ScoredArchitecture
from dynnas.pareto.noise import AGREEMENT, ARTIFACT_GAP
from dynnas.study.records.cascades import Cascaded
from dynnas.study.records.compressed import Compressed
from dynnas.study.records.trained import Trained
from dynnas.study.study import Study
from dynnas.tasks.intervals import wilson

LICENCES: Mapping[str, str] = {
    "scenes": "CC BY 4.0 (composed of the digits of Alpaydin and Kaynak, UCI)",
    "digits": "CC BY 4.0 (Alpaydin and Kaynak, UCI, optical recognition of handwritten digits)",
    "fashion-mnist": "MIT (Xiao, Rasul and Vollgraf, Zalando)",
    "cifar10": "none stated by its authors (Krizhevsky, Toronto)",
}


_NAMED = 20


def facts_of(
    study: Study, member: ScoredArchitecture, made: Trained | Compressed | None = None
) -> dict[str, str]:
    """Describe a network of a study in words, for its card.

    Args:
        study: of `member`.
        member: of the front.
        made: the training or the pass that the network comes from, if it has not the supernet's weights.
    """
    facts = {"network": f"{member.key} of the study {study.name}", "weights from": _weights(made)}
    return facts | _figures(study, _metrics_of(member, made))


def facts_of_cascade(study: Study, cascade: Cascaded) -> dict[str, str]:
    """Describe a cascade of a study in words, for its card."""
    weights = {name: made for name in cascade.weights for made in study.trained if made.name == name}
    networks = ", else ".join(
        f"{key} ({100 * share:.1f}% of the search images)"
        for key, share in zip(cascade.networks, cascade.shares, strict=True)
    )
    facts = {
        "networks, until one is confident": f"{networks}, of the study {study.name}",
        "weights from": "; ".join(dict.fromkeys(_weights(weights.get(name)) for name in cascade.weights)),
    }
    return facts | _figures(study, cascade.metrics)


def _figures(study: Study, metrics: Mapping[str, float]) -> dict[str, str]:
    """Return the figures of accuracy, time and size."""
    dataset, target = study.dataset, study.settings.target
    facts = {}
    for prefix, images, what in (
        ("", len(dataset.search), "search images, by which it was chosen"),
        ("test_", len(dataset.test), "test images, by which nothing was chosen"),
    ):
        for metric in dataset.task.metrics:
            if (value := metrics.get(f"{prefix}{metric.name}")) is not None:
                facts[f"{metric.name} on {images} {what}"] = _score(metric, value, images)
    if AGREEMENT in metrics:
        facts["scores on test images"] = (
            f"of the compiled network, which answers {100 * metrics[AGREEMENT]:.2f}% of the "
            "test images as torch does"
        )
    if "mean_ms" in metrics:
        words = (f"{name.removesuffix('_ms')} {metrics[name]:.4g} ms" for name in _TIMES if name in metrics)
        facts["latency of one image in the study"] = ", ".join(words)
        facts["measured on"] = (
            f"{target.device}, runtime {target.runtime}, threads: {target.threads}, {target.dtype}"
        )
    for name, title in (
        ("expected_macs", "multiply-adds in the mean"),
        ("macs", "multiply-adds"),
        ("params", "weights"),
    ):
        if name in metrics:
            facts[title] = f"{metrics[name]:,.0f}"
    return facts


def _metrics_of(member: ScoredArchitecture, made: Trained | Compressed | None) -> dict[str, float]:
    """Return the metrics of `member` that also hold for the trained or compressed network, and its own."""
    if made is None:
        return dict(member.metrics)
    of_others = (AGREEMENT, ARTIFACT_GAP)
    metrics = {name: value for name, value in member.metrics.items() if name not in of_others}
    if isinstance(made, Trained):
        return metrics | dict(made.scores)
    after = made.after
    metrics = {name: value for name, value in metrics.items() if name not in (*_TIMES, "macs", "params")}
    metrics |= {**after.scores, "mean_ms": after.latency_ms}
    sizes = {"macs": after.macs, "params": after.params}
    return metrics | {name: value for name, value in sizes.items() if value is not None}


def _weights(made: Trained | Compressed | None) -> str:
    if made is None:
        return "the supernet, calibrated"
    if isinstance(made, Compressed):
        return f"the pass {made.name}"
    start = "the supernet's weights" if made.start == "inherited" else "fresh weights"
    return f"training alone for {made.epochs} epochs from {start} ({made.name})"


_TIMES = ("mean_ms", "median_ms", "p95_ms", "worst_ms")


def card(manifest: Mapping[str, Any], facts: Mapping[str, str], load: tuple[str, ...]) -> str:
    """Return the card as Markdown.

    Args:
        manifest: of the bundle.
        facts: that a study knows, as `facts_of` gives them.
        load: up to five lines of Python.
    """
    data, score = manifest["data"], _percent(manifest)
    heading = score or manifest["score"]["name"]
    height, width = data["size"]
    exits = [f"{place['name']} ({place['criterion']} {place['threshold']})" for place in manifest["exits"]]
    known = {
        **facts,
        "task": _task(manifest),
        "data": f"{data['name']}, {height} x {width} pixels",
        "licence of the data": data["licence"],
        **({"weights and activations": manifest["quantize"]} if "quantize" in manifest else {}),
        **({"computes in": manifest["computes"]} if "computes" in manifest else {}),
        "input": f"float32 {manifest['input']['shape']}; {manifest['input']['prepare']}",
        "exits": _exits(exits, manifest),
        **({"gates": _gates(manifest)} if manifest["gates"] else {}),
        **({"glance": _looks(manifest)} if manifest["looks"] else {}),
        **({"pictures": _pictures(manifest)} if "pictures" in manifest else {}),
        **({"opset": str(manifest["opset"])} if "opset" in manifest else {}),
        "made by": ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
    }
    lines = [
        f"# A model in the format {manifest['format']}",
        "",
        *(f"- {name}: {value}" for name, value in known.items()),
        "",
        "## Files",
        "",
        "Each was loaded again without the supernet and compared with torch on real images.",
        "",
        f"| file | for | same answer % | largest difference | {heading} (torch) | mean ms | p95 ms |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *(_row(artifact, score) for artifact in manifest["artifacts"]),
        "",
        _times(manifest),
        "",
        "## How to load it",
        "",
        "```python",
        *load,
        "```",
        "",
    ]
    return "\n".join(lines)


def _times(manifest: Mapping[str, Any]) -> str:
    """Say where the files were timed, or that they were not run."""
    if all(artifact["timing"] is None for artifact in manifest["artifacts"]):
        return (
            f"{manifest['timed_on']} does not run this format, so nothing was timed: what was written was "
            "read again, and its operations and weights evaluated by torch. Run it on a device before you "
            "ship it."
        )
    place = manifest["timed_on"]
    return f"Times of one image on {place}, when it was exported: rougher than those of a study."


def _pictures(manifest: Mapping[str, Any]) -> str:
    """Describe the graph that takes bytes."""
    made = manifest["pictures"]
    given, answer = made["input"], made["output"]
    return (
        f"`{made['file']}` takes {given['name']}, {given['type']} {given['shape']} (1, height, width, "
        f"channels), and gives {answer['name']}: {answer['meaning']}; normalisation, layout and resizing are "
        f"inside; the same answer as torch for {100 * made['agreement']:.2f}% of {made['images']} pictures, "
        f"{made['timing']['mean_ms']:.4g} ms"
    )


def _exits(exits: Sequence[str], manifest: Mapping[str, Any]) -> str:
    """Name the exits, and say where a file computes all of them for every image."""
    if not exits or manifest["left_out_by_exits"]:
        return ", ".join(exits) or "none"
    return (
        f"{', '.join(exits)}; this format has no branches for these exits: all of the network is computed, "
        "which the times count, and the first sure exit is chosen"
    )


def _gates(manifest: Mapping[str, Any]) -> str:
    """Describe the blocks with gates, and whether a file really leaves out what they decide."""
    blocks = ", ".join(f"{each['block']} {each['gate']} ({each['target']:g})" for each in manifest["gates"])
    if not manifest["left_out_by_gates"]:
        return f"{blocks}; this format has no branches for them: everything is computed, and masked"
    says = f"{blocks}; what they skip is left out in the file for one image"
    masked = dict.fromkeys(each["gate"] for each in manifest["gates"] if not each["branches"])
    return f"{says}, but everything is computed, and masked, for {', '.join(masked)}" if masked else says


def _looks(manifest: Mapping[str, Any]) -> str:
    """Describe what is seen at a glance, and after it."""
    return "; ".join(
        f"the whole image at {look['size']} pixels square, then {look['size']} of its {look['of']} where it "
        "says"
        for look in manifest["looks"]
    )


def _score(metric: Metric, value: float, images: int) -> str:
    """Return a score in its unit; a share of images with its interval."""
    if metric.unit != "share":
        return f"{value:.4g} {metric.unit}".rstrip()
    if metric.name != "accuracy":
        return f"{100 * value:.2f}%"
    low, high = wilson(value, images)
    return f"{100 * value:.2f}% (95% interval {100 * low:.2f} to {100 * high:.2f})"


def _task(manifest: Mapping[str, Any]) -> str:
    """Return the task and the names of what its outputs stand for."""
    names = manifest["class_names"]
    more = f", ... ({len(names)} in all)" if len(names) > _NAMED else ""
    return ": ".join(filter(None, [manifest["task"]["task"], ", ".join(names[:_NAMED]) + more]))


def _percent(manifest: Mapping[str, Any]) -> str:
    """Return the heading of a score in percent; nothing for one in another unit."""
    score = manifest["score"]
    return f"{score['name']} %" if score["unit"] == "share" else ""


def _row(artifact: Mapping[str, Any], percent: str) -> str:
    scores = (artifact["score"], artifact["network_score"])
    ours, torchs = (f"{100 * score:.2f}" if percent else f"{score:.4g}" for score in scores)
    timing = artifact["timing"]
    cells = (
        artifact["file"],
        artifact["use"],
        f"{100 * artifact['agreement']:.2f}",
        f"{artifact['largest_difference']:.1e}",
        f"{ours} ({torchs})",
        *("not run" if timing is None else f"{timing[name]:.4g}" for name in ("mean_ms", "p95_ms")),
    )
    return f"| {' | '.join(cells)} |"
