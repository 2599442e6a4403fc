"""A network's config as a document, so that a checkpoint can be built again without its space file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dynnas.nn.config.choice import Choice
from dynnas.nn.config.network import (
    BlockConfig,
    ExitConfig,
    ExitPlace,
    GlanceConfig,
    HeadConfig,
    NetworkConfig,
    PolicyConfig,
    RecurrentConfig,
    ResolutionConfig,
    StemConfig,
)
from dynnas.nn.config.scales import Grown, Scales

KINDS = ("block", "op", "attention", "activation", "gate")


def config_to_dict(config: NetworkConfig) -> dict[str, Any]:
    """Return a document for JSON that `config_from_dict` reads back."""
    document = asdict(config)
    # What few networks have is left out where there is none of it.
    for (_, block), (_, own) in zip(document["blocks"], config.blocks, strict=True):
        block |= {kind: getattr(own, kind).to_json() for kind in KINDS}
        if own.scales is None:
            del block["scales"]
    for part in ("policy", "recurrent", "choice", "glance", "width"):
        if document[part] is None:
            del document[part]
    return document


def config_from_dict(document: Mapping[str, Any]) -> NetworkConfig:
    """Read what `config_to_dict` returned, also after a way through JSON."""
    choice, glance = document.get("choice"), document.get("glance")
    return NetworkConfig(
        channels=document["channels"],
        classes=document["classes"],
        resolution=document["resolution"],
        stem=StemConfig(**document["stem"]),
        blocks=tuple((slot, _block(block)) for slot, block in document["blocks"]),
        exits=tuple(
            ExitPlace(**{**place, "config": ExitConfig(**place["config"])}) for place in document["exits"]
        ),
        head=HeadConfig(**document["head"]),
        policy=PolicyConfig(**policy) if (policy := document.get("policy")) else None,
        recurrent=RecurrentConfig(**recurrent) if (recurrent := document.get("recurrent")) else None,
        choice=ResolutionConfig(**{**choice, "sizes": tuple(choice["sizes"])}) if choice else None,
        glance=GlanceConfig(**glance) if glance else None,
        width=document.get("width"),
    )


def _block(document: Mapping[str, Any]) -> BlockConfig:
    choices = {kind: Choice.from_json(document[kind]) for kind in KINDS}
    scales = document.get("scales")
    if scales is None:
        return BlockConfig(**{**document, **choices})
    grown = tuple(Grown(**stage) for stage in scales["grown"])
    found = Scales(**{**scales, "base": tuple(scales["base"]), "grown": grown})
    return BlockConfig(**{**document, **choices, "scales": found})
