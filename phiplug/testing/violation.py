"""Says which requirement of the contract a backend violates, and how. It knows nothing of backends."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec

import numpy as np

if TYPE_CHECKING:
    from phiplug.spi import Logits

P = ParamSpec("P")


class ContractViolation(AssertionError):
    """A backend did not do what the contract requires.

    Attributes:
        requirement: the sentence that it violates.
        detail: how, in a clause.
    """

    def __init__(self, requirement: str, detail: str) -> None:
        super().__init__(f'the contract requires: "{requirement}" But {detail}')
        self.requirement = requirement
        self.detail = detail


def conformance_test(test: Callable[P, None]) -> Callable[P, None]:
    """Report whatever a test raises as a `ContractViolation` that quotes the test's docstring, the requirement."""

    @functools.wraps(test)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> None:
        __tracebackhide__ = True
        try:
            test(*args, **kwargs)
        except AssertionError as error:
            raise ContractViolation(test.__doc__ or "", str(error)) from error
        except Exception as error:
            detail = f"the backend raised {type(error).__name__}: {error}"
            raise ContractViolation(test.__doc__ or "", detail) from error

    return reporting


def expect(holds: bool, otherwise: str) -> None:
    """Go on if the condition `holds`; else say what happened `otherwise`, to follow the word "But"."""
    __tracebackhide__ = True
    if not holds:
        raise AssertionError(otherwise)


def difference(left: Logits, right: Logits) -> float:
    """Return how far two arrays of logits are apart: the largest of max |left - right| / range of right's row.

    Dividing by the range makes it independent of the model's scale: 0 is bit-equal, and rows of unrelated tokens are
    around 0.5 apart. Rows that are not finite, or of different shapes, are infinitely far apart.
    """
    if left.shape != right.shape or not (np.isfinite(left).all() and np.isfinite(right).all()):
        return float("inf")
    if np.array_equal(left, right):
        return 0.0
    spread = np.ptp(right, axis=1)
    apart = np.abs(left - right).max(axis=1)
    return float((apart / np.maximum(spread, np.finfo(np.float32).tiny)).max())


def expect_close(left: Logits, right: Logits, tolerance: float, otherwise: str) -> float:
    """Expect a `difference` of at most `tolerance`, where 0 means bit-equal; return the difference."""
    apart = difference(left, right)
    expect(
        apart <= tolerance,
        f"{otherwise}: the logits are {apart:.2g} of their range apart, and "
        + (f"{tolerance:.2g} is declared" if tolerance else "they should be bit-equal"),
    )
    return apart
