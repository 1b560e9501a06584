"""Builds what is compiled, with three answers in AIBRIDGE_SPEEDUPS: 1 must, 0 must not, unset if possible.

Two things are compiled: `aibridge._speedups`, the wire's twin, by Cython; and some typed modules, from their own
source, by mypyc. The latter go to `aibridge/_compiled/`, where Python does not look by itself: `aibridge/compiled.py`
does, and the digests beside them tell it of which sources they were made.
"""

import ast
import hashlib
import json
import os
import sys
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ANSWER = os.environ.get("AIBRIDGE_SPEEDUPS", "")
if ANSWER not in {"", "0", "1"}:
    sys.exit(f"AIBRIDGE_SPEEDUPS must be 1, 0 or unset, not {ANSWER!r}")
DEBUG = os.environ.get("AIBRIDGE_DEBUG") == "1"

TYPED = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["aibridge"]["compiled"]
MYPY = ["--config-file=", "--no-site-packages", "--ignore-missing-imports"]
"""No library's types are believed: where they are installed and where they are not, the same code comes out."""
OPTIMIZE = "0" if DEBUG else "2"


class Build(build_ext):
    """Build the wire, then the typed modules; where they cannot be had, say so in one line and go on."""

    failed = False

    def build_extension(self, ext):
        try:
            super().build_extension(ext)
        except Exception as error:  # setuptools raises many kinds; each means: no compiled wire
            if ANSWER == "1":
                raise
            say_pure("wire and modules", error)
            self.failed = True

    def build_extensions(self):
        super().build_extensions()
        if self.failed:
            return
        try:
            self.build_typed()
        except SystemExit:  # mypyc's way to end, once it has said what is wrong
            if ANSWER == "1":
                raise
            say_pure("modules", "mypyc refuses them")
        except Exception as error:  # as above
            if ANSWER == "1":
                raise
            say_pure("modules", error)

    def build_typed(self):
        from mypy.version import __version__ as mypy
        from mypyc.build import mypycify

        folder = Path(self.build_lib, "aibridge/_compiled")
        folder.mkdir(parents=True, exist_ok=True)
        digests = (folder / f"digests{EXTENSION_SUFFIXES[0]}").with_suffix(".json")
        told = {
            "modules": TYPED,
            "digests": {path: digest_of(path) for path in sources_of(TYPED)},
            "compiler": [mypy, MYPY, OPTIMIZE],
        }
        if digests.exists() and json.loads(digests.read_text()) == told:
            return
        digests.unlink(missing_ok=True)  # written last: without it nothing of the folder is used
        paths = [str(path_of(module)) for module in TYPED]
        group = mypycify([*MYPY, *paths], group_name="aibridge", target_dir="build/mypyc", opt_level=OPTIMIZE)
        for ext in group:
            ext._needs_stub = False  # noqa: SLF001 - setuptools sets it on the extensions that it was given
            super().build_extension(ext)
        digests.write_text(json.dumps(told, indent=1))

    def get_ext_fullpath(self, ext_name):
        if ext_name == "aibridge._speedups":
            return super().get_ext_fullpath(ext_name)
        return str(Path(self.build_lib, "aibridge/_compiled", ext_name + EXTENSION_SUFFIXES[0]))


def say_pure(what, error):
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    print(f"aibridge: no compiled {what} ({reason}); using pure Python", file=sys.stderr)


def path_of(module):
    """Return the file of a module of ours, by its dotted name; None where there is none."""
    path = Path(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def sources_of(modules):
    """Return the files that modules are made of: their own, and all of ours that these import: their types count."""
    found, names = set(), list(modules)
    while names:
        path = path_of(names.pop())
        if path is None or path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("aibridge"):
                names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return sorted(path.as_posix() for path in found)


def digest_of(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def extensions():
    if ANSWER == "0":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError as error:
        if ANSWER == "1":
            raise
        say_pure("wire and modules", error)
        return []
    speedups = Extension(
        "aibridge._speedups",
        ["_speedups/speedups.pyx"],
        include_dirs=["_speedups"],
        depends=sorted(str(path) for path in Path("_speedups").glob("*.h")),
        extra_compile_args=["-O0", "-g"] if DEBUG else ["-O3"],
    )
    built = cythonize([speedups], language_level=3, compiler_directives={"boundscheck": DEBUG, "linetrace": False})
    for extension in built:
        extension.optional = ANSWER != "1"  # here, because cythonize forgets it
    return built


setup(ext_modules=extensions(), cmdclass={"build_ext": Build})
