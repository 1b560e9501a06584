"""What the commands that read the records share: which records, since when, and how rows are written."""

import argparse
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aibridge import config
from aibridge.commands.terminal import plain
from aibridge.config import Config
from aibridge.errors import ConfigError
from aibridge.text import moment as told_moment

Fields = dict[str, Any]


def add_source(parser: argparse.ArgumentParser, since: str = "") -> None:
    """Add the options that say which records, and from when on where `since` is a default."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--records", metavar="FILE", help="the SQLite file (default: where the gateway's records go)")
    source.add_argument("--config", metavar="FILE", help="a configuration that names it")
    if since:
        text = f"30m, 24h, 7d, a date or time as 2026-01-31T12:00 (UTC), or all (default: {since})"
        parser.add_argument("--since", type=_since, default=since, metavar="TIME", help=text)


def _since(text: str) -> float:
    return 0.0 if text == "all" else moment(text)


def moment(text: str) -> float:
    """Return a moment as UTC seconds: so long ago, or a date or time."""
    found = told_moment(text, time.time(), ahead=False)
    if found is None:
        raise argparse.ArgumentTypeError(f"should be as 24h, 7d or 2026-01-31, not {text!r}")
    return found


def configuration(options: argparse.Namespace) -> Config:
    """Return the configuration that `--config` names, or that of the environment."""
    return config.load(options.config) if options.config else config.from_environment()


def records_path(options: argparse.Namespace) -> Path:
    """Return the store that the options name. Raises `ConfigError` where there is none."""
    return there(Path(options.records) if options.records else configuration(options).records.path)


def there(path: Path) -> Path:
    """Return the path of a store that is there. Raises `ConfigError` where it is not."""
    if not path.exists():
        raise ConfigError(f"{path}: there are no records; name their file, or with --config FILE what names it")
    return path


def table(found: Sequence[Fields]) -> Iterable[str]:
    """Return rows as lines under their names, numbers and dollars to the right."""
    if not found:
        return []
    rows = [list(found[0])] + [[plain("-" if cell is None else str(cell)) for cell in row.values()] for row in found]
    numbers = [isinstance(cell, int) or name.endswith("_usd") for name, cell in found[0].items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in rows
    ]


def dollars(nanodollars: int | None) -> str | None:
    """Return nano-dollars as dollars, rounded to their millionths."""
    if nanodollars is None:
        return None
    whole, rest = divmod((nanodollars + 500) // 1000, 1_000_000)
    return f"{whole}.{rest:06}"


def cost_of(row: Fields) -> str:
    """Return what an interception cost: at least so much where its answer broke off; nothing where none was told."""
    if row["cost_nanodollars"] is None:
        return f"unpriced ({row['unpriced']})" if row["unpriced"] else ""
    return f"{'>=' if row['usage_source'] == 'provider_partial' else ''}${dollars(row['cost_nanodollars'])}"


def told_time(seconds: float) -> str:
    """Return a time of day as reports have it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
