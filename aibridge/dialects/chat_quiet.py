"""Templates of events of Chat Completions that carry no fact, as widespread servers write them.

An event is a server's frame around a choice's delta; in the frames here `@` is the place of the delta. The choice is
the first one, which every answer has: so no choice begins in a quiet event. Events with a usage object or a finish
reason, and those of other servers, are parsed.

Servers whose events all look alike tell ids and model in none but quiet ones: scanners are to hear the first.

Thoughts end where text begins. Where they are kept, text of the servers that send any is not quiet.

Sources: recorded streams of api.openai.com; of the others streams that were published in issues and tests.
"""

from itertools import product

from aibridge.content import ContentPolicy, Keep

_HEAD = b'{"id":$,"object":"chat.completion.chunk","created":#,"model":$,'

_OPENAI = tuple(
    b'%b"service_tier":$,"system_fingerprint":%b,"choices":[{"index":0,"delta":@,%b"finish_reason":null}]%b}'
    % (_HEAD, fingerprint, logprobs, tail)
    for fingerprint, logprobs, tail in product(
        (b"$", b"null"),
        (b'"logprobs":null,', b""),
        (b',"usage":null,"obfuscation":$', b',"obfuscation":$', b',"usage":null', b""),
    )
)
"""`usage` stands in every event once it was asked for; `obfuscation` where it was not declined."""

_RESULT = b'"%b":{"filtered":false,"severity":"safe"}'
_FILTERED = b"{" + b",".join(_RESULT % name for name in (b"hate", b"self_harm", b"sexual", b"violence")) + b"}"
_AZURE = tuple(
    b'{"choices":[{"content_filter_results":%b,"delta":@,"finish_reason":null,"index":0,"logprobs":null}],'
    b'"created":#,"id":$,"model":$,%b"object":"chat.completion.chunk","system_fingerprint":%b%b}'
    % (results, obfuscation, fingerprint, usage)
    for results, obfuscation, fingerprint, usage in product(
        (_FILTERED, b"{}"), (b'"obfuscation":$,', b""), (b"$", b"null"), (b',"usage":null', b"")
    )
)

_PLAIN = tuple(
    b'%b%b"choices":[{"index":0,"delta":@,"logprobs":null,"finish_reason":null%b}]%b}'
    % (_HEAD, fingerprint, token_ids, usage)
    for fingerprint, token_ids, usage in (
        (b"", b"", b""),
        (b"", b',"token_ids":null', b""),
        (b'"system_fingerprint":$,', b"", b""),
        (b'"system_fingerprint":$,', b"", b',"usage":null'),
    )
)
"""vLLM; with a fingerprint Groq and DeepSeek."""

_LLAMA_CPP = tuple(
    b'{"choices":[{"finish_reason":null,"index":0,"delta":@}],"created":#,"id":$,"model":$,%b'
    b'"object":"chat.completion.chunk"}' % fingerprint
    for fingerprint in (b'"system_fingerprint":$,', b"")
)

_OLLAMA = (_HEAD + b'"system_fingerprint":$,"choices":[{"index":0,"delta":@,"finish_reason":null}]}',)

_OPENROUTER = tuple(
    b'{"id":$,%b"choices":[{"index":0,"delta":@,"finish_reason":null,"native_finish_reason":null,"logprobs":null}]%b}'
    % (head, fingerprint)
    for head, fingerprint in product(
        (
            b'"provider":$,"model":$,"object":"chat.completion.chunk","created":#,',
            b'"object":"chat.completion.chunk","created":#,"model":$,"provider":$,',
        ),
        (b',"system_fingerprint":$', b',"system_fingerprint":null', b""),
    )
)

_TEXT = (b'{"content":$}',)
_TEXT_WITH_ROLE = (b'{"role":"assistant","content":$}',)
_TEXT_WITHOUT_THOUGHT = (b'{"role":"assistant","content":$,"reasoning":null,"reasoning_details":[]}',)
_ARGUMENTS = (b'{"tool_calls":[{"index":#,"function":{"arguments":$}}]}',)
_THOUGHTS = (b'{"reasoning_content":$}', b'{"reasoning":$}')
_THOUGHTS_WITH_NULL = (b'{"content":null,"reasoning_content":$}', *_THOUGHTS)
_THOUGHTS_WITH_ROLE = (b'{"role":"assistant","content":"","reasoning":$}',)

_SERVERS = (
    (_OPENAI, _TEXT, ()),
    (_AZURE, _TEXT, ()),
    (_PLAIN, _TEXT, _THOUGHTS_WITH_NULL),
    (_LLAMA_CPP, _TEXT, _THOUGHTS),
    (_OLLAMA, _TEXT_WITH_ROLE, _THOUGHTS_WITH_ROLE),
    (_OPENROUTER, _TEXT_WITH_ROLE + _TEXT_WITHOUT_THOUGHT, ()),
)
"""Frames, with their deltas of text and of thoughts."""


def quiet_templates(policy: ContentPolicy) -> tuple[bytes, ...]:
    """Return the templates of what carries no fact that the policy keeps."""
    return _QUIET[policy.arguments is Keep.OFF, policy.thoughts is Keep.OFF]


def _templates(*, arguments: bool, thoughts: bool) -> tuple[bytes, ...]:
    """Return the templates of text, and of what is quiet beside it."""
    templates = []
    for frames, text, thought in _SERVERS:
        thinks = frames not in (_OPENAI, _AZURE)
        deltas = (text if thoughts or not thinks else ()) + (thought if thoughts else ())
        deltas += _ARGUMENTS if arguments else ()
        templates += [frame.replace(b"@", delta) for delta in deltas for frame in frames]
    return tuple(templates)


_QUIET = {
    (arguments, thoughts): _templates(arguments=arguments, thoughts=thoughts)
    for arguments, thoughts in product((True, False), repeat=2)
}
