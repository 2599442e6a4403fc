"""The weights of a study's networks: the supernet's, or those of a training or a pass."""

from __future__ import annotations

from collections.abc import Sequence

from dynnas.errors import StudyError
from dynnas.study.records.compressed import Compressed
from dynnas.study.records.trained import Trained


def choose_weights(
    key: str, which: str, trained: Sequence[Trained], compressed: Sequence[Compressed]
) -> Trained | Compressed | None:
    """Return the training or the pass whose weights a network should have; None for the inherited ones.

    Args:
        key: of the network.
        which: as `Study.weights_of` takes it.
        trained, compressed: all trainings and passes of the study.

    Raises:
        StudyError: there is no such training or pass of this network, or several.
    """
    own = [each for each in trained if each.key == key]
    if which == "inherited":
        return None
    if which == "best":
        best = None
        for each in own:
            if best is None or each.metric.better(each.score, best.score):
                best = each
        return None if best is None or best.metric.better(best.inherited, best.score) else best
    made = [each for each in compressed if each.key == key and each.file]
    known: list[Trained | Compressed] = [*own, *made]
    found = [each for each in known if each.name.startswith(which)]
    if len(found) != 1:
        names = ", ".join(("best", "inherited", *(each.name for each in known)))
        raise StudyError(
            f"{len(found) or 'no'} trainings of {key} have the name {which!r}; allowed are {names}"
        )
    return found[0]
