"""The audit of a supernet's ranks, against scipy and by its own files."""

import json

import numpy as np
import pytest
from scipy import stats
from small_study import SPACE, small_space

from dynnas.errors import StudyError
from dynnas.measure import cost
from dynnas.progress import Progress
from dynnas.search.audit import audit_study, correlation, spread
from dynnas.search.pipeline import run_study
from dynnas.space import parse_space


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited")
    space = small_space(folder, train={"epochs": 3}, search={"trials": 2, "controls": False})
    return run_study(space, folder=folder / "study")


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


def test_equal_accuracies_cannot_be_ranked():
    with pytest.raises(StudyError, match="nothing to rank"):
        correlation(stats.kendalltau, [0.5, 0.5, 0.5], [0.1, 0.2, 0.3], seed=0)


def test_too_few_networks_are_refused(study):
    with pytest.raises(StudyError, match="found 2, at least 3"):
        audit_study(study, networks=2)


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
