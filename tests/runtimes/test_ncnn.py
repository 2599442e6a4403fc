"""NCNN: parts between exits, which an image runs no further than it must; what it lacks is refused."""

import numpy as np
import pytest
import torch
from support.gated import gated_config, undecided
from support.networks import config, finished, images, one_after_another

from dynnas.errors import TargetError
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.chaining import chain
from dynnas.runtimes.compile import compile_network, load_artifact
from dynnas.settings.settings import TargetSettings

pytest.importorskip("ncnn", reason="ncnn is not installed")
pytest.importorskip("pnnx", reason="pnnx is not installed")

TARGET = TargetSettings(runtime="ncnn")


@torch.no_grad()
@pytest.mark.sampled(2)
@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
@pytest.mark.parametrize("op", ["static", "condconv", "dynet"])
def test_images_leave_where_they_do_in_torch(op, criterion):
    network = finished(config(op=op, exits=2, attention="se", criterion=criterion))
    runner = load_artifact(Artifact.from_bytes(compile_network(network, TARGET).to_bytes()))
    batch = images(40, seed=2)
    found = runner.outputs(batch.numpy())
    expected, exits = one_after_another(network, batch)
    assert len(set(exits)) > 1
    assert found["exit"].tolist() == exits
    np.testing.assert_allclose(found["logits"], expected.numpy(), rtol=1e-3, atol=1e-3)
    assert len(runner(batch[:1].numpy())) == 1


def test_a_part_behind_an_exit_does_not_run(monkeypatch):
    network = finished(config(exits=1))
    runner = load_artifact(compile_network(network, TARGET))
    ran, extract = [], type(runner)._extract
    monkeypatch.setattr(
        type(runner),
        "_extract",
        lambda self, number, *more: ran.append(number) or extract(self, number, *more),
    )
    batch = images(20, seed=2)
    _, exits = one_after_another(network, batch)
    for image, exit in zip(batch, exits, strict=True):
        ran.clear()
        runner(image[None].numpy())
        assert ran == [*range(exit + 1)]


def test_what_ncnn_lacks_is_refused():
    with pytest.raises(TargetError, match="has no branches, and this network has gates"):
        compile_network(undecided(gated_config(("skip", "width"))), TARGET)
    for criterion in ("learned", "policy"):
        with pytest.raises(TargetError, match=f"alone, by confidence, entropy; one here goes by {criterion}"):
            compile_network(finished(config(exits=1, criterion=criterion)), TARGET)
    members = [finished(config()), finished(config(), seed=1)]
    with pytest.raises(TargetError, match="runtime ncnn runs no cascades"):
        compile_network(chain(members, [0.5], ["a", "b"], members[0].config.shape[1:]), TARGET)

    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.where(x.mean((2, 3)) >= 0.5, x.mean((2, 3)), -x.amax((2, 3)))

    with pytest.raises(TargetError, match=r"NCNN cannot run this network: it has no torch.ge"):
        compile_network(Odd().eval(), TARGET, shape=(3, 8, 8))
