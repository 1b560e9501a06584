"""From a server's list to what models are offered."""

import re

import pytest

from aibridge.mcp import catalog
from aibridge.mcp.catalog import catalog_of, tool_id
from aibridge.mcp.values import Endpoint, LeftOut, Listed, ServerSettings

ALL = ServerSettings(Endpoint("http://127.0.0.1:1/mcp"))


def listed(*names, schema=None):
    return [Listed(name, "", {"type": "object"} if schema is None else schema) for name in names]


def offered(*items, settings=ALL):
    found = catalog_of("kit", settings, items)
    return [tool.id for tool in found.tools], [tuple(left) for left in found.left_out]


@pytest.mark.parametrize(
    "name", ["a b", "a.b", "größe", "检索", "x" * 300, "", "a" * 60, "\U0001f600", "-", "_", "a\x00b", "\udc80"]
)
def test_ids_are_what_all_apis_take(name):
    assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", tool_id("a-server-with-a-name-of-32-chars", name))
    assert tool_id("kit", name) == tool_id("kit", name)


def test_a_plain_name_stays_and_others_end_in_their_hash():
    assert tool_id("kit", "read_file") == "bmcp_kit_read_file"
    assert tool_id("kit", "read file") == "bmcp_kit_read_file_1214148e"
    assert len({tool_id("kit", name) for name in ("a b", "a.b", "a_b", "a/b", "x" * 80 + "1", "x" * 80 + "2")}) == 6


def test_an_id_does_not_depend_on_the_other_tools():
    alone, _ = offered(*listed("a b"))
    together, _ = offered(*listed("a.b", "a b", "a_b"))
    assert alone[0] in together
    assert together == sorted(together)


def test_two_tools_have_not_one_id():
    taken = tool_id("kit", "a b").removeprefix("bmcp_kit_")
    ids, left_out = offered(*listed("a b", taken, "a b"))
    assert ids == ["bmcp_kit_" + taken]
    assert [why for _, why in left_out] == ["listed twice", f"its id {ids[0]} is that of 'a b'"]


def test_deny_stands_above_allow_and_both_search_in_the_name():
    settings = ALL._replace(allow=re.compile("file"), deny=re.compile("^delete"))
    ids, left_out = offered(*listed("read_file", "delete_file", "shell"), settings=settings)
    assert ids == ["bmcp_kit_read_file"]
    assert left_out == [("delete_file", "denied"), ("shell", "not allowed")]


def test_the_same_schema_is_the_same_text():
    one = catalog_of("kit", ALL, listed("x", schema={"type": "object", "properties": {"b": {}, "a": {"é": 1}}}))
    other = catalog_of("kit", ALL, listed("x", schema={"properties": {"a": {"é": 1}, "b": {}}}))
    assert one == other
    assert one.tools[0].schema == '{"properties":{"a":{"é":1},"b":{}},"type":"object"}'.encode()


def deep():
    value = {}
    for _ in range(100_000):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (Listed("", "", {}), "its name should have 1 to 256 characters"),
        (Listed("n" * 257, "", {}), "its name should have 1 to 256 characters"),
        (Listed("x", "", {"type": "array"}), "its input schema is not of type object"),
        (Listed("x", "", {"type": ["object"]}), "its input schema is not of type object"),
        (Listed("x", "", {"default": float("nan")}), "its input schema is not JSON that can be written"),
        (Listed("x", "", {"title": "\ud800"}), "its input schema is not JSON that can be written"),
        (Listed("x", "", {"title": "x" * 70_000}), "its input schema is longer than 65536 bytes"),
    ],
    ids=["no name", "long name", "array", "types", "nan", "half", "huge"],
)
def test_what_an_api_would_refuse_is_left_out(item, why):
    ids, left_out = offered(item, Listed("fine", "", {}))
    assert ids == ["bmcp_kit_fine"]
    assert [reason for _, reason in left_out] == [why]


def test_a_schema_without_a_bottom_is_left_out():
    assert offered(Listed("x", "", deep()))[1] == [("x", "its input schema is not JSON that can be written")]


def test_descriptions_are_cut_and_can_be_written():
    found = catalog_of("kit", ALL, [Listed("x", "ü" * 10_000, {}), Listed("y", "\ud800", {})])
    assert len(found.tools[0].description.encode()) < catalog.MAX_DESCRIPTION_BYTES + 20
    assert found.tools[1].description == "?"


def test_a_catalog_has_a_bound(monkeypatch):
    monkeypatch.setattr(catalog, "MAX_CATALOG_BYTES", 40)
    found = catalog_of("kit", ALL, listed("c", "a", "b"))
    assert [tool.name for tool in found.tools] == ["a", "b"]
    assert found.left_out == (LeftOut("c", "the tools before it take up 40 bytes"),)
