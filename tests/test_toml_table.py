"""Tables: whatever stands in them is read or refused with our error at its key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.errors import DarkrackError
from device.toml_table import Table, suggestion

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)


def table(**content: Any) -> Table:
    return Table("song.toml", "part", content, "a song")


@given(VALUES)
def test_any_value_is_taken_or_refused_at_its_key(value: object) -> None:
    readers = [
        lambda one: one.text("x"),
        lambda one: one.texts("x"),
        lambda one: one.choice("x", ("a", "b")),
        lambda one: one.flag("x", default=True),
        lambda one: one.whole("x", 0, 9),
        lambda one: one.number("x", 0, 9),
        lambda one: one.pair("x", 0, 9, default=(0, 1)),
        lambda one: one.numbers("x", 0, 9),
        lambda one: one.wholes("x", 0, 9),
        lambda one: one.rows("x", ("t_s", 0, 9), ("level", 0, 9)),
        lambda one: one.table("x"),
        lambda one: one.tables("x"),
    ]
    refusals = []
    for read in readers:
        try:
            read(table(x=value))
        except DarkrackError as refusal:
            refusals.append(refusal)
    assert all(refusal.where.startswith("song.toml: part.x") for refusal in refusals)
    assert all(refusal.expected and refusal.got for refusal in refusals)
    assert len(refusals) >= 6, "no value is right for all"


def test_names_of_tables_say_where_they_stand() -> None:
    page = Table("song.toml", "", {"verse": [{"line": {}}, {}], "refrain": {"2": {}}}, "a song")
    assert [one.name for one in page.tables("verse")] == ["verse[1]", "verse[2]"]
    assert page.tables("verse")[0].table("line").at("key") == "song.toml: verse[1].line.key"
    assert [(number, one.name) for number, one in page.table("refrain").numbered(2)] == [(2, "refrain.2")]
    with pytest.raises(DarkrackError, match=r"refrain\.2: expected a number from 1 to 1, got '2'"):
        list(page.table("refrain").numbered(1))


def test_one_way_is_taken_with_what_goes_with_it() -> None:
    assert table(low=1, high=2).form(low=("high",), at=()) == "low"
    for content, told in (
        ({}, "one of low or at, got none"),
        ({"low": 1, "at": 2}, "one of low or at, got low and at"),
        ({"at": 1, "high": 2}, "part.high: expected a key that goes with at"),
        ({"at": 1, "hihg": 2}, "did you mean 'high'?"),
    ):
        with pytest.raises(DarkrackError) as refusal:
            table(**content).form(low=("high",), at=())
        assert told in str(refusal.value)


def test_what_nobody_asked_for_is_refused() -> None:
    part = table(tempo=3, tempi=4)
    assert part.number("tempo", 0, 9) == 3.0
    with pytest.raises(
        DarkrackError, match=r"part\.tempi: expected a key of \[part\], got unknown key 'tempi'"
    ):
        part.refuse_unknown()
    with pytest.raises(DarkrackError, match="a key of a song"):
        Table("song.toml", "", {"x": 1}, "a song").refuse_unknown()


def test_suggestions() -> None:
    assert suggestion("temop", ("tempo", "key")) == "did you mean 'tempo'?"
    assert suggestion("zzz", ("tempo", "key")) == "one of: key, tempo"
    assert suggestion("zzz", ()) == ""
