"""The command line that studies share."""

from pathlib import Path

import pytest
from support.scripts import load_script

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture(scope="module")
def shared():
    return load_script(STUDIES / "shared.py")


def _parser(shared, data="digits"):
    return shared.study_parser("Says what.", Path("here"), data=data, epochs=3, seeds=(0, 1), seconds=2.0)


def test_defaults_are_the_studys(shared):
    args = vars(_parser(shared).parse_args([]))
    expected = {"step": "all", "data": "digits", "epochs": 3, "seeds": [0, 1], "seconds": 2.0}
    assert args == {**expected, "out": Path("here")}


def test_data_may_have_to_be_given(shared, capsys):
    with pytest.raises(SystemExit, match="2"):
        _parser(shared, data=None).parse_args(["train"])
    assert "--data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("step", "runs"),
    [
        ("all", ["train", "measure", "report"]),
        ("train", ["train"]),
        ("measure", ["measure", "report"]),
        ("report", ["report"]),
    ],
)
def test_what_was_not_only_trained_is_reported(shared, step, runs):
    done = []
    shared.run_steps(
        step, lambda _: done.append("train"), lambda _: done.append("measure"), lambda: done.append("report")
    )
    assert done == runs


def test_ctrl_c_says_how_to_go_on(shared):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="interrupted; the same command goes on"):
        shared.run_study(interrupted)
