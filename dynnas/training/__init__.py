"""Training of the shared weights and of finished networks, and what makes a slice ready to be judged."""

from dynnas.training.alone import fresh_network, train_alone
from dynnas.training.calibrate import calibrate
from dynnas.training.checkpoint import load_supernet
from dynnas.training.constraint import Binary, Constraint
from dynnas.training.kept import keep_network, load_network
from dynnas.training.recipe import Recipe
from dynnas.training.start import Launch, train_supernet
from dynnas.training.train import Report, Training

__all__ = [
    "Binary",
    "Constraint",
    "Launch",
    "Recipe",
    "Report",
    "Training",
    "calibrate",
    "fresh_network",
    "keep_network",
    "load_network",
    "load_supernet",
    "train_alone",
    "train_supernet",
]
