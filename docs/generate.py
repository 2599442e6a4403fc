"""Write the reference pages of the documentation from the code.

    python docs/generate.py

`docs/reference/cli.md` is made from the command line, `space-file.md` from the JSON Schema of space
files, and `api.md` from the docstrings of the public names. The method cards are made by `cards.py`.
`pytest tests/docs` fails where a page is out of date.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

DOCS = Path(__file__).parent
NOTE = "<!-- Written by `python docs/generate.py`; do not edit. -->\n\n"

PRIVATE = ("dynnas.__main__", "dynnas.cli")
"""The modules inside `dynnas` that are for programs, not for callers."""

WIDTH = 100
"""A longer signature is written with one parameter a line."""


def cli_page() -> str:
    """The commands with their arguments and options, in Markdown."""
    import typer
    from typer.cli import get_docs_for_click

    from dynnas.cli.app import app

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="dynnas")
    page = get_docs_for_click(obj=command, ctx=context, name="dynnas", title="Command line")
    for name, one in command.commands.items():
        cut, whole = one.get_short_help_str(), one.get_short_help_str(WIDTH)
        page = page.replace(f"* `{name}`: {cut}\n", f"* `{name}`: {whole}\n")
    return NOTE + page


def space_file_page() -> str:
    """The sections and keys of a space file, in Markdown."""
    from dynnas.language.schema import json_schema

    lines = ["# Keys of a space file", "", "A section that is not required may be left out."]
    schema = json_schema()
    for name, section in schema["properties"].items():
        needed = "; required for a network" if name in schema["else"]["required"] else ""
        lines += ["", f"## `{name}`", "", f"{_sentence(section.get('description', ''))}{needed}", ""]
        others = section.get("additionalProperties")
        each = others if isinstance(others, dict) and "properties" in others else section
        lines += ["Each has the keys of `target`."] if each is others else _keys(section.get("items", each))
        if name == "train":
            lines += _algorithms(section["properties"]["algorithms"])
    return NOTE + "\n".join(lines) + "\n"


def _algorithms(schema: Mapping[str, Any]) -> list[str]:
    """The settings of every training algorithm."""
    lines = ["", "### `train.algorithms`", "", "Each is `false`, to leave it out, or a mapping.", ""]
    found: dict[str, Any] = {}
    for name, part in schema["properties"].items():
        lines.append(f"- `{name}`: {_sentence(part['description'])}")
        table = part["anyOf"][1]["properties"]
        found |= {f"{name}.{key}": each for key, each in table.items()}
    return [*lines, "", *_keys({"properties": found})]


BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
"""The word for each bound of a JSON Schema."""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _keys(section: Mapping[str, Any]) -> Iterator[str]:
    if not section.get("properties"):
        return
    yield "| key | allowed | default | |"
    yield "| --- | --- | --- | --- |"
    for key, rule in section["properties"].items():
        mark = " (required)" if key in section.get("required", ()) else ""
        default = f"`{rule['default']}`" if "default" in rule else ""
        yield f"| `{key}`{mark} | {_allowed(rule)} | {default} | {_cell(rule.get('description', ''))} |"


def _allowed(rule: Mapping[str, Any]) -> str:
    """The values that a rule of a schema allows, in words."""
    if "enum" in rule:
        return ", ".join(f"`{value}`" for value in rule["enum"])
    if "const" in rule:
        return f"`{rule['const']}`"
    for several in ("anyOf", "oneOf"):
        if several in rule:
            return _cell("; ".join(dict.fromkeys(_allowed(one) for one in rule[several])))
    if rule.get("type") == "array":
        return f"a list of {_allowed(rule.get('items', {}))}"
    kind = rule.get("type", "any value")
    kinds = kind if isinstance(kind, list) else [kind]
    if "object" in kinds and {"from", "to"} <= set(rule.get("properties", ())):
        return "a range `{from, to, step}`"
    words = {"object": "a mapping", "string": "a text", "number": "a number", "integer": "an integer"}
    text = " or ".join(words.get(one, one) for one in kinds)
    bounds = [f"{word} {rule[key]}" for key, word in BOUNDS.items() if key in rule]
    return " ".join([text, *bounds])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def api_page() -> str:
    """The public names with their signatures and docstrings, in Markdown."""
    lines = ["# API", "", "The names on this page are public; others may change without notice."]
    for module in public_modules():
        lines += ["", f"## `{module.__name__}`", "", inspect.cleandoc(module.__doc__ or "")]
        for name in public_names(module):
            lines += ["", *_entry(module.__name__, name, getattr(module, name))]
    return NOTE + "\n".join(lines) + "\n"


def public_modules() -> list[ModuleType]:
    """The package `dynnas`, and those directly inside it that list their public names in `__all__`."""
    import dynnas

    inside = [f"dynnas.{found.name}" for found in pkgutil.iter_modules(dynnas.__path__)]
    modules = [importlib.import_module(name) for name in inside if name not in PRIVATE]
    return [dynnas, *(module for module in modules if public_names(module))]


def public_names(module: ModuleType) -> list[str]:
    """The names in a module's `__all__`, in order, without dunders and subpackages."""
    names = sorted(getattr(module, "__all__", ()), key=str.lower)
    values = {name: getattr(module, name) for name in names if not name.startswith("_")}
    return [name for name, value in values.items() if callable(value) or not inspect.ismodule(value)]


def _entry(module: str, name: str, value: Any) -> Iterator[str]:
    yield f"### `{module}.{name}`"
    yield ""
    if inspect.ismodule(value):
        value = importlib.import_module(module).public(name)  # `dynnas.search`, which can be called
    if inspect.isclass(value) or inspect.isfunction(value):
        yield f"```python\n{name}{_signature(value)}\n```"
        yield ""
        yield _docstring(value)
        if inspect.isclass(value):
            yield from _methods(value)
    else:
        yield f"A constant of type `{type(value).__name__}`."


def _docstring(value: Any) -> str:
    """A docstring in Markdown: arguments and examples, which are indented, become blocks of plain text."""
    lines: list[str] = []
    fenced = False
    for line in inspect.cleandoc(inspect.getdoc(value) or "").splitlines():
        inside = line.startswith("    ") or (fenced and not line)
        if inside != fenced:
            lines += ["```text"] if inside else _closing(lines)
        fenced = inside
        lines.append(line)
    return "\n".join(lines + (_closing(lines) if fenced else []))


def _closing(lines: list[str]) -> list[str]:
    """What ends a block of text, whose last lines may be empty."""
    empty = 0
    while lines and not lines[-1]:
        lines.pop()
        empty += 1
    return ["```", *[""] * empty]


def _methods(owner: type) -> Iterator[str]:
    """The public methods and properties that a class itself defines and documents, one line each."""
    first = True
    for name, value in sorted(vars(owner).items()):
        function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
        if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
            continue
        call = "" if isinstance(value, property) else _signature(function, width=None)
        summary = inspect.cleandoc(function.__doc__).split("\n\n")[0].replace("\n", " ")
        if first:
            yield ""
        first = False
        yield f"- `{name}{call}`: {summary}"


class _Plain(str):
    """An annotation that is shown without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _signature(value: Any, width: int | None = WIDTH) -> str:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # a class without one
        return "(...)"

    def plain(annotation: Any) -> Any:
        return _Plain(annotation) if isinstance(annotation, str) else annotation

    def named(default: Any) -> Any:
        return _Plain(default.__qualname__) if hasattr(default, "__qualname__") else default

    parameters = [
        one if one.default is one.empty else one.replace(default=named(one.default))
        for one in signature.parameters.values()
    ]
    parameters = [one.replace(annotation=plain(one.annotation)) for one in parameters]
    parameters = [one for one in parameters if one.name != "self"]
    signature = signature.replace(parameters=parameters, return_annotation=plain(signature.return_annotation))
    text = str(signature)
    if width is None or len(text) <= width:
        return text
    return _broken(signature)


def _broken(signature: inspect.Signature) -> str:
    """A signature with one parameter a line."""
    lines = []
    starred = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            starred = True
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            lines.append("    *,")
            starred = True
        lines.append(f"    {parameter},")
    empty = inspect.Signature(return_annotation=signature.return_annotation)
    return "\n".join(["(", *lines, ")"]) + str(empty)[2:]


def method_cards() -> ModuleType:
    """Return the module that makes the method cards, which lies beside this file."""
    spec = importlib.util.spec_from_file_location("docs_cards", DOCS / "cards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CARDS = method_cards()

PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli_page,
    "reference/space-file.md": space_file_page,
    "reference/api.md": api_page,
    "methods/index.md": lambda: NOTE + CARDS.index_page(),
    **{f"methods/{kind}.md": partial(lambda kind: NOTE + CARDS.page(kind), kind) for kind in CARDS.PAGES},
}
"""What makes each page, by its path in the documentation."""


def main() -> None:
    """Write all pages."""
    for name, make in PAGES.items():
        path = DOCS / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
