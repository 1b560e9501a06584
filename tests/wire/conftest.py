"""Both implementations of the wire, for every test in this folder."""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # wire_kit and wire_strategies; the tests are no package

hypothesis.settings.register_profile("wire", deadline=None, max_examples=150, print_blob=True)
hypothesis.settings.load_profile("wire")

HOMES = {
    "ChunkedDecoder": "aibridge.wire.chunked",
    "FrameDecoder": "aibridge.wire.eventstream",
    "encode_frame": "aibridge.wire.eventstream",
    "SSEScanner": "aibridge.wire.sse",
    "encode_event": "aibridge.wire.sse",
    "ChunkTranscoder": "aibridge.wire.transcode",
    "scan_object": "aibridge.wire.jsonscan",
    "element_start": "aibridge.wire.jsontail",
    "Member": "aibridge.jsontext",
}


@dataclass(frozen=True)
class Wire:
    """One implementation: its public names."""

    name: str
    ChunkedDecoder: Any
    FrameDecoder: Any
    encode_frame: Any
    SSEScanner: Any
    encode_event: Any
    ChunkTranscoder: Any
    scan_object: Any
    element_start: Any
    Member: Any

    def __repr__(self) -> str:
        return self.name


def pure_wire() -> Wire:
    return Wire("pure", **{name: getattr(importlib.import_module(home), name) for name, home in HOMES.items()})


def compiled_wire() -> Wire:
    """Return the compiled twin. Fails where it is not built: deselect it with `-m "not compiled"`, never skip."""
    module: ModuleType = importlib.import_module("aibridge._speedups")
    return Wire("compiled", **{name: getattr(module, name) for name in HOMES})


@pytest.fixture(scope="session", params=["pure", pytest.param("compiled", marks=pytest.mark.compiled)])
def wire(request: pytest.FixtureRequest) -> Wire:
    """One implementation of the wire; every test that takes it runs for each."""
    return pure_wire() if request.param == "pure" else compiled_wire()


@pytest.fixture(scope="session")
def twins() -> tuple[Wire, Wire]:
    """Both, for tests that compare them; these are marked compiled."""
    return pure_wire(), compiled_wire()
