"""The names that a study may have, and those of the sections that describe a network."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

NETWORK_SECTIONS = ("input", "stem", "policy", "stages", "head", "exits")
"""The sections that describe a network."""

REQUIRED_SECTIONS = ("input", "stem", "stages")
"""The sections that a network needs."""
