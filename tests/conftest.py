"""What every test run shows first: which wire is tested. And a collector for whoever sends spans."""

import sys
from pathlib import Path

import pytest

from aibridge.compiled import MODULES
from aibridge.wire import IMPLEMENTATION

sys.path.insert(0, str(Path(__file__).parent))  # the kits stand there; the tests are no package
pytest_plugins = ["hang_kit"]


def pytest_report_header() -> str:
    return f"aibridge: {IMPLEMENTATION} wire, {MODULES} modules"


@pytest.fixture
def collector():
    """A collector on loopback that takes spans and metrics, for one test."""
    with pytest.importorskip("otlp_collector").collecting() as running:
        yield running
