"""aibridge: an AI gateway that relays bytes untouched and tells the truth about how each stream ended."""

from aibridge import compiled  # noqa: F401 - first of all: what is imported behind it may be compiled

__version__ = "0.1.0"
