"""A reader for worker processes; free of torch, which would take them seconds to import."""

import os
import signal

import numpy as np


class Squares:
    """Squares of rows; 13 kills the process, and 17 fails."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The squares."""
        if (rows == 13).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if (rows == 17).any():
            raise ValueError("seventeen")
        return rows**2
