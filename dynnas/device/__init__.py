"""What must run on the device itself: rounds of timed runs, and what their noise says. Needs numpy alone."""

from dynnas.device.estimate import Estimate, estimate
from dynnas.device.rounds import Plan, Subject, time_rounds

__all__ = ["Estimate", "Plan", "Subject", "estimate", "time_rounds"]
