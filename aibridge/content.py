"""What of the content is kept: the recording policy, applied before a fact leaves the event loop. Pure.

Of prompts, tools' arguments and thoughts each is kept in full, as a keyed hash, or not at all. That a tool was called,
its name and its id are always kept: threads are found by them.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from aibridge.text import shortened
from aibridge.values import MAX_CONTENT_BYTES, Learned, Thought, ToolRun, ToolUse, UserPrompt


class Keep(StrEnum):
    """How much of one kind of content is kept."""

    FULL = "full"
    HASHED = "hashed"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPolicy:
    """What is kept of one interception's content. `hash_key` is there where something is hashed."""

    prompts: Keep = Keep.OFF
    arguments: Keep = Keep.OFF
    thoughts: Keep = Keep.OFF
    hash_key: bytes = field(default=b"", repr=False)

    def prompt(self, text: str) -> UserPrompt | None:
        """Return what is kept of a user's words; None where it is nothing."""
        if not text or self.prompts is Keep.OFF:
            return None
        return UserPrompt(self._keep(self.prompts, text))

    def keep(self, fact: ToolUse | ToolRun | Thought) -> Learned | None:
        """Return what is kept of a fact; None where it is nothing."""
        if isinstance(fact, ToolRun):
            use = fact.use._replace(arguments=self._keep(self.arguments, fact.use.arguments))
            return fact._replace(use=use)
        if isinstance(fact, ToolUse):
            return fact._replace(arguments=self._keep(self.arguments, fact.arguments))
        if self.thoughts is Keep.OFF:
            return None
        return fact._replace(text=self._keep(self.thoughts, fact.text))

    def _keep(self, keep: Keep, text: str) -> str:
        if keep is Keep.OFF:
            return ""
        text = shortened(text, MAX_CONTENT_BYTES)
        return text if keep is Keep.FULL else self._hash(text)

    def _hash(self, text: str) -> str:
        """Return `hmac-sha256:<hex>:<bytes>`. Without the key nobody can try out what a short text may have been."""
        data = text.encode("utf-8", "replace")
        return f"hmac-sha256:{hmac.new(self.hash_key, data, hashlib.sha256).hexdigest()}:{len(data)}"


NOTHING = ContentPolicy()


def stricter(one: ContentPolicy, other: ContentPolicy) -> ContentPolicy:
    """Return the policy that keeps nothing which one of the two does not."""
    return ContentPolicy(
        prompts=max(one.prompts, other.prompts, key=_STRICTNESS.index),
        arguments=max(one.arguments, other.arguments, key=_STRICTNESS.index),
        thoughts=max(one.thoughts, other.thoughts, key=_STRICTNESS.index),
        hash_key=one.hash_key or other.hash_key,
    )


_STRICTNESS = (Keep.FULL, Keep.HASHED, Keep.OFF)


class ContentChoice(NamedTuple):
    """What a gateway key has otherwise than the provider; None: the same."""

    prompts: Keep | None = None
    arguments: Keep | None = None
    thoughts: Keep | None = None


@dataclass(frozen=True, slots=True)
class ContentRules:
    """The policy of one provider, and what it comes to with a key's own choice.

    `choices` is whether keys have a choice: not where nothing is recorded. A hash that is chosen where there is no
    `hash_key` would be one that anybody can try texts against: nothing is kept.
    """

    policy: ContentPolicy = NOTHING
    choices: bool = False
    _known: dict[ContentChoice, ContentPolicy] = field(default_factory=dict, repr=False)

    def of(self, choice: ContentChoice | None) -> ContentPolicy:
        """Return the policy for what is asked with a key of this choice."""
        if choice is None or not self.choices:
            return self.policy
        known = self._known.get(choice)
        if known is None:
            known = self._known[choice] = self._with(choice)
        return known

    def _with(self, choice: ContentChoice) -> ContentPolicy:
        def keep(own: Keep | None, common: Keep) -> Keep:
            chosen = common if own is None else own
            return Keep.OFF if chosen is Keep.HASHED and not self.policy.hash_key else chosen

        return ContentPolicy(
            prompts=keep(choice.prompts, self.policy.prompts),
            arguments=keep(choice.arguments, self.policy.arguments),
            thoughts=keep(choice.thoughts, self.policy.thoughts),
            hash_key=self.policy.hash_key,
        )
