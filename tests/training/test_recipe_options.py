"""Options of recipes: several batches a step, a rarer largest network, AlphaNet's divergence, BigNAS."""

from dataclasses import dataclass

import pytest
import torch
from support.interrupts import Interrupt
from support.runs import run_of
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dynnas.data.augment import Augmentation
from dynnas.data.dataset import Dataset, Split
from dynnas.errors import TrainingError
from dynnas.language.parser import parse_space
from dynnas.nn.context import PLAIN, Context, supplied
from dynnas.nn.layers.dropout import Dropout, DropoutMode
from dynnas.settings.settings import TrainSettings
from dynnas.space.moves import largest, smallest
from dynnas.space.space import Space
from dynnas.supernet.staged import staged_supernet
from dynnas.supernet.supernet import Supernet
from dynnas.tasks import Classification
from dynnas.training.algorithm import Algorithm, Pass
from dynnas.training.algorithms.mixup import MixedTargets, Mixup
from dynnas.training.algorithms.regularized_largest import RegularizedLargest
from dynnas.training.algorithms.sampling.sandwich import Sandwich
from dynnas.training.algorithms.teaching.distillation import Distillation
from dynnas.training.algorithms.teaching.in_place_distillation import InPlaceDistillation
from dynnas.training.batches import DatasetBatches
from dynnas.training.checkpoint import read_checkpoint
from dynnas.training.recipe import common_algorithms, supernet_algorithms
from dynnas.training.trainer import Trainer

IMAGES = torch.randn(48, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(48) % 4
DATA = TensorDataset(IMAGES, LABELS)


class Mine(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(16, width), nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(x.flatten(1))))


SPACE = Space.of(Mine, width=[2, 4, 8])


def supernet():
    torch.manual_seed(0)
    return Supernet(SPACE)


def trainer_of(model, algorithms, batch=8, shuffle=False, **more):
    return Trainer(
        model,
        Classification(4),
        DataLoader(DATA, batch, shuffle=shuffle),
        algorithms=algorithms,
        optimizer=lambda module: torch.optim.SGD(module.parameters(), lr=0.1),
        **more,
    )


def weights(module):
    return torch.cat([value.flatten() for value in module.state_dict().values()])


def test_batches_that_add_up_to_a_larger_one_make_its_step():
    algorithms = [Sandwich(1), InPlaceDistillation()]
    whole = trainer_of(supernet(), algorithms, batch=16, epochs=2)
    parts = trainer_of(supernet(), algorithms, batch=8, accumulate=2, epochs=2)
    assert (parts.run.total, parts.run.steps_per_epoch) == (6, 3)
    torch.testing.assert_close(weights(parts.fit()), weights(whole.fit()))
    assert parts.losses == pytest.approx(whole.losses)


def test_batches_that_make_no_whole_step_are_left_out_or_refused():
    trainer = trainer_of(supernet(), [Sandwich()], accumulate=4, epochs=3)  # of six batches
    assert (trainer.run.total, trainer.run.steps_per_epoch) == (3, 1)
    with pytest.raises(TrainingError, match=r"a step takes 7 batches and an epoch has 6; lower train\.acc"):
        trainer_of(supernet(), [Sandwich()], accumulate=7)


RECIPE = {
    "sandwich": {"random": 1, "largest_every": 2},
    "in_place_distillation": {"divergence": "alpha", "alpha_low": -0.5},
    "regularized_largest": {"dropout": 0.5, "smoothing": 0.2},
    "mixup": {},
}


def test_a_recipe_of_all_of_them_goes_on_to_the_same_weights(tmp_path):
    def trainer(folder):
        algorithms = supernet_algorithms(TrainSettings(algorithms=RECIPE))
        data = {"shuffle": True, "accumulate": 2, "epochs": 2}
        return trainer_of(supernet(), algorithms, folder=tmp_path / folder, **data)

    whole = trainer("whole").fit()
    with pytest.raises(KeyboardInterrupt):
        trainer("parts").fit(progress=Interrupt(3))
    assert read_checkpoint(tmp_path / "parts").step == 3
    assert torch.equal(weights(trainer("parts").fit()), weights(whole))


def test_the_largest_is_trained_every_third_step_and_teaches_in_all():
    sandwich = Sandwich(random=0, largest_every=3)
    run = run_of([sandwich], model=supernet())
    for step in range(6):
        run.step = step
        trained = [each.architecture for each in sandwich.networks(run)]
        both = [largest(SPACE), smallest(SPACE)]
        assert trained == (both if step % 3 == 0 else both[1:])

    model = supernet()
    trainer = trainer_of(model, [sandwich, InPlaceDistillation(weight=1.0, temperature=2.0)], batch=16)
    trainer.advance()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    x = IMAGES[16:32]
    with torch.no_grad():
        teacher, student = (model(each(SPACE), x) for each in (largest, smallest))
    loss = trainer.advance()
    expected = Classification(4).distill(student, teacher, 2.0).mean()
    assert loss == pytest.approx(float(expected), rel=1e-5)
    for name, value in model.named_parameters():
        changed = value != before[name]
        if value.shape == (8, 16):  # the smallest has two of the eight rows
            assert changed[:2].any(1).all(), name
            assert not changed[2:].any(), name


def test_the_largest_is_trained_alone_at_first_and_the_others_begin_with_its_weights():
    sandwich = Sandwich(random=0, largest_first=0.5)
    trainer = trainer_of(supernet(), [sandwich, InPlaceDistillation()], batch=16, epochs=2)  # six steps
    trained = []
    for _ in range(trainer.run.total):
        trained.append([each.architecture for each in sandwich.networks(trainer.run)])
        trainer.advance()
    assert trained == [[largest(SPACE)]] * 3 + [[largest(SPACE), smallest(SPACE)]] * 3

    alone = trainer_of(supernet(), [Sandwich(largest_first=1.0)], batch=16, epochs=2)
    single = trainer_of(supernet().extract(largest(SPACE)), [], batch=16, epochs=2)
    x = IMAGES[:8]
    torch.testing.assert_close(alone.fit()(largest(SPACE), x), single.fit()(x))


def test_alpha_divergence_teaches_in_the_place_of_the_cross_entropy():
    teacher, student = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).unbind()
    algorithm = InPlaceDistillation(
        0.25, 2.0, divergence="alpha", alpha_low=-0.5, alpha_high=1.0, alpha_clip=3.0
    )
    run = run_of([algorithm])
    run.teacher = teacher
    taught = Classification(4).distill_alpha(student, teacher, 2.0, alphas=(-0.5, 1.0), clip=3.0)
    loss = torch.rand(6)
    torch.testing.assert_close(algorithm.output_loss(run, None, student, loss), 0.25 * taught + 0.75 * loss)


def test_only_the_largest_network_is_held_back():
    algorithm, mixup = RegularizedLargest(dropout=0.4, smoothing=0.2), Mixup()
    run = run_of([algorithm, mixup], model=supernet())
    logits, labels = torch.randn(6, 4), torch.arange(6) % 4
    mixed = MixedTargets(labels, labels.flip(0), 0.3)
    for network, smoothing in ((largest(SPACE), 0.2), (smallest(SPACE), 0.0)):
        forward = type("Forward", (), {"network": Pass(network)})
        algorithm.before_loss(run, forward)
        first, second = (
            F.cross_entropy(logits, each, label_smoothing=smoothing, reduction="none")
            for each in (labels, labels.flip(0))
        )
        torch.testing.assert_close(run.target_loss(logits, labels), first)
        torch.testing.assert_close(run.target_loss(logits, mixed), 0.3 * first + 0.7 * second)
    rates = [
        algorithm.network_context(run, Pass(each(SPACE)), PLAIN)[DropoutMode].rate
        for each in (largest, smallest)
    ]
    assert rates == [0.4, 0.0]
    settings = TrainSettings(algorithms={"regularized_largest": {}})
    assert "regularized_largest" in [each.name for each in supernet_algorithms(settings)]
    assert "regularized_largest" not in [each.name for each in common_algorithms(settings)]


@dataclass(eq=False)
class Heard(Algorithm):
    """Keeps the outputs of a step's networks."""

    name = "heard"

    def on_start(self, run):
        self.outputs = []

    def after_loss(self, run, forward):
        self.outputs.append(forward.output.detach())


def test_the_head_of_the_largest_network_drops_what_others_see():
    space = parse_space("""
input: {channels: 1, classes: 4, resolutions: 4}
stem: {width: [2, 4]}
stages: [{block: conv, depth: 1, width: 4}]
head: {dropout: 0.3}
""")
    found = {}
    for rate in (0.0, 0.9):
        heard = Heard()
        held = RegularizedLargest(dropout=rate, smoothing=0.0)
        model = staged_supernet(space, channels=1, classes=4, seed=0)
        trainer_of(model, [Sandwich(0), held, heard], batch=16).advance()
        found[rate] = heard.outputs
    assert not torch.allclose(found[0.0][0], found[0.9][0])
    assert torch.equal(found[0.0][1], found[0.9][1])


def test_dropout_has_its_own_rate_or_that_of_the_mode():
    x, layer = torch.ones(2000, 8), Dropout(0.25)
    assert torch.equal(layer.eval()(x), x)
    layer.train()
    torch.manual_seed(0)
    kept = layer(x)
    torch.manual_seed(0)
    assert torch.equal(kept, F.dropout(x, 0.25))
    with supplied(layer, Context(DropoutMode(rate=0.0))):
        assert torch.equal(layer(x), x)
    with supplied(layer, Context(DropoutMode(rate=0.75))):
        dropped = layer(x)
    assert set(dropped.unique().tolist()) == {0.0, 4.0}
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.05)
    sampled = layer(x, context=Context(DropoutMode(0.5, lambda draw, like: draw((4000, 8), like)[:2000])))
    assert set(sampled.unique().tolist()) == {0.0, 2.0}
    with pytest.raises(ValueError, match="from 0 to below 1, not 1"):
        DropoutMode(rate=1)


class Teacher(Mine):
    """Counts how often it is asked."""

    asked = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        return super().forward(x)


def taught(folder=None, cache=True, algorithms=(), augmentation=None, epochs=3, progress=None):
    """A network of a data set of 24 images, a batch of 8, and how often its teacher was asked."""
    split = Split(torch.arange(24 * 16, dtype=torch.uint8).view(24, 1, 4, 4), torch.arange(24) % 4)
    augmentation = augmentation or Augmentation()
    dataset = Dataset("few", Classification(4), split, split, split, (0.5,), (0.2,), augmentation)
    torch.manual_seed(0)
    network, teacher = Mine(4), Teacher(8)
    trainer = Trainer(
        network,
        dataset.task,
        DatasetBatches(dataset, 8, seed=0),
        algorithms=[Distillation(0.5, 2.0, teacher, cache=cache), *algorithms],
        optimizer=lambda module: torch.optim.SGD(module.parameters(), lr=0.1),
        epochs=epochs,
        folder=folder,
    )
    trainer.fit(progress=progress)
    return weights(network), teacher.asked


def test_a_fixed_teacher_is_asked_once_about_each_image_that_is_not_varied(tmp_path):
    plain, asked = taught(cache=False)
    assert asked == 9
    kept, asked = taught()
    assert asked == 3
    torch.testing.assert_close(kept, plain)
    with pytest.raises(KeyboardInterrupt):
        taught(tmp_path, progress=Interrupt(4))
    resumed, asked = taught(tmp_path)
    assert asked == 0
    assert torch.equal(resumed, kept)


@pytest.mark.parametrize("more", [{"algorithms": [Mixup()]}, {"augmentation": Augmentation(shift=1)}])
def test_images_that_are_varied_are_asked_about_again(more):
    assert taught(**more)[1] == 9
