"""The further devices of a study, and the front on each."""

from __future__ import annotations

from dynnas.report.tables.table import Column, Table, is_share
from dynnas.study.devices import front_on
from dynnas.study.study import Study


def devices_table(study: Study) -> Table:
    """Return one row for each further device: its target, and the ends and the knee of its own front.

    An end is a score and the milliseconds of a call there.
    """
    rows = []
    for name, target in study.settings.devices.items():
        front = front_on(study, name)
        score, cost = (objective.name for objective in front.objectives)
        unit, digits = (100.0, ".2f") if is_share(score) else (1.0, ".4g")
        known = {member.key for member in study.front}
        shared = sum(member.key in known for member in front)
        ends = (
            [
                f"{unit * member.metrics[score]:{digits}} at {member.metrics[cost]:.4g} ms"
                for member in (front.pick(which) for which in ("fastest", "knee", "most-accurate"))
            ]
            if front
            else [""] * 3
        )
        where = [target.device, *([target.runtime] if target.runtime != "auto" else [])]
        rows.append((name, ", ".join(where), str(len(front)), str(shared), *ends))
    columns = (
        Column("device"),
        Column("where"),
        Column("networks on its front", numeric=True),
        Column("of them on the study's", numeric=True),
        *(Column(which, numeric=True) for which in ("fastest", "knee", "most accurate")),
    )
    return Table(f"{study.name}: the front on each device", columns, tuple(rows))
