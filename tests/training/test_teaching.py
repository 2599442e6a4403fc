"""Several teachers, moving temperatures, feature maps, relations and peers: against torch and loops."""

import pytest
import torch
from support.networks import config, finished, images
from support.runs import forward_of, loss_of, penalty_of, run_of
from torch import nn
from torch.nn import functional as F

from dynnas.errors import TrainingError
from dynnas.nn.context import supplied
from dynnas.training.algorithms.teaching.distillation import Distillation
from dynnas.training.algorithms.teaching.feature_distillation import (
    FeatureDistillation,
    angle_loss,
    attention_loss,
    distance_loss,
)
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
