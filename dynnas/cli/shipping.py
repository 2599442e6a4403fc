"""The commands between a front and exported models: each calls one workflow and prints what it returns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dynnas.cli.options import STUDIES, Picks, Quiet, Studies, StudyName, Weights

if TYPE_CHECKING:
    from dynnas.settings.settings import TrainSettings
    from dynnas.study.study import Study


Start = Annotated[
    Literal["inherited", "scratch"],
    typer.Option("--from", help="weights to start from: the supernet's, or fresh ones"),
]
TuningEpochs = Annotated[
    int | None, typer.Option("--epochs", min=1, help="epochs of tuning; the supernet's if not given")
]
TrainEpochs = Annotated[
    int | None, typer.Option("--epochs", min=1, help="number of epochs; the supernet's if not given")
]
TrainSeed = Annotated[
    int | None, typer.Option("--seed", min=0, help="seed of the training; the supernet's if not given")
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--lr", min=0, help="peak learning rate; the supernet's, a quarter of it for inherited weights"
    ),
]
Kernels = Annotated[
    Literal["real", "binary", "ternary", "int8"],
    typer.Option(
        "--weights",
        help="kind of weights; binary: kernels of signs (BinaryConnect); ternary: of two numbers and zero; "
        "int8: quantisation-aware, for members in int8",
    ),
]
Temperature = Annotated[float, typer.Option("--temperature", min=0.1, help="temperature of the distillation")]
TeacherWeight = Annotated[
    float, typer.Option("--teacher-weight", min=0, max=1, help="the teacher's share in the loss")
]
Smoothing = Annotated[
    float | None,
    typer.Option("--label-smoothing", min=0, max=0.99, help="label smoothing; the supernet's if not given"),
]
Decay = Annotated[
    float, typer.Option("--ema", min=0, max=0.99999, help="decay of the average of weights; 0 for none")
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option("--precision", help="numeric type; auto is bfloat16 on CUDA, float32 elsewhere"),
]


def train(
    study: StudyName,
    pick: Picks = None,
    start: Start = "inherited",
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher",
            help="largest: the supernet's largest network teaches; none; or names of earlier trainings of "
            "the study, joined by commas, or by a plus for the mean of their weights",
        ),
    ] = "largest",
    epochs: TrainEpochs = None,
    seed: TrainSeed = None,
    lr: LearningRate = None,
    weights: Kernels = "real",
    temperature: Temperature = 2.0,
    teacher_weight: TeacherWeight = 0.5,
    smoothing: Smoothing = None,
    ema: Decay = 0.999,
    precision: Precision = "auto",
    studies: Studies = STUDIES,
    quiet: Quiet = False,
) -> None:
    """Train networks of the front alone.

    On from the supernet's weights or from fresh ones, taught by the supernet's largest network. They join the
    study, and export takes the best. Interrupted, the same command goes on.
    """
    from dynnas.cli.printing import print_table
    from dynnas.cli.progress import show_progress
    from dynnas.report.tables.trained import trained_table
    from dynnas.study.study import open_study
    from dynnas.workflows.train import recipe_of, train_members

    opened = open_study(study, studies)
    settings = replace(_settings(opened, epochs, seed), precision=precision)
    if smoothing is not None:
        settings = settings.with_algorithms(label_smoothing={"share": smoothing})
    recipe = recipe_of(
        settings,
        start,
        lr,
        teacher=teacher,
        teacher_weight=teacher_weight,
        teacher_temperature=temperature,
        ema=ema,
        weights=weights,
    )
    with show_progress(quiet) as progress:
        found = train_members(opened, opened.front.picks(pick or ["knee"]), recipe, progress)
    print_table(trained_table(found, opened.name))
    print(f"written to: {opened.folder.trained}")


def _settings(study: Study, epochs: int | None, seed: int | None) -> TrainSettings:
    """Return the training settings of a study with the given ones in their place."""
    settings = study.settings.train
    return replace(
        settings,
        epochs=settings.epochs if epochs is None else epochs,
        seed=settings.seed if seed is None else seed,
    )


def audit(
    study: StudyName,
    networks: Annotated[
        int, typer.Option("--networks", min=3, help="number of networks to train alone")
    ] = 16,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="epochs of each network; the supernet's if not given"),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="number of trainings of each network")] = 1,
    studies: Studies = STUDIES,
    quiet: Quiet = False,
) -> None:
    """Train some networks alone, and say how well the supernet ranks them.

    Members of the front and other candidates, spread over their latencies. Interrupted, the same command goes
    on; trained networks are kept.
    """
    from dynnas.cli.printing import print_table
    from dynnas.cli.progress import show_progress
    from dynnas.report.audit import audit_table, draw_audit, neighbours_text
    from dynnas.study.study import open_study
    from dynnas.workflows.audit import audit_study

    opened = open_study(study, studies)
    with show_progress(quiet) as progress:
        result = audit_study(opened, networks=networks, epochs=epochs, seeds=seeds, progress=progress)
    picture = draw_audit(result, opened.name, opened.folder.audit_picture)
    print_table(audit_table(result, opened.name))
    print(f"{neighbours_text(result)}\naudit:   {opened.folder.audit}\npicture: {picture}")


def cascade(
    study: StudyName,
    size: Annotated[Literal["2", "3"], typer.Option("--size", help="most networks in a chain")] = "2",
    keep: Annotated[
        int,
        typer.Option(
            "--keep", min=1, metavar="N", help="keep the N cascades with the largest hypervolume gain"
        ),
    ] = 10,
    objective: Annotated[
        Literal["latency_ms", "macs"] | None,
        typer.Option("--objective", help="cost to weigh against the score; the search's if not given"),
    ] = None,
    weights: Annotated[
        Literal["inherited", "best"],
        typer.Option("--weights", help="weights of the networks: the supernet's, or the best trained ones"),
    ] = "inherited",
    studies: Studies = STUDIES,
    quiet: Quiet = False,
) -> None:
    """Chain networks of the front: the next one runs only where one is not confident.

    All pairs and triples with their thresholds are scored on search images from what each network says alone.
    Those that make the front better join the study, tested once and timed as one. Interrupted, the same
    command goes on.
    """
    from dynnas.cli.printing import print_table
    from dynnas.cli.progress import show_progress
    from dynnas.report.study import write_picture
    from dynnas.report.tables.cascades import cascades_table
    from dynnas.study.study import open_study
    from dynnas.workflows.cascades.cascade import cascade_study

    opened = open_study(study, studies)
    with show_progress(quiet) as progress:
        found = cascade_study(
            opened, size=int(size), keep=keep, by=objective, weights=weights, progress=progress
        )
    print_table(cascades_table(opened, found))
    print(f"cascades: {opened.folder.cascades}\npicture:  {write_picture(opened)}")


PassName = Annotated[
    Literal["int8", "qat", "prune", "cluster", "lottery"],
    typer.Option(
        "--pass",
        help="int8: static quantisation; qat: the same after quantisation-aware training; prune: whole "
        "channels; cluster: shared weights in Huffman codes; lottery: single weights, rewound to early ones",
    ),
]
Ticket = Annotated[
    Literal["rewound", "signs", "trained", "fresh"] | None,
    typer.Option(
        "--ticket",
        help="what a lottery ticket begins with: the early weights, their signs, the trained weights, or new "
        "ones; rewound if not given",
    ),
]
Importance = Annotated[
    Literal["magnitude", "taylor", "obd", "random"] | None,
    typer.Option(
        "--importance",
        help="what prune keeps: the largest filters, or those without which the loss would grow most, by "
        "its first (taylor) or second derivatives (obd: optimal brain damage), or random ones, a control; "
        "magnitude if not given",
    ),
]


def compress(
    study: StudyName,
    method: PassName,
    pick: Picks = None,
    weights: Weights = "best",
    amount: Annotated[
        float | None,
        typer.Option(
            "--amount",
            min=0.01,
            max=0.99,
            help="share to drop; 0.3 of channels or 0.8 of weights if not given",
        ),
    ] = None,
    bits: Annotated[
        int | None, typer.Option("--bits", min=1, max=8, help="bits of a cluster's index; 5 if not given")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option("--images", min=1, help="training images that set the ranges of int8; 256 if not given"),
    ] = None,
    rewind: Annotated[
        int | None, typer.Option("--rewind", min=1, help="epoch to rewind to; 1 if not given")
    ] = None,
    ticket: Ticket = None,
    importance: Importance = None,
    epochs: TuningEpochs = None,
    seed: TrainSeed = None,
    lr: Annotated[float | None, typer.Option("--lr", min=0, help="peak learning rate, as in train")] = None,
    teacher: Annotated[str, typer.Option("--teacher", help="teacher of the tuning, as in train")] = "largest",
    studies: Studies = STUDIES,
    quiet: Quiet = False,
) -> None:
    """Make networks of the front smaller.

    Each pass says what it did to accuracy, to the file's size and to the measured latency. Interrupted, the
    same command goes on.
    """
    from dynnas.cli.printing import print_table
    from dynnas.cli.progress import show_progress
    from dynnas.compression import PASSES
    from dynnas.report.tables.trained import compressed_table, compressed_text
    from dynnas.study.study import open_study
    from dynnas.workflows.compress import compress_members
    from dynnas.workflows.train import recipe_of

    opened = open_study(study, studies)
    given: dict[str, float | str | None] = {
        "amount": amount, "bits": bits, "images": images, "rewind": rewind, "importance": importance,
        "start": ticket,
    }  # fmt: skip
    options = {name: value for name, value in given.items() if value is not None}
    recipe = recipe_of(_settings(opened, epochs, seed), PASSES[method].start, lr, teacher=teacher)
    with show_progress(quiet) as progress:
        found = compress_members(
            opened, opened.front.picks(pick or ["knee"]), method, recipe,
            weights=weights, options=options, progress=progress,
        )  # fmt: skip
    print_table(compressed_table(found, opened.name))
    print("\n".join(map(compressed_text, found)))
    print(f"written to: {opened.folder.compressed}")
