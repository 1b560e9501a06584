"""Parts of what a configuration is at work: made once, and handed on while what they are made of stays the same."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

_logger = logging.getLogger(__name__)

_What = TypeVar("_What")


async def _nothing(_: Any) -> None:
    pass


class _Part:
    """One of them, with how it is started and ended."""

    __slots__ = ("end", "made_of", "start", "started", "what")

    def __init__(self, made_of: object, what: Any, start: Callable[[Any], Awaitable[None]] | None, end: Any) -> None:
        self.made_of = made_of
        self.what = what
        self.start = start
        self.end: Callable[[Any], Awaitable[None]] = end or _nothing
        self.started = start is None


class Parts:
    """The parts of one generation.

    Args:
        before: those of the generation that it shall follow.
    """

    def __init__(self, before: "Parts | None" = None) -> None:
        self._before: Mapping[tuple[str, str], _Part] = {} if before is None else before.held
        self.held: dict[tuple[str, str], _Part] = {}

    def take(
        self,
        key: tuple[str, str],
        made_of: object,
        make: Callable[[], _What],
        *,
        start: Callable[[_What], Awaitable[None]] | None = None,
        end: Callable[[_What], Awaitable[None]] | None = None,
    ) -> _What:
        """Return a part: that of the generation before where it is made of the same, else a new one.

        Args:
            key: its kind, and its name.
            made_of: whatever it depends on; compared, never shown.
            make: makes it.
            start: called once, before it serves.
            end: called when no generation has it any more.
        """
        part = self._before.get(key)
        if part is None or part.made_of != made_of:
            part = _Part(made_of, make(), start, end)
        self.held[key] = part
        return cast(_What, part.what)

    async def start(self) -> None:
        """All are taken: start those that are new. Raises whatever one of them does."""
        self._before = {}
        for part in self.held.values():
            if part.start is not None and not part.started:
                await part.start(part.what)
                part.started = True

    async def end(self, kept: Iterable["Parts"] = ()) -> None:
        """End them, but for those that others have too."""
        staying = {id(part) for others in kept for part in others.held.values()}
        for part in self.held.values():
            if id(part) not in staying:
                try:
                    await part.end(part.what)
                except Exception:  # whatever it is, the others are to end too
                    _logger.exception("a part did not end")
