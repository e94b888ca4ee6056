"""Sounds, taught controllers and the last sound: there after a restart, whatever happened to their files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device import state
from device.modulation import Sound
from device.patch import Knob
from device.sounds import (
    LAST,
    LEARNED,
    MOST_SOUNDS,
    SOUNDS,
    Kept,
    Memory,
    read_memory,
    write_memory,
)

SOUND = Sound("Reed", (0.5, -1.25), {"Trumpet": (0.75, True), "Bell": (1.5, False)})


def kept(name: str, bundle: str = "First") -> Kept:
    return Kept(name, bundle, SOUND)


def test_all_of_it_comes_back(tmp_path: Path) -> None:
    memory = Memory(
        (kept("Dawn"), kept("Dusk", "Metal")), {74: Knob("Trumpet", carry=False)}, kept("as it was")
    )
    write_memory(tmp_path, memory)
    assert read_memory(tmp_path) == memory


def test_where_nothing_was_kept_nothing_is_remembered(tmp_path: Path) -> None:
    assert read_memory(tmp_path / "nowhere") == Memory()


def test_a_sound_keeps_its_place_and_the_name_its_case() -> None:
    memory = Memory().with_sound(kept("Dawn")).with_sound(kept("Dusk"))
    again = memory.with_sound(kept("dawn", "Metal"))
    assert [(one.name, one.bundle) for one in again.sounds] == [("dawn", "Metal"), ("Dusk", "First")]
    assert again.find(" DUSK ") == kept("Dusk")
    assert again.find("Noon") is None
    assert again.without("DAWN").sounds == (kept("Dusk"),)
    assert again.without("Noon") == again


def test_there_are_as_many_as_programs_in_the_lower_half() -> None:
    memory = Memory()
    for number in range(MOST_SOUNDS):
        memory = memory.with_sound(kept(str(number)))
    with pytest.raises(ValueError, match="64 sounds are kept already"):
        memory.with_sound(kept("one more"))
    assert memory.with_sound(kept("7", "Metal")).sounds[7].bundle == "Metal", (
        "in the place of one there is room"
    )


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from([SOUNDS, LEARNED, LAST]))
def test_whatever_stands_in_the_files_an_instrument_starts(
    tmp_path_factory: pytest.TempPathFactory, content: object, name: str
) -> None:
    folder = tmp_path_factory.mktemp("state")
    state.keep(folder / name, content)
    assert isinstance(read_memory(folder), Memory)


def test_an_entry_that_makes_no_sense_does_not_take_the_others_along(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_memory(tmp_path, Memory((kept("Dawn"), kept("Dusk"))))
    content = state.read(tmp_path / SOUNDS)
    content[0]["sound"]["z"] = ["x"]
    state.keep(tmp_path / SOUNDS, content)
    assert read_memory(tmp_path).sounds == (kept("Dusk"),)
    assert "makes no sense" in caplog.text
