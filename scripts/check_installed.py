"""Start an installed aibridge as a container does, and see that it is healthy, streams, and stops when asked.

Usage: python scripts/check_installed.py PATH_OF_AIBRIDGE
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE = 30.0
"""Seconds for the start, and again for the stop, on a slow machine."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def status_of(port: int, path: str) -> int:
    """Return the status of a GET; 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def wait_for_health(child: "subprocess.Popen[str]", port: int) -> None:
    """Return when /healthz says 200. Ends the program where that does not happen."""
    deadline = time.monotonic() + PATIENCE
    while status_of(port, "/healthz") != http.HTTPStatus.OK:
        if child.poll() is not None or time.monotonic() > deadline:
            sys.exit("check_installed: it did not come up")
        time.sleep(0.1)


def main() -> int:
    """Run the check; the exit status is 0 where all is well."""
    program = str(Path(sys.argv[1]).absolute())  # not resolved: a link would lead out of its environment
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        # Nothing of the caller's environment but the path: no credentials, so the simulator answers.
        environ = {"PATH": os.environ["PATH"], "HOME": home, "AIBRIDGE_PORT": str(port), "AIBRIDGE_ADMIN_PORT": "0"}
        command = [program, "serve", "--demo"]
        with subprocess.Popen(command, env=environ, cwd=home, stdout=subprocess.PIPE, text=True) as child:
            try:
                wait_for_health(child, port)
                ready = status_of(port, "/readyz")
                time.sleep(PATIENCE / 10)  # the demonstration's stream
                child.send_signal(signal.SIGTERM)
                said, _ = child.communicate(timeout=PATIENCE)
            finally:
                child.kill()
    print(said)
    if ready != http.HTTPStatus.OK or child.returncode != 0 or "completed" not in said:
        sys.exit(f"check_installed: ready {ready}, exit status {child.returncode}; its words are above")
    print(f"check_installed: {program} came up, streamed, and stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
