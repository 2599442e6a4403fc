"""Every registered op holds to the shipped conformance suite."""

import pytest

from dynnas.errors import MissingExtraError
from dynnas.testing.cases import cases
from dynnas.testing.conformance import CHECKS, exports_to_onnx


def hold(case, checks):
    """Run the checks on a case; those that lack a package are a skip, once all others are done."""
    missing = None
    for check in checks:
        try:
            check(case)
        except MissingExtraError as error:
            missing = error
        except Exception as error:
            error.add_note(f"in the check {check.__name__}")
            raise
    if missing:
        pytest.skip(str(missing))


# Graphs take as long as all other checks: a third of the cases has its turn here, and all of them below.
# Graphs of every kernel, attention and activation are in tests/runtimes, too.
@pytest.mark.parametrize(("number", "case"), [*enumerate(cases())], ids=str)
def test_op(number, case):
    hold(case, [check for check in CHECKS if check is not exports_to_onnx or number % 3 == 0])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_every_op_in_every_block_and_gate_with_all_graphs(number):
    for case in cases(every=True)[number::8]:
        hold(case, CHECKS)
        exports_to_onnx(case, every=True)
