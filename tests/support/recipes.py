"""Settings of short trainings whose arithmetic is the same on every machine."""

from typing import Any

from dynnas.settings.settings import TrainSettings


def short_training(epochs: int = 12, **algorithms: Any) -> TrainSettings:
    """A few epochs in batches of 32, with one random network in a step and what `algorithms` add."""
    return TrainSettings(
        epochs=epochs,
        batch=32,
        lr=0.1,
        precision="float32",
        layout="channels_last",
        algorithms={"sandwich": {"random": 1}, **algorithms},
    )
