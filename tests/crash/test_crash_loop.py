"""A few rounds of the crash loop; `python tests/crash/crash_loop.py --rounds 200` plays more."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("crash_loop.py")


@pytest.mark.parametrize("options", [["--rounds", "8"], ["--rounds", "3", "--lock"]], ids=["killed", "store locked"])
def test_what_a_client_saw_finished_is_in_the_books_after_a_kill(options):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 wrong" in done.stdout
