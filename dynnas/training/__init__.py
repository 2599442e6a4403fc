"""Training of the shared weights, and what turns a slice of them into a network that can be judged."""

from dynnas.training.calibrate import calibrate
from dynnas.training.checkpoint import load_supernet
from dynnas.training.start import Launch, train_supernet
from dynnas.training.train import Report, Training

__all__ = ["Launch", "Report", "Training", "calibrate", "load_supernet", "train_supernet"]
