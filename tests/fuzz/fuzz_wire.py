"""Feeds both wires what an upstream should never send. Two good endings: accepted, or refused with a documented error.

    python tests/fuzz/fuzz_wire.py --seconds 30 --seed 1

The twins must agree: results, errors, their texts, and what came before them. Anything else prints the seed of the case
and ends with status 1; `--case SEED` runs that case alone.
"""

import argparse
import random
import struct
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "wire"))  # wire_kit stands there; the tests are no package

from wire_kit import EVENTS, QUIET, chunk_frame, chunk_payload, exception_frame, raw_frame, raw_header, signed, sse_of

from aibridge import _speedups as compiled
from aibridge.errors import (
    CorruptFrame,
    CorruptPayload,
    MalformedChunk,
    PayloadError,
    TruncatedEvent,
    TruncatedFrame,
    WireError,
)
from aibridge.wire import chunked, eventstream, jsonscan, jsontail, sse, transcode

DOCUMENTED = (
    CorruptFrame,  # a checksum, a length or a header is wrong; an event is over the limit
    CorruptPayload,  # a good frame or event whose payload is not what was promised
    MalformedChunk,  # no line end behind a chunk of HTTP
    TruncatedFrame,  # the body ended inside a frame
    TruncatedEvent,  # the body ended inside an event
    PayloadError,  # a request body that is no JSON object
)
SPICE = b'"\\{}[]:,.#$-+eE0 \n\r\t\x00\x1f\x7f\x80\xc2\x85\xe2\xa8\xed\xf4'
WORDS = (
    b"\r\n",
    b"\n\n",
    b"\r\r",
    b"data: ",
    b"event: ",
    b"\xe2\x80\xa8",
    b"\\ud800",
    b"1e999",
    b"null",
    b"[[[[",
    b"]]]]",
)


class Disagreement(Exception):
    """The twins differ."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None, help="of the run; by default the clock's")
    parser.add_argument("--case", type=int, default=None, help="run one case alone, by its printed seed")
    options = parser.parse_args()
    if options.case is not None:
        print(run_case(options.case))
        return 0
    return run(options.seconds, time.time_ns() if options.seed is None else options.seed)


def run(seconds, seed):
    """Run cases until the time is over. Returns the exit status."""
    seeds = random.Random(seed)
    end = time.monotonic() + seconds
    endings = Counter()
    while time.monotonic() < end:
        case = seeds.getrandbits(48)
        try:
            endings[run_case(case)] += 1
        except Exception:  # noqa: BLE001  whatever it is, it is a bug
            traceback.print_exc()
            print(f"fuzz_wire: seed {seed}, case {case}: rerun with --case {case}")
            return 1
    told = ", ".join(f"{count} {name}" for name, count in sorted(endings.items()))
    print(f"fuzz_wire: seed {seed}, {endings.total()} cases, twins agree: {told}")
    return 0


def run_case(case):
    """Run one case on both twins; return how it ended: "accepted", or the name of the error."""
    dice = random.Random(case)
    target = dice.choice((frames, transcoded, transcoded, scanned, scanned, dechunked, members, from_end, encoded))
    pure, twin = target(dice)
    if pure != twin:
        raise Disagreement(f"{target.__name__}\npure:     {pure}\ncompiled: {twin}")
    return pure[-1][0]


def frames(dice):
    chunks = cut(dice, frame_stream(dice))
    limit = dice.choice((64, 1 << 12, 1 << 24))
    return [transcript(module.FrameDecoder(max_frame_bytes=limit), chunks) for module in (eventstream, compiled)]


def transcoded(dice):
    chunks = cut(dice, frame_stream(dice))
    return [transcript(module.ChunkTranscoder(quiet=QUIET), chunks) for module in (transcode, compiled)]


def scanned(dice):
    chunks = cut(dice, sse_stream(dice))
    options = {"max_event_bytes": dice.choice((20, 150, 1 << 20)), "check_json": dice.random() < 0.7}
    return [transcript(module.SSEScanner(quiet=QUIET, **options), chunks) for module in (sse, compiled)]


def dechunked(dice):
    pieces = [dice.choice((*WORDS, dice.choice(EVENTS))) for _ in range(dice.randint(0, 5))]
    sizes = (b"%x", b"%x", b"%x", b"%X", b"%015x", b"%016x", b"%x;a")
    body = b"".join(b"%b\r\n%b\r\n" % (dice.choice(sizes) % len(piece), piece) for piece in pieces)
    body = mutated(dice, body + dice.choice((b"", b"0\r\n\r\n")), dice.choice((0, 1, 3)))
    chunks = cut(dice, body)
    return [until_behind(module.ChunkedDecoder(), chunks) for module in (chunked, compiled)]


def until_behind(decoder, chunks):
    """Return how each call ended, up to an error, or to what is behind the plain chunks: then the decoder is done."""
    said = [("accepted", "(b'', b'')")]
    for chunk in chunks:
        said.append(ending(lambda chunk=chunk: decoder.feed_data(chunk)))
        if not said[-1][1].endswith(", b'')"):
            break
    return said


def members(dice):
    body = b'{"a":%b,"b" : [%b] }' % (dice.choice(EVENTS), dice.choice(EVENTS))
    body = mutated(dice, body, dice.randint(0, 3))
    return [[ending(lambda module=module: module.scan_object(body))] for module in (jsonscan, compiled)]


def from_end(dice):
    """Walk an array of events from its end, each event's members too."""
    text = b"[%b]" % b", ".join(dice.choice(EVENTS) for _ in range(dice.randint(0, 6)))
    return [[("accepted", places_from_end(module, text, 0, len(text) - 1))] for module in (jsontail, compiled)]


def places_from_end(module, text, begin, end):
    places = []
    while end > begin:
        start = module.element_start(text, begin, end)
        places.append(start)
        opening = text.find(b"{", start, end)
        if opening >= 0 and begin == 0:
            places += places_from_end(module, text, opening, text.rindex(b"}", opening, end))
        end = start - 1
    return places


def encoded(dice):
    data = mutated(dice, dice.choice(EVENTS), dice.randint(0, 6))
    return [[ending(lambda module=module: module.encode_event("x", data))] for module in (sse, compiled)]


def transcript(decoder, chunks):
    """Return how each call ended. After an error one more call must raise it again."""
    said = []
    for chunk in chunks:
        said.append(ending(lambda chunk=chunk: decoder.feed_data(chunk)))
        if said[-1][0] != "accepted":
            break
    return [*said, ending(decoder.feed_eof)]


def ending(call):
    try:
        return "accepted", repr(call())
    except DOCUMENTED as error:
        before = error.before if isinstance(error, WireError) else None
        return type(error).__name__, str(error), repr(before)


def frame_stream(dice):
    """Return some frames in a row; now and then one lies, or bytes are changed."""
    some = [frame(dice) for _ in range(dice.randint(0, 6))]
    if some and dice.random() < 0.5:
        at = dice.randrange(len(some))
        some[at] = signed_lie(dice, some[at])
    data = b"".join(some)
    if dice.random() < 0.1:
        data = mutated(dice, data, 1)
    return data + dice.choice((b"", b"", b"", bytes(7), b"\xff" * 40))


def frame(dice):
    event = mutated(dice, dice.choice(EVENTS), dice.choice((0, 0, 0, 1, 2)))
    kind = dice.randrange(6)
    if kind == 0:
        return exception_frame("throttlingException", "slow down")
    if kind == 1:
        return raw_frame(b"".join(header(dice) for _ in range(dice.randint(0, 5))), event)
    if kind == 2:
        good = chunk_frame(b"")
        block = good[12 : 12 + struct.unpack_from("!I", good, 4)[0]]
        return raw_frame(block, mutated(dice, chunk_payload(event), dice.randint(0, 2)))
    return chunk_frame(event)


def header(dice):
    kind = dice.randrange(10)
    name = dice.choice((b":message-type", b":event-type", b"x", b"y", dice.randbytes(dice.randrange(4))))
    if kind in (0, 1):
        return raw_header(name, kind, None)
    if kind in (6, 7):
        return raw_header(name, kind, dice.choice((b"event", b"chunk", b"error", dice.randbytes(dice.randrange(9)))))
    if kind == 9:
        return raw_header(name, kind, dice.randbytes(16))
    return raw_header(name, kind, dice.randint(-128, 127))


def signed_lie(dice, frame):
    """Change one length or header byte of a good frame, and sign the lie."""
    lie = bytearray(frame)
    headers_size = struct.unpack_from("!I", frame, 4)[0]
    at = dice.choice((*range(8), *range(12, 12 + headers_size)))
    lie[at] = dice.choice((0, 1, 7, 9, 10, 127, 128, 255, dice.randrange(256)))
    return signed(bytes(lie))


def sse_stream(dice):
    end = dice.choice((b"\n", b"\r\n", b"\r"))
    some = [dice.choice(EVENTS) for _ in range(dice.randint(0, 5))]
    text = (
        dice.choice((b"", b"\xef\xbb\xbf", b": hello\n\n"))
        + sse_of(some, end)
        + dice.choice((b"", b"data: [DONE]\n\n"))
    )
    return mutated(dice, text, dice.choice((0, 1, 3, 8)))


def mutated(dice, data, times):
    """Change, put in, take out or double something, so many times."""
    data = bytearray(data)
    for _ in range(times):
        at = dice.randint(0, len(data))
        how = dice.randrange(5)
        if how == 0:
            data[at : at + 1] = bytes((dice.choice(SPICE),))
        elif how == 1:
            data[at:at] = bytes((dice.choice(SPICE),))
        elif how == 2:
            del data[at : at + dice.randint(1, 3)]
        elif how == 3:
            data[at:at] = dice.choice(WORDS)
        else:
            data[at : at + 1] = bytes((dice.randrange(256),))
    return bytes(data)


def cut(dice, data):
    if dice.random() < 0.1:
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted(dice.randint(0, len(data)) for _ in range(dice.randrange(5)))
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True)]


if __name__ == "__main__":
    sys.exit(main())
