import pytest

from aibridge.simulator.faults import (
    CLEAN,
    SPECS,
    Argument,
    Role,
    Scope,
    UnknownFault,
    Word,
    known_words,
    parse_play,
    play_in_model,
    signature,
)

EXAMPLES = {Argument.NUMBER: ":7", Argument.NAME: ":validationException", Argument.STATUS: ":529:3"}


def example(word):
    place = "@5" if "@" in signature(word) else ""
    if word is Word.SERVER:
        return "server:vllm"
    return f"{word}{EXAMPLES.get(SPECS[word].argument, '')}{place}"


def test_every_word_has_its_line():
    assert set(SPECS) == set(Word)
    rows = " ".join(spec.rows for spec in SPECS.values()).split()
    assert {f"U{number}" for number in range(1, 24)} | {"U24", "U25"} <= set(rows)


@pytest.mark.parametrize("word", [word for word in Word if word is not Word.CLEAN])
def test_a_word_comes_back_as_it_was_written(word):
    play = parse_play(example(word))
    assert str(play) == example(word)
    assert word in play
    assert (play.end is not None) == (SPECS[word].role is Role.END)


def test_words_combine():
    play = parse_play("many:200+pings, cut@120")
    assert str(play) == "many:200+pings+cut@120"
    assert play.number(Word.MANY, 12) == 200
    assert play.number(Word.SIZE, 5) == 5
    assert play.end is not None
    assert play.end.at == 120


@pytest.mark.parametrize("text", ["", "clean", " clean , clean"])
def test_nothing_is_clean(text):
    assert parse_play(text) == CLEAN
    assert str(parse_play(text)) == "clean"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("explode", "unknown fault 'explode'; known are: clean, "),
        ("Clean", "unknown fault"),
        ("cut@-1", "unknown fault"),
        ("pings@3", "takes no place; it is written pings"),
        ("pings:3", "is written pings"),
        ("many", "is no number for many; it is written many:N"),
        ("many:x", "is no number"),
        ("many:1000001", "is no number"),
        ("huge:67108865", "is no number"),
        ("cut@99999999999", "is no number"),
        ("many:1000000+size:1000000", "characters of text"),
        ("exception", "is written exception:NAME[@K]"),
        ("status", "is no number for status; it is written status:CODE[:RETRY_AFTER]"),
        ("status:200", "200 is no error status"),
        ("status:529:soon", "is no number"),
        ("rst+stall", "only one of these can end an answer: rst, stall"),
    ],
)
def test_a_bad_word_is_explained(text, complaint):
    with pytest.raises(UnknownFault) as caught:
        parse_play(text)
    assert complaint in str(caught.value)


def test_the_list_names_all():
    for word in Word:
        assert signature(word) in known_words().split(", ")


@pytest.mark.parametrize(
    ("model", "name", "words"),
    [
        ("claude-sonnet-4-5", "claude-sonnet-4-5", None),
        ("claude-sim", "claude-sim", None),
        ("claude-sim+cut@120", "claude-sim", "cut@120"),
        ("anthropic.claude-v1:0+many:3+rst", "anthropic.claude-v1:0", "many:3+rst"),
        ("sim-status:529", "sim", "status:529"),
        ("claude-sim@truncate@3", "claude-sim", "truncate@3"),
        ("claude-sonnet-4@20250514", "claude-sonnet-4@20250514", None),
    ],
)
def test_words_in_a_model(model, name, words):
    assert play_in_model(model) == (name, words)


@pytest.mark.parametrize(
    ("text", "streaming", "frames", "fits"),
    [
        ("cut", False, False, True),
        ("truncate", False, False, False),
        ("truncate", True, True, True),
        ("crlf", True, True, False),
        ("crlf", True, False, True),
        ("bad_crc", True, False, False),
        ("bad_crc", True, True, True),
        ("broken_json", True, False, False),
        ("broken_json", False, True, True),
    ],
)
def test_a_word_fits_its_answers_only(text, streaming, frames, fits):
    play = parse_play(text)
    if fits:
        play.check_fits({Scope.FRAMES, Scope.AWS} if frames else {Scope.EVENTS}, streaming=streaming)
    else:
        with pytest.raises(UnknownFault, match="does not fit this request"):
            play.check_fits({Scope.FRAMES, Scope.AWS} if frames else {Scope.EVENTS}, streaming=streaming)
