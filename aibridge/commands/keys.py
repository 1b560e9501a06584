"""The commands `aibridge keys create`, `list`, `revoke` and `rotate`."""

import argparse
import re
import secrets
import string
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

from aibridge import config, jsontext
from aibridge.auth import digest_of
from aibridge.commands.parser import Commands, Parser, Run, add_json
from aibridge.commands.terminal import print_lines
from aibridge.content import Keep
from aibridge.errors import AibridgeError, ConfigError
from aibridge.routing import PATTERNS
from aibridge.stores.keys import KeyStore, KeyTerms, StoredSecret
from aibridge.text import moment

_LETTERS = string.ascii_letters + string.digits
_SECRET_LENGTH = 43
"""Letters of 62 kinds: 256 bits."""
_PREFIX_LENGTH = 10
"""What is shown of a key, `aib_` included: 220 bits stay hidden."""
_DEFAULT_OVERLAP = "24h"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_MAX_PATTERN = 256
_PAGE = 'docs/configuration.md, "Gateway keys in a store"'

_AMOUNTS = ("requests_per_minute", "tokens_per_minute", "concurrent", "dollars_per_day", "dollars_per_month")
_NANO = 10**9
_MAX_DIGITS = 12

Fields = dict[str, Any]
Add = Callable[[str, Run, str, Sequence[str]], Parser]


def add_commands(commands: Commands) -> None:
    """Add `keys`, and the commands below it."""
    below = commands.group(
        "keys",
        "make, list, end and replace gateway keys",
        ["keys create --owner ann --expires 90d", "keys list", "keys revoke key_0123456789ab"],
        _PAGE,
    )

    def add(name: str, run: Run, text: str, examples: Sequence[str]) -> Parser:
        command = below.add(name, run, text, examples, _PAGE)
        where = command.add_mutually_exclusive_group()
        where.add_argument(
            "--store", metavar="FILE", help="the file of the keys (default: auth.key_store of the gateway)"
        )
        where.add_argument("--config", metavar="FILE", help="a configuration that names it")
        add_json(command, "as JSON")
        return command

    _add_create(add)
    listing = add(
        "list",
        _list,
        "list the keys: whose they are, what they open, and whether they are good",
        ["keys list --owner ann", "keys list --json | jq '.[] | select(.state == \"active\") | .id'"],
    )
    listing.add_argument("--owner", type=_name, metavar="NAME", help="of this one only")
    revoking = add(
        "revoke",
        _revoke,
        "end a key with all its secrets; every gateway knows within two seconds",
        ["keys revoke key_0123456789ab", "keys revoke - < leaked.txt  # the secret itself, which no list shows"],
    )
    revoking.add_argument("key", metavar="ID", help="its id, or - for a secret of it on standard input")
    rotating = add(
        "rotate",
        _rotate,
        "give a key a new secret, which is shown once; the old one is good for a while",
        ["keys rotate key_0123456789ab --overlap 1h", "keys rotate key_0123456789ab --overlap 0s  # it leaked"],
    )
    rotating.add_argument("key", metavar="ID", help="its id, or - for a secret of it on standard input")
    rotating.add_argument(
        "--overlap", type=_until, default=_DEFAULT_OVERLAP, metavar="TIME",
        help=f"until when the old secret is good: as 24h, 0s or 2026-01-31T12:00 (default: {_DEFAULT_OVERLAP})",
    )  # fmt: skip
    _add_expiry(rotating)


def _add_create(add: Add) -> None:
    creating = add(
        "create",
        _create,
        "make a key, and show it once",
        ["keys create --owner ann --team research --expires 90d", "keys create --owner ci --model 'claude-haiku-*'"],
    )
    creating.add_argument("--owner", type=_name, required=True, metavar="NAME", help="the actor on every record")
    repeated = "; several times for several"
    creating.add_argument("--team", type=_name, action="append", metavar="NAME", help=f"a team of the owner{repeated}")
    creating.add_argument("--provider", type=_pattern, action="append", metavar="NAME", help=f"one it opens{repeated}")
    creating.add_argument("--route", type=_route, action="append", metavar="PATTERN", help=f"as /v1/messages{repeated}")
    creating.add_argument(
        "--model", type=_pattern, action="append", metavar="GLOB", help=f"as claude-haiku-*{repeated}"
    )
    for kind in ("prompts", "arguments", "thoughts"):
        text = f"what is kept of them instead of records.content.{kind}"
        creating.add_argument(f"--{kind}", choices=[word.value for word in Keep], help=text)
    for option, text in (("rpm", "requests a minute"), ("tpm", "tokens a minute"), ("streams", "requests at once")):
        creating.add_argument(f"--{option}", type=_count, metavar="N", help=f"{text}, at most")
    for option in ("day", "month"):
        text = f"of a {option} (UTC), at most; by the price lists"
        creating.add_argument(f"--budget-{option}", type=_nanodollars, metavar="DOLLARS", help=text)
    _add_expiry(creating)


def _add_expiry(command: argparse.ArgumentParser) -> None:
    command.add_argument("--expires", type=_until, metavar="TIME", help="as 90d or 2026-12-31 (UTC)")


def _create(options: argparse.Namespace) -> int:
    terms = KeyTerms(
        owner=options.owner,
        teams=tuple(options.team or ()),
        providers=_some(options.provider),
        routes=_some(options.route),
        models=_some(options.model),
        prompts=options.prompts,
        arguments=options.arguments,
        thoughts=options.thoughts,
        expires_at=options.expires,
        requests_per_minute=options.rpm,
        tokens_per_minute=options.tpm,
        concurrent=options.streams,
        nanodollars_per_day=options.budget_day,
        nanodollars_per_month=options.budget_month,
    )
    if terms.expires_at is not None and terms.expires_at <= time.time():
        raise ConfigError("--expires should be a time to come")
    secret, key_id = _new_secret(), f"key_{secrets.token_hex(6)}"
    _store(options).add(key_id, terms, digest_of(secret), secret[:_PREFIX_LENGTH])
    _show_secret(options, key_id, secret)
    return 0


def _list(options: argparse.Namespace) -> int:
    by_key = [list(some) for _, some in groupby(_store(options, is_there=True).secrets(), lambda one: one.key_id)]
    found = [_told(some, time.time()) for some in by_key if options.owner in {None, some[0].terms.owner}]
    if options.json:
        _say(jsontext.dumps(found).decode())
        return 0
    for key in found:
        end = "" if key["expires_at"] is None else f"  until {key['expires_at']}"
        _say(f"{key['id']}  {key['state']:<7}  {key['prefix']}…  {key['owner']}{end}{_limits(key)}")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    store = _store(options, is_there=True)
    key_id = _key_id(options, store)
    if not store.revoke(key_id):
        raise AibridgeError(f"{key_id}: there is no such key, or it has been revoked already")
    _say(jsontext.dumps({"id": key_id, "state": "revoked"}).decode() if options.json else f"{key_id} is revoked")
    return 0


def _rotate(options: argparse.Namespace) -> int:
    store = _store(options, is_there=True)
    key_id, secret = _key_id(options, store), _new_secret()
    prefix = secret[:_PREFIX_LENGTH]
    if not store.rotate(key_id, digest_of(secret), prefix, replaced_at=options.overlap, expires_at=options.expires):
        raise AibridgeError(f"{key_id}: there is no such key, or it has been revoked")
    _show_secret(options, key_id, secret)
    return 0


def _store(options: argparse.Namespace, *, is_there: bool = False) -> KeyStore:
    """Return the store that the options name. Only who adds a key to it makes it where it is not there."""
    path = _path(options)
    if is_there and not path.exists():
        raise ConfigError(f"{path}: there are no keys; `aibridge keys create` makes the file with the first")
    return KeyStore(path)


def _path(options: argparse.Namespace) -> Path:
    if options.store:
        return Path(options.store)
    loaded = config.load(options.config) if options.config else config.from_environment()
    settings = loaded.auth.key_store
    if settings is None:
        text = "no file of keys is named: --store FILE, or --config FILE with auth.key_store, or AIBRIDGE_KEY_STORE"
        raise ConfigError(text)
    words = [getattr(options, kind, None) for kind in ("prompts", "arguments", "thoughts")]
    if Keep.HASHED in words and loaded.records.content.hash_key is None:
        raise ConfigError("records.content.hash_key is needed where something is hashed")
    return settings.path


def _key_id(options: argparse.Namespace, store: KeyStore) -> str:
    """Return the id that was given; of a secret on standard input the id of its key: no list of processes shows it."""
    if options.key != "-":
        return str(options.key)
    digest = digest_of(sys.stdin.readline().strip())
    found = [one.key_id for one in store.secrets() if one.digest == digest]
    if not found:
        raise AibridgeError("no key has the secret on standard input")
    return found[0]


def _new_secret() -> str:
    return "aib_" + "".join(secrets.choice(_LETTERS) for _ in range(_SECRET_LENGTH))


def _show_secret(options: argparse.Namespace, key_id: str, secret: str) -> None:
    if options.json:
        _say(jsontext.dumps({"id": key_id, "key": secret, "prefix": secret[:_PREFIX_LENGTH]}).decode())
        return
    print(f"{key_id}: this is its secret, which is shown only now", file=sys.stderr)
    _say(secret)


def _told(some: Sequence[StoredSecret], now: float) -> Fields:
    newest = some[0]
    terms = newest.terms
    expired = terms.expires_at is not None and terms.expires_at <= now
    replaced = [one.replaced_at for one in some[1:] if one.replaced_at is not None and one.replaced_at > now]
    return {
        "id": newest.key_id,
        "state": "revoked" if newest.revoked_at is not None else "expired" if expired else "active",
        "prefix": newest.prefix,
        "owner": terms.owner,
        "teams": terms.teams,
        "providers": terms.providers,
        "routes": terms.routes,
        "models": terms.models,
        "content": {"prompts": terms.prompts, "arguments": terms.arguments, "thoughts": terms.thoughts},
        "requests_per_minute": terms.requests_per_minute,
        "tokens_per_minute": terms.tokens_per_minute,
        "concurrent": terms.concurrent,
        "dollars_per_day": _dollars(terms.nanodollars_per_day),
        "dollars_per_month": _dollars(terms.nanodollars_per_month),
        "created_at": _time(newest.created_at),
        "expires_at": _time(terms.expires_at),
        "revoked_at": _time(newest.revoked_at),
        "old_secret_until": _time(max(replaced, default=None)),
    }


def _limits(key: Fields) -> str:
    names = ("teams", "providers", "routes", "models")
    lists = "".join(f"  {name}: {', '.join(key[name])}" for name in names if key[name])
    return lists + "".join(f"  {name}: {key[name]}" for name in _AMOUNTS if key[name] is not None)


def _time(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _some(names: list[str] | None) -> tuple[str, ...] | None:
    return tuple(names) if names else None


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("should be letters, digits and . _ @ + -, at most 128")
    return text


def _pattern(text: str) -> str:
    if not (text and len(text) <= _MAX_PATTERN and text.isprintable()):
        raise argparse.ArgumentTypeError(f"should be text of at most {_MAX_PATTERN} characters")
    return text


def _route(text: str) -> str:
    if text not in PATTERNS:
        raise argparse.ArgumentTypeError(f"should be one of {', '.join(sorted(PATTERNS))}")
    return text


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text[:_MAX_DIGITS]) > 0 and len(text) <= _MAX_DIGITS):
        raise argparse.ArgumentTypeError("should be a whole number above 0")
    return int(text)


def _nanodollars(text: str) -> int:
    amount = Decimal(text) * _NANO if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) else Decimal(0)
    if not amount:
        raise argparse.ArgumentTypeError("should be dollars above 0, as 20 or 7.50")
    return int(amount)


def _dollars(nanodollars: int | None) -> float | None:
    return None if nanodollars is None else nanodollars / _NANO


def _until(text: str) -> float:
    found = moment(text, time.time(), ahead=True)
    if found is None:
        raise argparse.ArgumentTypeError(f"should be as 24h, 90d or 2026-12-31, not {text!r}")
    return found


def _say(text: str) -> None:
    print_lines([text], as_json=False)
