"""The one switch: whether what is compiled runs, or pure Python. Nothing of ours is imported before this file.

AIBRIDGE_SPEEDUPS has three answers: 1 must be compiled, 0 must be pure, unset takes what is there. They hold for the
wire, whose compiled twin `aibridge/wire/__init__.py` takes, and for the typed modules, which are compiled from their
own source and which this file takes.

The latter stand in `aibridge/_compiled/`, where Python does not look. Without `choose` all is pure; a compiled module
is imported where the digests of all sources say that the build was made of them, and all are, or none.
"""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

ANSWER = os.environ.get("AIBRIDGE_SPEEDUPS", "")
if ANSWER not in {"", "0", "1"}:
    raise ImportError(f"AIBRIDGE_SPEEDUPS must be 1, 0 or unset, not {ANSWER!r}")

_ROOT = Path(__file__).parents[1]
_FOLDER = Path(__file__).with_name("_compiled")
_SUFFIX = EXTENSION_SUFFIXES[0]
_GROUP = "aibridge__mypyc"
"""The library that holds the code of all compiled modules; each has a small one that only finds it."""


class _Finder(MetaPathFinder):
    """Finds the compiled modules."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = frozenset(modules)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the contract's
        target: ModuleType | None = None,  # noqa: ARG002 - the contract's
    ) -> ModuleSpec | None:
        """Return where a module of ours is compiled; None of all others."""
        if fullname not in self._modules:
            return None
        file = str(_FOLDER / (fullname + _SUFFIX))
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, file))


def choose() -> str:
    """Let the compiled modules be imported, where they may be and can. Returns `compiled` or `pure`.

    Raises:
        ImportError: they must be, and cannot.
    """
    if ANSWER == "0":
        return "pure"
    try:
        built = json.loads((_FOLDER / f"digests{_SUFFIX}").with_suffix(".json").read_bytes())
    except FileNotFoundError:
        wrong = "they are not there"
    else:
        edited = [path for path, digest in built["digests"].items() if digest != _digest_of(path)]
        if not edited:
            sys.meta_path.insert(0, _Finder([*built["modules"], _GROUP]))
            return "compiled"
        wrong = f"{edited[0]} is another than they were built from"
        if not ANSWER:
            sys.stderr.write(f"aibridge: the compiled modules are not used: {wrong}; `make dev` builds them anew\n")
    if ANSWER == "1":
        raise ImportError(
            f"AIBRIDGE_SPEEDUPS=1, but the compiled modules cannot be used: {wrong}; install a wheel built for this "
            "platform, or build one with a C compiler: AIBRIDGE_SPEEDUPS=1 pip install ."
        )
    return "pure"


def _digest_of(path: str) -> str:
    try:
        return hashlib.sha256((_ROOT / path).read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


MODULES = choose()
"""Which typed modules run."""
