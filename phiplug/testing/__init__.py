"""The contract of `phiplug.spi` as conformance tests: inherit `BackendContract`, or call `check`.

It needs pytest and hypothesis: `pip install 'phiplug[testing]'`. It imports no engine, and of the core only what finds
a backend and a model. A failure quotes the requirement that the backend violates, and says how.
"""

from phiplug.testing.check import CheckResult, check
from phiplug.testing.contract import BackendContract
from phiplug.testing.fixtures import TOLERANCE_CAP
from phiplug.testing.violation import ContractViolation, difference

__all__ = ["TOLERANCE_CAP", "BackendContract", "CheckResult", "ContractViolation", "check", "difference"]
