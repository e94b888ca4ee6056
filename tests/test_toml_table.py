"""Tables: whatever stands in them is read or refused with our error at its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.errors import DarkrackError
from device.toml_table import Table, lines_of, read_page, suggestion

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


PAGE = """seconds = 3
[voice]
preset = "x"
"Singing bowl" = 1

  [ pitch ]  # of jacks
notes = [
  1,
]
[cc]
1 = { attribute = "a",
  range = [0, 1] }
74.curve = 2
[[route]]
to = "x"
[[route]]
to = "y"
[lfo.2]
'shape' = "sine"
"""


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("seconds", 1),
        ("voice", 2),
        ("voice.preset", 3),
        ("voice.Singing bowl", 4),
        ("pitch", 6),
        ("pitch.notes", 7),
        ("cc.1", 11),
        ("cc.74.curve", 13),
        ("route", 14),
        ("route[1].to", 15),
        ("route[2]", 16),
        ("route[2].to", 17),
        ("lfo", 18),
        ("lfo.2", 18),
        ("lfo.2.shape", 19),
    ],
)
def test_every_key_has_its_line(name: str, line: int) -> None:
    assert lines_of(PAGE)[name] == line


@given(st.text(max_size=300))
def test_no_text_makes_the_search_for_lines_fall_over(text: str) -> None:
    lines = lines_of(text)
    assert all(1 <= line <= len(text.splitlines()) for line in lines.values())


def test_an_error_says_the_line(tmp_path: Path) -> None:
    path = tmp_path / "song.toml"
    path.write_text(PAGE.replace(",\n  range", ", range").replace("[[route]]", "\n[[route]]", 1))
    page = read_page(path, "a song")
    routes = page.tables("route")
    assert routes[1].at("to") == f"{path}:17: route[2].to"
    assert routes[1].at("depth") == f"{path}:16: route[2].depth", (
        "what is missing stands where its table does"
    )
    assert page.table("cc").table("1").at("curve") == f"{path}:11: cc.1.curve"
    assert page.table("nothing").at("x") == f"{path}: nothing.x"
    assert page.table("voice").at() == f"{path}:2: voice"
