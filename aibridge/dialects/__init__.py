"""What events mean, per API. Adding an API is one new file here and a line in this table."""

from aibridge.dialects.base import Dialect, Observer, Telling, words_of
from aibridge.dialects.messages import MessagesDialect

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (MessagesDialect(),)}

__all__ = ["DIALECTS", "Dialect", "Observer", "Telling", "words_of"]
