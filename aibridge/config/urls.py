"""URLs: what one is to us, and those that we ask."""

from ipaddress import ip_address
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator

from aibridge.config.values import mistake


def split_url(text: str) -> SplitResult:
    """Split a URL whose port is one."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        raise mistake("should be a URL") from None
    return url


def check_url(text: str) -> str:
    """Return a URL of HTTP without the slash at its end."""
    url = split_url(text)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise mistake("should be an http:// or https:// URL with a host")
    if url.query or url.fragment:
        raise mistake("should have no query and no fragment")
    return text.rstrip("/")


def clean_base_url(text: str) -> str:
    """Return one that is asked as it stands, with paths behind it."""
    url = check_url(text)
    if not url.isascii():
        raise mistake("should be ASCII: other characters percent-encoded, a host in its punycode")
    if "@" in urlsplit(url).netloc:
        raise mistake("should hold no credentials")
    return url


BaseURL = Annotated[str, AfterValidator(clean_base_url)]


def is_loopback(host: str) -> bool:
    """Tell whether a host, by name or address, is this machine to itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
