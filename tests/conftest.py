"""What every test run shows first: which wire is tested."""

import sys
from pathlib import Path

from aibridge.wire import IMPLEMENTATION

sys.path.insert(0, str(Path(__file__).parent))  # the kits stand there; the tests are no package


def pytest_report_header() -> str:
    return f"aibridge: {IMPLEMENTATION} wire"
