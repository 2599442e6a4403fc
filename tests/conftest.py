"""Shared by every test: torch on one thread, so that nothing depends on the machine's cores."""

import torch

torch.set_num_threads(1)
