"""What events mean, per API. An API is one file here and a line in this table; what else it takes is not here."""

from aibridge.dialects.base import Dialect, Observer, Telling, words_of
from aibridge.dialects.messages import MessagesDialect
from aibridge.dialects.responses import ResponsesDialect

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (MessagesDialect(), ResponsesDialect())}

__all__ = ["DIALECTS", "Dialect", "Observer", "Telling", "words_of"]
