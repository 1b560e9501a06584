"""The dashboard's files, read once at the start: what is asked for is a key of a dict, and never a path."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from aibridge.adminapi.answers import send
from aibridge.adminapi.problems import Problem
from aibridge.clientstream import ClientStream
from aibridge.values import Headers

FOLDER = Path(__file__).parent / "static"
PREFIX = "/dashboard/"
_INDEX = "index.html"

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".mjs": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".ico": b"image/x-icon",
    ".json": b"application/json",
    ".woff2": b"font/woff2",
    ".txt": b"text/plain; charset=utf-8",
    ".webmanifest": b"application/manifest+json",
}
"""What is served, by the end of its name; other files are not."""


class File(NamedTuple):
    """One file."""

    body: bytes
    headers: Headers
    etag: bytes


def load(folder: Path = FOLDER) -> dict[str, File]:
    """Return the files of a folder, by their path in it."""
    return {
        path.relative_to(folder).as_posix(): _file(path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(folder.rglob("*"))
        if path.suffix in _TYPES and path.is_file()
    }


def _file(body: bytes, content_type: bytes) -> File:
    etag = b'"%b"' % hashlib.sha256(body).hexdigest()[:32].encode()
    # Asked for again each time: a new program has new files, and an unchanged one costs an answer without a body.
    return File(body, ((b"content-type", content_type), (b"etag", etag), (b"cache-control", b"no-cache")), etag)


def serve(client: ClientStream, files: dict[str, File]) -> None:
    """Answer with a file. Raises `Problem` where there is none."""
    name = client.path.removeprefix(PREFIX)
    file = files.get(name or _INDEX)
    if file is None:
        raise Problem(404, "not_found", "the dashboard has no such file")
    if file.etag in (client.header(b"if-none-match") or b""):
        send(client, 304, file.headers[1:], b"")
    else:
        send(client, 200, file.headers, file.body)
