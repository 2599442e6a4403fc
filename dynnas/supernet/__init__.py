"""The one-shot supernet: shared weights, of which every architecture of a space is a slice."""

from dynnas.supernet.supernet import Supernet

__all__ = ["Supernet"]
