"""What every test run shows first: which wire is tested. And a collector for whoever sends spans."""

import gc
import sys
from pathlib import Path

import pytest

from aibridge.compiled import MODULES
from aibridge.wire import IMPLEMENTATION

sys.path.insert(0, str(Path(__file__).parent))  # the kits stand there; the tests are no package
pytest_plugins = ["hang_kit"]


def pytest_report_header() -> str:
    return f"aibridge: {IMPLEMENTATION} wire, {MODULES} modules"


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Put what is collected beyond the garbage collector: 600,000 objects, which it would look through each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture
def collector():
    """A collector on loopback that takes spans and metrics, for one test."""
    with pytest.importorskip("otlp_collector").collecting() as running:
        yield running
