"""Real images in three disjoint splits: `load_data(settings)` reads, checks and splits them."""

from dynnas.data.augment import Augmentation
from dynnas.data.dataset import Dataset, Split, resize
from dynnas.data.load import load_data

__all__ = ["Augmentation", "Dataset", "Split", "load_data", "resize"]
