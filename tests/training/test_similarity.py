"""Images that look alike use like channels: against cosines by hand, and in parts of a batch."""

import torch
from support import networks
from support.gated import gated_config, undecided
from torch.nn import functional as F

from dynnas.nn.context import tracing
from dynnas.nn.gates.families.channels import KeptChannels
from dynnas.training.algorithms.gates.similarity import similarity_loss
from dynnas.training.distributed.ranks import Batch, Ranks


def test_the_gap_between_cosines_by_hand():
    kept = [(torch.rand(4, 6), torch.rand(4, 6)), (torch.rand(4, 3), torch.rand(4, 3))]
    expected = 0.0
    for weights, held in kept:
        for one in range(4):
            for other in range(4):
                found = [F.cosine_similarity(v[one], v[other], dim=0) for v in (weights, held)]
                expected += float(found[0] - found[1]) ** 2 / 16
    torch.testing.assert_close(similarity_loss(kept, Batch(Ranks(), 4)), torch.tensor(expected))
    alike = [(2 * weights, weights) for weights, _ in kept]
    torch.testing.assert_close(similarity_loss(alike, Batch(Ranks(), 4)), torch.tensor(0.0))


def test_it_hears_what_the_last_convolution_reads_and_teaches_gate_and_block():
    network = undecided(gated_config(("skip", "channels"))).train()
    gated, seen = network.slots["stage2__0"], []
    gated.block.project.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with tracing(network, KeptChannels) as trace:
        network.logits(networks.images(20))
    kept = [(each.weights, each.held) for each in trace.of(KeptChannels)]
    ((weights, held),) = kept
    assert weights.shape == held.shape == (20, 16)
    assert (weights > 0).sum(1).tolist() == [8] * 20
    torch.testing.assert_close(held * weights, seen[0].mean((2, 3)))
    network.logits(networks.images(2))
    assert len(trace.of(KeptChannels)) == 1
    similarity_loss(kept, Batch(Ranks(), 20)).backward()
    for parameter in (gated.gate[0].expand.weight, gated.block.depthwise.conv.weight):
        assert float(parameter.grad.abs().sum()) > 0
