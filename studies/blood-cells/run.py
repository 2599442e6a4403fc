"""Detection of blood cells: a searched front beside a detector with a shelf backbone, by the same recipe.

    python studies/blood-cells/run.py --data BCCD [--seeds 0 1] [--epochs 60] [--trials 40]

Each is a study of its own under `local/`; interrupted, the same command goes on. `results.json` holds AP50 on
the search and the test images and the milliseconds of every network that is on a front.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # where `compared` lies

from compared import compare
from networks import ShelfDetector

from dynnas.space.space import Space

METRICS = ("ap50", "test_ap50", "ap", "test_ap", "latency_ms", "median_ms", "macs", "params")


def fixed(classes: int) -> dict[str, Space]:
    """Return the networks to compare with."""
    return {"shelf": Space.of(ShelfDetector, classes=[classes], width=[48])}


if __name__ == "__main__":
    compare(__doc__, Path(__file__).parent / "blood-cells.yaml", fixed, METRICS, epochs=60, trials=40)
