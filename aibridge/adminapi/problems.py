"""Errors of the admin API: problem documents, as RFC 9457 has them."""

from collections.abc import Sequence
from http import HTTPStatus

from aibridge import jsontext
from aibridge.errors import AibridgeError
from aibridge.values import Headers

PROBLEM: Headers = ((b"content-type", b"application/problem+json"),)


class Problem(AibridgeError):
    """Why a request gets no answer.

    Args:
        status: of the answer.
        code: one of a closed set of words, for programs.
        detail: a sentence for people; holds no secret, and of what the client sent no more than a name.
        errors: names of parameters, and what is wrong with each.
        headers: that belong to the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[tuple[str, str]] = (),
        headers: Headers = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers

    @property
    def body(self) -> bytes:
        """The document."""
        document = {
            "type": f"urn:aibridge:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [{"parameter": name, "detail": detail} for name, detail in self.errors]
        return jsontext.dumps(document)
