"""What every test run shows first: which wire is tested."""

from aibridge.wire import IMPLEMENTATION


def pytest_report_header() -> str:
    return f"aibridge: {IMPLEMENTATION} wire"
