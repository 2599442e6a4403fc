"""Shared by every test."""

import os
import signal
from pathlib import Path

import torch

# On one thread, so that nothing depends on the machine's cores.
torch.set_num_threads(1)

# A process started in the background may inherit that Ctrl-C is ignored; those that tests interrupt must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Programs that tests start find `support` as tests do.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)

pytest_plugins = ["support.example_spaces"]
