"""Training of the shared weights, and what turns a slice of them into a network that can be judged."""

from dynnas.training.calibrate import calibrate
from dynnas.training.checkpoint import load_supernet
from dynnas.training.start import train_supernet

__all__ = ["calibrate", "load_supernet", "train_supernet"]
