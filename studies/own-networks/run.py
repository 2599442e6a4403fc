"""A vision transformer and a hybrid of one's own, searched on photographs, audited and exported.

    python studies/own-networks/run.py --data imagenette224_jpeg.npz [--networks levit vit] [--seed 0]
        [--size 96] [--epochs 5] [--trials 40] [--audited 8] [--audit-epochs 2] [--out DIR]

The classes are those of `docs/examples`. For each, its supernet is trained, its space searched by `guided` on
measured milliseconds beside the usual controls, and the knee of the front exported and compared with torch on
all search images. The ranking of the hybrid is audited: `--audited` networks are trained alone.

Interrupted, also by kill -9, the same command goes on. What is made is kept under `local/`, and the figures
in `results.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # where `shared` lies
sys.path.append(str(Path(__file__).parents[2] / "docs" / "examples"))
import torch
from levit import LeViT
from pictures import shrunk
from shared import run_study
from vit import ViT

import dynnas as dn
from dynnas.cli.progress import show_progress
from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.export.bundle import export_model
from dynnas.files import atomic_write
from dynnas.pareto.front import Front
from dynnas.progress import Progress
from dynnas.report.tables.table import is_dynamic
from dynnas.settings.settings import DataSettings, TargetSettings, TrainSettings
from dynnas.space.space import Space
from dynnas.study.study import Study
from dynnas.workflows.audit import audit_study

HERE = Path(__file__).parent
AUDITED = "levit"
RECIPES = {
    "levit": {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.025},
    "vit": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05},
}
METRICS = ("accuracy", "test_accuracy", "latency_ms", "mean_ms", "p95_ms", "macs", "params")


def levit_space(size: int, channels: int, classes: int) -> Space:
    """Return the space of the hybrid: maps of an eighth of the image, then of a sixteenth."""
    return dn.Space.of(
        LeViT,
        widths=[(32, 48), (48, 64), (48, 96), (64, 96)],
        depth=[(1, 1), (1, 2), (2, 2)],
        heads=[(1, 2), (2, 4)],
        ratio=[1, 2],
        op=["static", "condconv"],
        skip=[False, True],
        exit=[False, True],
        threshold=dn.when(exit=True, choose=[0.5, 0.7, 0.9]),
        size=size,
        reductions=3,
        channels=channels,
        classes=classes,
    )


def vit_space(size: int, channels: int, classes: int) -> Space:
    """Return the space of the transformer, in patches of a sixth and of an eighth of the image's side."""
    return dn.Space.of(
        ViT,
        depth=[3, 4, 6],
        width=[32, 48, 64],
        heads=dn.each("depth", choose=[2, 4]),
        ratio=dn.each("depth", choose=[1.0, 2.0, 3.0]),
        patch=[size // 6, size // 8],
        experts=[1, 2],
        kept=[1.0, 0.7, 0.5],
        exit=[False, True],
        threshold=dn.when(exit=True, choose=[0.5, 0.7, 0.9]),
        size=size,
        channels=channels,
        classes=classes,
    )


SPACES: dict[str, Callable[[int, int, int], Space]] = {"levit": levit_space, "vit": vit_space}


def searched(name: str, dataset: Dataset, given: argparse.Namespace, progress: Progress) -> Front:
    """Return the front of a network's space; its study is kept."""
    recipe: dict[str, Any] = RECIPES[name]
    return dn.search(
        SPACES[name](dataset.shape[1], dataset.channels, dataset.task.outputs),
        data=dataset,
        train=TrainSettings(
            epochs=given.epochs,
            batch=64,
            algorithms={"sandwich": {"random": 1}},
            calibration_images=512,
            seed=given.seed,
            **recipe,
        ),
        target=TargetSettings(seconds=given.seconds),
        trials=given.trials,
        seed=given.seed,
        folder=given.out / "local" / f"{name}-{given.seed}",
        progress=progress,
    )


def exported(study: Study, folder: Path) -> dict[str, Any]:
    """Export the knee as ONNX, and return how far it is from torch on all search images."""
    member = study.front.pick("knee")
    manifest = export_model(
        study.network(member.key),
        study.dataset,
        folder,
        images=len(study.dataset.search),
        overwrite=True,
    )
    return {
        "key": member.key,
        "artifacts": [
            {name: each[name] for name in ("file", "images", "agreement", "largest_difference")}
            for each in manifest["artifacts"]
        ],
    }


def figures(name: str, front: Any, given: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Return the figures of a searched network; the audit trains what is missing."""
    study: Study = front.study
    compared = study.comparison
    found: dict[str, Any] = {
        "network": name,
        "seed": given.seed,
        "members": [
            {metric: member.metrics[metric] for metric in METRICS}
            | {"key": member.key, "dynamic": is_dynamic(member.architecture, study.space)}
            | {"architecture": dict(member.architecture)}
            for member in front
        ],
        "hypervolume": compared.hypervolume,
        "hypervolume_on_test": compared.test,
        "order": compared.order,
        "export": exported(study, given.out / "local" / f"{name}-{given.seed}-knee"),
    }
    if name == AUDITED and given.audited:
        audit = audit_study(study, networks=given.audited, epochs=given.audit_epochs, progress=progress)
        found["audit"] = json.loads(audit.to_json())
    return found


def main() -> None:
    """Run what is missing, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a packed file of JPEG, or as in `data: source`")
    parser.add_argument("--networks", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=96, help="side to which packed pictures are brought")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--audited", type=int, default=8, help="networks of the audit; 0 for none")
    parser.add_argument("--audit-epochs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.2, help="for timing a network")
    parser.add_argument("--train-images", type=int, help="use only this many")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results and of local/")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    with show_progress() as progress:
        source = shrunk(given.data, given.size, given.out / "local")
        dataset = load_data(DataSettings(source=source, train_images=given.train_images), progress)
        for name in given.networks:
            found.append(figures(name, searched(name, dataset, given, progress), given, progress))
            document = {"data": Path(given.data).name, "shape": dataset.shape, "networks": found}
            atomic_write(given.out / "results.json", json.dumps(document, indent=1) + "\n")
    for each in found:
        print(f"{each['network']}: {len(each['members'])} members, hypervolumes {each['hypervolume']}")


if __name__ == "__main__":
    run_study(main)
