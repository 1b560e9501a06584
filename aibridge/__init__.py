"""aibridge: an AI gateway that relays bytes untouched and tells the truth about how each stream ended."""

__version__ = "0.1.0"
