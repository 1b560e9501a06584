"""The closed list of faults, and the parser of fault words. This file does not know how a fault is played.

A play is one or more words joined by `+` or `,`: `cut@120`, `status:529:3`, `many:200+pings+rst@50`. A word may carry
arguments behind colons and a place behind `@`. Where the place is a number of events (K), the fault comes after K whole
events or frames; left out, it is the middle of the answer. Words of `Role.END` decide how the answer ends or what it
is; a play has at most one of them. Words of `Role.SHAPE` only change how it looks, and combine freely.
"""

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from aibridge.errors import AibridgeError


class UnknownFault(AibridgeError):
    """A fault word that is not on the list, lacks an argument, or does not fit the request."""


class Word(StrEnum):
    """Every fault there is. The rows are those of the outcome matrix (U1 to U25)."""

    CLEAN = "clean"
    TERMINAL_THEN_RST = "terminal_then_rst"
    TERMINAL_THEN_CLOSE = "terminal_then_close"
    TRUNCATE = "truncate"
    CUT = "cut"
    CLOSE_IN_BODY = "close_in_body"
    HALF_FRAME = "half_frame"
    HALF_EVENT = "half_event"
    NO_BLANK_LINE = "no_blank_line"
    BAD_PRELUDE_CRC = "bad_prelude_crc"
    BAD_CRC = "bad_crc"
    FRAME_SHORT = "frame_short"
    FRAME_HUGE = "frame_huge"
    HEADERS_OVERRUN = "headers_overrun"
    HEADERS_HUGE = "headers_huge"
    UNKNOWN_HEADER_TYPE = "unknown_header_type"
    HEADER_OVERRUN = "header_overrun"
    BAD_JSON = "bad_json"
    BAD_BASE64 = "bad_base64"
    BAD_INNER_JSON = "bad_inner_json"
    EXCEPTION = "exception"
    ERROR_FRAME = "error_frame"
    ERROR_EVENT = "error_event"
    RST = "rst"
    STALL = "stall"
    CLOSE_BEFORE_HEAD = "close_before_head"
    RST_BEFORE_HEAD = "rst_before_head"
    NO_HEAD = "no_head"
    HEAD_ONLY = "head_only"
    STATUS = "status"
    STATUS_HTML = "status_html"
    HTML = "html"
    SHORT_JSON = "short_json"
    BAD_HTTP = "bad_http"
    BAD_CHUNK = "bad_chunk"
    HEADER_FLOOD = "header_flood"
    BROKEN_JSON = "broken_json"
    ENDLESS = "endless"
    STALE = "stale"
    TRAILING = "trailing"
    DRIP = "drip"
    SLOW = "slow"
    LATE = "late"
    SPLIT_RANDOM = "split_random"
    ONE_WRITE = "one_write"
    RECHUNK = "rechunk"
    CLOSE_DELIMITED = "close_delimited"
    INTERIM = "interim"
    GZIP = "gzip"
    CRLF = "crlf"
    CR = "cr"
    BOM = "bom"
    COMMENTS = "comments"
    PADDED = "padded"
    PINGS = "pings"
    HUGE = "huge"
    MANY = "many"
    SIZE = "size"
    UNICODE = "unicode"
    TOOL = "tool"
    TOOLS = "tools"
    TOOL_LOOP = "tool_loop"
    STOP = "stop"
    TOO_LONG = "too_long"
    AWS_ERROR = "aws_error"
    EXTRA = "extra"
    BAD_BETA = "bad_beta"
    UNCOUNTED = "uncounted"
    LATENCY = "latency"
    MISCOUNT = "miscount"
    NO_DONE = "no_done"
    NO_SPACE = "no_space"
    NO_USAGE = "no_usage"
    USAGE_EVERY = "usage_every"
    USAGE_IN_FINISH = "usage_in_finish"
    SERVER = "server"
    LEFT = "left"


class Role(Enum):
    """What a word decides."""

    END = auto()
    """How the answer ends, or what it is instead of an answer. At most one in a play."""
    SHAPE = auto()
    """How the answer looks on the wire, or what is in it."""


class Scope(Enum):
    """Which answers a fault can be played on."""

    ANY = auto()
    STREAM = auto()
    EVENTS = auto()
    """Streams of server-sent events only."""
    FRAMES = auto()
    """AWS event streams only."""
    BODY = auto()
    """Answers that are no stream."""
    AWS = auto()
    """Bedrock's answers, streams or not."""
    CHAT = auto()
    """Streams of OpenAI's Chat Completions."""
    OPENAI = auto()
    """The answers of OpenAI's APIs, streams or not."""


class Argument(Enum):
    """What stands behind a colon."""

    NUMBER = auto()
    NUMBER_OPTIONAL = auto()
    NAME = auto()
    NAME_OPTIONAL = auto()
    STATUS = auto()
    """A status from 400 to 599, and optionally a `retry-after` in seconds."""


class Place(Enum):
    """What stands behind `@`."""

    NONE = auto()
    EVENT = auto()
    BYTE = auto()


@dataclass(frozen=True, slots=True)
class Spec:
    """One line of the list: the rows it serves, where it fits, what it takes, and what it does."""

    rows: str
    role: Role
    scope: Scope
    says: str
    argument: Argument | None = None
    place: Place = Place.NONE


_END, _SHAPE = Role.END, Role.SHAPE
_ANY, _STREAM, _EVENTS, _FRAMES, _BODY = Scope.ANY, Scope.STREAM, Scope.EVENTS, Scope.FRAMES, Scope.BODY
_AWS, _CHAT, _OPENAI = Scope.AWS, Scope.CHAT, Scope.OPENAI
_ONLY_STREAMS = frozenset({_EVENTS, _FRAMES, _CHAT})
_K, _BYTE = Place.EVENT, Place.BYTE
_NUMBER, _NUMBER_OPTIONAL = Argument.NUMBER, Argument.NUMBER_OPTIONAL
_NAME, _NAME_OPTIONAL = Argument.NAME, Argument.NAME_OPTIONAL

SPECS: dict[Word, Spec] = {
    Word.CLEAN: Spec("U1", _SHAPE, _ANY, "the whole answer, as the provider gives it"),
    Word.TERMINAL_THEN_RST: Spec("U2", _END, _STREAM, "everything, then a TCP reset instead of the last HTTP chunk"),
    Word.TERMINAL_THEN_CLOSE: Spec("U2", _END, _STREAM, "everything, then a TCP close instead of the last HTTP chunk"),
    Word.TRUNCATE: Spec("U3", _END, _STREAM, "K events, then a clean end of the HTTP body", place=_K),
    Word.CUT: Spec("U4", _END, _ANY, "a TCP close after so many bytes of the body", place=_BYTE),
    Word.CLOSE_IN_BODY: Spec("U4", _END, _ANY, "content-length of the whole, close after so many bytes", place=_BYTE),
    Word.HALF_FRAME: Spec("U5", _END, _FRAMES, "a complete body that ends inside frame K, else the last", place=_K),
    Word.HALF_EVENT: Spec("U6", _END, _EVENTS, "a complete body that ends inside event K, else the last", place=_K),
    Word.NO_BLANK_LINE: Spec("U6", _END, _EVENTS, "a complete body whose last event lacks its blank line", place=_K),
    Word.BAD_PRELUDE_CRC: Spec("U7", _END, _FRAMES, "frame K has a wrong prelude checksum", place=_K),
    Word.BAD_CRC: Spec("U8", _END, _FRAMES, "frame K has a wrong message checksum", place=_K),
    Word.FRAME_SHORT: Spec("U9", _END, _FRAMES, "frame K says that it is 15 bytes long", place=_K),
    Word.FRAME_HUGE: Spec("U9", _END, _FRAMES, "frame K says that it is 2 GiB long", place=_K),
    Word.HEADERS_OVERRUN: Spec("U9", _END, _FRAMES, "frame K's headers are longer than the frame", place=_K),
    Word.HEADERS_HUGE: Spec("U9", _END, _FRAMES, "frame K's headers are 200 KiB", place=_K),
    Word.UNKNOWN_HEADER_TYPE: Spec("U9", _END, _FRAMES, "frame K has a header of type 42", place=_K),
    Word.HEADER_OVERRUN: Spec("U9", _END, _FRAMES, "frame K has a header that overruns the headers", place=_K),
    Word.BAD_JSON: Spec("U10", _END, _STREAM, "event or frame K is not JSON", place=_K),
    Word.BAD_BASE64: Spec("U10", _END, _FRAMES, "frame K's bytes are not base64", place=_K),
    Word.BAD_INNER_JSON: Spec("U10", _END, _FRAMES, "frame K's bytes are base64 of what is not JSON", place=_K),
    Word.EXCEPTION: Spec("U11", _END, _FRAMES, "an exception frame after K, then a clean end", _NAME, _K),
    Word.ERROR_FRAME: Spec("U12", _END, _FRAMES, "an error frame after K, then a clean end", place=_K),
    Word.ERROR_EVENT: Spec(
        "U13",
        _END,
        _STREAM,
        "an error in band after K, then a clean end; of Responses also `flat`, `nested`",
        _NAME_OPTIONAL,
        _K,
    ),
    Word.RST: Spec("U14", _END, _ANY, "a TCP reset after K events (or pieces of 64 bytes)", place=_K),
    Word.STALL: Spec("U15", _END, _ANY, "silence after K events (or pieces), until the peer goes", place=_K),
    Word.CLOSE_BEFORE_HEAD: Spec("U16", _END, _ANY, "a TCP close before any byte"),
    Word.RST_BEFORE_HEAD: Spec("U16", _END, _ANY, "a TCP reset before any byte"),
    Word.NO_HEAD: Spec("U17", _END, _ANY, "silence before the head, until the peer goes"),
    Word.HEAD_ONLY: Spec("U15", _END, _ANY, "the head, then silence until the peer goes"),
    Word.STATUS: Spec("U18 U19", _END, _ANY, "an error answer in the provider's shape", Argument.STATUS),
    Word.STATUS_HTML: Spec("U18 U19", _END, _ANY, "an error answer of a load balancer, in HTML", Argument.STATUS),
    Word.HTML: Spec("U20", _END, _ANY, "200 and an HTML login page"),
    Word.SHORT_JSON: Spec("U21", _END, _BODY, "content-length of the whole, close after half"),
    Word.BAD_HTTP: Spec("U22", _END, _ANY, "a malformed status line"),
    Word.BAD_CHUNK: Spec("U22", _END, _STREAM, "a malformed chunk size after K events", place=_K),
    Word.HEADER_FLOOD: Spec("U22", _END, _ANY, "a response head without end"),
    Word.BROKEN_JSON: Spec("U25", _END, _BODY, "a complete body that is not JSON"),
    Word.ENDLESS: Spec("bounds", _END, _STREAM, "events without end, until the peer goes"),
    Word.STALE: Spec("U16", _END, _ANY, "a clean answer; the next request on the connection finds it closing"),
    Word.TRAILING: Spec(
        "U23", _SHAPE, _STREAM, "N bytes (16) behind the terminal event, in the body", _NUMBER_OPTIONAL
    ),
    Word.DRIP: Spec("U15", _SHAPE, _ANY, "one byte at a time"),
    Word.SLOW: Spec("U15", _SHAPE, _ANY, "so many ms between events (or pieces of 64 bytes)", _NUMBER),
    Word.LATE: Spec("U17", _SHAPE, _ANY, "so many ms before the head", _NUMBER),
    Word.SPLIT_RANDOM: Spec("U1", _SHAPE, _ANY, "TCP writes cut at random places, by seed", _NUMBER),
    Word.ONE_WRITE: Spec("U1", _SHAPE, _ANY, "everything in one TCP write"),
    Word.RECHUNK: Spec("U1", _SHAPE, _STREAM, "HTTP chunks cut at random places, by seed", _NUMBER),
    Word.CLOSE_DELIMITED: Spec("U1", _SHAPE, _ANY, "no content-length, no chunks: the close ends the body"),
    Word.INTERIM: Spec("U1", _SHAPE, _ANY, "100 and 103 before the head"),
    Word.GZIP: Spec("U1", _SHAPE, _ANY, "content-encoding: gzip"),
    Word.CRLF: Spec("U1", _SHAPE, _EVENTS, "lines end in CR LF"),
    Word.CR: Spec("U1", _SHAPE, _EVENTS, "lines end in CR"),
    Word.BOM: Spec("U1", _SHAPE, _EVENTS, "a byte order mark first"),
    Word.COMMENTS: Spec("U1", _SHAPE, _EVENTS, "comment lines between and inside events"),
    Word.PADDED: Spec("U1", _SHAPE, _STREAM, "blanks inside the JSON, as seen in the wild"),
    Word.PINGS: Spec("U1", _SHAPE, _STREAM, "a ping before every delta, of OpenAI's APIs a comment"),
    Word.HUGE: Spec("U1", _SHAPE, _ANY, "the first delta has N bytes of text", _NUMBER),
    Word.MANY: Spec("U1", _SHAPE, _ANY, "N deltas", _NUMBER),
    Word.SIZE: Spec("U1", _SHAPE, _ANY, "N characters in every delta", _NUMBER),
    Word.UNICODE: Spec("U1", _SHAPE, _ANY, "U+2028, U+0085, emoji and escaped surrogates in the text"),
    Word.TOOL: Spec("U1", _SHAPE, _ANY, "a call of the tool so named", _NAME),
    Word.TOOLS: Spec("U1", _SHAPE, _ANY, "N tool calls at once", _NUMBER),
    Word.TOOL_LOOP: Spec("U1", _SHAPE, _ANY, "a tool call again, whatever the tools returned"),
    Word.STOP: Spec("U1", _SHAPE, _ANY, "the stop reason so named", _NAME),
    Word.TOO_LONG: Spec("U18", _END, _ANY, "the provider's 400 for a prompt that its model cannot take"),
    Word.AWS_ERROR: Spec(
        "U18 U19", _END, _AWS, "the error so named; `NAME:bare`, `:body`, `:capital`, `:empty` tell it otherwise", _NAME
    ),
    Word.EXTRA: Spec("U18", _END, _AWS, "a 400 that names this field (a.b), where the body has it", _NAME),
    Word.BAD_BETA: Spec("U18", _END, _AWS, "a 400, where the body asks for this beta, or for any", _NAME_OPTIONAL),
    Word.UNCOUNTED: Spec("U18", _END, _AWS, "a 400: tokens of this model are not counted"),
    Word.LATENCY: Spec(
        "U1", _SHAPE, _AWS, "so many ms are what AWS says that it took, half of it to the first", _NUMBER
    ),
    Word.MISCOUNT: Spec("U1", _SHAPE, _AWS, "AWS's metrics count N tokens more than the message", _NUMBER),
    Word.NO_DONE: Spec("U24", _SHAPE, _CHAT, "everything but `[DONE]`"),
    Word.NO_SPACE: Spec("U1", _SHAPE, _EVENTS, "no space behind `data:`"),
    Word.NO_USAGE: Spec("U1", _SHAPE, _OPENAI, "no usage, whatever was asked for"),
    Word.USAGE_EVERY: Spec("U1", _SHAPE, _CHAT, "usage so far in every chunk"),
    Word.USAGE_IN_FINISH: Spec("U1", _SHAPE, _CHAT, "usage in the chunk of the finish_reason"),
    Word.LEFT: Spec(
        "G5", _SHAPE, _ANY, "the key has so many requests left, for a minute, where the API tells it", _NUMBER
    ),
    Word.SERVER: Spec(
        "U13 U18 U19", _SHAPE, _OPENAI, "errors and oddities of azure, llamacpp, ollama, openrouter or vllm", _NAME
    ),
}

_GRAMMAR = re.compile(r"(?P<word>[a-z0-9_]+)(?::(?P<rest>[\w.:-]*))?(?:@(?P<at>\d{1,12}))?", re.ASCII)
_LARGEST = {Word.MANY: 1_000_000, Word.SIZE: 1 << 20, Word.HUGE: 1 << 26, Word.TRAILING: 1 << 26, Word.TOOLS: 1000}
"""A simulator is not to eat the machine that it runs on, whatever a request says."""
_LARGEST_OTHER = 1 << 31
_MOST_TEXT = 1 << 28
"""Characters of text in an answer, `many` times `size`."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One word with its arguments. `at` is None where the place was left out."""

    word: Word
    name: str = ""
    number: int | None = None
    retry_after: int | None = None
    at: int | None = None

    def __str__(self) -> str:
        numbers = (self.number, self.retry_after)
        arguments = "".join(f":{a}" for a in (self.name, *numbers) if a not in ("", None))
        return f"{self.word}{arguments}" + (f"@{self.at}" if self.at is not None else "")


@dataclass(frozen=True, slots=True)
class Play:
    """What to play on one request."""

    faults: tuple[Fault, ...] = ()

    def __contains__(self, word: Word) -> bool:
        return self.get(word) is not None

    def __str__(self) -> str:
        return "+".join(str(fault) for fault in self.faults) or str(Word.CLEAN)

    def get(self, word: Word) -> Fault | None:
        """Return the fault of this word, or None."""
        return next((fault for fault in self.faults if fault.word is word), None)

    def number(self, word: Word, default: int) -> int:
        """Return the number of this word, or the default where the word or the number is missing."""
        fault = self.get(word)
        return default if fault is None or fault.number is None else fault.number

    @property
    def end(self) -> Fault | None:
        """The one fault that decides how the answer ends, or None."""
        return next((fault for fault in self.faults if SPECS[fault.word].role is Role.END), None)

    def check_fits(self, scopes: AbstractSet[Scope], *, streaming: bool) -> None:
        """Raise `UnknownFault` where a word cannot be played on this kind of answer, `scopes` being its API's own."""
        fitting = scopes | {_ANY, _STREAM} if streaming else scopes - _ONLY_STREAMS | {_ANY, _BODY}
        for fault in self.faults:
            scope = SPECS[fault.word].scope
            if scope not in fitting:
                raise UnknownFault(f"the fault {fault} does not fit this request: it needs {scope.name.lower()}")


CLEAN = Play()


def parse_play(text: str) -> Play:
    """Parse fault words joined by `+` or `,`. Raises `UnknownFault` with a text that lists the known ones."""
    faults = tuple(_parse_fault(word.strip()) for word in re.split(r"[+,]", text) if word.strip())
    ends = [str(fault) for fault in faults if SPECS[fault.word].role is Role.END]
    if len(ends) > 1:
        raise UnknownFault(f"only one of these can end an answer: {', '.join(ends)}")
    play = Play(tuple(fault for fault in faults if fault.word is not Word.CLEAN))
    if play.number(Word.MANY, 1) * play.number(Word.SIZE, 1) > _MOST_TEXT:
        raise UnknownFault(f"{play} is more than {_MOST_TEXT} characters of text")
    return play


def play_in_model(model: str) -> tuple[str, str | None]:
    """Split a model name into the model's own name and its fault words, None where it names none.

    `claude-sim+cut@120` → (`claude-sim`, `cut@120`); `claude-sim@clean` → (`claude-sim`, `clean`);
    `sim-cut@120` → (`sim`, `cut@120`); any other name is all model.
    """
    name, plus, words = model.partition("+")
    if plus:
        return name, words
    if model.startswith("sim-"):
        return "sim", model.removeprefix("sim-")
    name, at, words = model.partition("@")
    return (name, words) if at and name.endswith("sim") else (model, None)


def known_words() -> str:
    """Return the list of all fault words with their arguments, on one line."""
    return ", ".join(signature(word) for word in Word)


def signature(word: Word) -> str:
    """Return a word as it is written, with its arguments: `exception:NAME[@K]`."""
    spec = SPECS[word]
    place = {Place.NONE: "", Place.EVENT: "[@K]", Place.BYTE: "[@BYTE]"}[spec.place]
    return f"{word}{_ARGUMENT_TEXT[spec.argument]}{place}"


_ARGUMENT_TEXT = {
    None: "",
    Argument.NUMBER: ":N",
    Argument.NUMBER_OPTIONAL: "[:N]",
    Argument.NAME: ":NAME",
    Argument.NAME_OPTIONAL: "[:NAME]",
    Argument.STATUS: ":CODE[:RETRY_AFTER]",
}


SERVERS = frozenset({"azure", "llamacpp", "ollama", "openrouter", "vllm"})
"""The compatible servers whose errors and oddities are known."""
_WORDS = frozenset(word.value for word in Word)


def _parse_fault(text: str) -> Fault:
    match = _GRAMMAR.fullmatch(text)
    if match is None or match["word"] not in _WORDS:
        raise UnknownFault(f"unknown fault {text!r}; known are: {known_words()}")
    word = Word(match["word"])
    at = _parse_place(word, match["at"])
    return _with_argument(word, match["rest"] or "", at)


def _parse_place(word: Word, at: str | None) -> int | None:
    if at is None:
        return None
    if SPECS[word].place is Place.NONE:
        raise UnknownFault(f"the fault {word} takes no place; it is written {signature(word)}")
    return _parse_number(word, at)


def _parse_number(word: Word, text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) > _LARGEST.get(word, _LARGEST_OTHER):
        raise UnknownFault(f"{text[:20]!r} is no number for {word}; it is written {signature(word)}")
    return int(text)


def _with_argument(word: Word, rest: str, at: int | None) -> Fault:
    match SPECS[word].argument:
        case Argument.NUMBER:
            return Fault(word, number=_parse_number(word, rest), at=at)
        case Argument.NUMBER_OPTIONAL if rest:
            return Fault(word, number=_parse_number(word, rest), at=at)
        case Argument.NAME if rest and word is Word.SERVER and rest not in SERVERS:
            raise UnknownFault(f"unknown server {rest!r}; known are: {', '.join(sorted(SERVERS))}")
        case Argument.NAME if rest:
            return Fault(word, name=rest, at=at)
        case Argument.NAME_OPTIONAL:
            return Fault(word, name=rest, at=at)
        case Argument.STATUS:
            return _with_status(word, rest)
        case None | Argument.NUMBER_OPTIONAL if not rest:
            return Fault(word, at=at)
        case _:
            raise UnknownFault(f"{word} is written {signature(word)}")


def _with_status(word: Word, rest: str) -> Fault:
    code, _, retry_after = rest.partition(":")
    status = _parse_number(word, code)
    if not 400 <= status <= 599:  # noqa: PLR2004 - the range of errors
        raise UnknownFault(f"{status} is no error status; {word} is written {signature(word)}")
    return Fault(word, number=status, retry_after=_parse_number(word, retry_after) if retry_after else None)
