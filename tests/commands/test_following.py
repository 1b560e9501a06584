"""`aibridge show` and `tail --no-follow` on a file that a store has written; following itself on one that grows."""

import json
from contextlib import closing

import pytest
from record_kit import an_interception, an_outcome, learned, opened, whole, write

from aibridge.cli import main
from aibridge.lifecycle import Cause
from aibridge.stores.following import Follower, latest
from aibridge.stores.sqlite import SQLiteStore, prune, querying
from aibridge.values import Actor, Evidence, ToolUse, Usage, UsageSource, UserPrompt

AT = 1_795_000_000.0  # 2026-11-18 11:06:40


def interception(number, **more):
    return an_interception(id=f"id-{number}", started_at=AT + number, **more)


def closed(one, cause=Cause.CLEAN, after=1.0, **more):
    end = an_outcome(
        cause, error="" if cause is Cause.CLEAN else "their \x1b[31mwords", ended_at=one.started_at + after,
        duration=after, usage=Usage(5, 7), usage_source=UsageSource.PROVIDER_FINAL, **more,
    )  # fmt: skip
    return whole(one, end)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "aibridge.db"


@pytest.fixture
def store(path):
    with closing(SQLiteStore(path)) as store:
        yield store


@pytest.fixture
def records(store):
    write(
        store,
        closed(interception(1), after=10.0),
        closed(interception(2, provider="bedrock"), Cause.TRUNCATED),
        closed(interception(3, actor=Actor("bob"), client="Claude\x1b[2J Code", session_id="s-1"), Cause.DISCONNECTED),
        opened(interception(4)),
    )


@pytest.fixture
def run(path, capsys):
    def run(*arguments, status=0):
        assert main([*arguments, "--records", str(path)]) == status
        out, err = capsys.readouterr()
        return err if status else out

    return run


def ids(rows):
    return [row["id"] for row in rows]


# tail


@pytest.mark.usefixtures("records")
def test_the_last_ends_in_the_order_of_their_ends(run):
    rows = [json.loads(line) for line in run("tail", "--no-follow", "--json").splitlines()]
    assert ids(rows) == ["id-2", "id-3", "id-1"]
    assert (rows[0]["termination"], rows[0]["cause"], rows[0]["error"]) == (
        "upstream_error", "truncated", "their \x1b[31mwords",
    )  # fmt: skip
    assert ids(json.loads(line) for line in run("tail", "-n", "1", "--no-follow", "--json").splitlines()) == ["id-3"]
    assert run("tail", "-n", "0", "--no-follow") == ""


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["--actor", "bob"], ["id-3"]),
        (["--provider", "bedrock"], ["id-2"]),
        (["--model", "claude"], ["id-2", "id-3", "id-1"]),
        (["--session", "s-1"], ["id-3"]),
        (["--termination", "completed"], ["id-1"]),
        (["--cause", "truncated"], ["id-2"]),
        (["--cause", "truncated", "--actor", "bob"], []),
        (["--client", "Unknown"], ["id-2", "id-1"]),
    ],
)
@pytest.mark.usefixtures("records")
def test_filters(run, wanted, found):
    assert ids(json.loads(line) for line in run("tail", "--no-follow", "--json", *wanted).splitlines()) == found


@pytest.mark.usefixtures("records")
def test_what_a_person_reads(run):
    lines = run("tail", "--no-follow").splitlines()
    assert lines[0].startswith("2026-11-18 11:06:43  upstream_error (truncated) ")
    assert lines[0].endswith("  bedrock/claude  alice  Unknown  1.0 s  in 5 out 7  id-2")
    assert lines[1] == "    their  [31mwords"
    assert "client_gone (disconnected)" in lines[2]
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
@pytest.mark.usefixtures("records")
def test_colours_are_for_terminals_and_for_who_wants_them(run, monkeypatch, environment, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    told = run("tail", "--no-follow")
    assert ("\x1b[31mupstream_error (truncated)" in told) == coloured
    assert "\x1b[2J" not in told


@pytest.mark.parametrize("lines", ["-1", "many"])
def test_a_number_of_lines_is_a_number(lines):
    with pytest.raises(SystemExit) as ended:
        main(["tail", "-n", lines])
    assert ended.value.code == 2


# what has ended since


def look(path, follower):
    with querying(path) as query:
        return ids(follower.look(query))


def follow(path, **wanted):
    with querying(path) as query:
        return Follower(query, wanted)


@pytest.mark.usefixtures("records")
def test_what_has_ended_since_the_last_look_is_told_once(store, path):
    follower, of_bob = follow(path), follow(path, actor="bob")
    assert look(path, follower) == []
    write(store, closed(interception(4), after=9.0), opened(interception(5)))
    write(store, closed(interception(6, actor=Actor("bob")), Cause.TRUNCATED, after=1.0))
    assert look(path, follower) == ["id-6", "id-4"]
    assert look(path, of_bob) == ["id-6"]
    assert look(path, follower) == []
    write(store, closed(interception(5)))
    assert look(path, follower) == ["id-5"]
    assert look(path, of_bob) == []


def test_many_that_end_at_once(store, path):
    many = [interception(number) for number in range(1200)]
    write(store, *map(opened, many))
    follower = follow(path)
    write(store, *map(closed, many))
    assert len(look(path, follower)) == 1200


def test_records_that_are_pruned_or_replaced(store, path):
    write(store, *(closed(interception(number)) for number in range(5)), opened(interception(9)))
    follower = follow(path)
    assert prune(path, AT + 3) == 3
    assert look(path, follower) == []
    write(store, closed(interception(9)))
    assert look(path, follower) == ["id-9"]
    store.close()
    for file in path.parent.glob("aibridge.db*"):
        file.unlink()
    with closing(SQLiteStore(path)) as fresh:
        write(fresh, closed(interception(20)), opened(interception(21)))
        assert look(path, follower) == ["id-20"]
        write(fresh, closed(interception(21)))
        assert look(path, follower) == ["id-21"]


@pytest.mark.usefixtures("records")
def test_a_look_reads_no_whole_table(path):
    """What is asked each half second goes by indexes: of a million rows it must not see one."""
    asked = []
    with querying(path) as query:
        follower = Follower(query, {})

        def noting(text, values):
            asked.append((text, values))
            return query(text, values)

        follower._open.add("id-1")
        follower.look(noting)
        latest(noting, {}, 5)
        plans = [row["detail"] for text, values in asked for row in query(f"EXPLAIN QUERY PLAN {text}", values)]
    assert len(plans) > len(asked)
    assert [plan for plan in plans if plan.startswith("SCAN") and "USING" not in plan] == []


# show


@pytest.mark.usefixtures("records")
def test_all_that_is_known_of_one(store, run):
    one = interception(4)
    write(store, learned(one, UserPrompt("read\nit"), "", 1, AT))
    write(store, learned(one, ToolUse("toolu_1", "Read", "{}"), "msg_1", 2, AT))
    write(store, closed(one, Cause.TRUNCATED, evidence=Evidence(events=3, last_event="ping", http_status=200)))
    told = json.loads(run("show", "id-4", "--json"))
    assert (told["id"], told["last_event"], told["tools"][0]["tool"]) == ("id-4", "ping", "Read")
    sheet = run("show", "id-4").splitlines()
    assert sheet[0] == "id-4  upstream_error (truncated)"
    pairs = {line.split()[0]: line.split()[1:] for line in sheet if line.strip()}
    assert (pairs["last_event"], pairs["http_status"], pairs["prompt"]) == (["ping"], ["200"], ["read", "it"])
    assert (pairs["tool"], pairs["input_tokens"]) == (["Read"], ["5"])
    assert all(line.isprintable() for line in sheet)


@pytest.mark.usefixtures("records")
def test_one_that_is_not_there(run):
    assert "has no such interception; `aibridge tail` shows ids" in run("show", "id-99", status=2)
