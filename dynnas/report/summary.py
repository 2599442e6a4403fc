"""The results of a study that a report shows, collected once, with the reason for what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from dynnas.errors import DynnasError, StudyError
from dynnas.nn.config.network import NetworkConfig
from dynnas.pareto.front import ScoredArchitecture
from dynnas.pareto.importance import LEAST, Importances, importances
from dynnas.study.records.compressed import Compressed
from dynnas.study.records.trained import Trained
from dynnas.study.study import Study

if TYPE_CHECKING:
    from dynnas.metrics.parts import Part
    from dynnas.workflows.exit_images import ExitImages

NETWORKS_WITH_IMAGES = 2

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class StudySummary:
    """The results of a study that a report shows.

    Attributes:
        configs: the network of every member of the front, by key; empty for a study of a table or a class.
        parts: of the same networks, where they are of a class of one's own.
        exit_images: where search images leave, for some members with exits, by key.
        latencies: what `dynnas latency` wrote on the study's scale, by key.
        importances: for every objective that allows it.
        audit: what `dynnas audit` wrote, None where nobody asked.
        trained, compressed: what `dynnas train` and `dynnas compress` made.
        environment: what latencies depend on, by name.
        missing: parts that are left out, with the reason.
    """

    study: Study
    configs: Mapping[str, NetworkConfig] = field(default_factory=dict)
    parts: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    exit_images: Mapping[str, tuple[ExitImages, ...]] = field(default_factory=dict)
    latencies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    importances: tuple[Importances, ...] = ()
    audit: Mapping[str, Any] | None = None
    trained: tuple[Trained, ...] = ()
    compressed: tuple[Compressed, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[tuple[str, str], ...] = ()

    def shares(self, member: ScoredArchitecture) -> dict[str, float]:
        """Return the share of the search images (0..1) that leave `member` at each exit, and at `head`."""
        start = "exit_share."
        return {
            name.removeprefix(start): share
            for name, share in member.metrics.items()
            if name.startswith(start)
        }


def summarize(study: Study) -> StudySummary:
    """Read and compute the results; nothing is trained or timed for it."""
    missing: list[tuple[str, str]] = []

    def attempt(part: str, find: Callable[[], _Found]) -> _Found | None:
        try:
            return find()
        except (DynnasError, OSError, ValueError, KeyError, TypeError) as error:
            missing.append((part, str(error)))
            return None

    if len(study.candidates) < LEAST:
        reason = f"{len(study.candidates)} candidates are too few to tell, {LEAST} are needed"
        missing.append(("which choices matter", reason))
    every = {objective.name: None for objective in study.goal.objectives}
    ranked = [importances(study.space, study.candidates, name) for name in every]
    known = tuple(found for found in ranked if found)
    if study.space.table:
        return StudySummary(study, importances=known, missing=tuple(missing))
    own = study.space.model is not None
    configs = {} if own else attempt("drawings of the networks", lambda: _configs(study)) or {}
    parts = attempt("drawings of the networks", lambda: _parts(study)) if own else None
    return StudySummary(
        study=study,
        configs=configs,
        parts=parts or {},
        exit_images=attempt("images that leave early and late", lambda: _exit_images(study, configs)) or {},
        latencies=attempt("latency by image", lambda: study.latencies) or {},
        importances=known,
        audit=attempt("supernet against stand-alone", lambda: _audit(study)),
        trained=attempt("networks trained after the search", lambda: study.trained) or (),
        compressed=attempt("compressed networks", lambda: study.compressed) or (),
        environment=attempt("environment", lambda: _environment(study)) or {},
        missing=tuple(missing),
    )


def _configs(study: Study) -> dict[str, NetworkConfig]:
    channels = study.space.network.channels if study.space.network else None
    classes = study.space.network.classes if study.space.network else None
    if channels is None or classes is None:
        channels, classes = study.dataset.channels, study.dataset.task.outputs
    return {
        member.key: study.space.network_config(member.architecture, channels, classes)
        for member in study.front
    }


def _parts(study: Study) -> dict[str, tuple[Part, ...]]:
    from dynnas.metrics.parts import parts_of

    return {member.key: parts_of(study.candidate(member.key).calibrated) for member in study.front}


def _exit_images(study: Study, configs: Mapping[str, NetworkConfig]) -> dict[str, tuple[ExitImages, ...]]:
    """Return the images of the member that most images leave early, and of the costliest one with exits."""
    members = [member for member in study.front if member.key in configs and configs[member.key].exits]
    early = sorted(members, key=lambda member: member.metrics.get("exit_share.head", 1.0))
    if not early:
        return {}

    from dynnas.workflows.exit_images import exit_images

    chosen = early if len(early) <= NETWORKS_WITH_IMAGES else [early[0], members[-1]]
    keys = dict.fromkeys(member.key for member in chosen)
    return {key: exit_images(study, key) for key in keys}


def _audit(study: Study) -> Mapping[str, Any]:
    audit = study.audit
    if audit is None:
        raise StudyError(f"not asked for; `dynnas audit {study.name}` trains networks alone")
    document = asdict(audit)
    shown = ("key", "inherited", "alone")
    networks = [{name: network[name] for name in shown} for network in document["networks"]]
    return {**document, "networks": networks}


def _environment(study: Study) -> dict[str, str]:
    """Return the whole environment where latencies were measured here, else only the digest that names it."""
    if not study.folder.anchors.exists():
        return {}

    from dynnas.latency.fingerprint import environment_fingerprint
    from dynnas.latency.latency import AnchorReference

    digest = AnchorReference.read(study.folder.anchors).environment
    target = study.settings.target
    if target.remote:
        return {"device": target.device, "digest": digest}

    here = environment_fingerprint(target)
    return here if here["digest"] == digest else {"digest": f"{digest} (not this machine)"}
