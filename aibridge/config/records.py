"""What is written down, and what it cost: the sections `records`, `prices` and `dump`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ByteSize, Field, FilePath, model_validator

from aibridge.config.content import Content
from aibridge.config.values import KIB, MIB, Positive, Section, Size, mistake


class Records(Section):
    """Where interceptions are recorded. A relative path starts at the working directory."""

    enabled: bool = True
    path: Path = Path("aibridge.db")
    on_failure: Literal["fail_open", "fail_closed"] = "fail_open"
    """Whether a request whose beginning cannot be recorded goes on, or is refused."""
    fsync: Literal["always", "interval", "never"] = "interval"
    """When the journal is brought to the disk: before anybody is told, each second, or when the system sees fit."""
    journal_max_bytes: Annotated[ByteSize, Field(ge=64 * KIB)] = ByteSize(1024**3)
    """Of records that wait in the journal for the store; beyond it `on_failure` says what happens."""
    content: Content = Content()
    retention_days: Positive | None = None
    """After which an interception is deleted, with all that belongs to it. None: never."""


class Prices(Section):
    """What tokens cost: list prices come with the program."""

    path: FilePath | None = None
    """A file of prices that win over those, as docs/prices.md describes it."""


class DumpSettings(Section):
    """Where requests and answers are written down as they pass, for an operator who looks for a fault."""

    path: Path | None = None
    """A folder; none: nothing is dumped. The files hold prompts and answers."""
    max_body_bytes: Size = ByteSize(16 * MIB)
    """Of the body in one file."""
    max_total_bytes: Size = ByteSize(1024 * MIB)
    """Of all files together; beyond it the oldest are deleted."""

    @model_validator(mode="after")
    def _has_room_for_one(self) -> Self:
        if self.max_total_bytes < self.max_body_bytes:
            raise mistake("max_total_bytes should not be below max_body_bytes")
        return self
