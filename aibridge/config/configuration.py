"""The configuration as the gateway has it: what was written, what it comes to, and what an operator is told of it."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self

from pydantic_core import PydanticCustomError

from aibridge.config.auth import AuthMode
from aibridge.config.bounds import Timeouts
from aibridge.config.checks import check_counting
from aibridge.config.providers import BedrockProvider
from aibridge.config.settings import MAX_WORKERS, Settings
from aibridge.config.urls import is_loopback
from aibridge.errors import ConfigError


class Config(Settings):
    """The configuration, valid and frozen. Built by `load` and `from_environment`, not by hand."""

    simulated: bool = False
    """No credential was found: the providers wait for the simulator's address (`with_simulator`)."""
    notes: tuple[str, ...] = ()
    """What an operator should be told at the start; one sentence each."""
    digests: Mapping[str, str] = {}
    """Of the contents of files that are read later, by the key that names one: a change of theirs is one of the key."""

    def timeouts_for(self, provider: str) -> Timeouts:
        """Return the deadlines of a provider: its own where it has them, else the common ones."""
        overrides = self.providers[provider].timeouts.model_dump(exclude_none=True)
        return self.timeouts.model_copy(update=overrides)

    def with_simulator(self, base_url: str) -> Self:
        """Return the same configuration, its providers at the simulator's address."""
        url = base_url.rstrip("/")
        providers = {
            name: provider.model_copy(update={"base_url": url + ("/v1" if provider.kind == "openai" else "")})
            for name, provider in self.providers.items()
        }
        return self.model_copy(update={"providers": providers})

    def where(self, running: Self) -> Self:
        """Return the same configuration at the addresses, and with the workers, of one that runs."""
        admin = running.admin.model_copy(update={"keys": self.admin.keys})
        return self.model_copy(update={"listen": running.listen, "admin": admin, "workers": running.workers})

    def with_workers(self, workers: int) -> Self:
        """Return the same configuration with so many workers. Raises `ConfigError`."""
        if not 1 <= workers <= MAX_WORKERS:
            raise ConfigError(f"--workers {workers}: should be from 1 to {MAX_WORKERS}")
        try:
            check_counting(workers, self.limit_store, limited=self.has_limits)
        except PydanticCustomError as mistake:
            raise ConfigError(mistake.message()) from None
        return self.model_copy(update={"workers": workers})

    def known_models(self) -> frozenset[str]:
        """Return the model names that the configuration spells out, of both sides."""
        return frozenset(self._known_models())

    def _known_models(self) -> Iterator[str]:
        for provider in self.providers.values():
            if isinstance(provider, BedrockProvider):
                yield from provider.model_map
                yield from provider.model_map.values()
                if provider.default_model:
                    yield provider.default_model
        for router in self.routers.values():
            yield from router.models
            yield from (target.model for _, target in router.targets() if target.model)
        for provider in self.providers.values():
            yield from (fallback.model for fallback in provider.fallbacks if fallback.model)


def configured(
    settings: Settings, notes: list[str], *, simulated: bool = False, digests: Mapping[str, str] = MappingProxyType({})
) -> Config:
    """Return the configuration that settings come to; `notes` gets those that follow from them."""
    is_open = settings.auth.effective_mode is AuthMode.OPEN
    if is_open and not simulated and not is_loopback(settings.listen.host):
        notes.append(f"the gateway is open: whoever reaches {settings.listen.host} may use the credentials here")
    if settings.budgets and settings.limit_store.kind in {None, "memory"}:
        notes.append("budgets are counted in memory: a restart forgets what was spent")
    if settings.workers > 1 and settings.limit_store.kind == "memory":
        notes.append("limits are counted in memory: each worker counts for itself")
    if settings.dump.path is not None:
        notes.append(f"requests and answers are written down in {settings.dump.path}, prompts too")
    return Config.model_construct(**dict(settings), simulated=simulated, notes=tuple(notes), digests=digests)


def describe(config: Config) -> dict[str, Any]:
    """Return the configuration as plain values for the start log; secrets show that they are set, no more."""
    return config.model_dump(mode="json", exclude_none=True, exclude={"notes", "digests"})
