"""The way to the upstreams: the sections `tls` and `proxy`."""

from typing import Annotated

from pydantic import AfterValidator, FilePath, SecretStr

from aibridge.config.secret import AnySecret
from aibridge.config.urls import check_url
from aibridge.config.values import Section, mistake


class TLS(Section):
    """How upstreams prove themselves: the system's certificate authorities, or those of `ca_file`."""

    ca_file: FilePath | None = None
    verify: bool = True


def _clean_proxy_url(secret: SecretStr) -> SecretStr:
    url = check_url(secret.get_secret_value())
    if not url.startswith("http://"):
        raise mistake("should be an http:// URL: TLS to the proxy itself is not spoken")
    return SecretStr(url)


class Proxy(Section):
    """The way out: `url` for everything, else `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the environment."""

    from_environment: bool = True
    url: Annotated[AnySecret, AfterValidator(_clean_proxy_url)] | None = None
    """A secret, since it may hold a password."""
