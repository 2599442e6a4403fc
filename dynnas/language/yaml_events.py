"""The tree built from the events of PyYAML's parser; this is the one place that imports PyYAML."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from dynnas.errors import nearest
from dynnas.language.problems import Mark, Problems
from dynnas.language.tree import Listing, Node, Scalar, Table

MAX_NESTING = 20


_MERGE = "<<"
"""The key of YAML 1.1 by which a mapping takes over the entries of another; its own entries go first."""
MAX_LENGTH = 200_000
"""Maximum number of characters of a space file."""


class Composer:
    """Builds the tree from the events of PyYAML's parser, which (unlike its composer) does not recurse."""

    def __init__(self, text: str, problems: Problems) -> None:
        self._text = text
        self._problems = problems
        self._events = self._parsed()
        self._anchors: dict[str, Node] = {}
        self._open_anchors: set[str] = set()

    def document(self) -> Node:
        """Return the one document of the text."""
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            self._problems.stop(
                Mark(), "the file is empty; it must have `input`, `stem` and `stages`, or `choices`"
            )
        root = self._node(next(self._events))
        next(self._events)  # the end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._problems.add(_mark(event), "a second document begins here; give each document its own file")
        return root

    def _parsed(self) -> Iterator[yaml.Event]:
        """Yield the parser's events; an error ends the reading with a problem."""
        mark = Mark()
        try:
            for event in yaml.parse(self._text, Loader=yaml.SafeLoader):
                mark = _mark(event)
                yield event
        except yaml.MarkedYAMLError as error:
            found = error.problem_mark or error.context_mark
            parts = (error.context, error.problem, error.note)
            message = "not valid YAML: " + ", ".join(part.strip() for part in parts if part)
            self._problems.stop(Mark(found.line + 1, found.column + 1) if found else mark, message)
        except yaml.reader.ReaderError as error:
            before = self._text[: error.position].split("\n")
            message = f"not a text file: character {error.character:#x} is not allowed"
            self._problems.stop(Mark(len(before), len(before[-1]) + 1), message)
        except (ValueError, OverflowError):  # PyYAML on `\UFFFFFFFF`, or a huge number in a %YAML line
            self._problems.stop(mark, "not valid YAML: a number or escape after this place is out of range")

    def _node(self, event: yaml.Event, nesting: int = 0) -> Node:
        mark = _mark(event)
        if nesting > MAX_NESTING:
            self._problems.stop(mark, f"nested more than {MAX_NESTING} deep; a space file needs a few levels")
        if isinstance(event, yaml.AliasEvent):
            return self._repeated(str(event.anchor), mark)
        if not isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            raise AssertionError(f"PyYAML's parser gave {event} where a node begins")
        if event.tag is not None:
            self._problems.add(
                mark, f"found the tag {event.tag!r}; a space file has no tags: give the bare value"
            )
        if event.anchor is None:
            return self._content(event, mark, nesting)
        self._open_anchors.add(event.anchor)
        node = self._content(event, mark, nesting)
        self._open_anchors.discard(event.anchor)
        self._anchors[event.anchor] = node
        return node

    def _content(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, mark: Mark, nesting: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(event.value, event.style is None, mark)
        if isinstance(event, yaml.SequenceStartEvent):
            items = (self._node(item, nesting + 1) for item in self._until(yaml.SequenceEndEvent))
            return Listing(tuple(items), mark)
        return Table(self._entries(nesting + 1), mark)

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        while not isinstance(event := next(self._events), end):
            yield event

    def _entries(self, nesting: int) -> tuple[tuple[Scalar, Node], ...]:
        entries: dict[str, tuple[Scalar, Node]] = {}
        merged: dict[str, tuple[Scalar, Node]] = {}
        for event in self._until(yaml.MappingEndEvent):
            key = self._node(event, nesting)
            value = self._node(next(self._events), nesting)
            if not isinstance(key, Scalar):
                self._problems.add(key.mark, f"found {key} as a key; a key is a single word")
            elif key.plain and key.text == _MERGE:
                merged = self._merged(key, value) | merged
            elif key.text in entries:
                line = entries[key.text][0].mark.line
                self._problems.add(
                    key.mark, f"the key {key} is given twice, first in line {line}; keep one of them"
                )
            else:
                entries[key.text] = (key, value)
        return tuple((merged | entries).values())

    def _merged(self, key: Scalar, value: Node) -> dict[str, tuple[Scalar, Node]]:
        """Return the entries of the mapping, or of the list of them, that a merge key repeats."""
        found: dict[str, tuple[Scalar, Node]] = {}
        for table in value.items if isinstance(value, Listing) else (value,):
            if isinstance(table, Table):
                found = {name.text: (name, node) for name, node in table.entries} | found
            else:
                self._problems.add(key.mark, f"{key} repeats {table}; it takes a mapping, as in {key}: *name")
        return found

    def _repeated(self, anchor: str, mark: Mark) -> Node:
        if anchor in self._open_anchors:
            self._problems.stop(mark, f"*{anchor} stands inside of what it repeats")
        if anchor not in self._anchors:
            hint = nearest(anchor, self._anchors)
            self._problems.stop(mark, f"*{anchor} repeats nothing: there is no &{anchor} before it{hint}")
        return self._anchors[anchor]


def _mark(event: yaml.Event) -> Mark:
    start = event.start_mark
    return Mark(start.line + 1, start.column + 1) if start else Mark()


def read_tree(text: str, problems: Problems) -> Node:
    """Return the one document of a text.

    Raises:
        SpaceFileError: the text is not YAML, or so wrong that there is no tree to look at.
    """
    if len(text) > MAX_LENGTH:
        problems.stop(Mark(), f"the file has {len(text)} characters; a space file has at most {MAX_LENGTH}")
    # Devices that only run networks have no PyYAML, and read no space files.
    return Composer(text, problems).document()
