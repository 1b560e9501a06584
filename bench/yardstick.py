"""The plain C loop of yardstick.c, built by the compiler that builds the compiled wire, and called from here."""

import ctypes
import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).resolve().with_name("yardstick.c")
FLAGS = ("-O3", "-shared", "-fPIC")  # -O3 as in setup.py


def find_compiler() -> list[str]:
    """The compiler that setuptools would take, or nothing where it is not there."""
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[:1]
    return command if shutil.which(command[0]) else []


def build(directory: Path, *defines: str) -> Path:
    """Compile the loop; returns the library's path. Raises `subprocess.CalledProcessError`."""
    library = directory / "yardstick.so"
    command = [*find_compiler(), *FLAGS, *(f"-D{name}" for name in defines), "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True)
    return library


class Yardstick:
    """The loop, loaded."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.prepare()
        self._loop = self._library.frames_to_text
        self._loop.restype = ctypes.c_size_t
        self._loop.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]

    def count_from(self) -> None:
        """Begin to count instructions, under callgrind."""
        self._library.count_from()

    def count_to(self, name: str) -> None:
        """Write down what was counted, under this name, and count no more."""
        self._library.count_to(name.encode())

    def frames_to_text(self, frames: bytes, out: "ctypes.Array[ctypes.c_char]") -> int:
        """Write the text of `frames` to `out`, at least as long; returns its size in bytes, 0 for broken frames."""
        return int(self._loop(frames, len(frames), out))
