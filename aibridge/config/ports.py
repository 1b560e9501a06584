"""Where the gateway listens: the sections `listen` and `admin`."""

from typing import Annotated

from pydantic import AfterValidator, Field

from aibridge.config.keys import AdminKey, check_keys
from aibridge.config.values import Section, Text

_Port = Annotated[int, Field(ge=0, le=65535)]


class Listen(Section):
    """The data port. With a file all addresses are served, as a container needs it; without one, loopback only."""

    host: Text = "0.0.0.0"  # noqa: S104 - what a container needs
    port: _Port = 8080


class Admin(Section):
    """The second listener: metrics and health, which ask for no key; admin API and dashboard, which do.

    Without keys these two are off.
    """

    host: Text = "127.0.0.1"
    port: _Port = 8081
    keys: Annotated[tuple[AdminKey, ...], AfterValidator(check_keys)] = ()
    https: bool = False
    """Whether browsers reach the port by HTTPS, through a proxy. A header that says so could come from anybody."""
