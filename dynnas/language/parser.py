"""Space files: YAML text to a `StudySpace`, or all of its problems at once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dynnas.errors import DataError, TaskError
from dynnas.language.names import NAME, NETWORK_SECTIONS, REQUIRED_SECTIONS
from dynnas.language.problems import Mark, Problems
from dynnas.language.reading import check_distinct, read_list, read_table
from dynnas.language.sections.model import read_model
from dynnas.language.sections.table import read_table_section
from dynnas.language.settings_reader import DEVICES, SECTIONS, read_data, read_settings
from dynnas.language.shipped import find_space, shipped_spaces
from dynnas.language.study_space import StudySpace
from dynnas.language.tree import Listing, Node, Scalar, Table
from dynnas.language.yaml_events import read_tree
from dynnas.settings.settings import DataSettings, Settings
from dynnas.space.architecture import Value
from dynnas.space.gene import Gene
from dynnas.space.knob import MAX_VALUES

if TYPE_CHECKING:
    from dynnas.tasks.task import Task

TOP_KEYS = ("name", "model", *NETWORK_SECTIONS, "choices", "evaluator", *SECTIONS, DEVICES)
MAX_CHOICES = 2000
"""Maximum number of knobs of a plain space."""


def load_space(path: str | Path) -> StudySpace:
    """Read a space file; its name is the file's stem unless it gives one.

    Args:
        path: of the file, or the name of one that comes with dynnas, as `mobile`.

    Raises:
        SpaceFileError: the file cannot be read, or something in it must be mended; all problems are reported
        together.
    """
    path = find_space(path)
    problems = Problems(str(path))
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, FileNotFoundError) and not path.suffix:
            reason += f"; those that come with dynnas are {', '.join(shipped_spaces())}"
        problems.stop(Mark(), f"the space file cannot be read: {reason}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace").split("\n")
        problems.stop(
            Mark(len(before), len(before[-1]) + 1), "not a text file in UTF-8; save it in that encoding"
        )
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip("._-")[:100]
    return _parse(text, problems, stem or "space", str(path))


def parse_space(text: str, source: str = "<text>") -> StudySpace:
    """Read a space from YAML text; `source` stands for the file in messages.

    Raises:
        SpaceFileError: something in it must be mended; all problems are reported together.
    """
    return _parse(text, Problems(source), "space", None)


def _parse(text: str, problems: Problems, name: str, source: str | None) -> StudySpace:
    root = read_tree(text, problems)
    given = {key.text for key, _ in root.entries} if isinstance(root, Table) else set()
    is_plain = not given.isdisjoint(("choices", "model"))
    required = () if is_plain else REQUIRED_SECTIONS
    entries = read_table(root, "space", TOP_KEYS, problems, required)
    if "name" in entries:
        name = _read_name(entries["name"], problems)
    data = read_data(entries, problems)
    task = _task_of(data, entries, problems)
    settings = read_settings(entries, problems, data, task.metrics if task else ())
    settings = _ranked_by(task, settings, entries)
    if "model" in given:
        return _model_space(entries, problems, name, settings, source)
    if is_plain:
        genes = _read_choices(entries, problems)
        table = None
        if "evaluator" in entries:
            table = read_table_section(entries["evaluator"], tuple(gene.name for gene in genes), problems)
            problems.raise_if_any()
        return StudySpace(name, genes, settings=settings, source=source, table=table)
    if "evaluator" in entries:
        problems.add(
            entries["evaluator"].mark,
            "evaluator: a network is evaluated by its supernet; a table goes with a space of `choices`",
        )

    from dynnas.language.sections.network import read_network  # its operators need torch; other spaces do not

    blueprint = read_network(entries, problems, task)
    genes, template = blueprint.genes(), blueprint.template()
    if not settings.data.size and (blueprint.has_backbone or blueprint.takes_rectangles):
        settings = replace(settings, data=replace(settings.data, size=blueprint.largest))
    if not blueprint.has_backbone:
        return StudySpace(name, genes, template, settings=settings, source=source)

    from dynnas.nn.networks.backbone_networks import BackboneNetworks

    model = BackboneNetworks(template, genes)
    return StudySpace(name, genes, model=model, settings=settings, source=source)


def _task_of(data: DataSettings, entries: Mapping[str, Node], problems: Problems) -> Task | None:
    """Return the task that the file names, as it is before the data are known; None if it names none."""
    if data.task is None:
        return None

    from dynnas.tasks.named_by import task_named  # needs torch

    try:
        return task_named(data.task, data.task_options)
    except (DataError, TaskError) as error:
        problems.add(entries["data"].mark, str(error))
        return None


def _ranked_by(task: Task | None, settings: Settings, entries: Mapping[str, Node]) -> Settings:
    """Return settings whose objectives are the task's first score and latency, if the file says none."""
    search = entries.get("search")
    said = isinstance(search, Table) and any(key.text == "objectives" for key, _ in search.entries)
    if said or task is None:
        return settings
    objectives = (task.metrics[0].name, "latency_ms")
    return replace(settings, search=replace(settings.search, objectives=objectives))


def _model_space(
    entries: Mapping[str, Node],
    problems: Problems,
    name: str,
    settings: Settings,
    source: str | None,
) -> StudySpace:
    """Return the space of a class or function.

    Raises:
        SpaceFileError: a problem was found, here or before.
    """
    for section in (*NETWORK_SECTIONS, "evaluator"):
        if section in entries:
            problems.add(
                entries[section].mark,
                f"{section}: a space of `model` has its own network; remove one of the two",
            )
    space = read_model(entries, Path(source).resolve().parent if source else None, problems)
    return StudySpace.around(space, name=name, settings=settings, source=source)


def _read_name(node: Node, problems: Problems) -> str:
    if isinstance(node, Scalar) and isinstance(node.value, str) and NAME.fullmatch(node.text):
        return node.text
    problems.add(
        node.mark,
        f"name: found {node}; allowed: up to 100 letters, digits, '.', '_' and '-', a letter or digit first "
        "(it names the study's folder)",
    )
    return ""


def _read_choices(entries: Mapping[str, Node], problems: Problems) -> tuple[Gene, ...]:
    """Return the genes of a space without a network.

    Raises:
        SpaceFileError: a problem was found, here or before.
    """
    for section in NETWORK_SECTIONS:
        if section in entries:
            problems.add(
                entries[section].mark,
                f"{section}: a space of `choices` has no network; remove one of the two",
            )
    node = entries["choices"]
    if not isinstance(node, Table) or not node.entries:
        problems.stop(node.mark, f"choices: found {node}; allowed: a mapping from names to lists of values")
    if len(node.entries) > MAX_CHOICES:
        problems.stop(node.mark, f"choices: found {len(node.entries)} names; allowed: at most {MAX_CHOICES}")
    genes = tuple(_read_choice(key, listing, problems) for key, listing in node.entries)
    problems.raise_if_any()
    return genes


def _read_choice(key: Scalar, node: Node, problems: Problems) -> Gene:
    """Return one gene: numbers ascend, other values keep the order of the file."""
    where = f"choices.{key.text}"
    if not key.text.strip() or not key.text.isprintable():
        problems.add(key.mark, f"choices: found {key} as a name; allowed: visible text")
    items = read_list(node, where, "values", problems) if isinstance(node, Listing | Table) else (node,)
    if len(items) > MAX_VALUES:
        problems.add(node.mark, f"{where}: found {len(items)} values; allowed: at most {MAX_VALUES}")
    values = [_read_plain_value(item, where, problems) for item in items]
    check_distinct(items, values, where, problems)
    known = [value for value in values if value is not None]
    numbers = [value for value in known if not isinstance(value, str)]
    ordered = len(numbers) == len(known)
    return Gene(key.text, tuple(sorted(numbers) if ordered else known), ordered=ordered)


def _read_plain_value(node: Node, where: str, problems: Problems) -> Value | None:
    """Return a number, or text.

    `true` and `false` are texts, so that they cannot be confused with 1 and 0.
    """
    if isinstance(node, Scalar) and node.value is not None:
        value = node.text if isinstance(node.value, bool) else node.value
        if value != "" and (isinstance(value, str) or math.isfinite(value)):
            return value
    problems.add(
        node.mark, f"{where}: found {node}; allowed: a finite number or text ('null' in quotes is text)"
    )
    return None
