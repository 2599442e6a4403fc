"""What space files mean."""

from pathlib import Path

from dynnas.language.parser import load_space, parse_space
from dynnas.settings.settings import SearchSettings, Settings, TrainSettings
from dynnas.space.space import Space

MINIMAL = "input: {resolutions: 8}\nstem: {width: 8}\nstages: [{width: [8, 16]}]"


def values(space: Space, gene: str) -> tuple[object, ...]:
    return space.gene(gene).values


def test_knobs_take_one_value_a_list_or_a_range(everything: Space) -> None:
    assert values(everything, "resolution") == (24, 28, 32)
    assert values(everything, "stem.width") == (8, 16)
    assert values(everything, "stage1.stride") == (2,)
    assert values(everything, "stage1.1.expand") == (1.0, 1.5, 2.0)
    assert all(isinstance(value, float) for value in values(everything, "stage1.1.expand"))


def test_categories_have_the_order_of_the_vocabulary(everything: Space) -> None:
    assert values(everything, "stage1.1.block") == ("conv", "dwsep", "mbconv")
    assert values(everything, "stage1.1.op") == ("static", "condconv", "dyconv", "dynet")
    assert values(everything, "stem.activation") == ("relu", "silu")
    assert not everything.gene("stage1.1.op").ordered
    assert everything.gene("stage1.1.kernel").ordered


def test_a_layer_overrides_its_stage(everything: Space) -> None:
    assert values(everything, "stage1.0.op") == ("static",)
    assert values(everything, "stage1.2.kernel") == (7,)
    assert values(everything, "stage1.2.experts") == (8,)
    assert values(everything, "stage1.1.experts") == (2, 4)
    assert "stage1.0.experts" not in [gene.name for gene in everything.genes]


def test_exits_choose_among_their_places_fewest_first(everything: Space) -> None:
    assert values(everything, "exits.at") == (
        *("none", "stage1", "stage2", "stage3.0"),
        *("stage1+stage2", "stage1+stage3.0", "stage2+stage3.0"),
    )
    assert everything.gene("exits.stage3.0.threshold").condition == (
        ("exits.at", ("stage3.0", "stage1+stage3.0", "stage2+stage3.0")),
    )
    assert values(everything, "exits.stage1.threshold") == (0.7, 0.9)


ALGORITHMS = {
    "router_temperature": {"epochs": 2.0},
    "sandwich": {"random": 3},
    "policy_loss": False,
    "ema": {},
}


def test_sections_of_a_study_become_settings(everything: Space) -> None:
    assert everything.settings.train == TrainSettings(
        epochs=3, lr=0.1, experts="separate", algorithms=ALGORITHMS
    )
    assert everything.settings.search == SearchSettings(
        trials=5,
        objectives=("accuracy", "macs"),
        constraints={"latency_ms": 5.0, "macs": 4e6},
        controls=False,
    )
    assert everything.settings.data.train_images is None
    assert parse_space(MINIMAL).settings == Settings()


def test_plain_choices_are_kept_as_given(choices: Space) -> None:
    assert values(choices, "edge0") == ("none", "skip", "conv3x3")
    assert values(choices, "cells") == (1, 3, 5)
    assert choices.gene("cells").ordered
    assert values(choices, "flag") == ("true", "false", "maybe")
    assert values(choices, "mixed") == ("a", 1, 2.5)
    assert values(choices, "fixed") == ("only",)
    assert (choices.network, choices.settings) == (None, Settings())


def test_the_name_is_the_files_unless_it_gives_one(tmp_path: Path, everything: Space) -> None:
    assert everything.name == "everything.v1"
    path = tmp_path / "my space (2).yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    space = load_space(path)
    assert (space.name, space.source) == ("my-space--2-", str(path))
    assert parse_space(MINIMAL).source is None


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_text(MINIMAL, encoding="utf-8-sig")
    assert load_space(path).size == 2
