"""A request body: its top-level members as places in it, and edits that leave every other byte as it was. Pure."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from aibridge import jsontext
from aibridge.errors import PayloadError, RequestRejected
from aibridge.wire import Member, scan_object

_UNFIT_FOR_NAME = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters and lone surrogates: no path, metric or record can hold them, and no model is called so."""

_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*+"|[][{},]', re.DOTALL)
"""Texts, which may hold anything, and the marks outside of them."""


class Body(NamedTuple):
    """A request body and its top-level members. `model` is empty and `streaming` false where they are not said."""

    raw: bytes
    members: tuple[Member, ...]

    def value(self, key: str) -> bytes | None:
        """Return a top-level value as it stands; of repeated keys the last one, as JSON parsers do."""
        for member in reversed(self.members):
            if member.key == key:
                return self.raw[member.value_start : member.value_end]
        return None

    @property
    def model(self) -> str:
        """The model's name as the client wrote it. Raises `RequestRejected` where none can be called so."""
        value = self.value("model")
        name = str(jsontext.loads(value)) if value is not None and value.startswith(b'"') else ""
        if _UNFIT_FOR_NAME.search(name):
            raise RequestRejected("invalid_request", 400, "model: not the name of a model")
        return name

    @property
    def streaming(self) -> bool:
        """Whether `stream` is literally true."""
        return self.value("stream") == b"true"


def read_body(raw: bytes) -> Body:
    """Scan a request body. Raises `RequestRejected` where it is not a JSON object."""
    try:
        return Body(raw, scan_object(raw))
    except PayloadError as error:
        raise RequestRejected("invalid_json", 400, f"the request body is not a JSON object: {error}") from error


def splice(
    body: Body,
    *,
    drop: frozenset[str],
    add: Mapping[str, bytes] = MappingProxyType({}),
    replace: Mapping[str, bytes] = MappingProxyType({}),
) -> bytes:
    """Return the body less some top-level members, with others put before its end; every other byte stays.

    Args:
        body: the scanned body.
        drop: keys to leave out, every time they stand there.
        add: keys and their JSON text; keys that stand in the body too must be in `drop`.
        replace: keys and the JSON text that takes the place of their values.
    """
    kept = [_text_of(body.raw, member, replace) for member in body.members if member.key not in drop]
    new = [jsontext.dumps(key) + b":" + value for key, value in add.items()]
    return b"{" + b",".join((*kept, *new)) + b"}"


def replaced(body: Body, key: str, value: bytes) -> bytes:
    """Return the body with another JSON text as a top-level value, every time it stands there; all other bytes stay."""
    kept, at = [], 0
    for member in body.members:
        if member.key == key:
            kept += [body.raw[at : member.value_start], value]
            at = member.value_end
    return b"".join((*kept, body.raw[at:]))


def edited(body: Body, values: Mapping[str, bytes]) -> bytes:
    """Return the body with other JSON texts as top-level values, in place or behind the last; all other bytes stay."""
    kept, at = [], 0
    for member in body.members:
        value = values.get(member.key)
        if value is not None:
            kept += [body.raw[at : member.value_start], value]
            at = member.value_end
    new = values.keys() - {member.key for member in body.members}
    if new:
        end = body.members[-1].value_end if body.members else body.raw.index(b"{") + 1
        members = [jsontext.dumps(key) + b":" + values[key] for key in sorted(new)]
        kept += [body.raw[at:end], b"," if body.members else b"", b",".join(members)]
        at = end
    return b"".join((*kept, body.raw[at:]))


def _text_of(raw: bytes, member: Member, replace: Mapping[str, bytes]) -> bytes:
    value = replace.get(member.key)
    if value is None:
        return raw[member.start : member.value_end]
    return raw[member.start : member.value_start] + value


def without(value: bytes, path: Sequence[str]) -> bytes:
    """Return valid JSON text without the members that a path of ASCII names leads to; all else stays byte for byte.

    `*` in the path is every item of an array. Where a value may be of several kinds, validators name the kind in the
    path: a step that is an object's `type` is passed over, and of another kind nothing goes.
    """
    if not path or path[-1].encode() not in value:
        return value
    if value.startswith(b"[") and path[0] == "*":
        return b"[" + b",".join([_without_inside(item, path[1:]) for item in items_of(value)]) + b"]"
    return _member_without(value, path[0], path[1:]) if value.startswith(b"{") else value


def _member_without(value: bytes, step: str, rest: Sequence[str]) -> bytes:
    body = read_body(value)
    if rest and _kind_of(body) == step:
        return without(value, rest)
    inner = body.value(step)
    if inner is None:
        return value
    if not rest:
        return splice(body, drop=frozenset({step}))
    smaller = without(inner, rest)
    return value if smaller == inner else splice(body, drop=frozenset(), replace={step: smaller})


def _kind_of(body: Body) -> str:
    """Return what an object's `type` says; tools without one are `custom` to the API."""
    said = body.value("type")
    return "custom" if said is None else str(jsontext.loads(said))


def _without_inside(item: bytes, path: Sequence[str]) -> bytes:
    text = item.strip()
    smaller = without(text, path)
    return item if smaller == text else smaller


def items_of(array: bytes) -> list[bytes]:
    """Return the items of an array as they stand, blanks and all; one of blanks alone where it is empty."""
    items, depth, start = [], 0, 1
    for token in _STRUCTURE.finditer(array):
        mark = token[0]
        if mark in {b"[", b"{"}:
            depth += 1
        elif mark in {b"]", b"}"}:
            depth -= 1
        if (mark == b"," and depth == 1) or depth == 0:
            items.append(array[start : token.start()])
            start = token.end()
    return items
