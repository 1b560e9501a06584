"""What a request of Chat Completions asks: the user's words, and which tool call it answers.

Only the end of the messages is looked at, as in every request the whole conversation comes again. Messages of the roles
`system` and `developer` that clients put behind the user's are passed over. No tree is built, of whatever size.
"""

import re
from collections.abc import Iterator

from aibridge.body import Body
from aibridge.dialects.raw import Raw
from aibridge.values import MAX_ID_CHARACTERS

_REMARKS = frozenset({"system", "developer"})

_USUAL_ANSWER = re.compile(
    rb'\{\s*+"role"\s*+:\s*+"tool"\s*+,\s*+"tool_call_id"\s*+:\s*+"([!#-[\]-~]++)"\s*+,\s*+"content"\s*+:\s*+"'
)
"""How answers of tools begin that are a text. Where no other such key follows, the rest need not be looked at."""


def read_prompt(body: Body) -> str:
    """Return the user's words; empty where nobody asked. What is not as the API wants it says nothing."""
    for message in _messages(body):
        fields = message.members("role", "content")
        role = _string(fields, "role")
        if role in _REMARKS:
            continue
        return _words_of(fields["content"]) if role == "user" and "content" in fields else ""
    return ""


def read_tool_call_id(body: Body) -> str:
    """Return the tool call that the request answers, of several the last; empty where it answers none.

    Every request pays for this, and results of tools may be large.
    """
    for message in _messages(body):
        usual = _USUAL_ANSWER.match(body.raw, message.start, message.end)
        if usual is not None and not _says_again(message, usual.end()):
            return usual[1].decode()[:MAX_ID_CHARACTERS]
        fields = message.members("role", "tool_call_id")
        role = _string(fields, "role")
        if role not in _REMARKS and role != "tool":
            return ""
        answered = _string(fields, "tool_call_id") if role == "tool" else ""
        if answered:
            return answered[:MAX_ID_CHARACTERS]
    return ""


def _messages(body: Body) -> Iterator[Raw]:
    """Yield the messages, the last one first; of repeated members the last one's."""
    for member in reversed(body.members):
        if member.key == "messages":
            yield from Raw(body.raw, member.value_start, member.value_end).elements()
            return


def _says_again(message: Raw, behind: int) -> bool:
    """Whether role or id may stand once more in a message. In a text each quotation mark has a backslash before it."""
    return any(message.text.rfind(key, behind, message.end) >= 0 for key in (b'"role"', b'"tool_call_id"'))


def _words_of(content: Raw) -> str:
    """Return a text, or the last text of several parts."""
    for part in content.elements():
        fields = part.members("type", "text")
        if _string(fields, "type") == "text":
            return _string(fields, "text")
    return content.string()


def _string(fields: dict[str, Raw], name: str) -> str:
    return fields[name].string() if name in fields else ""
