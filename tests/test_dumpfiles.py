"""Dumps on disk: modes, bounds, old files, and disks that are full or swept clean."""

import contextlib
import os
import resource
import shutil
import stat
import threading
import uuid

import pytest

from aibridge import dumpfiles as module
from aibridge.dumpfiles import BLOCK, DumpFiles
from aibridge.values import Credential, CredentialKind, ResponseHead, UpstreamRequest

HEAD = ResponseHead(200, ((b"content-type", b"text/plain"),))
HEAD_TEXT = b"HTTP/1.1 200 \r\ncontent-type: text/plain\r\n\r\n"


def name(kind="resp"):
    return f"{uuid.uuid4()}-1.{kind}.txt"


class Losses:
    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1


@pytest.fixture
def losses():
    return Losses()


@pytest.fixture
def build(tmp_path, losses):
    with contextlib.ExitStack() as stack:

        def make(*, body=1000, total=1_000_000, folder=tmp_path / "dump"):
            files = DumpFiles(
                folder, ["a", "a/passthrough"], max_body_bytes=body, max_total_bytes=total, on_lost=losses
            )
            stack.callback(files.close)
            return files

        yield make


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_only_their_owner_reads_them(build, tmp_path):
    before = os.umask(0)
    try:
        files = build(folder=tmp_path / "deep" / "dump")
        file = files.begin("a/passthrough", name())
        files.put(file, HEAD)
        assert files.flush()
    finally:
        os.umask(before)
    root = tmp_path / "deep" / "dump"
    assert [mode(path) for path in (root, root / "a", root / "a" / "passthrough")] == [0o700] * 3
    assert [mode(path) for path in root.glob("a/passthrough/*")] == [0o600]


def test_a_folder_that_was_open_to_all_is_closed(build, tmp_path):
    (tmp_path / "dump" / "a").mkdir(parents=True, mode=0o777)
    build()
    assert mode(tmp_path / "dump" / "a") == 0o700


def test_parts_are_put_together_in_order(build):
    files = build()
    one, two = (files.begin("a", name()) for _ in range(2))
    for part in (HEAD, b"first ", b"second "):
        files.put(one, part)
        files.put(two, part)
    assert files.flush()
    files.put(one, b"third")
    files.put(one, None)
    assert files.flush()
    assert (open_(one), open_(two)) == (HEAD_TEXT + b"first second third", HEAD_TEXT + b"first second ")


def open_(file):
    with open(file.path, "rb") as opened:  # noqa: PTH123 - a path as text
        return opened.read()


def test_a_request_is_written_with_its_secret_hidden(build):
    files = build()
    secret = b"sk-ant-canary-0123456789"
    file = files.begin("a", name("req"), (secret,))
    request = UpstreamRequest(
        method="POST",
        origin="http://upstream",
        target="/",
        headers=((b"x-api-key", secret),),
        body=secret,
        credential=Credential(CredentialKind.CENTRALIZED, ""),
    )
    files.put(file, request)
    assert files.flush()
    assert open_(file) == b"POST / HTTP/1.1\r\nx-api-key: sk-a...6789\r\ncontent-length: 11\r\n\r\nsk-a...6789"


def test_a_body_is_cut_at_its_bound(build, losses):
    files = build(body=10)
    file = files.begin("a", name())
    for part in (HEAD, b"1234567", b"89abcdef", b"ghi"):
        files.put(file, part)
    assert files.flush()
    assert open_(file) == HEAD_TEXT + b"123456789a"
    assert losses.count == 0


def test_the_oldest_go_when_all_are_too_many(build, tmp_path):
    files = build(total=5 * BLOCK)
    made = []
    for _ in range(12):
        file = files.begin("a", name())
        files.put(file, b"x" * 100)
        assert files.flush()
        made.append(file.path)
    left = {str(path) for path in (tmp_path / "dump").glob("a/*.txt")}
    assert left == set(made[-5:])


def test_a_file_that_grows_counts_once(build, losses):
    files = build(total=3 * BLOCK)
    first, second = (files.begin("a", name()) for _ in range(2))
    for _ in range(10):
        for file in (first, second):
            files.put(file, b"x" * 50)
        assert files.flush()
    assert (open_(first), open_(second)) == (b"x" * 500, b"x" * 500)
    assert losses.count == 0


def test_those_of_an_earlier_run_count_and_strangers_stay(build, tmp_path):
    folder = tmp_path / "dump" / "a"
    folder.mkdir(parents=True)
    stranger = folder / "notes.txt"
    stranger.write_bytes(b"x" * 50_000)
    (folder / name()).symlink_to(stranger)
    old = []
    for number in range(6):
        path = folder / name()
        path.write_bytes(b"x" * 5000)
        os.utime(path, (number, number))
        old.append(path)
    files = build(total=6 * BLOCK)  # two blocks each
    assert files.flush()
    assert [path.exists() for path in old] == [False] * 3 + [True] * 3
    file = files.begin("a", name())
    files.put(file, b"new")
    assert files.flush()
    assert [path.exists() for path in old] == [False] * 4 + [True] * 2
    assert stranger.stat().st_size == 50_000


def test_a_file_deleted_while_it_grows_is_given_up(build, losses):
    files = build()
    file = files.begin("a", name())
    files.put(file, b"first")
    assert files.flush()
    os.unlink(file.path)  # noqa: PTH108 - a path as text
    files.put(file, b"second")
    assert files.flush()
    assert not os.path.exists(file.path)  # noqa: PTH110 - a path as text
    assert losses.count == 0


def test_a_folder_swept_clean_is_made_again(build, tmp_path):
    files = build()
    shutil.rmtree(tmp_path / "dump")
    file = files.begin("a", name())
    files.put(file, b"text")
    assert files.flush()
    assert open_(file) == b"text"
    assert mode(tmp_path / "dump" / "a") == 0o700


def test_nothing_is_followed_or_overwritten(build, tmp_path, losses):
    files = build()
    secret = tmp_path / "elsewhere"
    secret.write_text("untouched")
    linked, there = files.begin("a", name()), files.begin("a", name())
    os.symlink(secret, linked.path)  # noqa: PTH211 - a path as text
    with open(there.path, "w") as opened:  # noqa: PTH123 - a path as text
        opened.write("before")
    for file in (linked, there):
        files.put(file, b"text")
    assert files.flush()
    assert secret.read_text() == "untouched"
    assert open_(there) == b"before"
    assert losses.count == 2


@contextlib.contextmanager
def full_disk():
    """No file of this process can grow beyond 2,000 bytes: the kernel itself refuses, in the middle of a write.

    Only around the writing: a test runner whose output goes to a file writes there too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_counted_and_told_once(build, losses, caplog):
    files = build(body=100_000)
    big, small = [files.begin("a", name()) for _ in range(5)], files.begin("a", name())
    with full_disk():
        for file in big:
            files.put(file, b"x" * 1500)
        assert files.flush()
        for _ in range(3):
            for file in big:
                files.put(file, b"y" * 1500)
            assert files.flush()
        files.put(small, b"goes on")
        assert files.flush()
    assert losses.count == 5, "once for each file"
    assert [record.message for record in caplog.records] == ["dumps are being lost"]
    assert open_(big[0]) == b"x" * 1500 + b"y" * 500, "a beginning, and nothing behind the gap"
    assert open_(small) == b"goes on"


def test_a_disk_that_is_too_slow_loses_files_not_memory(build, losses, monkeypatch):
    monkeypatch.setattr(module, "MAX_QUEUED_BYTES", 10_000)
    go_on, waiting = threading.Event(), threading.Event()
    create = DumpFiles._create

    def slow(self, path):
        waiting.set()
        assert go_on.wait(20)
        return create(self, path)

    monkeypatch.setattr(DumpFiles, "_create", slow)
    files = build(body=100_000)
    first, second, third = (files.begin("a", name()) for _ in range(3))
    files.put(first, b"x" * 6000)
    assert waiting.wait(20)
    files.put(second, b"y" * 6000)
    files.put(second, b"z")
    files.put(third, b"z" * 3000)
    assert losses.count == 1
    go_on.set()
    assert files.flush()
    assert (open_(first), open_(third)) == (b"x" * 6000, b"z" * 3000)
    assert not os.path.exists(second.path)  # noqa: PTH110 - a path as text
    fourth = files.begin("a", name())
    files.put(fourth, b"w" * 9000)
    assert files.flush()
    assert open_(fourth) == b"w" * 9000, "the queue has room again"


def test_what_was_put_before_the_close_is_written(build):
    files = build()
    file = files.begin("a", name())
    files.put(file, b"text")
    files.close()
    files.put(file, b"late")
    assert open_(file) == b"text"


def test_a_folder_that_cannot_be_is_told_at_once(build, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        build(folder=tmp_path / "file")
