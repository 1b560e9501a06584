"""Price lists from YAML: ours, which comes with the program, and an operator's, whose entries win over it.

Every mistake is told at once, each with its line and key. A door to yaml: prices are read as they are written, and are
floats never. The format is told in docs/prices.md.
"""

import difflib
import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import NamedTuple, TypeVar

import yaml

from aibridge.errors import ConfigError
from aibridge.prices import Catalogue, Price, PriceList, Rates, Ratio, Scale
from aibridge.secretsource import read_regular

BUILT_IN = Path(__file__).with_name("prices.yaml")
"""List prices as they were public on the day of its version."""

_NANO_DIGITS = 9
_DECIMAL = re.compile(r"([0-9]{1,9})(?:\.([0-9]+))?")
_COUNT = re.compile(r"[0-9](?:_?[0-9]){0,14}")
_VERSION = re.compile(r"[A-Za-z0-9._-]{1,40}")
_WORD = re.compile(r"[a-z*][a-z0-9_-]{0,63}")
_RATES = Rates._fields

_T = TypeVar("_T")


class _Edition(NamedTuple):
    """What one file says."""

    version: str
    lists: dict[str, PriceList]


def load(path: Path | None = None) -> Catalogue:
    """Return the price lists: ours, and over them those of a file.

    Args:
        path: an operator's file.

    Raises:
        ConfigError: a file cannot be read or used; one line for each mistake.
    """
    if path is None:
        return _ours_alone()
    ours, theirs = _read_ours(), _read(path)
    return Catalogue(f"{ours.version}+{theirs.version}", theirs.lists, ours.lists)


@functools.cache
def _ours_alone() -> Catalogue:
    ours = _read_ours()
    return Catalogue(ours.version, ours.lists)


@functools.cache
def _read_ours() -> _Edition:
    return _read(BUILT_IN)


def _read(path: Path) -> _Edition:
    reader = _Reader(path)
    try:
        root = yaml.compose(read_regular(path).decode(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = re.sub(r"(alias|tag|handle)\b.*", r"\1", error.problem or "is no YAML")  # it quotes what stands there
        raise ConfigError(f"{path}, line {line}: {problem}") from None
    except (yaml.YAMLError, RecursionError):
        raise ConfigError(f"{path}: is no YAML") from None
    edition = reader.edition(root)
    if reader.mistakes:
        raise ConfigError("\n".join(reader.mistakes))
    return edition


class _Reader:
    """Makes values of YAML's nodes, and gathers what is wrong. After a mistake it goes on with what is plainest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.mistakes: list[str] = []

    def edition(self, node: yaml.Node | None) -> _Edition:
        """Return what a file says."""
        if node is None:
            self.mistakes.append(f"{self._path}: is empty")
            return _Edition("", {})
        said = self._mapping(node, "", {"version", "lists", "note"}, needed=("version", "lists"))
        version = self._text(said["version"], "version", _VERSION, "letters, digits and . _ -") if said else ""
        lists = self._mapping(said["lists"], "lists") if "lists" in said else {}
        return _Edition(version, {name: self._list(one, f"lists.{name}") for name, one in lists.items()})

    def _list(self, node: yaml.Node, key: str) -> PriceList:
        said = self._mapping(node, key, {"models", "aliases"})
        aliases = self._mapping(said["aliases"], f"{key}.aliases") if "aliases" in said else {}
        models: dict[str, tuple[Price, ...]] = {}
        for place, entry in self._items(said["models"], f"{key}.models") if "models" in said else ():
            for name, prices in self._model(entry, place):
                if name in models:
                    self._wrong(entry, place, f"{name!r} has prices already")
                models[name] = prices
        return PriceList(models, {name: self._text(one, f"{key}.aliases.{name}") for name, one in aliases.items()})

    def _model(self, node: yaml.Node, key: str) -> Iterator[tuple[str, tuple[Price, ...]]]:
        said = self._mapping(node, key, {"match", "prices", "note"}, needed=("match", "prices"))
        prices = tuple(self._price(one, place) for place, one in self._given(said, "prices", key))
        moments = [price.since for price in prices]
        if moments != sorted(set(moments)):
            self._wrong(
                said["prices"], f"{key}.prices", "should stand from the oldest to the newest, each of its own day"
            )
        for place, one in self._given(said, "match", key):
            name = self._text(one, place)
            if "*" in name[:-1]:
                self._wrong(one, place, "a star stands at the end only")
            yield name, prices

    def _given(self, said: Mapping[str, yaml.Node], name: str, key: str) -> Iterator[tuple[str, yaml.Node]]:
        return self._items(said[name], f"{key}.{name}") if name in said else iter(())

    def _price(self, node: yaml.Node, key: str) -> Price:
        own = {"from", "source", "checked", "note", "long_context", "service_tiers", "regions", "per_thousand"}
        said = self._mapping(node, key, own | set(_RATES))
        return Price(
            since=self._day(said["from"], f"{key}.from") if "from" in said else 0,
            scale=self._scale(node, said, key),
            tiers=self._each(said, "service_tiers", key, self._tier),
            regions=self._each(said, "regions", key, self._ratio),
            per_thousand=self._each(said, "per_thousand", key, self._nanodollars),
            source=self._text(said["source"], f"{key}.source") if "source" in said else "",
        )

    def _tier(self, node: yaml.Node, key: str) -> Scale | Ratio:
        if isinstance(node, yaml.ScalarNode):
            return self._ratio(node, key)
        return self._scale(node, self._mapping(node, key, {"long_context", *_RATES}), key)

    def _scale(self, node: yaml.Node, said: Mapping[str, yaml.Node], key: str) -> Scale:
        longer: list[tuple[int, Rates]] = []
        for place, one in self._given(said, "long_context", key):
            rates = self._mapping(one, place, {"above", *_RATES}, needed=("above",))
            above = self._count(rates["above"], f"{place}.above") if "above" in rates else 0
            if longer and above <= longer[-1][0]:
                self._wrong(one, f"{place}.above", "should be more than that before it")
            longer.append((above, self._rates(one, rates, place)))
        return Scale(self._rates(node, said, key), tuple(longer))

    def _rates(self, node: yaml.Node, said: Mapping[str, yaml.Node], key: str) -> Rates:
        rates = {name: self._nanodollars(said[name], f"{key}.{name}") for name in _RATES if name in said}
        for name in ("input", "output"):
            if name not in rates:
                self._wrong(node, f"{key}.{name}", "is needed")
        return Rates(**{"input": 0, "output": 0, **rates})

    def _each(
        self, said: Mapping[str, yaml.Node], name: str, key: str, read: Callable[[yaml.Node, str], _T]
    ) -> dict[str, _T]:
        entries = self._mapping(said[name], f"{key}.{name}") if name in said else {}
        for word, node in entries.items():
            if not _WORD.fullmatch(word):
                self._wrong(node, f"{key}.{name}.{word}", "should be a word as the API has it, in small letters")
        return {word: read(node, f"{key}.{name}.{word}") for word, node in entries.items()}

    # --- plain values -----------------------------------------------------------------------------------------------

    def _mapping(
        self, node: yaml.Node, key: str, known: Collection[str] | None = None, needed: Collection[str] = ()
    ) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, key, "should be a mapping of keys to values")
            return {}
        said: dict[str, yaml.Node] = {}
        for name_node, value in node.value:
            name = self._text(name_node, key)
            place = f"{key}.{name}" if key else name
            if name in said:
                self._wrong(name_node, place, "is written twice")
            if known is not None and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                self._wrong(name_node, place, f"unknown key; did you mean {near[0]!r}?" if near else "unknown key")
            said[name] = value
        for name in needed:
            if name not in said:
                self._wrong(node, f"{key}.{name}" if key else name, "is needed")
        return said if all(name in said for name in needed) else {}

    def _items(self, node: yaml.Node, key: str) -> Iterator[tuple[str, yaml.Node]]:
        if isinstance(node, yaml.SequenceNode):
            return ((f"{key}.{index}", item) for index, item in enumerate(node.value))
        self._wrong(node, key, "should be a list")
        return iter(())

    def _text(self, node: yaml.Node, key: str, shape: re.Pattern[str] | None = None, words: str = "") -> str:
        text = node.value.strip() if isinstance(node, yaml.ScalarNode) else ""
        if not text:
            self._wrong(node, key, "should be text")
        elif shape is not None and not shape.fullmatch(text):
            self._wrong(node, key, f"should be {words}")
        return text

    def _count(self, node: yaml.Node, key: str) -> int:
        text = self._text(node, key)
        if not _COUNT.fullmatch(text):
            self._wrong(node, key, "should be a whole number of tokens")
            return 0
        return int(text)

    def _day(self, node: yaml.Node, key: str) -> int:
        text = self._text(node, key)
        try:
            day = date.fromisoformat(text)
        except ValueError:
            self._wrong(node, key, "should be a day, like 2026-01-31")
            return 0
        return int(datetime.combine(day, time(), UTC).timestamp())

    def _nanodollars(self, node: yaml.Node, key: str) -> int:
        whole, digits = self._decimal(node, key, "dollars")
        return int(whole + digits.ljust(_NANO_DIGITS, "0"))

    def _ratio(self, node: yaml.Node, key: str) -> Ratio:
        whole, digits = self._decimal(node, key, "a multiplier")
        return Ratio(int(whole + digits), 10 ** len(digits))

    def _decimal(self, node: yaml.Node, key: str, words: str) -> tuple[str, str]:
        """Return the digits before the point and behind it."""
        text = self._text(node, key)
        said = _DECIMAL.fullmatch(text)
        if said is None:
            self._wrong(node, key, f"should be {words}, like 3 or 0.075")
            return "0", ""
        digits = said[2] or ""
        if len(digits) > _NANO_DIGITS:
            self._wrong(node, key, f"should have {_NANO_DIGITS} digits behind the point at most")
        return said[1], digits[:_NANO_DIGITS]

    def _wrong(self, node: yaml.Node, key: str, what: str) -> None:
        place = f"{key}: " if key else ""
        self.mistakes.append(f"{self._path}, line {node.start_mark.line + 1}: {place}{what}")
