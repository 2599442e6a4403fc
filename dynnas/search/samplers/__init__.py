"""Who proposes architectures: Optuna samplers, ours and Optuna's own, for conditional spaces."""

from dynnas.search.samplers.architecture import ArchitectureSampler, distribution_of, suggest
from dynnas.search.samplers.make import SAMPLERS, make_sampler

__all__ = ["SAMPLERS", "ArchitectureSampler", "distribution_of", "make_sampler", "suggest"]
