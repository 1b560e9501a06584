"""What to do about what an upstream says, or about a connection that does not come to be. Pure."""

import re

_SIGNED_WITHIN_S = 300.0
"""AWS refuses what was signed by a clock that is further off."""

_OF_AWS = {
    r"signature we calculated|InvalidSignature": (
        "the secret key does not belong to the access key: copy both anew, or the session token is missing"
    ),
    r"Signature expired|not yet current": "set this machine's clock (see the check `clock`)",
    r"[Ee]xpired": "the credentials have expired: sign in anew (`aws sso login`), or renew the token",
    r"security token .* invalid|UnrecognizedClient": (
        "AWS does not know these keys: `aws sts get-caller-identity` tells whether they are good, and whose"
    ),
    r"not authorized to perform": (
        "allow bedrock:InvokeModel, bedrock:InvokeModelWithResponseStream and bedrock:CountTokens on the model, in the"
        " IAM policy of this role or user"
    ),
    r"access to the model|[Mm]odel access|use case": (
        "ask for access to the model in the console of Bedrock, in this region"
    ),
    r"on-demand throughput": (
        "the model is reached by an inference profile only: name one in model_map, or leave inference_profile at auto"
    ),
    r"model identifier|not found|not supported in this": (
        "this region has no such model: name another with --model, map it in model_map, or change the region"
    ),
}
"""What AWS says, and what to do about it. The first that fits counts."""

ANOTHER_ANSWERS = "whoever answers is not the API: look at base_url, and at proxies and portals on the way"

_OF_STATUSES = {
    400: "the upstream does not understand the question: is base_url that of this kind of provider?",
    401: "the key is not taken: make a new one in the provider's console, and put it in the place of the old",
    403: "the key is good, and does not open this: look at its permissions, its project, and the region",
    404: "nothing is there: base_url should be that of the API, for OpenAI's with its /v1",
    407: "the proxy asks for a name and a password: http://name:password@host:port in proxy.url",
    429: "the key works, and its limit is used up: wait, or ask the provider for more",
}
_OF_CONNECTIONS = {
    r"certificate has expired": (
        "the server's certificate has ended: its operator must renew it; or this machine's clock is wrong"
    ),
    r"self.signed|unable to get (local )?issuer": (
        "its certificate authority is not known here: name it in tls.ca_file (AIBRIDGE_CA_FILE), as for a company's"
        " proxy that opens TLS"
    ),
    r"[Hh]ostname mismatch|not valid for": (
        "another server answers under this name: look at base_url, at DNS, and at the proxy"
    ),
    r"WRONG_VERSION|wrong version|record layer": "what answers there speaks no TLS: http instead of https in base_url?",
    r"proxy": "look at proxy.url, HTTPS_PROXY and NO_PROXY: does the proxy run, and let this host through?",
    r"ECONNREFUSED|refused": ("nothing listens there: look at host and port of base_url, and whether the server runs"),
    r"unreachable|EHOSTUNREACH|ENETUNREACH": (
        "no way leads there: look at routes, at the VPC's endpoints, and at the firewall"
    ),
}


def about_refusal(kind: str, status: int, words: str) -> str:
    """Return what to do about an answer that refuses.

    Args:
        kind: of the provider.
        status: of the answer.
        words: what the upstream says.
    """
    if kind == "bedrock":
        for pattern, advice in _OF_AWS.items():
            if re.search(pattern, words):
                return advice
    if status in _OF_STATUSES:
        return _OF_STATUSES[status]
    return "the upstream has a fault of its own: try again later, and look at the provider's status page"


def about_connection(words: str) -> str:
    """Return what to do about a connection that could not be had, by the words of the error."""
    for pattern, advice in _OF_CONNECTIONS.items():
        if re.search(pattern, words):
            return advice
    return "a firewall may drop what is sent there: try `curl -v` from this machine, and look at timeouts.connect"


def about_clock(skew: float) -> str:
    """Return what to do about a clock that is some seconds off; empty where that harms nobody."""
    if abs(skew) < _SIGNED_WITHIN_S / 5:
        return ""
    return f"set this machine's clock (NTP): AWS refuses what was signed more than {_SIGNED_WITHIN_S:g} s off"
