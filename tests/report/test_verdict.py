"""The sentence on top of a report: which network to take, how sure that is, and what else there was."""

from types import SimpleNamespace
from typing import Any

from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.objectives import Goal
from dynnas.report.conclusions import selection_text
from dynnas.report.verdict import verdict
from dynnas.space.architecture import Architecture
from dynnas.study.controls import Comparison, Controls
from dynnas.study.study import Study

GOAL = Goal.of(("accuracy", "latency_ms"))


def network(name: str, accuracy: float, latency: float, **more: float) -> ScoredArchitecture:
    tested = {"test_accuracy": accuracy - 0.02}
    metrics = {"accuracy": accuracy, "latency_ms": latency, **tested, **more}
    return ScoredArchitecture(Architecture((("name", name),)), metrics)


FAST = network("fast", 0.60, 0.1)
KNEE = network(
    "knee",
    0.80,
    0.2,
    test_accuracy_low=0.765,
    test_accuracy_high=0.795,
    test_gain=0.2,
    test_gain_low=0.1,
    test_gain_high=0.3,
)
SLOW = network("slow", 0.81, 0.4, test_gain=0.01, test_gain_low=-0.01, test_gain_high=0.03)


def made(members: list[ScoredArchitecture], static: tuple[ScoredArchitecture, ...] = (), **facts: Any) -> Any:
    return SimpleNamespace(
        front=Front.of(members, GOAL.objectives),
        goal=GOAL,
        space=SimpleNamespace(table=None),
        controls=Controls(static=static),
        **facts,
    )


def test_it_says_what_to_take_how_sure_that_is_and_what_else_there_was() -> None:
    static = (network("a", 0.70, 0.15), network("b", 0.82, 0.5), network("c", 0.65, 0.12))
    assert verdict(made([FAST, KNEE, SLOW], static)) == (
        f"Take {KNEE.key}, the knee of the front: 78.0% ± 1.5 of the test images at 0.2 ms. "
        f"As far as the test images tell it is no better or worse than {SLOW.key}. "
        "Without dynamic layers it would be 68.0% at 0.15 ms (-10.0 points). "
        "At half its time it is 58.0% (-20.0 points)."
    )


def test_a_static_network_is_not_compared_with_itself() -> None:
    said = verdict(made([FAST, KNEE, SLOW], (KNEE, network("a", 0.70, 0.15))))
    assert "It has no dynamic layers, and no static network is better in its time." in said
    assert "Without" not in said


def test_what_there_is_not_is_said() -> None:
    static = (network("b", 0.82, 0.5),)
    said = verdict(made([FAST, KNEE], static), "fastest")
    assert f"Take {FAST.key}, the fastest of the front: 58.0% of the test images at 0.1 ms." in said
    assert "Without dynamic layers nothing is as fast." in said
    assert "No member of the front takes half its time." in said
    assert verdict(made([])) == ""


def test_a_front_that_is_not_tested_says_what_it_reaches_on_the_search_images() -> None:
    untested = ScoredArchitecture(FAST.architecture, {"accuracy": 0.6, "latency_ms": 0.1})
    assert "60.0% of the search images at 0.1 ms." in verdict(made([untested], (network("a", 0.5, 0.1),)))


def test_selection_is_told_as_a_number() -> None:
    compared = Comparison({}, {}, optimism=0.031, unselected_optimism=0.012, order=0.9512)
    assert selection_text(made([FAST]), compared) == (
        "Over the front, accuracy is 3.1 points higher on the search images, by which its members were "
        "chosen, than on the test images; over random networks, which nothing has chosen, 1.2: choosing "
        "makes 1.9 points. The order of its members holds on the test images with Spearman 0.95."
    )
    assert selection_text(made([FAST]), Comparison({}, {})) == ""


def test_the_verdict_of_a_real_study_is_that_of_its_knee(study: Study) -> None:
    knee = study.front.pick("knee")
    said = verdict(study)
    assert said.startswith(
        f"Take {knee.key}, the knee of the front: {100 * knee.metrics['test_accuracy']:.1f}%"
    )
