"""What AWS has refused of a model before: read from its words, kept within bounds, and never asked for again. Pure.

A field is refused by its name, and may be so only for want of its beta: the betas that were asked for are kept with
it, and it is left out where a later request asks for no other. A beta often is not named: "invalid beta flag" is all
that AWS says. Of such a refusal the whole set of suspects is kept, and left out where a later request asks for all of
them again. So what one client gets wrong takes nothing from another, who asks otherwise.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from aibridge import jsontext

_MOST_WORDS = 8192
"""Characters of a refusal that are read."""
_MOST_MODELS = 256
_MOST_THINGS = 64
"""Fields, and sets of betas, that are kept of a model: real ones are a handful."""
_MOST_COMPLAINTS = 16
"""Fields that one refusal may name; AWS names one or two."""
_MOST_CHARACTERS = 2048
"""Of the names in a path, or in a set of betas: clients choose them."""

_MOST_STEPS = 16
"""Of a path."""

# A name is tried at its beginning only, and never given back: a text that is one long name costs no more than another.
_EXTRA_INPUT = re.compile(r"(?<![\w.-])([A-Za-z_][\w.-]*+): Extra inputs are not permitted", re.ASCII)
_EXTRANEOUS_KEY = re.compile(r"#(?:/([\w/.~-]*))?: extraneous key \[([\w.-]+)\] is not permitted", re.ASCII)
_BAD_BETA = re.compile(
    r"invalid beta flag|(?:unsupported|unknown|unexpected)\b.{0,200}\b(?:anthropic-)?beta\b", re.IGNORECASE
)

_CONTENT = frozenset({"anthropic_version", "max_tokens", "messages", "system", "tools"})
"""Fields that are the request: without one of them another question would be answered. Parts of them may go, but for
`messages`, which are long, and hold what is signed."""

Path = tuple[str, ...]
"""A member of a body, from the outside in; `*` is every item of an array."""


BETAS: Path = ("anthropic_beta",)
"""The field of the betas: a model that does not take it takes none."""


class Complaint(NamedTuple):
    """What AWS says is wrong with a request."""

    fields: tuple[Path, ...] = ()
    betas: frozenset[str] = frozenset()
    """Those asked for that it names."""
    some_beta: bool = False
    """A beta is wrong; which one, it need not have said."""


class RefusedField(NamedTuple):
    """A field that was refused, and the betas that were asked for with it."""

    path: Path
    betas: frozenset[str] = frozenset()


class Lesson(NamedTuple):
    """What is known of one model."""

    fields: tuple[RefusedField, ...] = ()
    beta_sets: tuple[frozenset[str], ...] = ()

    def takes_betas(self) -> bool:
        """Say whether the field of the betas was never refused."""
        return all(field.path != BETAS for field in self.fields)

    def refused_with(self, betas: set[str]) -> list[Path]:
        """Return the fields that were refused before with these betas, or with more."""
        return [field.path for field in self.fields if betas <= field.betas]

    def refused_of(self, betas: set[str]) -> frozenset[str]:
        """Return those of some betas that were refused before, alone or together."""
        return frozenset().union(*(refused for refused in self.beta_sets if refused <= betas))


NOTHING = Lesson()


def complaint_of(words: str, betas: Iterable[str]) -> Complaint:
    """Read a refusal.

    Args:
        words: AWS's own.
        betas: that the request asked for.
    """
    words = words[:_MOST_WORDS]
    paths = [tuple(found[1].split(".")) for found in _EXTRA_INPUT.finditer(words)]
    paths += [
        (*(step for step in (found[1] or "").split("/") if step), found[2]) for found in _EXTRANEOUS_KEY.finditer(words)
    ]
    fields = tuple(dict.fromkeys(_generalized(path) for path in paths if _may_go(path)))[:_MOST_COMPLAINTS]
    some_beta = _BAD_BETA.search(words) is not None
    named = frozenset(beta for beta in betas if beta in words) if some_beta else frozenset()
    return Complaint(fields, named, some_beta)


_REFUSALS = (b"Extra inputs are not permitted", b"extraneous key")


def holds_refusal(body: bytes) -> bool:
    """Say whether a valid JSON text holds AWS's words itself: a refusal may quote them, and name what AWS did not."""
    text = jsontext.dumps(jsontext.loads(body)) if b"\\u" in body else body
    return any(words in text for words in _REFUSALS)


def _may_go(path: Path) -> bool:
    if path[0] == "messages" or (len(path) == 1 and path[0] in _CONTENT):
        return False
    return len(path) <= _MOST_STEPS and _characters(path) <= _MOST_CHARACTERS


def _generalized(path: Path) -> Path:
    """What is wrong in one item of an array is wrong in every other."""
    return tuple("*" if step.isdigit() else step for step in path)


def _is_short(field: RefusedField) -> bool:
    return _characters(field.betas) <= _MOST_CHARACTERS


def _characters(names: Iterable[str]) -> int:
    return sum(map(len, names))


class Lessons:
    """What is known of each model; the model that was longest not heard of is forgotten first."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, Lesson] = OrderedDict()

    def of(self, model: str) -> Lesson:
        """Return what is known of a model."""
        return self._of.get(model, NOTHING)

    def learn(self, model: str, fields: Iterable[RefusedField], betas: frozenset[str]) -> None:
        """Keep that a model refuses these fields, and these betas together. Past the bounds nothing new is kept."""
        known = self.of(model)
        all_fields = tuple(dict.fromkeys((*known.fields, *filter(_is_short, fields))))[:_MOST_THINGS]
        kept = [betas] if betas and _characters(betas) <= _MOST_CHARACTERS else []
        beta_sets = tuple(dict.fromkeys((*known.beta_sets, *kept)))[:_MOST_THINGS]
        self._of[model] = Lesson(all_fields, beta_sets)
        self._of.move_to_end(model)
        if len(self._of) > _MOST_MODELS:
            self._of.popitem(last=False)
