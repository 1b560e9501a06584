"""botocore's signer, for what others have signed; see `sigv4.py`. Loaded where that is verified: it takes its time."""

from collections.abc import Mapping
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from aibridge.simulator.values import Received


def signature(request: Received, scope: Mapping[str, str], secret: str, timestamp: str) -> str:
    """Return the signature that a request should have.

    Args:
        request: as it was received.
        scope: of its `Authorization`: `key`, `region`, `service`, and `signed`, the headers.
        secret: the secret key.
        timestamp: its `X-Amz-Date`.
    """
    signer = _Verifier(Credentials(scope["key"], secret), scope["service"], scope["region"])
    signer.names = frozenset(scope["signed"].split(";"))
    aws_request = AWSRequest(
        method=request.method,
        url=f"http://{request.header('host')}{request.target}",
        headers=HTTPHeaders(),
        data=request.body,
    )
    for name, value in request.headers:
        aws_request.headers.add_header(name, value)
    aws_request.context["timestamp"] = timestamp
    # The claimed body hash is not believed: it goes, and the signer hashes what came.
    del aws_request.headers["X-Amz-Content-SHA256"]
    signer.claimed = request.header("x-amz-content-sha256")
    text = signer.string_to_sign(aws_request, signer.canonical_request(aws_request))
    return str(signer.signature(text, aws_request))


class _Verifier(SigV4Auth):  # type: ignore[misc]
    """botocore's signer, told which headers the other side signed."""

    names: frozenset[str] = frozenset()
    claimed: str | None = None

    def headers_to_sign(self, request: Any) -> Any:
        """Return the headers that the other side signed, and no others."""
        chosen = HTTPHeaders()
        for name, value in request.headers.items():
            if name.lower() in self.names:
                chosen.add_header(name.lower(), value)
        if self.claimed is not None and "x-amz-content-sha256" in self.names:
            chosen.add_header("x-amz-content-sha256", self.claimed)
        return chosen
