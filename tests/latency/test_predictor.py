"""Pieces, their features, and the predictor, on machines whose laws are known."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel
from support.networks import first_confident

from dynnas.errors import TargetError
from dynnas.language.parser import load_space, parse_space
from dynnas.latency.anchors import build_anchors
from dynnas.latency.meter import LatencyMeter, LocalTimer
from dynnas.latency.predictor.fitting import calibrate
from dynnas.latency.predictor.layer_times import PieceTimes
from dynnas.latency.predictor.layers import ExitPath, piece_workload
from dynnas.latency.predictor.predictor import Agreement, LatencyPredictor, load_predictor
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.layer_features import pieces_of, traits
from dynnas.nn.networks.modes import settle
from dynnas.nn.networks.network import Network, build, slot_module
from dynnas.settings.settings import TargetSettings
from dynnas.space.moves import sample

SPACES = Path(__file__).parents[2] / "spaces"
EXITS = load_space(SPACES / "exits.yaml")


def drawn(space, count, seed=0):
    rng = random.Random(seed)
    return [space.network_config(sample(space, rng), 1, 10) for _ in range(count)]


@pytest.mark.parametrize("name", ["exits", "shuffle", "compact", "dynamic", "resnet"])
def test_pieces_are_what_a_network_runs(name):
    for config in drawn(load_space(SPACES / f"{name}.yaml"), 3):
        network = Network(config).eval()
        seen = []
        for slot, slot_config in config.slots():
            network.slots[slot_module(slot)].register_forward_pre_hook(
                lambda _, inputs, seen=seen, of=slot_config: seen.append(
                    (of, getattr(inputs[0], "x", inputs[0]).shape[1:])
                )
            )
        network.logits(torch.zeros(1, config.channels, config.resolution, config.resolution))
        pieces = [piece for stretch in pieces_of(config) for piece in stretch]
        shapes = [(piece.config, (piece.channels, piece.resolution, piece.resolution)) for piece in pieces]
        assert shapes == [(slot_config, tuple(shape)) for slot_config, shape in seen]


def test_a_piece_alone_answers_as_the_slot_does():
    target = TargetSettings(runtime="torch")
    for piece in pieces_of(drawn(EXITS, 1)[0])[0]:
        workload = piece_workload(piece, target)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = build(piece.config).eval()
        with torch.no_grad():
            expected = module(torch.from_numpy(workload.images[0]))
        np.testing.assert_allclose(workload.runner(workload.images[0]), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["exits", "shuffle", "compact", "dynamic", "resnet"])
def test_costs_of_the_pieces_are_those_of_the_network(name):
    for config in drawn(load_space(SPACES / f"{name}.yaml"), 3):
        network = Network(config).eval()
        settle(network)
        x, counted = torch.zeros(1, config.channels, config.resolution, config.resolution), []
        for segment in network.segments():
            x, body = count_macs(segment.body, x)
            counted.append(body + count_macs(segment.classifier, x)[1])
        found = cost(config)
        assert found.exit_macs == tuple(np.cumsum(counted).tolist())
        assert found.params == sum(parameter.numel() for parameter in network.parameters())


def test_a_way_leads_every_image_to_its_exit():
    config = next(config for config in drawn(EXITS, 50) if len(config.exits) == 2)
    for exit in range(3):
        way = ExitPath.of(config, exit)
        network = Network(way.config).eval()
        for image in torch.randn(5, 1, 1, config.resolution, config.resolution):
            assert first_confident(network.segments(), image)[1] == exit
        assert way.pieces[-1].config in (*(place.config for place in config.exits), config.head)
        assert len(way.pieces) == sum(map(len, pieces_of(config)[: exit + 1]))


def test_times_of_pieces_are_predicted_as_scikit_learn_would():
    rng = np.random.default_rng(0)
    features = [{"a": float(a), "b": float(b), "same": 1.0} for a, b in rng.normal(size=(60, 2))]
    times = np.exp([0.5 * each["a"] + math.sin(each["b"]) for each in features])
    ours = PieceTimes.fit(features, times)
    assert ours.names == ("a", "b")
    kernel = (
        ConstantKernel(ours.variance) * Matern(ours.scales, nu=2.5)
        + ConstantKernel(ours.slope) * DotProduct(1.0)
        + WhiteKernel(ours.noise)
    )
    theirs = GaussianProcessRegressor(kernel, optimizer=None).fit(ours.points, np.log(times) - ours.mean)
    new = [{"a": float(a), "b": float(b), "unknown": 3.0} for a, b in rng.normal(size=(20, 2))]
    points = (np.array([[each["a"], each["b"]] for each in new]) - ours.center) / ours.spread
    np.testing.assert_allclose(ours.predict(new), np.exp(theirs.predict(points) + ours.mean), rtol=1e-6)
    truth = np.exp([0.5 * each["a"] + math.sin(each["b"]) for each in new])
    assert np.median(np.abs(ours.predict(new) / truth - 1)) < 0.02


class Machine:
    """Takes known times: a piece alone a law of its MACs and weights, a network less than its pieces."""

    def __init__(self, noise=0.01):
        self.rng = np.random.default_rng(0)
        self.noise = noise

    def alone(self, piece):
        numbers = traits(piece).numbers
        time = 5.0 + math.exp(numbers["macs"]) / 2e4 + math.exp(numbers["weights"]) / 4e3
        return time * (1.3 if traits(piece).dynamic else 1.0) * math.exp(self.rng.normal(0, self.noise))

    def whole(self, way):
        path = way.pieces
        quiet = Machine(noise=0.0)
        additive = sum(0.9 * quiet.alone(piece) - 2.0 for piece in path)
        cold = 30.0 * max(sum(traits(piece).mebibytes for piece in path) - 0.5, 0.0)
        entered = 4.0 * bool(way.config.exits) - 2.0 * way.exit
        return (8.0 + additive + cold + entered) * math.exp(self.rng.normal(0, self.noise))


@pytest.fixture(scope="module")
def fitted():
    machine, rng = Machine(), random.Random(1)
    ways = [ExitPath.of(config, rng.randint(0, len(config.exits))) for config in drawn(EXITS, 50)]
    pieces = list(dict.fromkeys(piece for way in ways for piece in way.pieces))
    return LatencyPredictor.fit(
        pieces,
        np.array([machine.alone(piece) for piece in pieces]),
        ways,
        np.array([machine.whole(way) for way in ways]),
        "here",
    )


def test_a_known_machine_is_predicted(fitted):
    quiet = Machine(noise=0.0)
    predicted, true = [], []
    for config in drawn(EXITS, 60, seed=2):
        by_exit = fitted.predict(config)
        assert len(by_exit) == len(config.exits) + 1
        assert list(by_exit) == sorted(by_exit)
        predicted += by_exit
        true += [quiet.whole(ExitPath.of(config, exit)) for exit in range(len(by_exit))]
    agreement = Agreement.of(np.array(predicted), np.array(true))
    assert agreement.spearman > 0.995
    assert agreement.within_5 > 0.97
    assert 0.005 < fitted.error < 0.03


def test_a_predictor_is_kept_and_read_again(fitted, tmp_path):
    path = tmp_path / "predictor.json"
    path.write_text(fitted.to_json())
    again = load_predictor(path, "here")
    assert again is not None
    assert again.digest == fitted.digest
    config = drawn(EXITS, 1, seed=5)[0]
    assert again.predict(config) == pytest.approx(fitted.predict(config), rel=1e-9)
    assert load_predictor(path, "elsewhere") is None
    assert load_predictor(tmp_path / "none.json", "here") is None
    path.write_text('{"dynnas_predictor": 0}')
    with pytest.raises(TargetError, match=r"predictor.json: found format 0, .*; run dynnas calibrate"):
        load_predictor(path, "here")


def test_agreement_is_scipys():
    rng = np.random.default_rng(0)
    measured = rng.uniform(1, 2, 40)
    predicted = measured * rng.choice([1.04, 1.09, 1.2], 40)
    found = Agreement.of(predicted, measured)
    assert found.kendall_tau == stats.kendalltau(predicted, measured).statistic
    assert found.within_5 == np.mean(predicted / measured < 1.05)
    assert found.within_10 == np.mean(predicted / measured < 1.1)


TINY = parse_space("""
name: tiny
input: {channels: 1, classes: 4, resolutions: 8}
stem: {width: [4, 8]}
stages: [{block: dwsep, depth: [1, 2], width: [8, 16], stride: 2, op: [static, condconv], experts: 2}]
head: {width: [8, 16]}

target: {seconds: 0.02}
""")


def tiny_meter(folder):
    target = TINY.settings.target
    return LatencyMeter(target, build_anchors(TINY, target, 1, 4), timer=LocalTimer("cpu", folder))


def test_calibration_measures_and_tries_what_it_fitted(tmp_path):
    meter = tiny_meter(tmp_path)
    found = calibrate(TINY, meter, 1, 4, samples=10, held_out=3, seconds=0.3)
    assert found.networks == 10
    assert found.agreement.networks == found.noise.networks == 3
    assert found.predictor.environment == meter.reference.environment
    ratios = np.array(found.predicted_ms) / np.array(found.measured_ms)
    assert ((ratios > 0.4) & (ratios < 2.5)).all()


def test_too_few_networks_are_refused(tmp_path):
    meter = tiny_meter(tmp_path)
    with pytest.raises(TargetError, match=r"5 networks and 3 held out; at least 10"):
        calibrate(TINY, meter, 1, 4, samples=5, held_out=3)
    with pytest.raises(TargetError, match=r"tiny has hardly more than \d+ networks, and 203 are needed"):
        calibrate(TINY, meter, 1, 4, samples=200, held_out=3)
