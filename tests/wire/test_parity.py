"""The twins look the same: names, parameters, defaults, docstrings."""

import inspect
import pickle
import subprocess
import sys

import pytest

pytestmark = pytest.mark.compiled

CLASSES = ("FrameDecoder", "SSEScanner", "ChunkTranscoder", "ChunkedDecoder")
FUNCTIONS = ("encode_frame", "encode_event", "scan_object", "element_start")


def members(one):
    return {name: value for name, value in vars(one).items() if not name.startswith("_")}


def parameters(function):
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(twins, name):
    pure, compiled = (getattr(wire, name) for wire in twins)
    assert parameters(pure) == parameters(compiled)
    assert inspect.getdoc(pure) == inspect.getdoc(compiled)


@pytest.mark.parametrize("name", CLASSES)
def test_classes(twins, name):
    pure, compiled = (getattr(wire, name) for wire in twins)
    assert inspect.getdoc(pure) == inspect.getdoc(compiled)
    methods = {"feed_data"} if name == "ChunkedDecoder" else {"feed_data", "feed_eof"}
    properties = {"taken"} if name in ("SSEScanner", "ChunkTranscoder") else set()
    assert members(pure).keys() == members(compiled).keys() == methods | properties
    for name_of_property in properties:
        assert inspect.getdoc(getattr(pure, name_of_property)) == inspect.getdoc(getattr(compiled, name_of_property))
    for method in methods:
        assert parameters(getattr(pure, method)) == parameters(getattr(compiled, method))
        assert inspect.getdoc(getattr(pure, method)) == inspect.getdoc(getattr(compiled, method))


@pytest.mark.parametrize("name", CLASSES)
def test_constructors(twins, name):
    """A compiled class shows no signature: each keyword is tried, with the pure one's default."""
    pure, compiled = (getattr(wire, name) for wire in twins)
    keywords = {each.name: each.default for each in inspect.signature(pure).parameters.values()}
    compiled(**keywords)
    for keyword, default in keywords.items():
        compiled(**{keyword: default})
    for make in (pure, compiled):
        with pytest.raises(TypeError):
            make(unknown=1)
        with pytest.raises(TypeError):
            make(*keywords.values(), 1)


def test_member(twins):
    pure, compiled = twins
    assert pure.Member is compiled.Member


@pytest.mark.parametrize("name", CLASSES)
def test_pickling_is_forbidden(twins, name):
    _, compiled = twins
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(getattr(compiled, name)())


@pytest.mark.parametrize("name", CLASSES)
def test_only_bytes_are_taken(twins, name):
    _, compiled = twins
    for wrong in (None, "text", bytearray(b"x"), memoryview(b"x")):
        with pytest.raises(TypeError):
            getattr(compiled, name)().feed_data(wrong)


def test_nothing_else_is_public(twins):
    """What is made there and has no underscore is in the stub, or a part that only C sees into."""
    module = sys.modules[twins[1].FrameDecoder.__module__]
    made_here = {
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
    }
    assert made_here == {*CLASSES, *FUNCTIONS, "FrameSplitter", "Templates"}
    assert "__test__" not in vars(module)


def test_compiled_first():
    """Importing the compiled module before the switch does not make the switch choose the pure one."""
    script = "import aibridge._speedups, aibridge.wire; print(aibridge.wire.IMPLEMENTATION)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert said.stdout == "compiled\n"
