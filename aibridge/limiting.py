"""Limits and budgets, made as the configuration says."""

import importlib
from pathlib import Path

from aibridge.assembly import told
from aibridge.config import Config, LimitStore
from aibridge.errors import ConfigError
from aibridge.limits.limiter import Limiter, StoreRules
from aibridge.limits.memory import MemoryStore
from aibridge.limits.rules import Rule, Rules
from aibridge.limits.sqlite import SQLiteStore
from aibridge.limits.values import CounterStore, Measure, Scope
from aibridge.prices import Catalogue
from aibridge.telemetry.metrics import Metrics


def build_limiter(config: Config, catalogue: Catalogue, metrics: Metrics) -> Limiter | None:
    """Return who asks for limits; None where nothing can have any.

    Raises:
        ConfigError: what speaks to the store is not installed.
    """
    rules = limit_rules(config)
    if not rules and config.auth.key_store is None:  # whose keys may have limits of their own, at any time
        return None

    said = config.limit_store
    store = _build_store(said, _file_of(config))
    ways = StoreRules(patience=said.timeout, allow=said.when_away == "allow")
    if not isinstance(store, MemoryStore):
        ways = ways._replace(lease=said.lease)
    return Limiter(Rules(rules), store, ways, catalogue.of_tokens, metrics)


def limit_rules(config: Config) -> list[Rule]:
    """Return what the configuration limits, in its order."""
    rules = [
        Rule(Scope(limit.for_), limit.match, measure, most)
        for limit in config.rate_limits
        for measure, most in (
            (Measure.REQUESTS, limit.requests_per_minute),
            (Measure.TOKENS, limit.tokens_per_minute),
            (Measure.CONCURRENT, limit.concurrent),
        )
        if most is not None
    ]
    periods = {"day": Measure.DAY, "month": Measure.MONTH}
    return rules + [
        Rule(
            Scope(budget.per),
            budget.match,
            periods[budget.period],
            budget.nanodollars,
            budget.mode == "hard",
            budget.stop_streams,
        )
        for budget in config.budgets
    ]


def _file_of(config: Config) -> Path | None:
    """Return the file in which is counted, where that is said, or follows."""
    store, keys = config.limit_store, config.auth.key_store
    if store.kind is None and config.workers > 1 and keys is not None:
        return keys.path.with_name(keys.path.name + ".limits")
    return store.path


def _build_store(said: LimitStore, path: Path | None) -> CounterStore:
    url = told(said.url)
    if url is not None:
        try:
            valkey = importlib.import_module("aibridge.limits.valkey")
        except ImportError as error:
            raise ConfigError(f"limit_store: {error.name or 'redis'} is missing: install aibridge[valkey]") from error
        store: CounterStore = valkey.ValkeyStore(url, said.prefix, said.timeout)
        return store
    return MemoryStore() if path is None else SQLiteStore(path, said.timeout)
