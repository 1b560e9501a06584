"""What each Claude model on Bedrock takes of what clients write: a table, and how a body is made to fit it. Pure.

The table is data: rows by the model's version, the newest first. What it does not know goes on as it came, since a list
of what is allowed grows stale; what AWS refuses of that is learned (`bedrock_lessons`). Sources: the Messages API's
pages on thinking, effort and betas, AWS's answers as they are told in public, and what Claude Code sends to Bedrock.
"""

import math
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

from aibridge import jsontext
from aibridge.body import Body, read_body, splice, without
from aibridge.providers.bedrock_lessons import BETAS, Lesson, Path, RefusedField, complaint_of, holds_refusal


class Thinking(StrEnum):
    """Which kind of thinking a model takes."""

    ANY = "any"
    """Both kinds, or it is not known: the request stays as it is."""
    BUDGET = "budget"
    """`enabled` with a budget: an adaptive request gets a budget, by its effort."""
    ADAPTIVE = "adaptive"
    """`adaptive` alone: a request with a budget loses it."""


class Features(NamedTuple):
    """What one model takes.

    `taken` betas are known to be good, `refused` ones are left out, all others go on as they came. `unknown_fields` are
    left out of the body: a name, or a path of names. A field of `gated` goes only together with its beta: half of
    such a pair is refused.
    """

    thinking: Thinking
    taken: frozenset[str]
    refused: frozenset[str]
    unknown_fields: frozenset[str]
    gated: Mapping[str, str]

    @property
    def looked_at(self) -> frozenset[str]:
        """The members of a body that anything is done about."""
        return frozenset({"thinking", *self.gated, *(name.partition(".")[0] for name in self.unknown_fields)})


class Override(NamedTuple):
    """What the configuration says otherwise. `models` is a glob over Bedrock ids; True is taken, False is left out."""

    models: str
    thinking: Thinking | None
    betas: Mapping[str, bool]
    fields: Mapping[str, bool]


class Fit(NamedTuple):
    """How a body becomes one that the model takes: members to drop, values to replace, betas to send.

    `stripped` names what is left out; a beta as `anthropic_beta.` and its name.
    """

    drop: frozenset[str]
    replace: dict[str, bytes]
    betas: list[Any]
    stripped: tuple[str, ...]


_AS_IT_IS = Fit(frozenset(), {}, [], ())

EFFORT = "effort-2025-11-24"
CONTEXT_MANAGEMENT = "context-management-2025-06-27"
INTERLEAVED = "interleaved-thinking-2025-05-14"
TOOL_SEARCH = "tool-search-tool-2025-10-19"

_RENAMED = {"advanced-tool-use-2025-11-20": TOOL_SEARCH}
"""What Anthropic's own API calls otherwise."""

_NOT_ON_BEDROCK = frozenset({
    "advisor-tool-2026-03-01", "code-execution-2025-08-25", "fast-mode-2026-02-01", "files-api-2025-04-14",
    "mcp-client-2025-04-04", "mcp-client-2025-11-20", "mcp-servers-2025-12-04", "oauth-2025-04-20",
    "per-turn-control-2026-07-01", "prompt-caching-scope-2026-01-05", "request-tags-2026-08-21", "skills-2025-10-02",
    "structured-outputs-2025-11-13", "web-fetch-2025-09-10", "web-search-2025-03-05",
})  # fmt: skip
"""Betas of Anthropic's own API, for what AWS does not have."""

_FIELDS_NOT_ON_BEDROCK = frozenset({"container", "inference_geo", "metadata", "service_tier", "tags"})
_PAIRS = {
    "context_management": CONTEXT_MANAGEMENT,
    "mcp_servers": "mcp-client-2025-11-20",
    "speed": "fast-mode-2026-02-01",
}

_SINCE_CLAUDE_4 = frozenset({
    "computer-use-2025-01-24", "context-1m-2025-08-07", "dev-full-thinking-2025-05-14", INTERLEAVED,
    "output-128k-2025-02-19", "token-efficient-tools-2025-02-19", "tool-examples-2025-10-29", TOOL_SEARCH,
})  # fmt: skip
_SINCE_CLAUDE_5 = frozenset({
    "claude-code-20250219", EFFORT, INTERLEAVED, "thinking-binding-controls-2026-08-01",
    "thinking-display-updates-2026-08-18", "thinking-token-count-2026-05-13", TOOL_SEARCH,
})  # fmt: skip


def _before_4_6(taken: frozenset[str]) -> Features:
    """Return the row of an older model: effort and context management are betas that few of them take."""
    return Features(
        thinking=Thinking.BUDGET,
        taken=_SINCE_CLAUDE_4 | taken,
        refused=_NOT_ON_BEDROCK | ({EFFORT, CONTEXT_MANAGEMENT} - taken),
        unknown_fields=_FIELDS_NOT_ON_BEDROCK,
        gated=_PAIRS | {"output_config": EFFORT},
    )


def _since_4_6(thinking: Thinking, taken: frozenset[str]) -> Features:
    """Return the row of a newer model: effort needs no beta, and formats of the output are not to be had."""
    return Features(
        thinking=thinking,
        taken=taken,
        refused=_NOT_ON_BEDROCK,
        unknown_fields=_FIELDS_NOT_ON_BEDROCK | {"output_config.format"},
        gated=_PAIRS,
    )


class _Row(NamedTuple):
    """Models of these families (all, where none is named) from this version on."""

    families: frozenset[str]
    since: tuple[int, int]
    features: Features


_ALL: frozenset[str] = frozenset()

_ROWS = (
    _Row(_ALL, (5, 0), _since_4_6(Thinking.ADAPTIVE, _SINCE_CLAUDE_5)),
    _Row(_ALL, (4, 7), _since_4_6(Thinking.ADAPTIVE, frozenset({INTERLEAVED}))),
    _Row(_ALL, (4, 6), _since_4_6(Thinking.ANY, _SINCE_CLAUDE_4 | {"claude-code-20250219"})),
    _Row(frozenset({"opus"}), (4, 5), _before_4_6(frozenset({EFFORT}))),
    _Row(_ALL, (4, 5), _before_4_6(frozenset({CONTEXT_MANAGEMENT}))),
    _Row(_ALL, (0, 0), _before_4_6(frozenset())),
)
"""The first that fits counts."""

_UNKNOWN = Features(Thinking.ANY, frozenset(), _NOT_ON_BEDROCK, _FIELDS_NOT_ON_BEDROCK, _PAIRS)
"""Of a model whose name tells no version: an application inference profile, say."""

_NAME = re.compile(r"claude-(?P<family>[a-z]+)-(?P<major>\d+)(?:-(?P<minor>\d{1,2}))?(?!\d)")
_OLD_NAME = re.compile(r"claude-(?P<major>\d+)(?:-(?P<minor>\d{1,2}))?-(?P<family>[a-z]+)")
"""As of Claude 3."""


def version_of(*names: str) -> tuple[str, tuple[int, int]] | None:
    """Return family and version of a model, by the first of its names that tells them, or None."""
    for name in names:
        found = _NAME.search(name) or _OLD_NAME.search(name)
        if found is not None:
            return found["family"], (int(found["major"]), int(found["minor"] or 0))
    return None


class FeatureTable:
    """What each model takes, with what the configuration says otherwise; and how a body is made to fit that.

    Args:
        overrides: of the configuration, in their order; of two that fit the later one counts.
    """

    def __init__(self, overrides: Iterable[Override] = ()) -> None:
        self._overrides = tuple(overrides)
        self.of = lru_cache(maxsize=256)(self._of)
        """Return what a model takes, by its Bedrock id; where that does not tell, by the name that the client used."""
        self._looked_at = lru_cache(maxsize=256)(lambda bedrock_id, name: self.of(bedrock_id, name).looked_at)

    def fit(self, body: Body, betas: list[Any], models: tuple[str, str], lesson: Lesson) -> Fit:
        """Return how a body and its betas become what a model takes; `models` are the arguments of `of`."""
        if not betas and not lesson.fields and self._looked_at(*models).isdisjoint([one.key for one in body.members]):
            return _AS_IT_IS
        return fit(body, betas, self.of(*models), lesson)

    def _of(self, bedrock_id: str, name: str) -> Features:
        features = _row_of(version_of(bedrock_id, name))
        for override in self._overrides:
            if fnmatchcase(bedrock_id, override.models):
                features = _overridden(features, override)
        return features


def _row_of(version: tuple[str, tuple[int, int]] | None) -> Features:
    if version is None:
        return _UNKNOWN
    family, number = version
    return next(row.features for row in _ROWS if number >= row.since and (not row.families or family in row.families))


def _overridden(features: Features, override: Override) -> Features:
    good = {beta for beta, taken in override.betas.items() if taken}
    taken_fields = {name for name, taken in override.fields.items() if taken}
    return Features(
        thinking=override.thinking or features.thinking,
        taken=features.taken - (set(override.betas) - good) | good,
        refused=features.refused - good | (set(override.betas) - good),
        unknown_fields=features.unknown_fields - taken_fields | (set(override.fields) - taken_fields),
        gated={name: beta for name, beta in features.gated.items() if name not in taken_fields},
    )


def fit(body: Body, betas: list[Any], features: Features, lesson: Lesson) -> Fit:
    """Return how a body and its betas become what a model takes.

    Args:
        body: of a request of the Messages API.
        betas: all that it asks for, as the client wrote them; those that are no text are AWS's to refuse.
        features: what the model takes.
        lesson: what AWS has refused of it before.
    """
    renamed = [_RENAMED.get(beta, beta) if isinstance(beta, str) else beta for beta in betas]
    asked = {beta for beta in renamed if isinstance(beta, str)}
    refused = lesson.refused_of(asked) | (asked & features.refused) if lesson.takes_betas() else frozenset(asked)
    sent = _each_once(renamed, refused)
    lonely = {name for name, beta in features.gated.items() if beta not in asked or beta in refused}
    keys = {member.key for member in body.members}
    paths = [tuple(name.split(".")) for name in features.unknown_fields] + lesson.refused_with(asked - refused)
    drop = {path[0] for path in paths if len(path) == 1 and path[0] in keys} | (lonely & keys)
    replace, pruned = _pruned(body, [path for path in paths if len(path) > 1 and path[0] in keys - drop])
    thinking = _thinking(body, features.thinking)
    if thinking is not None and "thinking" not in drop:
        replace["thinking"] = thinking
    stripped = (*sorted(f"anthropic_beta.{beta}" for beta in refused), *sorted(drop), *pruned)
    return Fit(frozenset(drop), replace, sent, stripped)


_MOST_BETAS = 256
"""Of a request that is asked again; agents send eight."""


class Less(NamedTuple):
    """A body that is asked for again, and what AWS did not take of it."""

    body: bytes
    fields: tuple[Path, ...]
    betas: frozenset[str]
    asked: frozenset[str]
    """All betas that it was sent with."""

    @property
    def refused(self) -> list[RefusedField]:
        """The fields, as lessons."""
        return [RefusedField(path, self.asked) for path in self.fields]

    @property
    def stripped(self) -> tuple[str, ...]:
        """What was left out, named as in `Fit`."""
        return (*sorted(f"anthropic_beta.{beta}" for beta in self.betas), *(".".join(path) for path in self.fields))


def less_of(sent: Body, words: str, features: Features) -> Less | None:
    """Return a body without what AWS did not take, or None where its words name nothing that stands there.

    Args:
        sent: as it was refused.
        words: AWS's.
        features: what the model takes. Where it is not said which beta is wrong, it is one of those that are not
            known to be good.
    """
    betas = frozenset(beta for beta in list_of(sent.value("anthropic_beta")) if isinstance(beta, str))
    if len(betas) > _MOST_BETAS:
        return None
    complaint = complaint_of(words, betas)
    keys = {member.key for member in sent.members}
    named = [path for path in complaint.fields if path[0] in keys]
    if named and holds_refusal(sent.raw):  # who of the two says what, cannot be told
        named = []
    smaller = sent.raw
    fields = []
    for path in named:
        before, smaller = smaller, without(smaller, path)
        fields += [path] if smaller != before else []
    bad = complaint.betas or (betas - features.taken or betas if complaint.some_beta else frozenset())
    if BETAS in fields:
        smaller = _without_betas(read_body(smaller), betas, features)
    elif bad:
        smaller = _without_betas(read_body(smaller), bad, features)
    return Less(smaller, tuple(fields), bad, betas) if fields or bad else None


def _without_betas(body: Body, bad: frozenset[str], features: Features) -> bytes:
    left = [beta for beta in list_of(body.value("anthropic_beta")) if not isinstance(beta, str) or beta not in bad]
    lonely = frozenset(name for name, beta in features.gated.items() if beta in bad)
    if left:
        return splice(body, drop=lonely, replace={"anthropic_beta": jsontext.dumps(left)})
    return splice(body, drop=lonely | {"anthropic_beta"})


def list_of(text: bytes | None) -> list[Any]:
    """Return what a client wrote as a list, whether it wrote one or not."""
    said = jsontext.loads(text or b"[]")
    return said if isinstance(said, list) else [said]


def _each_once(betas: list[Any], refused: frozenset[str]) -> list[Any]:
    sent: list[Any] = []
    done = set(refused)
    for beta in betas:
        if isinstance(beta, str):
            if beta in done:
                continue
            done.add(beta)
        sent.append(beta)
    return sent


def _pruned(body: Body, paths: list[tuple[str, ...]]) -> tuple[dict[str, bytes], list[str]]:
    """Return the values that lose something inside, and the paths of what they lose."""
    replace: dict[str, bytes] = {}
    pruned = []
    for path in sorted(paths):
        value = replace.get(path[0]) or body.value(path[0]) or b""
        smaller = without(value, path[1:])
        if smaller != value:
            replace[path[0]] = smaller
            pruned.append(".".join(path))
    return replace, pruned


_SHARES = {"low": 0.2, "medium": 0.5, "max": 0.95}
"""Parts of `max_tokens` that an effort may think, as the predecessor gave them."""
_USUAL_SHARE = 0.8
_LEAST_BUDGET = 1024
"""The least that the API takes."""
_DISABLED = b'{"type":"disabled"}'


def _thinking(body: Body, takes: Thinking) -> bytes | None:
    """Return thinking of the kind that the model takes, or None where it may stay as it is."""
    raw = body.value("thinking")
    if takes is Thinking.ANY or raw is None or not raw.startswith(b"{"):
        return None
    kind = jsontext.loads(raw).get("type")
    if kind == "adaptive" and takes is Thinking.BUDGET:
        return _budget(body)
    if kind == "enabled" and takes is Thinking.ADAPTIVE:
        return splice(read_body(raw), drop=frozenset({"type", "budget_tokens"}), add={"type": b'"adaptive"'})
    return None


def _budget(body: Body) -> bytes:
    limit = jsontext.loads(body.value("max_tokens") or b"0")
    share = _SHARES.get(_effort(body), _USUAL_SHARE)
    usable = isinstance(limit, int | float) and 0 < limit < 1 << 32
    budget = math.floor(limit * share) if usable else 0
    return _DISABLED if budget < _LEAST_BUDGET else b'{"type":"enabled","budget_tokens":%d}' % budget


def _effort(body: Body) -> str:
    config = jsontext.loads(body.value("output_config") or b"{}")
    return str(config.get("effort", "")) if isinstance(config, dict) else ""
