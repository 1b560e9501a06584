"""Builds `aibridge._speedups`, with three answers in AIBRIDGE_SPEEDUPS: 1 must, 0 must not, unset if possible."""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ANSWER = os.environ.get("AIBRIDGE_SPEEDUPS", "")
if ANSWER not in {"", "0", "1"}:
    sys.exit(f"AIBRIDGE_SPEEDUPS must be 1, 0 or unset, not {ANSWER!r}")
DEBUG = os.environ.get("AIBRIDGE_DEBUG") == "1"


class BuildIfPossible(build_ext):
    """Say in one line that the compiled wire could not be built, and go on."""

    def build_extension(self, ext):
        try:
            super().build_extension(ext)
        except Exception as error:  # setuptools raises many kinds; each means: no compiled wire
            if ANSWER == "1":
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            print(f"aibridge: no compiled wire ({reason}); using the pure one", file=sys.stderr)


def extensions():
    if ANSWER == "0":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if ANSWER == "1":
            raise
        print("aibridge: no compiled wire (no Cython); using the pure one", file=sys.stderr)
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


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildIfPossible})
