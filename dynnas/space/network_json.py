"""A network's config as a document, so that a checkpoint can be built again without its space file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dynnas.space.network import (
    BlockConfig,
    ExitConfig,
    ExitPlace,
    HeadConfig,
    NetworkConfig,
    StemConfig,
)


def config_to_dict(config: NetworkConfig) -> dict[str, Any]:
    """For JSON; `config_from_dict` reads it back."""
    return asdict(config)


def config_from_dict(document: Mapping[str, Any]) -> NetworkConfig:
    """What `config_to_dict` gave, before or after a way through JSON."""
    return NetworkConfig(
        channels=document["channels"],
        classes=document["classes"],
        resolution=document["resolution"],
        stem=StemConfig(**document["stem"]),
        blocks=tuple((slot, BlockConfig(**block)) for slot, block in document["blocks"]),
        exits=tuple(
            ExitPlace(**{**place, "config": ExitConfig(**place["config"])}) for place in document["exits"]
        ),
        head=HeadConfig(**document["head"]),
    )
