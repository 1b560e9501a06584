"""What was looked at, and what was found. Values only."""

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """How it stands with what was looked at."""

    OK = "ok"
    NOTE = "note"
    """It works, and somebody should know something."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """It could not be looked at, or need not be."""


class Finding(NamedTuple):
    """One thing that was looked at. `about` is a provider's name, or empty for the gateway itself.

    `advice` says what to do; it is there where something failed, and with some notes.
    """

    about: str
    check: str
    state: State
    detail: str
    advice: str = ""
