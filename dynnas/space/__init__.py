"""Design spaces: YAML text to `Space`, and pure functions that draw and vary its architectures; no torch."""

from dynnas.space.architecture import Architecture, Value
from dynnas.space.gene import Gene
from dynnas.space.moves import crossover, enumerate_all, largest, mutate, sample, smallest
from dynnas.space.network import (
    BlockConfig,
    ExitConfig,
    ExitPlace,
    HeadConfig,
    NetworkConfig,
    SlotConfig,
    StemConfig,
)
from dynnas.space.parser import load_space, parse_space
from dynnas.space.problems import Problem, SpaceFileError
from dynnas.space.schema import json_schema
from dynnas.space.settings import DataSettings, SearchSettings, Settings, TargetSettings, TrainSettings
from dynnas.space.space import Space
from dynnas.space.table_section import TableSettings
from dynnas.space.template import NetworkTemplate

__all__ = [
    "Architecture",
    "BlockConfig",
    "DataSettings",
    "ExitConfig",
    "ExitPlace",
    "Gene",
    "HeadConfig",
    "NetworkConfig",
    "NetworkTemplate",
    "Problem",
    "SearchSettings",
    "Settings",
    "SlotConfig",
    "Space",
    "SpaceFileError",
    "StemConfig",
    "TableSettings",
    "TargetSettings",
    "TrainSettings",
    "Value",
    "crossover",
    "enumerate_all",
    "json_schema",
    "largest",
    "load_space",
    "mutate",
    "parse_space",
    "sample",
    "smallest",
]
