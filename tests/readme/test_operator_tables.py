"""The tables of operators say what the code counts; their last column, the measured latency, is left out."""

import re
from pathlib import Path
from types import ModuleType

import pytest
from support.scripts import load_script

from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS, BLOCKS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The script that writes the tables."""
    return load_script(ROOT / "tests/bench/operators.py")


def written(file: str, name: str) -> list[list[str]]:
    """The cells of a table as it stands in a file."""
    text = (ROOT / file).read_text(encoding="utf-8")
    (table,) = re.findall(rf"<!-- table {name} -->\n(.*?)<!-- end of table -->", text, flags=re.DOTALL)
    return [line.strip("| ").split(" | ") for line in table.splitlines()]


@pytest.mark.slow
def test_the_tables_say_what_is_counted(bench: ModuleType) -> None:
    for file, names in bench.FILES.items():
        for name in names:
            table = bench.TABLES[name]
            head, rule, *rows = written(file, name)
            assert (tuple(head[:-1]), set(rule)) == (table.head, {"---"})
            assert head[-1] in {column for column, _ in bench.CLOCKS.values()}
            assert [tuple(row[:-1]) for row in rows] == [row.cells() for row in table.rows]
            for *_, time in rows:
                assert re.fullmatch(r"–|\d+\.\d\d|1 \(\d+\.\d ms\)", time)


def test_every_operator_has_a_row(bench: ModuleType) -> None:
    named = {name for table in bench.TABLES.values() for row in table.rows for name in quoted(row.name)}
    assert named == {*KERNELS, *ATTENTIONS, *ACTIVATIONS, *BLOCKS} - {"none"}


def quoted(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`(\w+)`", text)


def test_a_table_is_put_between_its_marks_alone(bench: ModuleType) -> None:
    text = (
        "a\n<!-- table one -->\nold\n<!-- end of table -->\n<!-- table two -->\nold\n<!-- end of table -->\n"
    )
    assert bench.put(text, "one", ["| 1 |"]) == text.replace("old", "| 1 |", 1)
    empty = text.replace("old\n", "")
    assert bench.put(bench.put(empty, "two", ["old"]), "one", ["old"]) == text
    with pytest.raises(SystemExit, match="0 tables are marked 'three'"):
        bench.put(text, "three", [])
