"""Tokens of an identity provider as gateway keys: JWTs, checked with keys that are fetched elsewhere. The door to jwt.

A good token is known by its hash until it ends: only its first use costs a signature. The algorithm is one that the
configuration names and that fits the kind of the key, so that neither `none` nor a public key taken for a shared secret
opens anything (RFC 8725, section 3.1). jwt is loaded where tokens are taken: with its cryptography it is 9 MB.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from aibridge.access import Identity
from aibridge.errors import RequestRejected
from aibridge.values import Actor

if TYPE_CHECKING:
    import jwt

_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""What kind of key an algorithm takes, by the beginning of its name."""
_MAX_KNOWN = 10_000
_MAX_TOKEN = 8192
_MAX_KEYS = 100
_MAX_NAME = 256
_MAX_TEAMS = 100
_PARTS = 3


@dataclass(frozen=True, kw_only=True)
class TokenRules:
    """Which tokens are good, and which of their claims say who asks; `leeway` in seconds."""

    issuer: str
    audiences: Sequence[str]
    algorithms: Sequence[str]
    leeway: float
    id_claim: str
    name_claim: str
    teams_claim: str


class Asked(Protocol):
    """Who fetches the issuer's keys."""

    def ask(self) -> bool:
        """A key is not known. Returns whether keys are being fetched now."""


class Tokens:
    """A `KeySource` of tokens.

    Args:
        rules: which are good.
        clock: the time, in UTC seconds.
    """

    def __init__(self, rules: TokenRules, clock: Callable[[], float]) -> None:
        self._jwt: Any = importlib.import_module("jwt")
        self._rules = rules
        self._clock = clock
        self._keys: dict[tuple[str, str], jwt.PyJWK] = {}
        self._set: object = None
        self._known: dict[bytes, tuple[float, Identity]] = {}
        self.asked: Asked | None = None
        self.stale = True
        """The issuer's keys are not known, or were for too long: no token is taken, and none is called wrong."""

    def take(self, keys: Sequence[Mapping[str, Any]]) -> None:
        """Take the issuer's keys in the place of those before. What cannot be used is passed over."""
        self.stale = False
        if keys == self._set:
            return
        self._set = keys
        self._keys = {}
        self._known.clear()  # a token whose key is gone is good no more
        for raw in keys[:_MAX_KEYS]:
            for algorithm in self._rules.algorithms:
                if _fits(raw, algorithm):
                    try:
                        self._keys[str(raw.get("kid", "")), algorithm] = self._jwt.PyJWK(dict(raw), algorithm)
                    except Exception:  # noqa: BLE001, S112 - the issuer may write anything
                        continue

    def find(self, secret: str, digest: bytes) -> Identity | None:
        """Return whom a token lets in; see `KeySource`."""
        if not _looks_like_one(secret):
            return None
        if self.stale:
            raise RequestRejected("keys_unknown", 503, "tokens cannot be checked now; try again")
        known = self._known.get(digest)
        if known is None or known[0] <= self._clock():
            known = self._check(secret)
            self._known.pop(digest, None)
            if len(self._known) >= _MAX_KNOWN:
                self._known.pop(next(iter(self._known)))
            self._known[digest] = known
        return known[1]

    def knows(self, secret: str, digest: bytes) -> bool:  # noqa: ARG002 - the contract's
        """Whether a token says that it is for us; see `KeySource`."""
        if not _looks_like_one(secret):
            return False
        try:
            claims = self._jwt.decode(secret, options={"verify_signature": False})
        except self._jwt.PyJWTError:
            return False
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        return claims.get("iss") == self._rules.issuer and any(one in self._rules.audiences for one in audiences)

    def _check(self, token: str) -> tuple[float, Identity]:
        """Return until when a token is good, and whom it lets in."""
        rules = self._rules
        try:
            claims = self._jwt.decode(
                token,
                self._key_of(self._jwt.get_unverified_header(token)),
                algorithms=rules.algorithms,
                audience=rules.audiences,
                issuer=rules.issuer,
                leeway=rules.leeway,
                options={"require": ["exp", "iss", "aud", rules.id_claim], "enforce_minimum_key_length": True},
            )
            return float(claims["exp"]) + rules.leeway, Identity(self._actor(claims))
        except self._jwt.ExpiredSignatureError:
            raise RequestRejected("expired_key", 401, "the token has expired") from None
        except (
            self._jwt.PyJWTError,
            ValueError,
            TypeError,
            OverflowError,
            RecursionError,
        ):  # its words may quote the token
            raise RequestRejected("wrong_key", 401, "the token is not good here") from None

    def _key_of(self, header: Mapping[str, Any]) -> "jwt.PyJWK":
        found = self._keys.get((str(header.get("kid", "")), str(header.get("alg", ""))))
        if found is not None:
            return found
        if header.get("alg") in self._rules.algorithms and self.asked is not None and self.asked.ask():
            raise RequestRejected("keys_unknown", 503, "the token's key is being looked for; try again")
        raise RequestRejected("wrong_key", 401, "the token's key is not known")

    def _actor(self, claims: Mapping[str, Any]) -> Actor:
        rules = self._rules
        teams = claims.get(rules.teams_claim) or ()
        said = teams.split(",") if isinstance(teams, str) else teams
        if not isinstance(said, list | tuple) or len(said) > _MAX_TEAMS:
            raise ValueError(rules.teams_claim)
        names = [_name(team) for team in said]
        name = claims.get(rules.name_claim)
        return Actor(_name(claims[rules.id_claim]), "" if name is None else _name(name), tuple(filter(None, names)))


def _fits(raw: Mapping[str, Any], algorithm: str) -> bool:
    return (
        raw.get("kty") == _KINDS[algorithm[:2]]
        and raw.get("use", "sig") == "sig"
        and raw.get("alg", algorithm) == algorithm
    )


def _looks_like_one(secret: str) -> bool:
    return secret.startswith("eyJ") and len(secret) <= _MAX_TOKEN and len(secret.split(".")) == _PARTS


def _name(value: object) -> str:
    """Return a claim as a name. Raises `ValueError` where it cannot be one."""
    text = str(value).strip() if isinstance(value, str | int) else ""
    if not text or len(text) > _MAX_NAME or not text.isprintable():
        raise ValueError("a claim")
    return text
