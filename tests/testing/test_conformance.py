"""Every registered op holds to the shipped conformance suite."""

import pytest

from dynnas.errors import MissingExtraError
from dynnas.testing.cases import cases
from dynnas.testing.conformance import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", cases(), ids=str)
def test_op(case, check):
    try:
        check(case)
    except MissingExtraError as error:
        pytest.skip(str(error))
