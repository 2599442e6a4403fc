"""Classes in an order: far off is worse than next to it."""

import torch
from torch.nn import functional as F

from dynnas.metric import Metric
from dynnas.tasks import Classification


class Ordinal(Classification):
    """As classification, but the loss is the expected distance between the class and what is said."""

    name = "ordinal"
    metrics = (
        *Classification.metrics,
        Metric("distance", "classes", "minimize", "mean distance between the class and the answer"),
    )

    def loss(self, output, target):
        places = torch.arange(output.shape[1], device=output.device)
        distances = (places - target[:, None]).abs()
        return (output.softmax(1) * distances).sum(1) + F.cross_entropy(output, target, reduction="none")

    def score(self, outputs, targets):
        distance = (outputs.argmax(1) - targets).abs().float().mean()
        return {**super().score(outputs, targets), "distance": float(distance)}
