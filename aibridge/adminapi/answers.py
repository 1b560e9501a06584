"""Answers of the admin port's own pages, each with what a browser is told to be strict about."""

from aibridge.adminapi.problems import PROBLEM, Problem
from aibridge.clientstream import ClientStream
from aibridge.headers import JSON
from aibridge.values import Headers

STRICT: Headers = (
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Nothing of another host, nothing inline, in no frame, and nothing told to others."""

NOT_STORED: Headers = ((b"cache-control", b"no-store"),)


def send(client: ClientStream, status: int, headers: Headers, body: bytes) -> None:
    """Answer with a body."""
    client.respond(status, (*headers, *STRICT), body)


def send_json(client: ClientStream, body: bytes, headers: Headers = ()) -> None:
    """Answer with JSON, which no cache keeps."""
    send(client, 200, (*JSON, *NOT_STORED, *headers), body)


def send_problem(client: ClientStream, problem: Problem) -> None:
    """Answer with a problem document."""
    send(client, problem.status, (*PROBLEM, *NOT_STORED, *problem.headers), problem.body)
