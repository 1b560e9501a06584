"""The file of the gateway keys: what is kept, what a reader sees of changes, and files that are none."""

import signal
import sqlite3
import stat
import subprocess
import sys

import pytest

from aibridge.auth import digest_of
from aibridge.stores.base import StoreRefused, StoreUnavailable
from aibridge.stores.keys import KeyReader, KeyStore, KeyTerms
from aibridge.stores.sqlite import SQLiteStore

TERMS = KeyTerms(
    owner="ann", teams=("red", "blue"), providers=("anthropic",), routes=("/v1/messages",), models=("claude-h*",),
    prompts="hashed", arguments="off", thoughts="full", expires_at=4e9, requests_per_minute=60,
    tokens_per_minute=10**12, concurrent=1, nanodollars_per_day=10**18, nanodollars_per_month=1,
)  # fmt: skip
FAR = 3e9


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "keys.db"


@pytest.fixture
def store(path):
    return KeyStore(path)


@pytest.fixture
def reader(path):
    reading = KeyReader(path)
    yield reading
    reading.close()


def add(store, name, terms=TERMS):
    store.add(f"key_{name}", terms, digest_of(f"aib_{name}"), f"aib_{name}"[:6])


def ids(changes):
    return [one.key_id for one in changes[0]]


def test_what_is_kept_comes_back_and_no_secret_is_kept(store, path):
    add(store, "one")
    add(store, "two", KeyTerms(owner="bob"))
    one, two = store.secrets()
    assert (one.key_id, one.prefix, one.digest, one.terms) == ("key_one", "aib_on", digest_of("aib_one"), TERMS)
    assert (one.expires_at, one.revoked_at, one.replaced_at) == (4e9, None, None)
    assert (two.terms, two.expires_at) == (KeyTerms(owner="bob"), None)
    assert b"aib_one" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert one.digest.hex() not in repr(one)
    assert repr(one.digest) not in repr(one)


def test_the_same_secret_twice_is_refused(store):
    add(store, "one")
    with pytest.raises(StoreRefused):
        store.add("key_other", TERMS, digest_of("aib_one"), "aib_on")
    assert len(store.secrets()) == 1


def test_a_reader_sees_all_at_first_and_then_what_has_changed(store, reader):
    for name in ("one", "two", "three"):
        add(store, name)
    changes = reader.changes()
    assert (ids(changes), changes[1]) == (["key_one", "key_two", "key_three"], True)
    assert reader.changes() is None
    assert store.revoke("key_two")
    changes = reader.changes()
    assert (ids(changes), changes[1]) == (["key_two"], False)
    assert changes[0][0].revoked_at is not None
    add(store, "four")
    assert store.revoke("key_one")
    assert sorted(ids(reader.changes())) == ["key_four", "key_one"]
    assert reader.changes() is None


def test_a_key_is_revoked_once(store):
    add(store, "one")
    assert [store.revoke("key_one"), store.revoke("key_one"), store.revoke("key_none")] == [True, False, False]


def test_a_rotation_leaves_the_old_secret_for_a_while(store, reader):
    add(store, "one")
    reader.changes()
    assert store.rotate("key_one", digest_of("aib_new"), "aib_ne", replaced_at=FAR, expires_at=5e9)
    new, old = reader.changes()[0]
    assert (new.digest, new.expires_at) == (digest_of("aib_new"), 5e9)
    assert (old.digest, old.expires_at) == (digest_of("aib_one"), FAR)
    # The next one does not give the oldest more time.
    assert store.rotate("key_one", digest_of("aib_newer"), "aib_ne", replaced_at=FAR + 9)
    assert [one.replaced_at for one in store.secrets()] == [None, FAR + 9, FAR]
    assert store.revoke("key_one")
    assert all(one.revoked_at for one in store.secrets())
    assert not store.rotate("key_one", digest_of("aib_newest"), "aib_ne", replaced_at=FAR)
    assert len(store.secrets()) == 3


def test_a_file_that_was_replaced_is_read_whole(store, reader, path, tmp_path):
    add(store, "one")
    reader.changes()
    add(KeyStore(tmp_path / "other.db"), "two")
    (tmp_path / "other.db").replace(path)
    changes = reader.changes()
    assert (ids(changes), changes[1]) == (["key_two"], True)


def test_a_file_that_is_away_is_read_again_when_it_is_back(store, reader, path, tmp_path):
    add(store, "one")
    with pytest.raises(StoreUnavailable):
        KeyReader(tmp_path / "none.db").changes()
    assert not (tmp_path / "none.db").exists()
    reader.changes()
    path.rename(tmp_path / "away.db")
    with pytest.raises(StoreUnavailable):
        reader.changes()
    (tmp_path / "away.db").rename(path)
    assert ids(reader.changes()) == ["key_one"]


def test_a_file_that_cannot_be_written_can_be_read(store, reader, path):
    add(store, "one")
    path.chmod(0o400)
    assert ids(reader.changes()) == ["key_one"]


VERSION_1 = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, teams TEXT NOT NULL, providers TEXT, routes TEXT, models TEXT,
    prompts TEXT, arguments TEXT, thoughts TEXT, created_at REAL NOT NULL, expires_at REAL, revoked_at REAL,
    generation INTEGER NOT NULL
);
CREATE INDEX keys_by_generation ON keys (generation);
CREATE TABLE secrets (
    digest BLOB PRIMARY KEY, key_id TEXT NOT NULL REFERENCES keys (id), prefix TEXT NOT NULL, created_at REAL NOT NULL,
    expires_at REAL
);
CREATE INDEX secrets_by_key ON secrets (key_id);
INSERT INTO keys VALUES ('key_old', 'ann', '["red"]', NULL, NULL, NULL, NULL, NULL, NULL, 1, NULL, NULL, 1);
INSERT INTO secrets VALUES (x'aa', 'key_old', 'aib_ol', 1, NULL);
PRAGMA application_id = 0x61696B31;
PRAGMA user_version = 1
"""


def test_a_file_of_version_1_is_read_as_it_is_and_changed_by_who_writes(path, reader):
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.executescript(VERSION_1)
    before = path.read_bytes()
    [old], whole = reader.changes()
    assert (old.key_id, old.terms, whole) == ("key_old", KeyTerms(owner="ann", teams=("red",)), True)
    assert path.read_bytes() == before
    store = KeyStore(path)
    add(store, "new")
    assert ids(reader.changes()) == ["key_new"]
    assert [one.terms for one in store.secrets()] == [old.terms, TERMS]
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.close()


def other_files(folder):
    SQLiteStore(folder / "records.db").close()
    (folder / "text.db").write_text("not a database, and longer than the head of one would be" * 20)
    with sqlite3.connect(folder / "newer.db") as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("PRAGMA application_id = 0x61696B31")
        db.execute("PRAGMA user_version = 99")
    db.close()
    return [folder / name for name in ("records.db", "text.db", "newer.db")]


def test_other_files_are_refused_and_left_as_they_are(tmp_path):
    for path in other_files(tmp_path):
        before = path.read_bytes()
        for use in (KeyStore, lambda path: KeyReader(path).changes()):
            with pytest.raises(StoreRefused):
                use(path)
        assert path.read_bytes() == before


KILLED = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE keys SET revoked_at = 1, generation = 99, prompts = hex(randomblob(400))")
db.execute("UPDATE keys SET owner = 'eve'")
print("written", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_command_left_half_written_is_rolled_back_by_a_reader(store, reader, path):
    for number in range(400):
        add(store, f"n{number}")
    before = path.read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"written\n"
        child.send_signal(signal.SIGKILL)
    assert path.with_name("keys.db-journal").exists()
    assert path.read_bytes() != before  # half of it is in the file
    found = reader.changes()[0]
    assert len(found) == 400
    assert {(one.terms.owner, one.revoked_at) for one in found} == {("ann", None)}
