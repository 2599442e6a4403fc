"""Networks that are sampled by their size, and images that grow."""

import itertools
import random
from collections import Counter

import pytest
import torch
from support.interrupts import Interrupt
from support.runs import run_of
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dynnas.errors import TrainingError
from dynnas.language.parser import parse_space
from dynnas.nn.networks.cost import cost
from dynnas.space.moves import enumerate_all, largest, smallest
from dynnas.space.space import Space
from dynnas.supernet.staged import staged_supernet
from dynnas.supernet.supernet import Supernet
from dynnas.tasks import Classification
from dynnas.training.algorithms.progressive_resolution import ProgressiveResolution
from dynnas.training.algorithms.sampling.adjacent_sampling import AdjacentSampling, anchors
from dynnas.training.algorithms.sampling.attentive_sampling import AttentiveSampling
from dynnas.training.algorithms.sampling.sandwich import Sandwich
from dynnas.training.algorithms.sampling.sizes import Sizes
from dynnas.training.trainer import Trainer

IMAGES = torch.randn(48, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(48) % 4


class Mine(nn.Module):
    """Its networks of one size differ in what they do with their numbers."""

    def __init__(self, width: int, sign: int) -> None:
        super().__init__()
        self.body, self.head, self.sign = nn.Linear(16, width), nn.Linear(width, 4), sign

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.sign * self.body(x.flatten(1))))


SPACE = Space.of(Mine, width=[2, 4, 8, 16], sign=[-1, 1])
STAGED = parse_space("""
input: {channels: 1, classes: 4, resolutions: [4, 6, 8]}
stem: {width: [2, 4]}
stages: [{block: conv, depth: [1, 2], width: [4, 8]}]
""")


def supernet():
    return Supernet(SPACE, seed=0)


def trainer_of(model, algorithms, images=IMAGES, **more):
    return Trainer(
        model,
        Classification(4),
        DataLoader(TensorDataset(images, LABELS), 16),
        algorithms=algorithms,
        optimizer=lambda module: torch.optim.SGD(module.parameters(), lr=0.1),
        **more,
    )


def ready(algorithm, model, step=0, total=100):
    """A run of an algorithm whose candidates can be run."""
    run = run_of([algorithm], LABELS[:16], model=model, step=step, total=total)
    run.inputs = IMAGES[:16]

    def outputs(model, architecture, context, open_gates=False):
        return model.forward(run.inputs, architecture, context, open_gates)

    run.outputs = outputs
    return run


def test_sizes_are_multiply_adds():
    own = Sizes(supernet())
    assert {width: own.of(SPACE.architecture({"width": width, "sign": 1}), IMAGES) for width in (2, 16)} == {
        2: 2 * 16 + 2 * 4,
        16: 16 * 16 + 16 * 4,
    }
    staged = staged_supernet(STAGED, channels=1, classes=4)
    for architecture in enumerate_all(STAGED):
        expected = cost(STAGED.network_config(architecture, 1, 4)).macs
        assert Sizes(staged).of(architecture, IMAGES) == expected
    low, high = (own.of(each(SPACE), IMAGES) for each in (smallest, largest))
    levels = own.levels(SPACE, 3, IMAGES)
    assert (levels[0][0], levels[-1][1]) == (low, high)
    ratios = [above / below for below, above in levels]
    assert ratios == pytest.approx([ratios[0]] * 3, rel=0.02)
    assert own.of(own.near(SPACE, 80, 0.05, IMAGES, random.Random(0)), IMAGES) == 80
    assert own.of(own.near(SPACE, 100, 0.0, IMAGES, random.Random(0)), IMAGES) == 80  # the nearest


@pytest.mark.parametrize(("prefer", "best"), [("best", min), ("worst", max)])
def test_the_best_or_worst_of_several_of_one_size_is_trained(prefer, best):
    model = supernet()
    algorithm = AttentiveSampling(random=3, candidates=4, prefer=prefer)
    seen = 0
    for step in range(6):
        run = ready(algorithm, model, step)
        groups = algorithm.groups(run)
        found = [each.architecture for each in algorithm.networks(run)]
        picked = []
        for group in groups:
            assert len({each["width"] for each in group}) == 1
            with torch.no_grad():
                losses = {each: F.cross_entropy(model(each, run.inputs), LABELS[:16]) for each in group}
            picked.append(best(losses, key=losses.get))
            seen += len(losses) > 1
        assert found == list(dict.fromkeys((largest(SPACE), smallest(SPACE), *picked)))
        assert algorithm.networks(run)[0].open_gates
    assert seen > 5
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_attended_sizes_are_those_of_random_networks():
    algorithm = AttentiveSampling(random=1, candidates=2)
    run, sizes = ready(algorithm, supernet()), Counter()
    for run.step in range(400):
        (group,) = algorithm.groups(run)
        sizes[group[0]["width"]] += 1
    assert all(70 < sizes[width] < 130 for width in (2, 4, 8, 16))


def test_an_interrupted_training_of_attended_networks_ends_with_the_same_weights(tmp_path):
    def trainer(folder):
        algorithms = [AttentiveSampling(), "in_place_distillation"]
        return trainer_of(supernet(), algorithms, folder=tmp_path / folder, epochs=2, accumulate=2)

    whole = trainer("whole").fit().state_dict()
    parts = trainer("parts")
    with pytest.raises(KeyboardInterrupt):
        parts.fit(progress=Interrupt(1))
    again = trainer("parts").fit().state_dict()
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_the_level_of_sizes_moves_by_one():
    algorithm, model = AdjacentSampling(levels=4, random=2), supernet()
    ready(algorithm, model)
    walk = [algorithm.level(0, step) for step in range(2000)]
    moves = Counter((first, second - first) for first, second in itertools.pairwise(walk))
    assert {move for _, move in moves} == {-1, 0, 1}
    assert {level for level, _ in moves} == {0, 1, 2, 3}
    inner = sum(count for (level, _), count in moves.items() if level in (1, 2))
    stays = sum(moves[level, 0] for level in (1, 2)) / inner
    assert stays == pytest.approx(1 / 3, abs=0.05)
    assert moves[0, 0] / (moves[0, 0] + moves[0, 1]) == pytest.approx(2 / 3, abs=0.06)
    again = AdjacentSampling(levels=4, random=2)
    again.on_start(ready(again, model))
    assert again.level(0, 1500) == walk[1500]


def test_networks_of_a_step_are_of_its_level_and_the_largest_teaches():
    algorithm, model = AdjacentSampling(levels=4, random=2, anchors=2), supernet()
    run = ready(algorithm, model)
    sizes = Sizes(model)
    levels = sizes.levels(SPACE, 4, IMAGES)
    small, other = anchors(SPACE, 2)
    assert small == smallest(SPACE)
    assert other["width"] == 4
    met = set()
    for step in range(40):
        run.step = step
        networks = algorithm.networks(run)
        counted = [sizes.of(each.architecture, IMAGES) for each in networks]
        assert counted == sorted(counted, reverse=True)
        assert [each.open_gates for each in networks] == [True] + [False] * (len(networks) - 1)
        low, high = levels[algorithm.level(0, step)]
        anchor = other if sizes.of(other, IMAGES) <= low else small
        assert anchor in [each.architecture for each in networks]
        inside = [size for each, size in zip(networks, counted, strict=True) if each.architecture != anchor]
        assert all(low <= size <= high for size in inside)
        met |= {(anchor["width"], algorithm.level(0, step))}
    assert {width for width, _ in met} == {2, 4}
    assert [each.architecture for each in algorithm.networks(run)] == [
        each.architecture for each in algorithm.networks(run)
    ]


@pytest.mark.parametrize("algorithm", [AttentiveSampling(), AdjacentSampling()])
def test_single_networks_are_left_alone(algorithm):
    assert algorithm.networks(run_of([algorithm], model=nn.Linear(1, 1))) is None


def test_images_grow_in_equal_stages():
    algorithm = ProgressiveResolution(start=0.25, stages=4, multiple=4)
    sides = []
    for step in range(8):
        run = run_of([algorithm], model=nn.Conv2d(1, 1, 3), step=step, total=8)
        x = torch.rand(2, 1, 32, 16)
        found, targets = algorithm.on_batch(run, x, LABELS)
        assert targets is LABELS
        assert algorithm.networks(run) is None
        expected = F.interpolate(x, found.shape[2:], mode="bilinear", antialias=True)
        torch.testing.assert_close(found, x if found.shape == x.shape else expected)
        sides.append(tuple(found.shape[2:]))
    assert sides == [(8, 4)] * 2 + [(16, 8)] * 2 + [(24, 12)] * 2 + [(32, 16)] * 2
    table = {"ids": torch.arange(4)}
    assert algorithm.on_batch(run, table, LABELS)[0] is table


def test_resolutions_of_a_space_are_held_down_at_first():
    algorithm, sandwich = ProgressiveResolution(start=0.5, stages=3), Sandwich(random=3)
    model = staged_supernet(STAGED, channels=1, classes=4)
    for step, most in ((0, 4), (4, 6), (8, 8)):
        run = run_of([sandwich, algorithm], model=model, step=step, total=9)
        given = [each.architecture for each in sandwich.networks(run)]
        held = [each.architecture for each in algorithm.networks(run)]
        expected = [
            STAGED.architecture({**each, "resolution": min(each["resolution"], most)}) for each in given
        ]
        assert held == list(dict.fromkeys(expected))
        assert algorithm.networks(run)[0].open_gates
        assert algorithm.on_batch(run, IMAGES, LABELS)[0] is IMAGES
    trainer_of(model, [sandwich, algorithm], torch.rand(48, 1, 8, 8), epochs=1).fit()


def test_a_space_file_of_one_resolution_refuses_small_images():
    space = parse_space("""
input: {channels: 1, classes: 4, resolutions: 8}
stem: {width: [2, 4]}
stages: [{block: conv, depth: 1, width: 4}]
""")
    with pytest.raises(TrainingError, match="no choice 'resolution' of several numbers"):
        run_of([ProgressiveResolution()], model=staged_supernet(space, channels=1, classes=4))
