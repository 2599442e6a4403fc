"""The tasks that a study is going to have, so that it can be told how long all of it will take."""

from __future__ import annotations

from dynnas.data.dataset import Dataset
from dynnas.language.study_space import StudySpace
from dynnas.progress import Phase
from dynnas.study.controls import UNSELECTED, uniform_widths
from dynnas.study.static_part import static_part

_EVALUATION = "evaluation"

# Guesses, until the first step is done: what small networks take on one core beside the timing.
_STEP_SECONDS, _SCORE_SECONDS = 0.2, 0.4

_FRONT = 10  # members, about

# Runs of a network for each image of a step: about two networks, each forward and backward (as two forward).
_RUNS = 6


def phases_of_study(space: StudySpace, dataset: Dataset) -> tuple[Phase, ...]:
    """Return the phases of `run_study`, with the numbers of their steps as far as they are known."""
    train, search, target = space.settings.train, space.settings.search, space.settings.target
    seconds = _SCORE_SECONDS + target.seconds
    scored = len(dataset.search.images) + train.calibration_images

    def evaluations(name: str, steps: int, about: str) -> Phase:
        return Phase(name, steps, seconds, _EVALUATION, about, scored)

    steps = train.epochs * (dataset.steps(train.batch) // train.accumulate)
    trained = _RUNS * train.batch * train.accumulate
    phases = [
        Phase("training", steps, _STEP_SECONDS, images=trained),
        evaluations("search", search.trials, ""),
    ]
    if search.controls:
        static = static_part(space)
        names = [evaluations("random control", max(1, search.trials // 2), "to compare with chance")]
        if static and static.digest != space.digest:
            about = "to compare with networks without dynamic layers"
            names.append(evaluations("static-only control", search.trials, about))
        if static and (uniform := uniform_widths(static)):
            about = "to compare with one width for all"
            names.append(evaluations("uniform-width control", len(uniform), about))
        phases += names
    phases.append(Phase("finishing the front", 3 * _FRONT, seconds / 3))
    if search.controls:
        tested = len(dataset.test.images) + train.calibration_images
        phases.append(Phase("testing the controls", UNSELECTED + 2 * _FRONT, _SCORE_SECONDS, images=tested))
    return tuple(phases)
