"""Shared by every test."""

import signal

import torch

# On one thread, so that nothing depends on the machine's cores.
torch.set_num_threads(1)

# A process started in the background may inherit that Ctrl-C is ignored; those that tests interrupt must not.
signal.signal(signal.SIGINT, signal.default_int_handler)
