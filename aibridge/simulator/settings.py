"""What a simulator can be told at its start. Values only."""

from collections.abc import Collection
from dataclasses import dataclass, field

from aibridge.simulator.sigv4 import Credentials
from aibridge.simulator.values import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a simulator answers.

    Attributes:
        shape: length and pace of clean answers.
        anthropic_keys: the good keys of the Anthropic face; none takes any key, but a key there must be.
        openai_keys: the same of the OpenAI faces.
        aws: who may come in at the Bedrock face.
        any_credentials: check none at all, on any face.
        max_body_bytes: longer request bodies are read, dropped and answered with 413.
        ledger_rows: rows kept; the oldest go first.
    """

    shape: Shape = field(default_factory=Shape)
    anthropic_keys: Collection[str] = ()
    openai_keys: Collection[str] = ()
    aws: Credentials = field(default_factory=Credentials)
    any_credentials: bool = False
    max_body_bytes: int = 64 * 1024 * 1024
    ledger_rows: int = 20_000
