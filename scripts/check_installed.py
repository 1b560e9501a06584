"""Start an installed aibridge as a container does, and see that it is healthy, streams, and stops when asked.

Usage: python scripts/check_installed.py AIBRIDGE, its path, or its name where the shell finds it
"""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PATIENCE = 30.0
"""Seconds for the start, again for the demonstration, and again for the stop, on a slow machine."""
LAST_WORDS = "termination"
"""Stands in the record of the demonstration's stream, which is printed whole, and last."""


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


class Listening(threading.Thread):
    """Keeps what a program says, line by line, and knows when it has said its last words."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        super().__init__(daemon=True)
        self._child = child
        self._lines: list[str] = []
        self.heard = threading.Event()

    def run(self) -> None:
        """Listen until the program closes its standard output."""
        for line in self._child.stdout or ():
            self._lines.append(line)
            if LAST_WORDS in line:
                self.heard.set()

    def all(self) -> str:
        """Return everything, once the program has ended."""
        self.join(PATIENCE)
        return "".join(self._lines)


def main() -> int:
    """Run the check; the exit status is 0 where all is well."""
    program = str(Path(shutil.which(sys.argv[1]) or sys.argv[1]).absolute())  # not resolved: a link leads elsewhere
    port, admin_port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as home:
        # Nothing of the caller's environment but the path: no credentials, so the simulator answers.
        environ = {"PATH": os.environ["PATH"], "HOME": home, "AIBRIDGE_PORT": str(port)}
        environ |= {"AIBRIDGE_ADMIN_PORT": str(admin_port), "AIBRIDGE_ADMIN_KEYS": "a-key-of-this-check"}
        command = [program, "serve", "--demo"]
        with subprocess.Popen(command, env=environ, cwd=home, stdout=subprocess.PIPE, text=True) as child:
            listening = Listening(child)
            listening.start()
            try:
                wait_for_health(child, port)
                ready, dashboard = status_of(port, "/readyz"), status_of(admin_port, "/dashboard/")
                listening.heard.wait(PATIENCE)
                child.send_signal(signal.SIGTERM)
                child.wait(PATIENCE)
            finally:
                child.kill()
            said = listening.all()
    print(said)
    if {ready, dashboard} != {http.HTTPStatus.OK} or child.returncode != 0 or "completed" not in said:
        status = f"ready {ready}, dashboard {dashboard}, exit status {child.returncode}"
        sys.exit(f"check_installed: {status}; its words are above")
    print(f"check_installed: {program} came up, streamed, and stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
