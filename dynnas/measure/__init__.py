"""What a network is worth and what it costs: accuracy, multiply-adds, parameters, latency."""

from dynnas.device import Subject
from dynnas.device.lock import device_lock
from dynnas.measure.accuracy import Accuracy, accuracy, predict_logits, prepare_images
from dynnas.measure.anchors import build_anchors
from dynnas.measure.cost import Cost, cost
from dynnas.measure.environment import environment_fingerprint
from dynnas.measure.latency import AnchorReference, Latency, Spread
from dynnas.measure.meter import LatencyMeter, LocalTimer
from dynnas.measure.predictor import LatencyPredictor, load_predictor, predictor_file
from dynnas.measure.remote import RemoteTimer, resolve_target
from dynnas.measure.resources import call_energies, peak_memories_mib

__all__ = [
    "Accuracy",
    "AnchorReference",
    "Cost",
    "Latency",
    "LatencyMeter",
    "LatencyPredictor",
    "LocalTimer",
    "RemoteTimer",
    "Spread",
    "Subject",
    "accuracy",
    "build_anchors",
    "call_energies",
    "cost",
    "device_lock",
    "environment_fingerprint",
    "load_predictor",
    "peak_memories_mib",
    "predict_logits",
    "predictor_file",
    "prepare_images",
    "resolve_target",
]
