"""Importance of single weights: what the loss would lose without them, as pruning guesses it.

- `magnitude`: |w| (Han et al. 2015, arXiv:1506.02626).
- `taylor`: (g w)^2 of the loss's first-order change, the mean over batches (Molchanov et al. 2019,
  arXiv:1906.10771, section 3.1).
- `obd`: w^2 h / 2 with the diagonal h of the loss's second derivatives: Optimal Brain Damage (LeCun, Denker
  and Solla 1989, equation 5). As there, second derivatives of the network itself are left out, which leaves
  J' H J with the network's Jacobian J and the loss's second derivatives H by its outputs (Gauss-Newton). Its
  diagonal is estimated: the mean of (J' S r)^2 over random signs r, where S S' = H.
- `random`: any number, from a fixed seed; what the others know is to be read against it.

Of a group of weights, such as a channel, the sum counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from dynnas.errors import StudyError, TrainingError, nearest
from dynnas.nn.exits.exits import answers
from dynnas.nn.networks.network import Network
from dynnas.runtimes.plain import PlainNetwork, outputs_by_exit
from dynnas.tasks.task import Task

Batches = Sequence[tuple[Tensor, Tensor]]
"""Images (B, C, H, W) as the network takes them, and their targets (B, ...)."""

Scores = dict[str, Tensor]
"""The importance of each weight of each parameter with two axes or more, by its name, on the CPU."""

PROBES = 16
"""Number of random sign vectors for each batch."""

WITHOUT_IMAGES = ("magnitude", "random")
"""Importances that look at no images."""

LARGEST_OUTPUT = 1024
"""Number of numbers in an image's output up to which its loss's second derivatives are computed."""


def weight_importance(name: str, network: Network, batches: Batches, task: Task) -> Scores:
    """Return the importance of each weight.

    Args:
        name: one of `IMPORTANCES`.
        network: in eval mode, on the CPU; it is not changed.
        batches: of training images; `WITHOUT_IMAGES` do not look at them.
        task: its loss is that of the last output and of all exits together.

    Raises:
        StudyError: there is no such importance.
        TrainingError: the network has gates, whose decisions no gradient passes in eval mode; or `obd` is to
            look at outputs that are maps.
    """
    if name not in IMPORTANCES:
        raise StudyError(
            f"importance: found {name!r}{nearest(name, IMPORTANCES)}; allowed: {', '.join(IMPORTANCES)}"
        )
    if name not in WITHOUT_IMAGES and network.config.gated:
        raise TrainingError(
            f"importance {name}: gradients do not reach the gates of a finished network "
            f"({network.config.gated[0][0]}); take magnitude"
        )
    return IMPORTANCES[name](network, batches, task)


def _magnitude(network: Network, batches: Batches, task: Task) -> Scores:
    return {name: value.detach().float().abs().cpu() for name, value in _weights(network)}


def _random(network: Network, batches: Batches, task: Task) -> Scores:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(value.shape, generator=generator) for name, value in _weights(network)}


def _taylor(network: Network, batches: Batches, task: Task) -> Scores:
    weights = dict(_weights(network))
    scores = {name: torch.zeros_like(value) for name, value in weights.items()}
    for images, targets in batches:
        outputs = _outputs(network, images)
        said = [_said_by(network, images, place, output) for place, output in enumerate(outputs)]
        losses = [task.step(model, (images, targets)).mean() for model in said]
        for name, gradient in _gradients(torch.stack(losses).sum(), weights).items():
            scores[name] += (gradient * weights[name].detach()).square() / len(batches)
    return scores


def _obd(network: Network, batches: Batches, task: Task) -> Scores:
    weights = dict(_weights(network))
    curvature = {name: torch.zeros_like(value) for name, value in weights.items()}
    generator = torch.Generator().manual_seed(0)
    for images, targets in batches:
        outputs = _outputs(network, images)
        roots = [_root_of_second_derivatives(output, images, targets, task) for output in outputs]
        for _ in range(PROBES):
            signs = [2.0 * torch.randint(2, output.shape, generator=generator) - 1 for output in outputs]
            pulls = [(root @ sign[..., None])[..., 0] for root, sign in zip(roots, signs, strict=True)]
            pulled = torch.stack([(output * pull).sum() for output, pull in zip(outputs, pulls, strict=True)])
            for name, gradient in _gradients(pulled.sum(), weights).items():
                curvature[name] += gradient.square() / (PROBES * len(batches))
    return {name: value.detach().square() * curvature[name] / 2 for name, value in weights.items()}


def _root_of_second_derivatives(output: Tensor, images: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Return S (B, D, D) with S S' = H, the second derivatives of the mean loss by the output (B, D)."""
    if output.ndim != 2 or output.shape[1] > LARGEST_OUTPUT:
        raise TrainingError(
            f"importance obd: outputs of the task {task.name} are {tuple(output.shape[1:])} for an image; "
            f"allowed are up to {LARGEST_OUTPUT} numbers in a row; take taylor"
        )
    leaf = output.detach().requires_grad_()
    (slope,) = torch.autograd.grad(
        task.step(lambda inputs: leaf, (images, targets)).mean(), leaf, create_graph=True
    )
    rows = [
        torch.autograd.grad(slope[:, place].sum(), leaf, retain_graph=True)[0]
        for place in range(output.shape[1])
    ]
    values, vectors = torch.linalg.eigh(torch.stack(rows, dim=1))
    return vectors * values.clamp(min=0).sqrt()[:, None, :]


def _outputs(network: Network, images: Tensor) -> list[Tensor]:
    if isinstance(network, PlainNetwork):
        return list(outputs_by_exit(network, images))
    return answers(network.logits(images), network.config.exits)


def _said_by(network: Network, images: Tensor, place: int, output: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a model of one exit: what it said of `images` is known, of others it is asked."""
    return lambda inputs: output if inputs is images else _outputs(network, inputs)[place]


def _gradients(loss: Tensor, weights: Mapping[str, nn.Parameter]) -> Scores:
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(value) if gradient is None else gradient
        for (name, value), gradient in zip(weights.items(), found, strict=True)
    }


def _weights(network: Network) -> Iterable[tuple[str, nn.Parameter]]:
    return ((name, value) for name, value in network.named_parameters() if value.ndim > 1)


IMPORTANCES: Mapping[str, Callable[[Network, Batches, Task], Scores]] = {
    "magnitude": _magnitude,
    "taylor": _taylor,
    "obd": _obd,
    "random": _random,
}
