"""From a result, as MCP writes it, to what a model is told. Pure.

What no API takes is said in words: a picture that is none, sound, binary resources. An API refuses the whole request
for one such block. Source: MCP, revision 2025-11-25, "Tool Result".
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aibridge import jsontext
from aibridge.credentials import redact
from aibridge.jsontext import text_of
from aibridge.text import bounded
from aibridge.toolloop.base import Image, Text, ToolResult

IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""What all APIs with pictures take."""
MAX_IMAGE_BYTES = 5 * 1024 * 1024
"""Of all pictures of a result, in base64: what Anthropic takes of one."""

_MAX_NAME_BYTES = 256
NOTHING = "[the tool returned nothing]"


class Read(NamedTuple):
    """A result; `size` counts what the server sent of texts and data, in bytes, before anything was cut."""

    result: ToolResult
    size: int


def error_result(words: str) -> ToolResult:
    """Return what a model is told of a call that did not come to a result."""
    return ToolResult((Text(words),), is_error=True)


def read_result(raw: Mapping[str, Any], max_bytes: int, secrets: tuple[str, ...] = ()) -> Read:
    """Return what a model is told; of the texts `max_bytes` at most, with a note of what is missing.

    `secrets` are hidden before anything is cut: of one cut in two no half would be known again.
    """
    parts = list(_parts(raw))
    size = sum(_size(part) for part in parts)
    parts = [Text(redact(part.text, secrets)) if isinstance(part, Text) else part for part in parts]
    kept = [*_cut(parts, max_bytes)] or [Text(NOTHING)]
    return Read(ToolResult(tuple(kept), raw.get("isError") is True), size)


def _size(part: Text | Image) -> int:
    return len(part.text.encode()) if isinstance(part, Text) else len(part.data)


def _cut(parts: list[Text | Image], max_bytes: int) -> Iterator[Text | Image]:
    texts, images = max_bytes, MAX_IMAGE_BYTES
    missing = 0
    for part in parts:
        size = _size(part)
        if isinstance(part, Image):
            images -= size
            yield part if images >= 0 else Text(f"[image left out: {size} bytes are too many]")
        elif size <= texts:
            texts -= size
            yield part
        else:
            text = bounded(part.text, texts)
            missing += size - len(text.encode())
            texts = 0
            if text:
                yield Text(text)
    if missing:
        yield Text(f"[cut: {missing} bytes more were returned]")


def _parts(raw: Mapping[str, Any]) -> Iterator[Text | Image]:
    content = raw.get("content")
    blocks = content if isinstance(content, list) else []
    for block in blocks:
        if isinstance(block, dict):
            yield from _part(block)
    structured = raw.get("structuredContent")
    if not blocks and structured is not None:
        # A tool that returns it should return the same as text, too, says the specification; some do not.
        yield Text(jsontext.dumps(structured).decode())


def _part(block: Mapping[str, Any]) -> Iterator[Text | Image]:
    kind = text_of(block.get("type"))
    if kind == "text":
        yield from _text(text_of(block.get("text")))
    elif kind == "image":
        yield _image(text_of(block.get("mimeType")), text_of(block.get("data")))
    elif kind == "resource":
        resource = block.get("resource")
        yield from _resource(resource if isinstance(resource, dict) else {})
    elif kind == "resource_link":
        yield Text(f"[resource: {_name(block.get('name'))}, {_name(block.get('uri'))}]")
    else:
        yield Text(f"[{_name(kind) or 'content'} left out: no text and no image]")


def _text(text: str) -> Iterator[Text]:
    if text:  # Anthropic refuses a text block that is empty
        yield Text(_written(text))


def _image(media_type: str, data: str) -> Text | Image:
    if media_type not in IMAGE_TYPES:
        return Text(f"[image left out: {_name(media_type) or 'no type'} is not taken]")
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return Text("[image left out: it is not base64]")
    return Image(media_type, data) if data else Text("[image left out: it is empty]")


def _resource(resource: Mapping[str, Any]) -> Iterator[Text | Image]:
    uri = _name(resource.get("uri"))
    media_type = text_of(resource.get("mimeType"))
    blob = resource.get("blob")
    if isinstance(blob, str):
        if media_type in IMAGE_TYPES:
            yield _image(media_type, blob)
        else:
            yield Text(f"[resource left out: {uri}, {_name(media_type) or 'no type'}, binary]")
    else:
        yield Text(f"[resource: {uri}]")
        yield from _text(text_of(resource.get("text")))


def _name(value: object) -> str:
    return bounded(_written(text_of(value)), _MAX_NAME_BYTES)


def _written(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
