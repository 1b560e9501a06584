"""CPU of the records, a whole interception: on the event loop's thread, and on the writer's.

`python bench/records.py` opens, attempts and closes 20,000 interceptions on a real journal and a real SQLite file, in
bursts of `BURST` with a pause between, and prints microseconds an interception: the least of some runs, since whoever
else uses the machine only adds.
"""

import gc
import tempfile
import time
from pathlib import Path

from aibridge.ids import uuid7
from aibridge.journal import Journal
from aibridge.lifecycle import Cause, Health, Termination
from aibridge.recorder import Recorder
from aibridge.stores.sqlite import SQLiteStore
from aibridge.values import (
    Actor,
    Attempt,
    Credential,
    CredentialKind,
    Evidence,
    Interception,
    Outcome,
    Usage,
    UsageSource,
)

COUNT = 20_000
BURST = 100
RUNS = 5

INTERCEPTION = Interception(
    id="",
    started_at=1_700_000_000.25,
    actor=Actor("alice", "Alice"),
    credential=Credential(CredentialKind.CENTRALIZED, "sk-a...efgh"),
    provider="anthropic",
    provider_kind="anthropic",
    dialect="messages",
    route="/v1/messages",
    request_path="/anthropic/v1/messages",
    method="POST",
    model="claude-sonnet-5",
    upstream_model="claude-sonnet-5",
    streaming=True,
    client="Claude Code",
    user_agent="claude-cli/2.0.1 (external, cli)",
    request_bytes=54_321,
)
EVIDENCE = Evidence(
    terminal_event_seen=True,
    last_event="message_stop",
    events=120,
    bytes_in=34_567,
    bytes_out=34_567,
    http_status=200,
    upstream_request_id="req_011CSHoEeqs5C35K2UUqR7Fy",
    time_to_first_event=0.512345,
)
ATTEMPT = Attempt(
    number=1,
    origin="https://api.anthropic.com",
    started_at=1_700_000_000.251234,
    duration=1.512345,
    termination=Termination.COMPLETED,
    cause=Cause.CLEAN,
    error="",
    evidence=EVIDENCE,
    usage=Usage(input_tokens=5, output_tokens=7),
    usage_source=UsageSource.PROVIDER_FINAL,
    message_id="msg_1",
)
OUTCOME = Outcome(
    termination=Termination.COMPLETED,
    cause=Cause.CLEAN,
    error="",
    ended_at=1_700_000_001.764321,
    duration=1.513456,
    evidence=EVIDENCE,
    health=Health.SUCCESS,
    usage=Usage(10, 200, 3000, 0),
    usage_source=UsageSource.PROVIDER_FINAL,
    message_id="msg_01XFDUDYJgAACzvnptvVoYEL",
    response_model="claude-sonnet-5",
    stop_reason="end_turn",
)


def main() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # as `aibridge serve` has it
    runs = [_run() for _ in range(RUNS)]
    print(f"on the event loop  {min(loop for loop, _ in runs):5.1f} us an interception")
    print(f"on the thread      {min(thread for _, thread in runs):5.1f} us an interception")


def _run() -> tuple[float, float]:
    """Return microseconds an interception, on this thread and on the writer's."""
    interceptions = [INTERCEPTION._replace(id=uuid7(1_700_000_000_000 + number)) for number in range(COUNT)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "records.db")
        recorder = Recorder(SQLiteStore(path), Journal(Path(folder, "journal"), max_bytes=1 << 30))
        process, mine = time.process_time(), time.thread_time()
        for number, interception in enumerate(interceptions):
            recorder.opened(interception)
            recorder.attempted(interception, ATTEMPT)
            recorder.closed(interception, OUTCOME)
            if number % BURST == 0:
                time.sleep(0.005)
        mine = time.thread_time() - mine
        recorder.close(60)
        process = time.process_time() - process
    return mine / COUNT * 1e6, (process - mine) / COUNT * 1e6


if __name__ == "__main__":
    main()
