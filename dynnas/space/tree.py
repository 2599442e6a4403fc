"""YAML text as a tree that knows where everything stands.

Scalars are read by YAML 1.2's core rules (`1e-3` is a number, `on` and `2020-01-01` are text), aliases are followed,
and everything that a space file never needs (tags, keys that are not text, several documents) is a problem.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from dynnas.space.problems import Mark, Problems, nearest

MAX_LENGTH = 1_000_000
MAX_NESTING = 20

_INT = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(
    r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {word: word[0] in "tT" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}


@dataclass(frozen=True)
class Scalar:
    """A single value; `plain` if it stands without quotes."""

    text: str
    plain: bool
    mark: Mark

    @property
    def value(self) -> int | float | bool | str | None:
        """What the text means; a number too large to be meant is infinite."""
        if not self.plain:
            return self.text
        if self.text in _WORDS:
            return _WORDS[self.text]
        if _INT.fullmatch(self.text):
            return int(self.text)
        if _NUMBER.fullmatch(self.text):
            digits_only = self.text.lstrip("+-").isdecimal()
            return (
                math.inf
                if digits_only
                else float(self.text.replace(".inf", "inf").lower().replace(".nan", "nan"))
            )
        return self.text

    def __str__(self) -> str:
        if self.plain and self.value is None:
            return "nothing"
        shown = self.text if len(self.text) <= 40 else f"{self.text[:37]}..."
        return shown if self.plain and not isinstance(self.value, str) else repr(shown)


@dataclass(frozen=True)
class Listing:
    """A list."""

    items: tuple[Node, ...]
    mark: Mark

    def __str__(self) -> str:
        return "a list" if self.items else "an empty list"


@dataclass(frozen=True)
class Table:
    """A mapping, in the order of the file; every key occurs once."""

    entries: tuple[tuple[Scalar, Node], ...]
    mark: Mark

    def __str__(self) -> str:
        return "a mapping" if self.entries else "an empty mapping"


Node = Scalar | Listing | Table


def read_tree(text: str, problems: Problems) -> Node:
    """The one document of a text.

    Raises:
        SpaceFileError: the text is not YAML, or so wrong that there is no tree to look at.
    """
    if len(text) > MAX_LENGTH:
        problems.stop(Mark(), f"the file has {len(text)} characters; a space file has at most {MAX_LENGTH}")
    return _Composer(text, problems).document()


class _Composer:
    """Builds the tree from the events of PyYAML's parser, which (unlike its composer) never recurses."""

    def __init__(self, text: str, problems: Problems) -> None:
        self._problems = problems
        self._text = text
        self._events = self._safely_parsed()
        self._anchors: dict[str, Node] = {}
        self._open_anchors: set[str] = set()

    def document(self) -> Node:
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            self._problems.stop(
                Mark(), "the file is empty; it must have `input`, `stem` and `stages`, or `choices`"
            )
        root = self._node(next(self._events), 0)
        next(self._events)  # the end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._problems.add(_mark(event), "a second document begins here; give one document a file")
        return root

    def _safely_parsed(self) -> Iterator[yaml.Event]:
        """The parser's events; an error becomes a problem."""
        mark = Mark()
        try:
            for event in yaml.parse(self._text, Loader=yaml.SafeLoader):
                mark = _mark(event)
                yield event
        except yaml.MarkedYAMLError as error:
            found = error.problem_mark or error.context_mark
            mark = Mark(found.line + 1, found.column + 1) if found else mark
            parts = (error.context, error.problem, error.note)
            message = "not valid YAML: " + ", ".join(part.strip() for part in parts if part)
        except yaml.reader.ReaderError as error:
            lines = self._text[: error.position].splitlines() or [""]
            mark = Mark(len(lines), len(lines[-1]) + 1)
            message = f"not a text file: character {error.character:#x} is not allowed"
        except (ValueError, OverflowError):  # PyYAML on `\UFFFFFFFF`, and on a huge number in a %YAML line
            message = "not valid YAML: a number or escape after this place is out of range"
        else:
            return
        self._problems.stop(mark, message)

    def _node(self, event: yaml.Event, nesting: int) -> Node:
        mark = _mark(event)
        if nesting > MAX_NESTING:
            self._problems.stop(
                mark, f"nested more than {MAX_NESTING} deep; a space file needs a handful of levels"
            )
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, mark)
        if event.tag is not None:
            self._problems.add(
                mark, f"found the tag {event.tag!r}; a space file has no tags: give the bare value"
            )
        if event.anchor is not None:
            self._open_anchors.add(event.anchor)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(event.value, event.style is None, mark)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Listing(
                tuple(self._node(item, nesting + 1) for item in self._until(yaml.SequenceEndEvent)), mark
            )
        else:
            node = Table(self._entries(nesting), mark)
        if event.anchor is not None:
            self._open_anchors.discard(event.anchor)
            self._anchors[event.anchor] = node
        return node

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        while not isinstance(event := next(self._events), end):
            yield event

    def _entries(self, nesting: int) -> tuple[tuple[Scalar, Node], ...]:
        entries: dict[str, tuple[Scalar, Node]] = {}
        for event in self._until(yaml.MappingEndEvent):
            key = self._node(event, nesting + 1)
            value = self._node(next(self._events), nesting + 1)
            if not isinstance(key, Scalar):
                self._problems.add(key.mark, f"found {key} as a key; a key is a single word")
            elif key.text in entries:
                line = entries[key.text][0].mark.line
                self._problems.add(
                    key.mark, f"the key {str(key)} is given twice, first in line {line}; keep one of them"
                )
            else:
                entries[key.text] = (key, value)
        return tuple(entries.values())

    def _alias(self, anchor: str, mark: Mark) -> Node:
        if anchor in self._open_anchors:
            self._problems.stop(mark, f"*{anchor} stands inside of what it repeats")
        if anchor not in self._anchors:
            hint = nearest(anchor, self._anchors)
            self._problems.stop(mark, f"*{anchor} repeats nothing: there is no &{anchor} before it{hint}")
        return self._anchors[anchor]


def _mark(event: yaml.Event) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)
