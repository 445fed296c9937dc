"""The contract of `phiplug.spi` as a test suite: inherit `BackendContract`, or call `check`.

It needs pytest and hypothesis: `pip install 'phiplug[testing]'`. It imports no engine and nothing of the core but what
finds a backend and a model. A failure quotes the promise that broke and says how.
"""

from phiplug.testing.check import PromiseResult, check
from phiplug.testing.contract import BackendContract
from phiplug.testing.promises import BrokenPromise, difference
from phiplug.testing.subject import TOLERANCE_CAP

__all__ = ["TOLERANCE_CAP", "BackendContract", "BrokenPromise", "PromiseResult", "check", "difference"]
