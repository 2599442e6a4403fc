"""What a search begins with: architectures and earlier studies, by space files, flags and from Python."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from optuna.storages import InMemoryStorage
from support.cli import command
from support.tables import grid_space, write_table

import dynnas
from dynnas.cli.options import command_of
from dynnas.errors import SpaceError, StudyError
from dynnas.language.parser import load_space
from dynnas.pareto.front import Front
from dynnas.settings.settings import SearchSettings
from dynnas.space.architecture import Architecture
from dynnas.space.gene import Gene
from dynnas.space.space import Space
from dynnas.study.folder import StudyFolder
from dynnas.study.given import KnownBefore, parse_architecture
from dynnas.study.study import Study, open_study

WRITTEN = "x0=3 x1=0 x2=1 x3=2 x4=3"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Eight random trials of a table."""
    folder = tmp_path_factory.mktemp("earlier")
    ran = command(
        "search", str(write_table(folder)), "--trials", "8", "--name", "old", "--studies", str(folder)
    )
    assert ran.status == 0, ran.err
    return open_study("old", folder)


def found_by(study: Study) -> list[str]:
    return [candidate.key for candidate in study.candidates]


def test_a_space_file_and_flags_name_what_a_search_begins_with(earlier: Study, tmp_path: Path) -> None:
    """The flag takes the place of the file's; the earlier study is found beside the new one."""
    studies, file = earlier.folder.path.parent, write_table(tmp_path)
    file.write_text(file.read_text().replace("sampler: random", "starts: [old], sampler: guided"))
    space = load_space(file)
    assert space.settings.search.starts == ("old",)
    words = ("--studies", str(studies), "--trials", "6", "--name", "new")
    ran = command("search", str(file), *words, "--earlier", "old", "--starts", WRITTEN, "--starts", "old")
    assert ran.status == 0, ran.err
    study = open_study("new", studies)
    begun = [parse_architecture(space, WRITTEN).key, *(one.key for one in Front.load(earlier.folder.front))]
    assert found_by(study)[: len(begun)] == begun[:6]
    assert study.settings.search.starts == (WRITTEN, "old")
    assert study.settings.search.earlier == ("old",)
    # The same command goes on, and says how it was called.
    assert f"--starts '{WRITTEN}' --starts old --earlier old" in command_of(study)
    again = command("search", str(file), *words[:3], "7", *words[4:], "--starts", WRITTEN, "--starts", "old")
    assert again.status == 0, again.err
    assert found_by(open_study("new", studies))[:6] == found_by(study)


def test_starts_are_proposed_also_where_a_study_goes_on() -> None:
    space = grid_space(6)

    class Sums:
        def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
            values = [float(value) for value in architecture.values()]
            return {"accuracy": 2 * values[0] - sum(values), "latency_ms": 1 + sum(values)}

    storage = InMemoryStorage()
    dynnas.search(space, Sums(), trials=5, sampler="random", storage=storage)
    start = {"x0": 3, **{f"x{at}": 0 for at in range(1, 6)}}
    front = dynnas.search(space, Sums(), trials=6, sampler="random", storage=storage, starts=[start])
    assert dict(front.pick("most-accurate").architecture) == start
    assert front.pick("most-accurate").trial == 5


def test_results_are_those_of_all_trials_that_the_space_has(earlier: Study) -> None:
    own = StudyFolder(earlier.folder.path.parent / "own")
    search = SearchSettings(earlier=("old",))
    known = KnownBefore().with_settings(earlier.space, search, None, own)
    assert [(one.key, dict(one.metrics)) for one in known.earlier] == [
        (one.key, dict(one.metrics)) for one in earlier.candidates
    ]
    # Of a smaller space some architectures remain, and a front's file does as well as a study.
    genes = (Gene("x0", (0, 1, 2), ordered=True), *earlier.space.genes[1:])
    small = Space("small", genes)
    inside = [one.key for one in earlier.candidates if one.architecture["x0"] < 3]
    assert 0 < len(inside) < len(earlier.candidates)
    search = SearchSettings(earlier=(str(earlier.folder.path),))
    assert [one.key for one in KnownBefore().with_settings(small, search, None).earlier] == inside
    search = SearchSettings(earlier=(str(earlier.folder.front),))
    known = KnownBefore().with_settings(earlier.space, search, None, own)
    assert [one.key for one in known.earlier] == [one.key for one in earlier.front]


@pytest.mark.parametrize(
    ("settings", "sampler", "message"),
    [
        ({"earlier": ("none",)}, "guided", "no study 'none'"),
        ({"starts": ("none",)}, "guided", "no study 'none'"),
        ({"earlier": ("old",)}, "nsga2", "guided, which learns from them; nsga2 does not"),
        ({"earlier": ("missing.json",)}, "guided", "missing.json: cannot be read"),
    ],
)
def test_what_cannot_be_begun_with_is_refused(
    earlier: Study, settings: Mapping[str, tuple[str, ...]], sampler: str, message: str
) -> None:
    own = StudyFolder(earlier.folder.path.parent / "own")
    with pytest.raises(StudyError, match=message):
        KnownBefore().with_settings(earlier.space, SearchSettings(sampler=sampler, **settings), None, own)


def test_a_study_does_not_begin_with_itself_or_with_other_networks(earlier: Study) -> None:
    search = SearchSettings(starts=("old",))
    with pytest.raises(StudyError, match="cannot begin with itself: old"):
        KnownBefore().with_settings(earlier.space, search, None, earlier.folder)
    other = Space("other", (Gene("y", (1, 2)),))
    own = StudyFolder(earlier.folder.path.parent / "own")
    with pytest.raises(StudyError, match=r"none of its [1-8] architectures is of the space 'other'"):
        KnownBefore().with_settings(other, search, None, own)


def test_a_written_architecture_is_checked_against_the_space() -> None:
    space = Space("mixed", (Gene("op", ("a", "b")), Gene("n", (1, 2), (("op", ("b",)),), ordered=True)))
    assert dict(parse_architecture(space, "op=b n=2")) == {"op": "b", "n": 2}
    assert dict(parse_architecture(space, "op=a")) == {"op": "a"}
    spaced = Space("spaced", (Gene("a.gate", ("skip 0.5", "none")), Gene("kernel", ((3, 5), (5, 5)))))
    written = parse_architecture(spaced, "a.gate=skip 0.5 kernel=(3, 5)")
    assert dict(written) == {"a.gate": "skip 0.5", "kernel": (3, 5)}
    with pytest.raises(SpaceError, match="there is no gene 'opp'"):
        parse_architecture(space, "opp op=b n=2")
    with pytest.raises(SpaceError, match="n is '3'; allowed: 1, 2"):
        parse_architecture(space, "op=b n=3")
    with pytest.raises(SpaceError, match="n is not given"):
        parse_architecture(space, "op=b")
