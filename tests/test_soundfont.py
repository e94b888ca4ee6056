"""SoundFonts: the reader against every way to be malformed, fluidsynth's rendering sample by sample."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tiny_font
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import DarkrackError
from train.notes import SAMPLE_RATE_HZ
from train.soundfont import Keys, Preset, family, instrument_name, read_presets, render

FONT = tiny_font.font_bytes()
TABLE = tiny_font.preset_records() + tiny_font.END_OF_PRESETS


@pytest.fixture(scope="module")
def font(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_font.write_font(tmp_path_factory.mktemp("font") / "Tiny_GM.sf2")


def test_presets_come_from_the_file(font: Path) -> None:
    assert read_presets(font) == [
        Preset(0, program, name) for program, (name, *_) in sorted(tiny_font.PROGRAMS.items())
    ]


@pytest.mark.parametrize(
    ("file", "name", "instrument"),
    [
        ("FluidR3_GM.sf2", "Yamaha Grand Piano", "fluidr3_000_yamaha_grand_piano"),
        ("TimGM6mb.sf2", "Piano 1", "timgm6mb_000_piano_1"),
        ("GM.sf2", " -- ", "unnamed_000_unnamed"),
    ],
)
def test_instruments_are_named_after_font_and_preset(file: str, name: str, instrument: str) -> None:
    assert instrument_name(Path("/fonts", file), Preset(0, 0, name)) == instrument


def test_every_program_has_a_family() -> None:
    assert family(0) == ("keyboard", "acoustic")
    assert family(5) == ("keyboard", "electronic")
    assert family(39) == ("bass", "synthetic")
    assert family(73) == ("flute", "acoustic")
    assert family(127) == ("sound_effect", "acoustic")
    assert len({family(program) for program in range(128)}) > 15


def riff(*lists: bytes) -> bytes:
    return tiny_font.chunk(b"RIFF", b"sfbk" + b"".join(lists))


def pdta(*chunks: bytes) -> bytes:
    return tiny_font.chunk(b"LIST", b"pdta" + b"".join(chunks))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "a SoundFont"),
        (b"RIFF", "a SoundFont"),
        (b"MThd" + bytes(40), "begins with b'MThd"),
        (FONT.replace(b"sfbk", b"WAVE"), "a SoundFont"),
        (FONT[:-1000], "it is cut short"),
        (riff(), "a list 'pdta'"),
        (riff(pdta()), "a preset table"),
        (riff(pdta(tiny_font.chunk(b"pbag", bytes(8)))), "a preset table"),
        (riff(pdta(tiny_font.chunk(b"phdr", TABLE[:-1]))), "38 bytes a preset"),
        (riff(pdta(tiny_font.chunk(b"phdr", TABLE[-38:]))), "38 bytes a preset"),
        (riff(pdta(b"phdr" + struct.pack("<I", 2**32 - 1) + TABLE)), "a chunk inside its list"),
        (riff(pdta(b"phdr\1")), "a chunk inside its list"),
        (riff(b"LIST" + struct.pack("<I", 4000) + b"pdta"), "a chunk inside its list"),
    ],
)
def test_a_malformed_font_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.sf2"
    path.write_bytes(content)
    with pytest.raises(DarkrackError) as error:
        read_presets(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.sf2"):
        with pytest.raises(DarkrackError, match="SoundFont"):
            read_presets(path)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_damage_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    small = bytearray(riff(tiny_font.chunk(b"LIST", b"INFO"), pdta(tiny_font.chunk(b"phdr", TABLE))))
    for _ in range(data.draw(st.integers(0, 3))):
        small[data.draw(st.integers(0, len(small) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.sf2"
    path.write_bytes(small[: data.draw(st.integers(0, len(small)))])
    try:
        presets = read_presets(path)
    except DarkrackError:
        return
    assert all(isinstance(preset.name, str) for preset in presets)


def test_every_slot_is_sample_accurate(font: Path) -> None:
    # The same key first and last, 22 others and two minutes between; slots of a length that no grid divides.
    keys = Keys((60, *range(48, 70), 60), (50, 127), hold_ms=1_613, tail_ms=311)
    takes = list(render(font, tiny_font.SAW, keys))
    assert [take.pitch for take in takes] == [pitch for pitch in keys.pitches for _ in range(2)]
    assert {len(take.audio) for take in takes} == {1924 * SAMPLE_RATE_HZ // 1000}
    for first, last in zip(takes[:2], takes[-2:], strict=True):
        np.testing.assert_array_equal(first.audio, last.audio)
    # sin(0) = 0 is the first sample of the wave: the second one is heard.
    assert {int(np.flatnonzero(take.audio)[0]) for take in takes} == {1}


def test_a_note_sounds_while_held_fades_when_let_go_and_reaches_no_other(font: Path) -> None:
    loud, soft = render(font, tiny_font.SAW, Keys((36,), (127, 1), hold_ms=500, tail_ms=100))
    held = np.abs(loud.audio[SAMPLE_RATE_HZ // 10 : SAMPLE_RATE_HZ // 2])
    assert held.max() > 0.1
    assert np.abs(loud.audio[-480:]).max() < 0.01 * held.max()
    assert (
        0 < np.abs(soft.audio).max() < 1e-3
    )  # 84 dB under the loud one (velocity squared); nothing of it is left
    steps = np.unique(np.abs(np.round(soft.audio * 2**15) - soft.audio * 2**15) > 0.01)
    assert True in steps  # not rounded to 16 bits on the way


def test_missing_fluidsynth_says_how_to_get_it(font: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DarkrackError, match="apt install fluidsynth"):
        list(render(font, 0, Keys((60,), (100,), 100, 100)))


def test_a_font_that_fluidsynth_cannot_read_is_no_silence(tmp_path: Path) -> None:
    path = tmp_path / "half.sf2"  # our reader needs only the preset table
    path.write_bytes(riff(pdta(tiny_font.chunk(b"phdr", TABLE))))
    assert read_presets(path)
    with pytest.raises(DarkrackError, match="fluidsynth to render it"):
        list(render(path, 0, Keys((60,), (100,), 100, 100)))
