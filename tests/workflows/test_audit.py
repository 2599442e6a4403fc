"""The audit of a supernet's ranks, against scipy and by its own files."""

import json

import numpy as np
import pytest
from scipy import stats
from support.small_study import SPACE, copied

from dynnas.errors import StudyError
from dynnas.language.parser import parse_space
from dynnas.metric import Metric
from dynnas.nn.networks.cost import cost
from dynnas.progress import Progress
from dynnas.report.audit import audit_table, draw_audit, neighbours_text
from dynnas.study.records.audit import Audit, AuditedNetwork, correlation, neighbours
from dynnas.workflows.audit import audit_study, chosen, spread


@pytest.fixture(scope="module")
def study(small_study, tmp_path_factory):
    return copied(small_study, tmp_path_factory.mktemp("audited"))


def test_audited_networks_are_spread_by_their_macs():
    space = parse_space(SPACE)
    macs = [cost(space.network_config(architecture)).macs for architecture in spread(space, 6, seed=0)]
    assert macs == sorted(macs)
    assert len(set(spread(space, 6, seed=0))) == 6
    assert macs[-1] > 2 * macs[0]
    assert spread(space, 6, seed=0) == spread(space, 6, seed=0) != spread(space, 6, seed=1)


def test_correlation_is_scipys_inside_its_interval():
    rng = np.random.default_rng(0)
    first = rng.normal(size=16)
    second = first + rng.normal(size=16)
    for statistic in (stats.kendalltau, stats.spearmanr):
        found = correlation(statistic, first.tolist(), second.tolist(), seed=0)
        assert found.value == pytest.approx(statistic(first, second).statistic)
        assert found.low < found.value < found.high


def test_a_perfect_ranking_is_certain():
    found = correlation(stats.kendalltau, [0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4], seed=0)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))


def test_equal_scores_have_no_ranks(tmp_path):
    assert correlation(stats.kendalltau, [0.5, 0.5, 0.5], [0.1, 0.2, 0.3], seed=0) is None
    networks = tuple(
        AuditedNetwork(key, {}, macs=1, on_front=False, inherited=0.5, alone=alone, by_seed=(alone,))
        for key, alone in (("a", 0.1), ("b", 0.2), ("c", 0.3))
    )
    metric = Metric("accuracy", "share", "maximize", "accuracy")
    audit = Audit(metric, networks, 1, 1, None, None, neighbours([], [], [(0.1,)]))
    path = tmp_path / "audit.json"
    path.write_text(audit.to_json())
    assert Audit.load(path) == audit
    assert "no rank correlation: every network has the same accuracy" in audit_table(audit, "small").title
    assert draw_audit(audit, "small", tmp_path / "audit.png").exists()


def test_too_few_networks_are_refused(study):
    with pytest.raises(StudyError, match="found 2, at least 3"):
        audit_study(study, networks=2)


@pytest.mark.slow
def test_an_interrupted_audit_goes_on(study):
    class Interrupt(Progress):
        def task(self, name, total, done=0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit_study(study, networks=3, epochs=4, progress=Interrupt())
    first = audit_study(study, networks=3, epochs=4)
    trained = {path: path.stat().st_mtime_ns for path in study.folder.alone.glob("*/checkpoint.pt")}
    assert len(trained) == 3
    assert audit_study(study, networks=3, epochs=4) == first
    assert trained == {path: path.stat().st_mtime_ns for path in study.folder.alone.glob("*/checkpoint.pt")}
    written = json.loads(study.folder.audit.read_text())
    assert [network["alone"] for network in written["networks"]] == [n.alone for n in first.networks]
    assert any(network.alone != network.inherited for network in first.networks)
    assert study.audit == first


def test_seeds_are_trained_and_averaged(study):
    found = audit_study(study, networks=3, epochs=1, seeds=2)
    for network in found.networks:
        assert len(network.by_seed) == 2
        assert network.alone == pytest.approx(sum(network.by_seed) / 2)
    deviation = np.sqrt(np.mean([np.var(network.by_seed, ddof=1) for network in found.networks]))
    assert found.neighbours.seed_deviation == pytest.approx(deviation)
    assert len(list(study.folder.alone.glob("*-1-seed1"))) == 3
    picture = draw_audit(found, "small", study.folder.audit_picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    table = audit_table(found, "small")
    assert [row[0] for row in table.rows] == [network.key for network in found.networks]
    assert "inside the noise" in neighbours_text(found)


def test_the_front_other_candidates_and_random_networks_are_audited(study):
    front = {member.key for member in study.front}
    found = chosen(study, 20, seed=0)
    assert len({architecture.key for architecture in found}) == 20
    assert front & {architecture.key for architecture in found[:1]}
    assert {candidate.key for candidate in study.candidates} <= {architecture.key for architecture in found}


def test_neighbours_inside_the_noise_by_hand():
    """0.9 of 100 images has a deviation of 3 points, a difference 4.2; seeds 1 and 2 points apart add 1.1."""
    variances = (0.9 * 0.1 / 100, 0.93 * 0.07 / 100, 0.99 * 0.01 / 100)
    found = neighbours([0.90, 0.93, 0.99], variances, [(0.5,), (0.6,)])
    assert (found.pairs, found.inside, found.seed_deviation) == (2, 1, None)
    assert found.split_deviation == pytest.approx(np.sqrt(sum(variances) / 3))
    seeded = neighbours([0.90, 0.93, 0.99], variances, [(0.50, 0.60), (0.60, 0.70)])
    assert seeded.seed_deviation == pytest.approx(np.sqrt(0.005))
    assert seeded.inside == 2
    assert neighbours([], [], [(0.5,)]).pairs == 0
    unknown = neighbours([2.0, 2.5], [None, None], [(0.5,)])  # of a task that tells no interval
    assert (unknown.pairs, unknown.inside, unknown.split_deviation) == (1, 0, None)


def test_a_damaged_or_older_audit_is_one_message(tmp_path):
    path = tmp_path / "audit.json"
    path.write_text('{"dynnas_audit": 1}')
    with pytest.raises(StudyError, match=r"audit\.json: found format"):
        Audit.load(path)
    path.write_text('{"dynnas_audit": 3, "networks": []}')
    with pytest.raises(StudyError, match=r"audit\.json: damaged"):
        Audit.load(path)
