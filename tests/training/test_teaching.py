"""Several teachers, moving temperatures, feature maps, relations and peers: against torch and loops."""

import copy

import pytest
import torch
from support.networks import config, finished, images
from support.runs import forward_of, loss_of, penalty_of, run_of
from torch import nn
from torch.nn import functional as F

from dynnas.errors import TrainingError
from dynnas.language.parser import parse_space
from dynnas.nn.context import PLAIN, supplied
from dynnas.space.moves import largest, smallest
from dynnas.supernet.staged import staged_supernet
from dynnas.training.algorithm import Pass
from dynnas.training.algorithms.teaching.blockwise_distillation import BlockwiseDistillation
from dynnas.training.algorithms.teaching.distillation import Distillation
from dynnas.training.algorithms.teaching.feature_distillation import (
    FeatureDistillation,
    angle_loss,
    attention_loss,
    distance_loss,
)
from dynnas.training.algorithms.teaching.hints import Hints
from dynnas.training.algorithms.teaching.mutual_learning import MutualLearning

LABELS = torch.tensor([0, 2, 1, 1])


def taught_run(algorithm, step=0, inputs=None, model=None):
    run = run_of([algorithm], LABELS, step=step, model=model)
    run.inputs = inputs
    run.outputs = lambda model, architecture, context: [model.module(inputs)]
    return run


def test_several_teachers_teach_their_mean_probabilities():
    teachers = [nn.Linear(5, 3) for _ in range(3)]
    inputs, output = torch.randn(4, 5), torch.randn(4, 3)
    run = taught_run(Distillation(0.3, 2.0, teachers), inputs=inputs)
    mean = torch.stack([(teacher(inputs) / 2).softmax(1) for teacher in teachers]).mean(0)
    expected = 0.3 * 4 * F.cross_entropy(output / 2, mean) + 0.7 * F.cross_entropy(output, LABELS)
    torch.testing.assert_close(loss_of(run, forward_of([output])), expected)


def test_the_temperature_moves_by_equal_steps():
    algorithm = Distillation(temperature=9.0, last_temperature=1.0)
    found = [algorithm.temperature_at(run_of(total=5, step=step)) for step in range(5)]
    assert found == pytest.approx([9, 7, 5, 3, 1])
    assert Distillation(temperature=3.0).temperature_at(run_of(total=5, step=4)) == 3


def test_networks_of_a_step_learn_from_those_before_them():
    outputs = [torch.randn(4, 3, requires_grad=True) for _ in range(3)]
    algorithm = MutualLearning(0.5)
    run = run_of([algorithm], LABELS)
    losses = [loss_of(run, forward_of([output])) for output in outputs]
    plain = [F.cross_entropy(output, LABELS) for output in outputs]
    peers = [F.cross_entropy(outputs[2], outputs[at].detach().softmax(1)) for at in range(2)]
    torch.testing.assert_close(losses[0], plain[0])
    torch.testing.assert_close(losses[2], plain[2] + 0.5 * (peers[0] + peers[1]) / 2)
    losses[2].backward()
    assert outputs[0].grad is None
    algorithm.on_batch(run, None, LABELS)
    torch.testing.assert_close(loss_of(run, forward_of([outputs[1]])), plain[1])


def test_attention_is_where_squares_are_large():
    own, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)
    pooled = F.avg_pool2d(own, 2)
    expected = 0.0
    for image in range(2):
        maps = [x[image].pow(2).mean(0).flatten() for x in (pooled, teacher)]
        maps = [each / each.norm() for each in maps]
        expected += float((maps[0] - maps[1]).pow(2).mean()) / 2
    torch.testing.assert_close(attention_loss(own, teacher), torch.tensor(expected))


def test_relations_are_distances_of_pairs_and_angles_of_triples():
    own, teacher = torch.randn(4, 3, 2), torch.randn(4, 7)
    tables = []
    for rows in (own.flatten(1), teacher):
        pairs = [torch.dist(rows[i], rows[j]) for i in range(4) for j in range(4) if i != j]
        tables.append(torch.stack(pairs) / torch.stack(pairs).mean())
    torch.testing.assert_close(distance_loss(own, teacher), F.smooth_l1_loss(*tables))
    tables = []
    for rows in (own.flatten(1), teacher):
        cosines = torch.zeros(4, 4, 4)
        for j in range(4):
            for i in range(4):
                for k in range(4):
                    if i != j and k != j:
                        cosines[j, i, k] = F.cosine_similarity(rows[i] - rows[j], rows[k] - rows[j], dim=0)
        tables.append(cosines)
    torch.testing.assert_close(angle_loss(own, teacher), F.smooth_l1_loss(*tables))
    same = torch.randn(3, 4)
    assert float(distance_loss(same, 2 * same)) == pytest.approx(0, abs=1e-6)
    assert float(angle_loss(same, same + 1)) == pytest.approx(0, abs=1e-6)


def test_feature_maps_learn_from_the_same_stages_of_the_teacher():
    teacher, network = finished(config("conv", width=2)), finished(config("conv"))
    features = FeatureDistillation(weight=2.0, by="attention")
    run = run_of([Distillation(teacher=teacher), features], model=network)
    assert features._pairs == {"slots.stage1__1": "slots.stage1__1", "slots.stage2__0": "slots.stage2__0"}
    x = images(4)
    with features.weights(run), supplied(network, run.context):
        teacher(x)
        network(x)
        found = penalty_of(run, forward_of([network(x)]))
    maps = []
    for each in (network, teacher):
        kept = []
        for name in ("stage1__1", "stage2__0"):
            each.slots[name].register_forward_hook(
                lambda module, inputs, output, kept=kept: kept.append(output)
            )
        each(x)
        maps.append(kept)
    expected = sum(attention_loss(*pair) for pair in zip(*maps, strict=True))
    torch.testing.assert_close(found, expected)
    found.backward()
    assert teacher.slots["stage1__1"].conv.conv.weight.grad is None


def test_features_without_anything_to_compare():
    alone = run_of([FeatureDistillation()], model=nn.Linear(2, 2))
    assert penalty_of(alone, forward_of([torch.zeros(4, 3)])) == 0
    with pytest.raises(TrainingError, match="there are no modules of stages to compare"):
        run_of([Distillation(teacher=nn.Linear(2, 2)), FeatureDistillation()], model=nn.Linear(2, 2))
    pairs = FeatureDistillation(pairs={"body": ""})
    with pytest.raises(TrainingError, match="there are no modules body to compare"):
        run_of([Distillation(teacher=nn.Linear(2, 2)), pairs], model=nn.Linear(2, 2))


class Blocks(nn.Module):
    """Two blocks and a classifier."""

    def __init__(self, hidden=6):
        super().__init__()
        self.one = nn.Sequential(nn.Linear(5, hidden), nn.Tanh(), nn.Linear(hidden, 4))
        self.two = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.two(self.one(x)))


@pytest.mark.parametrize("own_inputs", [False, True])
def test_blocks_learn_from_those_of_the_teacher_one_by_one(own_inputs):
    torch.manual_seed(0)
    network, teacher, x = Blocks(6), Blocks(9).eval(), torch.randn(4, 5)
    taught = Distillation(0.0, 1.0, teacher)
    algorithm = BlockwiseDistillation(0.7, own_inputs, pairs={"one": "one", "two": "two"})
    run = run_of([taught, algorithm], LABELS, model=network)
    run.inputs, run.outputs = x, lambda model, *_: [model.module(x)]
    with algorithm.weights(run):
        forward = forward_of([network(x)])
        loss = loss_of(run, forward) + penalty_of(run, forward)
    with torch.no_grad():
        map_one = teacher.one(x)
        map_two = teacher.two(map_one)
    own_one = network.one(x)
    own_two = network.two(own_one if own_inputs else map_one)
    blocks = [F.mse_loss(own_one, map_one), F.mse_loss(own_two, map_two)]
    expected = F.cross_entropy(network.head(own_two), LABELS) + 0.7 * (blocks[0] + blocks[1]) / 2
    torch.testing.assert_close(loss, expected)
    parameters = list(network.parameters())
    found, wanted = (torch.autograd.grad(each, parameters) for each in (loss, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
    first = network.one[0].weight
    torch.testing.assert_close(network(x), network.head(network.two(network.one(x))))  # hooks are gone
    assert first.grad is None


def test_stages_of_space_files_are_blocks_where_their_maps_are_alike():
    own, teacher, x = finished(config("conv", exits=2)), finished(config("conv", exits=2)), images(4)
    algorithm = BlockwiseDistillation()
    run = run_of([Distillation(0.5, 1.0, teacher), algorithm], LABELS, model=own)
    assert [block.modules for block in algorithm._blocks] == [
        ("slots.stage1__0", "slots.stage1__1"),
        ("slots.stage2__0",),
    ]
    run.inputs, run.outputs = x, lambda model, *_: list(model.module.logits(x))
    with torch.no_grad(), algorithm.weights(run):
        forward = forward_of(list(own.logits(x)))
        algorithm.before_loss(run, forward)
        assert float(algorithm.penalty(run, forward)) == 0  # it is its own teacher, in the same mode


def test_blocks_of_other_shapes_are_refused():
    network, teacher = Blocks(), Blocks()
    teacher.two = nn.Linear(4, 2)
    teacher.head = nn.Linear(2, 3)
    algorithm = BlockwiseDistillation(pairs={"two": "two"})
    run = run_of([Distillation(0.5, 1.0, teacher), algorithm], LABELS, model=network)
    run.inputs, run.outputs = torch.randn(4, 5), lambda model, *_: [model.module(run.inputs)]
    message = r"output of two is \(4, 4\) and the teacher's is \(4, 2\)"
    with pytest.raises(TrainingError, match=message), algorithm.weights(run):
        network(run.inputs)
    with pytest.raises(TrainingError, match="no modules three, four to compare"):
        run_of(
            [Distillation(0.5, 1.0, teacher), BlockwiseDistillation(pairs={"three": "four"})], model=network
        )
    alone = BlockwiseDistillation(pairs={"one": "one"})
    run = run_of([alone], LABELS, model=network)
    with alone.weights(run):
        assert alone.penalty(run, forward_of([network(torch.randn(4, 5))])) is None


def test_hints_pass_a_trained_layer():
    """A network of half the channels; a step by hand with torch's own layers and Adam."""
    teacher, network = finished(config("conv", width=2)), finished(config("conv"))
    hints = Hints(weight=2.0, lr=0.01)
    run = run_of([Distillation(teacher=teacher), hints], model=network)
    x, kept = images(4), {}
    for each, side in ((network, "own"), (teacher, "teacher")):
        for name in ("stage1__1", "stage2__0"):
            each.slots[name].register_forward_hook(
                lambda module, inputs, output, key=(side, name): kept.update({key: output})
            )
    with hints.weights(run), supplied(network, run.context):
        teacher(x)
        found = penalty_of(run, forward_of([network(x)]))
    layers = copy.deepcopy(hints.regressors)
    expected = sum(
        F.mse_loss(layers[str(at)](kept["own", name]), kept["teacher", name].detach())
        for at, name in enumerate(("stage1__1", "stage2__0"))
    )
    torch.testing.assert_close(found, expected / 2)
    (found + 0).backward()
    again = torch.optim.Adam(layers.parameters(), lr=0.01)
    expected = sum(
        F.mse_loss(layers[str(at)](kept["own", name].detach()), kept["teacher", name].detach())
        for at, name in enumerate(("stage1__1", "stage2__0"))
    )
    (expected / 2).backward()
    hints.on_step(run)
    again.step()
    for one, other in zip(hints.regressors.parameters(), layers.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert network.slots["stage1__1"].conv.conv.weight.grad is not None
    other = Hints(weight=2.0, lr=0.01)
    run_of([Distillation(teacher=teacher), other], model=network)
    other.load_state_dict(hints.state_dict())
    for one, same in zip(hints.regressors.parameters(), other.regressors.parameters(), strict=True):
        assert torch.equal(one, same)
    other.load_state_dict({})


STAGED = """
input: {channels: 3, classes: 5, resolutions: 8}
stem: {width: 8, stride: 1}
stages:
  - {block: conv, depth: [1, 2], width: 8, kernel: [3, 5]}
  - {block: mbconv, depth: [1, 2], width: 12, stride: 2, expand: [2, 3]}
head: {width: 16}
"""


def test_blocks_of_a_supernet_learn_from_those_of_a_network():
    """A block of any depth sees the teacher's map before its stage, and is compared where it ends."""
    space = parse_space(STAGED)
    model = staged_supernet(space, channels=3, classes=5, seed=0)
    teacher = staged_supernet(space, channels=3, classes=5, seed=1).extract(largest(space)).eval()
    x = torch.randn(4, 3, 8, 8)
    algorithm = BlockwiseDistillation()
    run = run_of([Distillation(0.0, 1.0, teacher), algorithm], LABELS, model=model)
    run.inputs, run.outputs = x, lambda model, *_: list(model.module.logits(x))
    kept = {}
    for name in ("stage1__0", "stage1__1", "stage2__1"):
        teacher.slots[name].register_forward_hook(
            lambda module, given, y, key=name: kept.update({key: (given[0], y)})
        )
    for architecture in (largest(space), smallest(space)):
        with algorithm.weights(run):
            network = Pass(architecture)
            algorithm.network_context(run, network, PLAIN)
            forward = forward_of(list(model(architecture, x)))
            algorithm.before_loss(run, forward)
            found = algorithm.penalty(run, forward)
        own = model.extract(architecture).train()
        y = {"stage1": kept["stage1__0"][0], "stage2": kept["stage1__1"][1]}
        for slot, module in own.slots.items():
            stage = slot.partition("__")[0]
            if stage in y:
                y[stage] = module(y[stage])
        blocks = [
            F.mse_loss(y["stage1"], kept["stage1__1"][1]),
            F.mse_loss(y["stage2"], kept["stage2__1"][1]),
        ]
        torch.testing.assert_close(found, sum(blocks) / 2)
