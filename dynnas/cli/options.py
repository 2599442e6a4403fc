"""The options that several commands share, and the flags that override settings of a space file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynnas.errors import SpaceError, StudyError, nearest
from dynnas.export.formats import FORMATS
from dynnas.language.names import NAME
from dynnas.language.problems import Mark
from dynnas.language.settings_reader import SECTIONS, Named, choices_of, setting_form
from dynnas.metric import Metric
from dynnas.settings.settings import DataSettings, Settings
from dynnas.space.rule import Rule

if TYPE_CHECKING:
    from dynnas.study.study import Study
from dynnas.language.tree import Scalar

# The settings that each flag of `dynnas search` overrides; help and rules are those of the settings.
FLAGS: Mapping[str, tuple[str, ...]] = {
    "data": ("data.source",),
    "trials": ("search.trials",),
    "sampler": ("search.sampler",),
    "starts": ("search.starts",),
    "earlier": ("search.earlier",),
    "seed": ("search.seed", "train.seed"),
    "epochs": ("train.epochs",),
    "experts": ("train.experts",),
    "device": ("target.device",),
    "threads": ("target.threads",),
    "workers": ("search.workers",),
    "processes": ("train.processes",),
    "ray": ("search.ray",),
}

STUDIES = Path("studies")
_SHAPE = re.compile(r"[1-9]\d*x[1-9]\d*x[1-9]\d*")
_SIZE = re.compile(r"[1-9]\d*(x[1-9]\d*)?")

_METAVARS: Mapping[type, str] = {int: "N", float: "NUMBER", str: "NAME"}


def _setting(path: str) -> tuple[Field[Any], Rule]:
    """Return a setting by section and name (`train.epochs`), and the rule for its values."""
    section, _, name = path.partition(".")
    setting = next(setting for setting in fields(SECTIONS[section]) if setting.name == name)
    return setting, setting_form(setting, SECTIONS[section]).rule


def _flag(name: str, more: str = "") -> Any:
    """Return the typer option of one of `FLAGS`."""
    setting, rule = _setting(FLAGS[name][0])
    choices = f" ({rule})" if rule.choices else ""
    told = setting.metadata["help"] + choices + more
    return typer.Option(f"--{name}", metavar=_METAVARS[rule.kind], help=told)


_FILE = "a space file, or the name of one that comes with dynnas, as mobile"
SpaceFile = Annotated[Path, typer.Argument(metavar="FILE", help=_FILE)]
MaybeSpaceFile = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", help=f"{_FILE}; drafted for --data if not given, as dynnas init does"),
]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="a name under --studies, or a folder")]
Studies = Annotated[Path, typer.Option("--studies", metavar="DIR", help="folder of the studies")]

Data = Annotated[str | None, _flag("data")]
Trials = Annotated[str | None, _flag("trials")]
Sampler = Annotated[str | None, _flag("sampler")]
Starts = Annotated[list[str] | None, _flag("starts", "; repeatable")]
Earlier = Annotated[list[str] | None, _flag("earlier", "; repeatable")]
Seed = Annotated[str | None, _flag("seed")]
Epochs = Annotated[str | None, _flag("epochs")]
Experts = Annotated[str | None, _flag("experts")]
Device = Annotated[str | None, _flag("device")]
Threads = Annotated[str | None, _flag("threads")]
Workers = Annotated[str | None, _flag("workers")]
Processes = Annotated[str | None, _flag("processes")]
Ray = Annotated[str | None, _flag("ray")]
Limits = Annotated[
    list[str] | None,
    typer.Option("--max", metavar="METRIC=LIMIT", help="a limit, as latency_ms=5; repeatable"),
]
Name = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="name of the study, if not the space's and that of --data"),
]
_ONE = "knee, fastest, most-accurate, a limit as 'latency_ms<=5', or a key"
Pick = Annotated[str, typer.Option("--pick", metavar="WHICH", help=_ONE)]
SWITCHABLE = "switchable"
"""The format of several networks in one model."""

ExportPick = Annotated[
    list[str] | None,
    typer.Option(
        "--pick",
        metavar="WHICH",
        help=f"{_ONE}, or a cascade as cascade:1; knee if not given. "
        f"For {SWITCHABLE} repeatable; front if not given",
    ),
]
Picks = Annotated[
    list[str] | None,
    typer.Option(
        "--pick", metavar="WHICH", help=f"front for all of it, {_ONE}; repeatable; knee if not given"
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="WHICH",
        help="best by search accuracy, inherited from the supernet, or the name of a training",
    ),
]
ExportFormat = Annotated[
    str, typer.Option("--format", metavar="FORMAT", help=f"what to write: {', '.join(FORMATS)}, {SWITCHABLE}")
]
Storage = Annotated[
    str | None, typer.Option("--storage", metavar="URL", help="SQLAlchemy URL of a database for the study")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="delete the study first; asks before it does")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]
Quiet = Annotated[bool, typer.Option("--quiet", help="show no progress")]


def study_name(space: str, data: str | None) -> str:
    """Return the name of a study that is given none: the space's, with that of the data if they are given."""
    if data is None:
        return space
    place, _, function = data.partition(":")
    return f"{space}-{re.sub(r'[^A-Za-z0-9._-]+', '-', function or Path(place).stem).strip('-') or 'data'}"


def study_folder(studies: Path, name: str) -> Path:
    """Return the folder of a study.

    Raises:
        StudyError: the name is not one that a space file could have.
    """
    if not NAME.fullmatch(name):
        raise StudyError(f"--name: found {name}; allowed: letters, digits, dots, dashes and underscores")
    return studies / name


def override(
    settings: Settings, flags: Mapping[str, str | Sequence[str] | None], limits: Sequence[str]
) -> Settings:
    """Return `settings` with the given flags in place of its values.

    Flags are read as the same words in a space file would be.

    Args:
        settings: those of the space file.
        flags: texts by the names of `FLAGS`, or several of a repeatable one; None where a flag is not given.
        limits: constraints as `latency_ms=5`, which join those of the file.

    Raises:
        SpaceError: values that a space file could not have either; all are named.
    """
    changes: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    problems: list[str] = []
    for flag, text in ((flag, text) for flag, text in flags.items() if text not in (None, [])):
        for path in FLAGS[flag]:
            section, _, setting = path.partition(".")
            try:
                changes[section][setting] = (
                    _read(text, path) if isinstance(text, str) else tuple(_read(one, path) for one in text)
                )
            except ValueError as error:
                problems.append(f"--{flag}: {error}")
    if limits:
        named = Named(tuple(settings.devices), _task_metrics(settings.data))
        given = dict(_read_limits(limits, named, problems))
        constraints = {**settings.search.constraints, **given}
        changes["search"]["constraints"] = constraints
    if problems:
        raise SpaceError("\n".join(dict.fromkeys(problems)))
    sections = {name: replace(getattr(settings, name), **new) for name, new in changes.items()}
    return replace(settings, **sections)


def image_shape(text: str) -> tuple[int, int, int]:
    """Return (channels, height, width) from a text such as 3x224x224.

    Raises:
        SpaceError: the text is none.
    """
    if not _SHAPE.fullmatch(text):
        raise SpaceError(f"--input is {text!r}; allowed is CHANNELSxHEIGHTxWIDTH, such as 3x224x224")
    channels, height, width = map(int, text.split("x"))
    return channels, height, width


def image_size(text: str) -> int | tuple[int, int]:
    """Return (height, width) from a text such as 180x240, or the side of a square from one such as 224.

    Raises:
        SpaceError: the text is neither.
    """
    if not _SIZE.fullmatch(text):
        raise SpaceError(
            f"--resolution is {text!r}; allowed is HEIGHTxWIDTH, such as 180x240, or the side of a square"
        )
    height, cross, width = text.partition("x")
    return (int(height), int(width)) if cross else int(height)


def arguments_of(texts: Sequence[str]) -> dict[str, Any]:
    """Return arguments by name from texts such as num_classes=10; values are read as in a space file.

    Raises:
        SpaceError: a text is none.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not name.isidentifier() or not sign:
            raise SpaceError(f"--argument is {text!r}; allowed is NAME=VALUE, such as num_classes=10")
        found[name] = Scalar(value, plain=True, mark=Mark()).value
    return found


def command_of(study: Study) -> str:
    """Return the command that makes `study` again, from the space file that its folder keeps."""
    from dynnas.language.parser import load_space

    if not study.folder.space.exists():
        return "dynnas.search(space, ...) in Python, for its space was no file but an object"
    given, used = load_space(study.folder.space).settings, study.settings
    words = ["dynnas", "search", str(study.folder.space), "--name", study.name]
    if study.folder.path.parent != STUDIES:
        words += ["--studies", str(study.folder.path.parent)]
    if study.record.storage:
        words += ["--storage", study.record.storage]
    for flag, paths in FLAGS.items():
        values = attrgetter(*paths)
        if values(used) != values(given):
            value = attrgetter(paths[0])(used)
            for one in value if isinstance(value, tuple) else (value,):
                words += [f"--{flag}", str(one)]
    for metric, limit in used.search.constraints.items():
        if given.search.constraints.get(metric) != limit:
            words += ["--max", f"{metric}={limit:g}"]
    return shlex.join(words)


def _task_metrics(data: DataSettings) -> tuple[Metric, ...]:
    if data.task is None:
        return ()
    from dynnas.tasks.named_by import task_named  # needs torch

    return task_named(data.task, data.task_options).metrics


def _read_limits(limits: Sequence[str], named: Named, problems: list[str]) -> Iterator[tuple[str, float]]:
    known = choices_of(_setting("search.constraints")[0], named)
    for text in limits:
        metric, _, limit = text.partition("=")
        if metric not in known:
            near = nearest(metric, known)
            problems.append(f"--max: found {text}{near}; allowed: METRIC=LIMIT with {', '.join(known)}")
            continue
        try:
            yield metric, _read(limit, "search.constraints")
        except ValueError as error:
            problems.append(f"--max {metric}: {error}")


def _read(text: str, path: str) -> Any:
    """Return the value of a setting from its text.

    Raises:
        ValueError: it is not allowed; says what is.
    """
    _, rule = _setting(path)
    try:
        return rule.accept(text if rule.kind is str else Scalar(text, plain=True, mark=Mark()).value)
    except ValueError:
        found = text or "nothing"
        raise ValueError(f"found {found}{nearest(text, rule.choices)}; allowed: {rule}") from None
