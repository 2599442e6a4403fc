"""The command that makes a space file of a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynnas.cli.options import arguments_of, image_shape, image_size

NewWeights = Annotated[
    bool, typer.Option("--new-weights", help="draw all weights again: a control for the trained ones")
]
Resolution = Annotated[
    list[str] | None,
    typer.Option(
        "--resolution",
        metavar="SIZE",
        help="a smaller size of images, to choose from: HEIGHTxWIDTH, or the side of a square",
    ),
]
PlainDepth = Annotated[
    bool, typer.Option("--plain-depth", help="blocks without a residual may be left out as well")
]


def elastic(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a state dict by torch.save, or .safetensors")],
    model: Annotated[
        str,
        typer.Option("--model", metavar="PACKAGE.MODULE:CLASS", help="what makes the network; or timm:NAME"),
    ],
    image: Annotated[str, typer.Option("--input", metavar="CxHxW", help="shape of an image: 3x224x224")],
    argument: Annotated[
        list[str] | None,
        typer.Option(
            "--argument", metavar="NAME=VALUE", help="an argument of the model, as num_classes=10; repeatable"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="the space file; FILE with .yaml if not given"),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="PATTERN", help="modules that stay as they are, as `layer1.*`"),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option("--classes", metavar="N", min=1, help="outputs of a new head in the place of its own"),
    ] = None,
    resolution: Resolution = None,
    op: Annotated[
        list[str] | None,
        typer.Option("--op", metavar="NAME", help="kernels that convolutions may get: condconv, dyconv"),
    ] = None,
    gate: Annotated[
        list[float] | None,
        typer.Option("--gate", metavar="SHARE", help="gates around residual blocks: the share to be used"),
    ] = None,
    exits: Annotated[
        list[str] | None,
        typer.Option("--exit", metavar="MODULE", help="a module behind which images may leave"),
    ] = None,
    new_weights: NewWeights = False,
    plain_depth: PlainDepth = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace files that are there")] = False,
) -> None:
    """Make a space file of a trained network.

    Its channels, blocks and kernels become choices; the largest network is the trained one. Prints what could
    not be made elastic, and why. Search it with `dynnas search`.
    """
    shape = image_shape(image)

    from dynnas.cli.elastic_file import make_elastic_file

    options: dict[str, object] = {"exclude": exclude, "classes": classes, "ops": op}
    options["resolution"] = [image_size(each) for each in resolution or ()]
    options |= {"gates": gate, "exits": exits, "plain_depth": plain_depth, "fresh": new_weights}
    given = {name: value for name, value in options.items() if value}
    place = out or Path(f"{file.stem}.yaml")
    made = make_elastic_file(
        file, model, shape, place, arguments=arguments_of(argument or []), options=given, overwrite=overwrite
    )
    print(made.space.model.report)  # type: ignore[union-attr]
    print(f"space:  {made.file}\nmodule: {made.module}")
