"""What stands between load generator and upstream: how it is started, and which requests it takes."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from processes import line_of, running
from traffic import MODEL, OPENAI_MODEL, PATHS, Api

HERE = Path(__file__).resolve().parent
KEY = "sk-ant-bench-0123456789"
START_WITHIN = 120.0


@dataclass(frozen=True)
class Address:
    """Where the upstream listens; `authority` is a file with the certificate to trust, and there only with TLS."""

    port: int
    authority: Path | None = None

    @property
    def url(self) -> str:
        """The address as clients write it."""
        return f"{'https' if self.authority else 'http'}://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Door:
    """A running subject: where to knock, and which process to charge (0: there is none)."""

    port: int
    pid: int


@dataclass(frozen=True)
class Route:
    """How a client asks a subject for an upstream API.

    `speaks` is the API of the client. `exact` says that the answer has all events of the upstream, and ends as it does.
    `ends` is what a stream ends with where it is neither that nor what the API prescribes.
    """

    path: str
    speaks: Api
    exact: bool = False
    stream_path: str = ""
    ends: str = ""
    model: str = ""
    headers: tuple[tuple[str, str], ...] = (("x-api-key", KEY),)


Starter = Callable[[Address, Path], "contextlib.AbstractContextManager[Door]"]


@dataclass(frozen=True)
class Subject:
    """One thing to measure.

    `missing` says why it cannot run here, or nothing. `holds` is the number of live streams it is asked for at most,
    `only` the scenarios it is measured in, where these are not all.
    """

    name: str
    says: str
    start: Starter
    missing: Callable[[], str]
    routes: Callable[[], Mapping[Api, Route]]
    tls: bool = False
    holds: int = 1 << 20
    only: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()


def raw_routes() -> dict[Api, Route]:
    """The upstream's own paths, for whom relays bytes and does not look."""
    return {
        api: Route(
            path,
            api,
            exact=True,
            stream_path=f"{path}-with-response-stream" if api == "bedrock" else "",
            model=model_of(api),
        )
        for api, path in PATHS.items()
    }


def model_of(api: Api) -> str:
    """The model's name as clients of `api` write it."""
    return OPENAI_MODEL if api in {"chat", "responses"} else MODEL


def nothing_missing() -> str:
    return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(name: str, port: int, child: "subprocess.Popen[str]") -> None:
    """Until `port` accepts."""
    give_up = time.monotonic() + START_WITHIN
    while time.monotonic() < give_up and child.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{name} did not start")


@contextlib.contextmanager
def listening(name: str, command: list[str], port: int, directory: Path, **variables: str) -> Iterator[Door]:
    """A child that is to listen on `port`; what it says is kept in `directory`, and shown if it does not start."""
    log = directory / f"{name}.log"
    with (
        log.open("w") as out,
        running(command, stdout=out, stderr=out, cwd=str(directory), env=os.environ | variables) as child,
    ):
        try:
            wait_for(name, port, child)
        except RuntimeError as error:
            raise RuntimeError(f"{error}; it said:\n{log.read_text()[-2000:]}") from error
        yield Door(port, child.pid)


@contextlib.contextmanager
def telling_its_port(name: str, command: list[str], **variables: str) -> Iterator[Door]:
    """A child that prints the port which it listens on."""
    with running(command, env=os.environ | variables) as child:
        port = line_of(child, START_WITHIN)
        if not port.isdecimal():
            raise RuntimeError(f"{name} did not start")
        yield Door(int(port), child.pid)
