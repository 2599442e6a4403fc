"""timm, whose modules are the second witness for ours; without it, tests that ask for it are skipped."""

import importlib
import importlib.util
import warnings

import pytest
import torch


@pytest.fixture(scope="session")
def timm():
    """The package, with `timm.layers` and `timm.models`."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed: pip install --no-deps timm torchvision huggingface_hub")
    with torch.library._scoped_library("torchvision", "FRAGMENT") as operators:
        yield _import_timm(operators)


def _import_timm(operators):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            importlib.import_module("torchvision")
        except RuntimeError:
            # Built for another torch, it has no operators, and imports only where they are at least declared.
            for name in ("nms", "qnms"):
                operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("timm")
