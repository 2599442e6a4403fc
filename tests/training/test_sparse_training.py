"""Group lasso and polarisation, against loops and autograd."""

import torch
from support.runs import run_of
from torch import nn

from dynnas.nn.conv2d import Conv2d
from dynnas.training.algorithms.group_lasso import GroupLasso, group_norms
from dynnas.training.algorithms.polarization import Polarization, polarization


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        Conv2d(4, 6, 3, op="condconv", experts=2),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 6, 3, groups=6),
    )


def test_groups_are_filters_and_channels():
    plain, bank, depthwise = torch.randn(4, 3, 2, 2), torch.randn(2, 6, 4, 1, 1), torch.randn(6, 1, 3, 3)
    expected = 0.0
    for kernel, filters in ((plain[None], 4), (bank, 6), (depthwise[None], 6)):
        expected += 0.5 * sum(float(kernel[:, at].square().sum()) ** 0.5 for at in range(filters))
        if kernel is not depthwise and kernel.shape[2] > 1:
            channels = range(kernel.shape[2])
            expected += 0.1 * sum(float(kernel[:, :, at].square().sum()) ** 0.5 for at in channels)
    torch.testing.assert_close(group_norms([plain, bank, depthwise], 0.5, 0.1), torch.tensor(expected))


def test_group_lasso_pulls_at_filters_towards_zero():
    """w / |w|, by hand; a filter that is zero stays there."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3))
    kernel = module[0].weight
    with torch.no_grad():
        kernel[1] = 0
    kernel.grad = torch.zeros_like(kernel)
    GroupLasso(filters=0.5, channels=0.0).on_gradients(run_of(model=module))
    norms = kernel.detach().flatten(1).norm(dim=1).clamp(min=1e-9)
    torch.testing.assert_close(kernel.grad, 0.5 * kernel.detach() / norms[:, None, None, None])
    assert module[0].bias.grad is None


def test_polarisation_is_the_formula_over_all_norms_of_a_network():
    module = network()
    scales = [module[1].weight, module[3].weight]
    with torch.no_grad():
        for scale in scales:
            scale.uniform_(-0.2, 1.5)
    every = torch.cat([scale.detach() for scale in scales]).requires_grad_()
    loss = 0.1 * (1.2 * every.abs().sum() - sum((one - every.mean()).abs() for one in every))
    torch.testing.assert_close(0.1 * polarization(scales, 1.2), loss)
    loss.backward()
    for scale in scales:
        scale.grad = torch.ones_like(scale)
    algorithm = Polarization(weight=0.1)
    run = run_of([algorithm], model=module)
    algorithm.on_gradients(run)
    torch.testing.assert_close(torch.cat([scale.grad for scale in scales]), 1 + every.grad)
    algorithm.on_step(run)
    assert all(0 <= value <= 1 for scale in scales for value in scale.tolist())
