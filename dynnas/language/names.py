"""Names: what a study may be called, and the sections of a space file that describe a network."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

NETWORK_SECTIONS = ("input", "stem", "policy", "stages", "head", "exits")
"""The sections that describe a network."""

REQUIRED_SECTIONS = ("input", "stem", "stages")
"""Those of them that a network needs."""
