"""Tables as evaluators: every kind of file, what rows mean, and a search from the command line."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from support.cli import command
from support.tables import MACRO_FILE

import dynnas
from dynnas.errors import MissingExtraError, SpaceError, StudyError, UnavailableError
from dynnas.language.parser import parse_space
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.objectives import objectives_of
from dynnas.search.evaluators.table import TableEvaluator
from dynnas.search.evaluators.table_file import TableFile
from dynnas.space.architecture import Architecture
from dynnas.space.space import Space

SPACE = """
name: cells
choices:
  edge: [none, skip, conv]
  width: [8, 16]
  flag: [true, false]
evaluator:
  table: {file}
  objectives: {{accuracy: maximize, ms: minimize}}
"""
ROWS = (
    "edge,width,flag,accuracy,ms,accuracy2",
    "none,8,true,0.5,1.0,0.7",
    "skip,8,true,0.6,2.0,0.6",
    "conv,16,True,0.9,3.0,",
    "conv,16,true,0.7,5.0,0.8",
    "conv,32,true,0.99,1.0,0.99",
    "none,16,false,,1.5,",
)


def evaluator(folder: Path, extra: str = "", rows: tuple[str, ...] = ROWS) -> tuple[Space, TableEvaluator]:
    (folder / "table.csv").write_text("\n".join(rows))
    space = parse_space(SPACE.format(file="table.csv") + extra)
    assert space.table is not None
    return space, TableEvaluator(space, space.table, folder)


def test_rows_of_one_architecture_are_averaged_and_others_left_out(tmp_path: Path) -> None:
    space, table = evaluator(tmp_path)
    assert table.size == 4  # of seven rows two are one architecture, and one is not of the space
    conv = space.architecture({"edge": "conv", "width": 16, "flag": "true"})
    assert table.evaluate(conv) == pytest.approx({"accuracy": 0.8, "ms": 4.0})


def test_columns_of_one_metric_are_averaged_without_what_is_missing(tmp_path: Path) -> None:
    space, table = evaluator(tmp_path, "  metrics: {accuracy: [accuracy, accuracy2]}\n")
    conv = space.architecture({"edge": "conv", "width": 16, "flag": "true"})
    assert table.evaluate(conv)["accuracy"] == pytest.approx((0.9 + 0.7 + 0.8) / 3)


def test_what_is_not_there_is_unavailable(tmp_path: Path) -> None:
    space, table = evaluator(tmp_path)
    absent = space.architecture({"edge": "skip", "width": 16, "flag": "true"})
    with pytest.raises(UnavailableError, match=r"not in the table table\.csv"):
        table.evaluate(absent)
    assert table.cheap(absent) is None
    empty = space.architecture({"edge": "none", "width": 16, "flag": "false"})
    with pytest.raises(UnavailableError, match=r"table\.csv has no accuracy for it"):
        table.evaluate(empty)


@pytest.mark.parametrize("sampler", ["guided", "evolution", "nsga2", "random"])
def test_gaps_are_rejected_with_a_reason_and_the_search_goes_on(sampler: str, tmp_path: Path) -> None:
    space, table = evaluator(tmp_path)
    url = f"sqlite:///{tmp_path}/study.db"
    objectives = {"accuracy": "maximize", "ms": "minimize"}
    for _ in range(2):  # the second run has nothing left to do
        front = dynnas.search(
            space, table, sampler=sampler, trials=12, storage=url, objectives=objectives, population=4
        )
    from dynnas.search.storage.studies import load_trials

    study = load_trials(url, "cells")
    assert study is not None
    reasons = Counter(trial.user_attrs.get("rejected", "") for trial in study.trials)
    assert reasons == {
        "": 3,
        "not in the table table.csv": 8,
        "the table table.csv has no accuracy for it": 1,
    }
    assert [member.metrics["ms"] for member in front] == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("sampler", ["guided", "evolution", "nsga2", "tpe", "random"])
def test_a_few_rows_of_a_huge_space_are_all_that_is_proposed(sampler: str, tmp_path: Path) -> None:
    """300 random rows of a space of a billion: nothing is guessed that the table does not have."""
    rng = np.random.default_rng(0)
    places = np.unique(rng.integers(0, 8, (300, 10)), axis=0)
    accuracy = places[:, :5].sum(axis=1) - 0.1 * places[:, 5] ** 2
    cost = places.sum(axis=1) + places[:, 0] * places[:, 9]
    np.savez(tmp_path / "t.npz", places=places, accuracy=accuracy, cost=cost)
    genes = "\n".join(f"  g{at}: [0, 1, 2, 3, 4, 5, 6, 7]" for at in range(10))
    space = parse_space(
        f"choices:\n{genes}\nevaluator:\n  table: t.npz\n  genes: places\n"
        "  objectives: {accuracy: maximize, cost: minimize}\n  cheap: cost"
    )
    assert space.table is not None
    table = TableEvaluator(space, space.table, tmp_path)
    objectives = {"accuracy": "maximize", "cost": "minimize"}
    seen: list[str] = []

    class Seen:
        cheap, listed = table.cheap, table.listed

        def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
            seen.append(architecture.key)
            return table.evaluate(architecture)

    front = dynnas.search(space, Seen(), sampler=sampler, trials=60, objectives=objectives)
    assert len(set(seen)) == 60
    if sampler == "guided":
        reference = {"accuracy": 10.0, "cost": 60.0}
        every = [ScoredArchitecture(one, table.evaluate(one)) for one in table.listed() or ()]
        whole = Front.of(every, objectives_of(objectives)).hypervolume(reference)
        assert front.hypervolume(reference) > 0.9 * whole


def test_noisy_draws_one_measurement_and_always_the_same(tmp_path: Path) -> None:
    names = "".join(f",s{seed}" for seed in range(50))
    values = "".join(f",{seed}" for seed in range(50))
    rows = (f"edge,width,flag,ms{names}", *(f"{edge},8,true,1{values}" for edge in ("none", "skip", "conv")))
    columns = ", ".join(f"s{seed}" for seed in range(50))
    space, table = evaluator(tmp_path, f"  metrics: {{accuracy: [{columns}]}}\n  noisy: true\n", rows)
    edges = ("none", "skip", "conv")
    found = [
        table.evaluate(space.architecture({"edge": edge, "width": 8, "flag": "true"}))["accuracy"]
        for edge in (*edges, *edges)
    ]
    assert found[:3] == found[3:]
    assert len(set(found)) > 1
    assert set(found) <= set(map(float, range(50)))


def test_an_index_matrix_counts_places(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    places = np.array([[0, 1], [2, 0], [1, 1], [7, 0]])
    accuracy, latency = rng.random((4, 3)), rng.random((4, 2))
    np.savez(
        tmp_path / "t.npz", places=places, accuracy=accuracy, devices=latency, names=np.array(["a", "b", "c"])
    )
    space = parse_space(
        """
choices: {op: [none, conv3, conv5], width: [16, 8]}
evaluator:
  table: t.npz
  genes: places
  metrics: {ms: "devices[1]"}
  objectives: {accuracy: maximize, ms: minimize}
  cheap: ms
"""
    )
    assert space.table is not None
    table = TableEvaluator(space, space.table, tmp_path)
    assert table.size == 3
    # Widths ascend in a space: the place 1 is 16.
    found = space.architecture({"op": "none", "width": 16})
    assert table.evaluate(found) == pytest.approx({"accuracy": accuracy[0].mean(), "ms": latency[0, 1]})
    assert table.cheap(found) == pytest.approx({"ms": latency[0, 1]})


@pytest.mark.parametrize(
    ("name", "separator"), [("t.csv", ","), ("t.csv", ";"), ("t.csv", "\t"), ("t.tsv", "\t")]
)
def test_columns_are_separated_as_the_first_line_tells(name: str, separator: str, tmp_path: Path) -> None:
    lines = [["a b", "c"], ["1", "x,y" if separator != "," else "x"], ["2", "z"]]
    (tmp_path / name).write_text("".join(separator.join(line) + "\n" for line in lines), encoding="utf-8-sig")
    read = TableFile.read(tmp_path / name).columns
    assert {column: list(values) for column, values in read.items()} == {
        "a b": [1, 2],
        "c": [lines[1][1], "z"],
    }


def test_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    space, table = evaluator(tmp_path, rows=ROWS[:3])
    pandas.read_csv(tmp_path / "table.csv").to_parquet(tmp_path / "table.parquet")
    other = parse_space(SPACE.format(file="table.parquet"))
    assert other.table is not None
    twin = TableEvaluator(other, other.table, tmp_path)
    for edge in ("none", "skip"):
        architecture = space.architecture({"edge": edge, "width": 8, "flag": "true"})
        assert table.evaluate(architecture) == twin.evaluate(architecture)


def test_parquet_without_its_packages_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dynnas\[tables\]'"):
        TableFile.read(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("  metrics: {accuracy: acuracy}\n", r"no column 'acuracy' for the metric 'accuracy' \(did you mean"),
        ("  metrics: {accuracy: edge}\n", "the metric 'accuracy' is no number everywhere"),
        ("  genes: {edge: kante}\n", "no column 'kante' for the choice 'edge'; it has edge, width"),
        ("  genes: {edge: accuracy}\n", "row 0 has '0.5' for 'edge', which may be none, skip, conv"),
        ("  genes: edge\n", r"'edge' has the shape \(6,\); the space has 3 choices, so \[rows, 3\]"),
        ("  limits: {params: 3}\n", "no column 'params' for the metric 'params'"),
    ],
)
def test_what_does_not_fit_is_named(extra: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=message):
        evaluator(tmp_path, extra)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xls", b"", "is none of .npz, .csv, .tsv, .parquet"),
        ("none.csv", None, r"none\.csv cannot be read: No such file or directory"),
        ("t.csv", b"a,b\n1\n", "line 2 has 1 fields, the first 2"),
        ("t.npz", b"nothing", r"t\.npz cannot be read"),
        ("t.csv", b"a,b\n", r"t\.csv has column names, but no rows"),
        ("t.csv", b"", r"t\.csv has no columns of one length"),
        ("t.csv", b"a,b,a\n1,2,3\n", r"t\.csv cannot be read: several columns are called 'a'; rename"),
    ],
)
def test_unreadable_tables(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StudyError, match=message):
        TableFile.read(tmp_path / name)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{objectives: {a: maximize}}", "evaluator: 'table' is missing"),
        ("{table: t.csv}", "evaluator: 'objectives' is missing"),
        ("{table: t.csv, objectives: {a: up}}", "objectives.a: found 'up'; allowed: maximize, minimize"),
        ("{table: t.csv, objectives: a}", "evaluator.objectives: found 'a'; allowed: a mapping from metrics"),
        ("{table: t.csv, objectives: {a: minimize}, genes: {y: z}}", "unknown key 'y'; allowed: x"),
        (
            "{table: t.csv, objectives: {a: minimize}, limits: {a: b}}",
            "limits.a: found 'b'; allowed: a number",
        ),
        ("{table: t.csv, objectives: {a: minimize}, nosy: true}", r"'nosy' \(did you mean 'noisy'"),
    ],
)
def test_slips_in_the_section(section: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        parse_space(f"choices: {{x: [1, 2]}}\nevaluator: {section}")


def test_a_network_has_no_table() -> None:
    text = "input: {resolutions: 8}\nstem: {width: 8}\nstages: [{width: 16}]\nevaluator: {table: t.csv}"
    with pytest.raises(SpaceError, match="a table goes with a space of `choices`"):
        parse_space(text)


def test_a_table_is_searched_from_the_command_line_without_torch(tmp_path: Path) -> None:
    rows = ["edge,width,flag,accuracy,ms"] + [
        f"{edge},{width},{flag},{0.1 * at + 0.01 * width},{at + width / 8}"
        for at, edge in enumerate(("none", "skip", "conv"))
        for width in (8, 16)
        for flag in ("true", "false")
    ]
    (tmp_path / "table.csv").write_text("\n".join(rows))
    file = tmp_path / "cells.yaml"
    file.write_text(SPACE.format(file="table.csv") + "search: {trials: 9}\n")
    studies = ("--studies", str(tmp_path / "studies"))
    words = ["search", str(file), *studies, "--quiet"]
    program = f"import sys; sys.modules['torch'] = None; from dynnas.cli.app import main; main({words})"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stderr == ""
    assert ran.returncode == 0
    folder = tmp_path / "studies/cells"
    assert {"front.png", "hypervolume.png", "front.json", "study.db"} <= {
        path.name for path in folder.iterdir()
    }
    again = command(*words, "--trials", "12")
    assert again.status == 0
    shown = command("front", "cells", "--json", *studies)
    members = json.loads(shown.out)["members"]
    best = max(member["accuracy"]["search"] for member in members)
    assert best == pytest.approx(0.36)
    (tmp_path / "table.csv").write_text("\n".join(rows[:-1]))
    changed = command("search", str(file), *studies)
    assert changed.status == 2
    assert "data is" in changed.err
    wrong = command("export", "cells", "--out", str(tmp_path / "out"), *studies)
    assert wrong.status == 2
    assert "a study of a table has no images and no networks" in wrong.err


@pytest.mark.skipif(not MACRO_FILE.exists(), reason="NAS-Bench-Macro is not there")
def test_the_published_table_is_searched_as_its_space_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNNAS_DATA", str(MACRO_FILE.parent))
    file = Path(__file__).parents[2] / "spaces/nbmacro.yaml"
    space = dynnas.load_space(file)
    assert space.table is not None
    table = TableEvaluator(space, space.table, file.parent)
    assert table.size == space.size == 6561
    with np.load(MACRO_FILE) as found:
        values = dict(zip((gene.name for gene in space.genes), found["choice"][1234].tolist(), strict=True))
        metrics = table.evaluate(space.architecture(values))
        assert metrics["accuracy"] == pytest.approx(found["test_acc"][1234].mean())
        assert metrics["flops"] == found["flops"][1234]
