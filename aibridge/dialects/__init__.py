"""What events mean, per API. An API is one file here and a line in this table; what else it takes is not here."""

from aibridge.dialects.base import Dialect, Observer, Telling, words_of
from aibridge.dialects.chat import ChatDialect
from aibridge.dialects.chat_extra_usage import UsageWithheld, asking_usage
from aibridge.dialects.messages import MessagesDialect
from aibridge.dialects.responses import ResponsesDialect

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (MessagesDialect(), ChatDialect(), ResponsesDialect())
}

__all__ = [
    "DIALECTS",
    "ChatDialect",
    "Dialect",
    "Observer",
    "Telling",
    "UsageWithheld",
    "asking_usage",
    "words_of",
]
