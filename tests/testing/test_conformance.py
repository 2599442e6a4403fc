"""Every registered op holds to the shipped conformance suite."""

import pytest

from dynnas.errors import MissingExtraError
from dynnas.testing.cases import cases
from dynnas.testing.conformance import CHECKS, exports_to_onnx

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_op(case):
    missing = None
    for check in CHECKS:
        try:
            check(case)
        except MissingExtraError as error:
            missing = error
        except Exception as error:
            error.add_note(f"in the check {check.__name__}")
            raise
    if missing:
        pytest.skip(str(missing))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_graphs_whose_layers_are_in_earlier_ones(case):
    try:
        exports_to_onnx(case, every=True)
    except MissingExtraError as error:
        pytest.skip(str(error))
