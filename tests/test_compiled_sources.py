"""What the compiled modules must not do: mypyc believes mypy, and checks at run time.

Each rule is a function from a source to complaints. Each is handed a source that breaks it, and one that does not.
"""

import ast
import functools
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMPILED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["aibridge"]["compiled"]

HARMLESS = {"bool", "bytes", "cast", "int", "isinstance", "len", "list", "max", "min", "str", "tuple", "type"}
"""Functions that change no attribute."""

State = dict[str, tuple[int, str]]
"""What is narrowed: a path, as `self.x`, to the line where, and to what has been called since, or nothing."""


@functools.cache
def source_of(module):
    return (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()


def functions_of(source):
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@functools.cache
def unions():
    """Return the names of all our attributes and properties that may be of several types."""
    found = set()
    for path in (ROOT / "aibridge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AnnAssign) and "|" in ast.unparse(node.annotation):
                found.add(node.target.attr if isinstance(node.target, ast.Attribute) else node.target.id)
            elif isinstance(node, ast.FunctionDef) and node.decorator_list and "|" in ast.unparse(node.returns or node):
                found.add(node.name)
    return found


class Narrowing:
    """Walks a function as it runs, and notes what is narrowed, called and read."""

    def __init__(self, unions):
        self.unions = unions
        self.complaints = []

    def block(self, statements, state):
        """Return the state behind the statements; None where nothing comes behind them."""
        for statement in statements:
            state = self.statement(statement, state)
            if state is None:
                return None
        return state

    def statement(self, node, state):
        match node:
            case ast.If():
                self.test(node.test, state)
                return merged(self.block(node.body, state.copy()), self.block(node.orelse, state.copy()))
            case ast.While() | ast.For() | ast.AsyncFor():
                if isinstance(node, ast.While):
                    self.test(node.test, state)
                else:
                    self.expression(node.iter, state)
                return merged(self.block([*node.body, *node.orelse], state.copy()), state)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self.expression(item.context_expr, state)
                return self.block(node.body, state)
            case ast.Try():
                return self.attempt(node, state)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return state
        self.expression(node, state)
        return None if isinstance(node, ast.Return | ast.Raise | ast.Continue | ast.Break) else state

    def attempt(self, node, state):
        behind = self.block(node.body, state)
        before = merged(behind, state)
        ends = [self.block(handler.body, before.copy()) for handler in node.handlers]
        behind = behind if behind is None else self.block(node.orelse, behind)
        for end in ends:
            behind = merged(behind, end)
        last = self.block(node.finalbody, before if behind is None else behind)
        return None if behind is None else last

    def test(self, node, state):
        """Take a condition: what it compares by identity, asks the type of, or takes as true or false, is narrowed."""
        match node:
            case ast.BoolOp():
                for value in node.values:
                    self.test(value, state)
            case ast.UnaryOp(op=ast.Not()):
                self.test(node.operand, state)
            case ast.Compare(left=ast.Attribute() as seen, ops=[ast.Is() | ast.IsNot()]):
                self.narrow(seen, state)
            case ast.Call(func=ast.Name(id="isinstance"), args=[ast.Attribute() as seen, _]):
                self.narrow(seen, state)
            case ast.Attribute():
                self.narrow(node, state)
            case _:
                self.expression(node, state)

    def narrow(self, node, state):
        self.expression(node.value, state)
        if node.attr in self.unions:
            state[ast.unparse(node)] = (node.lineno, "")

    def expression(self, node, state):
        match node:
            case ast.Lambda():
                return
            case ast.IfExp() | ast.BoolOp():  # what it narrows it narrows for itself
                inside = state.copy()
                self.test(node.test if isinstance(node, ast.IfExp) else node, inside)
                for branch in (node.body, node.orelse) if isinstance(node, ast.IfExp) else ():
                    self.expression(branch, inside)
                state.update({path: inside[path] for path in state})
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for part in filter(None, [node.value, *targets]):
                    self.expression(part, state)
            case ast.Attribute(ctx=ast.Store()):
                self.narrow(node, state)
            case ast.Attribute():
                self.read(node, state)
            case _:
                for child in ast.iter_child_nodes(node):
                    self.expression(child, state)
        if isinstance(node, ast.Await | ast.Call):
            self.call("await" if isinstance(node, ast.Await) else ast.unparse(node.func), state)

    def read(self, node, state):
        self.expression(node.value, state)
        text = ast.unparse(node)
        line, called = state.get(text, (0, ""))
        if called:
            self.complaints.append(f"line {node.lineno}: {text} was narrowed in line {line}, before {called}()")

    def call(self, name, state):
        if name not in HARMLESS:
            state.update({path: (line, since or name) for path, (line, since) in state.items()})


def merged(one, other):
    if one is None or other is None:
        return other if one is None else one
    return one | {path: seen for path, seen in other.items() if seen[1] or path not in one}


def narrowed_over_calls(source, unions):
    """An attribute that is narrowed keeps its type over a call: read it into a local variable before."""
    walk = Narrowing(unions)
    for function in functions_of(source):
        walk.block(function.body, {})
    return walk.complaints


def errors_of_two_types(source, _):
    """Two `except … as error` of two types share one variable, of the first type."""
    for function in functions_of(source):
        seen = {}
        for node in ast.walk(function):
            if isinstance(node, ast.ExceptHandler) and node.name:
                types = seen.setdefault(node.name, set())
                types.add(ast.unparse(node.type))
                if len(types) > 1:
                    yield f"line {node.lineno}: {node.name} is {' and '.join(sorted(types))} in {function.name}"


RULES = [narrowed_over_calls, errors_of_two_types]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("module", COMPILED)
def test_kept(rule, module):
    assert list(rule(source_of(module), unions())) == []


BROKEN = [
    (
        narrowed_over_calls,
        "if self.x is None:\n    self.go()\n    use(self.x)",
        "line 4: self.x was narrowed in line 2",
    ),
    (
        narrowed_over_calls,
        "if self.x is None:\n    return\nself.go()\nself.x.y()",
        "line 5: self.x was narrowed in line 2",
    ),
    (narrowed_over_calls, "if not self.x:\n    return\nawait go\nself.x.y()", "before await()"),
    (narrowed_over_calls, "if isinstance(self.x, A):\n    self.go(self.x)\n    self.x.y()", "before self.go()"),
    (narrowed_over_calls, "self.x = None\nself.go()\nif self.x in table:\n    pass", "narrowed in line 2"),
    (narrowed_over_calls, "try:\n    self.x = None\nfinally:\n    self.go()\nuse(self.x)", "line 6: self.x was"),
    (narrowed_over_calls, "while self.x is not None:\n    a.go()\n    self.x.y()", "line 4: self.x was"),
    (narrowed_over_calls, "return self.x is not None and self.go() and self.x.y", "before self.go()"),
    (errors_of_two_types, "try:\n    pass\nexcept A as e:\n    pass\nexcept B as e:\n    pass", "e is A and B in f"),
]
FINE = [
    (narrowed_over_calls, "if self.x is None:\n    self.go()\nelif a:\n    use(self.x)"),
    (narrowed_over_calls, "if self.x is None:\n    raise E('no')\nself.x.y()"),
    (narrowed_over_calls, "x = self.x\nif x is None:\n    return\nself.go()\nx.y()"),
    (narrowed_over_calls, "if self.x is None or len(self.x) > 1:\n    self.go()\nif self.x is None:\n    self.go()"),
    (narrowed_over_calls, "if self.y is None:\n    return\nself.go()\nself.y.z()"),
    (errors_of_two_types, "try:\n    pass\nexcept A as e:\n    pass\nexcept B as other:\n    pass"),
]


def function(body):
    return "async def f(self, a):\n" + "".join(f"    {line}\n" for line in body.splitlines())


@pytest.mark.parametrize(("rule", "body", "said"), BROKEN)
def test_what_breaks_a_rule_is_found(rule, body, said):
    assert said in " ".join(rule(function(body), {"x"}))


@pytest.mark.parametrize(("rule", "body"), FINE)
def test_what_breaks_no_rule_is_not(rule, body):
    assert list(rule(function(body), {"x"})) == []
