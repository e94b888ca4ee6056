"""Patches: read strictly, with every error at its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import unnumbered

from device.errors import DarkrackError
from device.patch import Knob, Patch, nearest, parse_setting, read_patch

ATTRIBUTES = ("Trumpet", "Plucked string instrument", "Singing bowl")
PRESETS = ("Reed", "Harp")

WHOLE = """
[voice]
preset = "harp"
latent_seed = 3
release_ms = 400
level_db = -12
velocity_curve = 1.5
bend_range = 12
carry = false

[attributes]
trumpet = 0.8
"Singing bowl" = 1.5

[cc]
1 = { attribute = "Singing Bowl", range = [0.9, 0.1], curve = 2, carry = true }
74 = { attribute = "Trumpet" }
"""


def _read(tmp_path: Path, text: str) -> Patch:
    path = tmp_path / "patch.toml"
    path.write_text(text)
    return read_patch(path, ATTRIBUTES, PRESETS)


def test_a_whole_patch(tmp_path: Path) -> None:
    assert _read(tmp_path, WHOLE) == Patch(
        attributes={"Trumpet": 0.8, "Singing bowl": 1.5},
        cc={
            1: Knob("Singing bowl", low=0.9, high=0.1, curve=2.0, carry=True),
            74: Knob("Trumpet", low=0.0, high=1.0, curve=1.0, carry=False),
        },
        preset="Harp",
        latent_seed=3,
        release_s=0.4,
        level_db=-12.0,
        velocity_curve=1.5,
        bend_range_semitones=12.0,
        carry=False,
    )


def test_an_empty_patch_is_the_default(tmp_path: Path) -> None:
    assert _read(tmp_path, "") == Patch()


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        ("[voise]", "patch.toml: voise", "did you mean 'voice'?"),
        ("[voice]\nreleas_ms = 3", "patch.toml: voice.releas_ms", "did you mean 'release_ms'?"),
        ("[voice]\nzzz = 3", "patch.toml: voice.zzz", "one of: bend_range, carry, glide_ms, latent_seed"),
        ("[cc]\n1 = {attribute = 'Trumpet', curv = 1}", "patch.toml: cc.1.curv", "did you mean 'curve'?"),
        ("[attributes]\nTrumpett = 1", "patch.toml: attributes.Trumpett", "did you mean 'Trumpet'?"),
        (
            "[cc]\n1 = {attribute = 'bowl singing'}",
            "patch.toml: cc.1.attribute",
            "did you mean 'Singing bowl'?",
        ),
        ("[voice]\npreset = 'Read'", "patch.toml: voice.preset", "did you mean 'Reed'?"),
        ("voice = 3", "patch.toml: voice", "expected a table, got 3"),
        ("[cc]\n1 = 7", "patch.toml: cc.1", "expected a table, got 7"),
        ("[cc]\n1 = {}", "patch.toml: cc.1.attribute", "expected the name of an attribute, got none"),
        ("[cc]\nmod = {attribute = 'Trumpet'}", "patch.toml: cc.mod", "a controller number from 0 to 119"),
        ("[cc]\n01 = {attribute = 'Trumpet'}", "patch.toml: cc.01", "a controller number from 0 to 119"),
        ("[cc]\n120 = {attribute = 'Trumpet'}", "patch.toml: cc.120", "a controller number from 0 to 119"),
        ("[cc]\n64 = {attribute = 'Trumpet'}", "patch.toml: cc.64", "sustain 64"),
        (
            "[cc]\n1 = {attribute = 'Trumpet', range = [0]}",
            "patch.toml: cc.1.range",
            "two numbers in brackets",
        ),
        ("[cc]\n1 = {attribute = 'Trumpet', range = [0, 3]}", "patch.toml: cc.1.range", "from 0 to 2, got 3"),
        ("[cc]\n1 = {attribute = 'Trumpet', range = [0, 'a']}", "patch.toml: cc.1.range", "got 'a'"),
        ("[cc]\n1 = {attribute = 'Trumpet', curve = 0}", "patch.toml: cc.1.curve", "from 0.1 to 10, got 0"),
        ("[attributes]\nTrumpet = 2.1", "patch.toml: attributes.Trumpet", "from 0 to 2, got 2.1"),
        ("[attributes]\nTrumpet = nan", "patch.toml: attributes.Trumpet", "from 0 to 2, got nan"),
        ("[attributes]\nTrumpet = true", "patch.toml: attributes.Trumpet", "from 0 to 2, got True"),
        ("[attributes]\nTrumpet = 'loud'", "patch.toml: attributes.Trumpet", "a number, got 'loud'"),
        ("[voice]\nrelease_ms = 1", "patch.toml: voice.release_ms", "from 5 to 20000, got 1"),
        ("[voice]\nlatent_seed = 1.5", "patch.toml: voice.latent_seed", "a whole number"),
        ("[voice]\nlatent_seed = true", "patch.toml: voice.latent_seed", "a whole number"),
        ("[voice]\nlatent_seed = -1", "patch.toml: voice.latent_seed", "a whole number"),
        ("[voice]\ncarry = 1", "patch.toml: voice.carry", "true or false, got 1"),
        ("[voice]\npreset = 7", "patch.toml: voice.preset", "a string, got 7"),
        ("[voice]\nx = = 3", "patch.toml", "line 2"),
    ],
)
def test_errors_name_the_key(tmp_path: Path, text: str, where: str, told: str) -> None:
    with pytest.raises(DarkrackError) as refusal:
        _read(tmp_path, text)
    assert unnumbered(refusal.value.where).endswith(where)
    assert told in str(refusal.value)


def test_one_attribute_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DarkrackError, match=r"attributes\.trumpet: expected one setting"):
        _read(tmp_path, "[attributes]\nTrumpet = 0.5\ntrumpet = 0.7")


def test_settings_from_the_command_line() -> None:
    assert parse_setting("trumpet=0.8", ATTRIBUTES) == ("Trumpet", 0.8)
    assert parse_setting(" Singing bowl = 2", ATTRIBUTES) == ("Singing bowl", 2.0)
    for text, told in (
        ("Trumpet", "NAME=VALUE"),
        ("Trumpet=", "a number after"),
        ("Trumpet=2.5", "from 0 to 2"),
        ("Trumpet=nan", "from 0 to 2"),
        ("Trombone=1", "did you mean 'Trumpet'?"),
    ):
        with pytest.raises(DarkrackError) as refusal:
            parse_setting(text, ATTRIBUTES)
        assert told in str(refusal.value)


def test_names_match_whatever_their_case_and_suggest_the_nearest() -> None:
    assert nearest(" SINGING bowl ", ATTRIBUTES, "here", "an attribute") == "Singing bowl"
    with pytest.raises(DarkrackError, match="one of: Harp, Reed"):
        nearest("Glockenspiel", PRESETS, "here", "a preset")


@given(st.floats(0, 2), st.floats(0, 2), st.floats(0.1, 10), st.floats(0, 1), st.floats(0, 1))
def test_a_cc_stays_in_its_range_and_never_turns_back(
    low: float, high: float, curve: float, one: float, other: float
) -> None:
    knob = Knob("Trumpet", low, high, curve)
    assert knob.setting(0.0) == low
    assert knob.setting(1.0) == pytest.approx(high)
    first, second = knob.setting(min(one, other)), knob.setting(max(one, other))
    assert min(low, high) - 1e-9 <= first <= max(low, high) + 1e-9
    assert (second - first) * (high - low) >= 0
