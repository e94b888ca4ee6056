"""Own samples: what a name or a table says, and the audio that comes out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from device.errors import DarkrackError
from device.partials import nominal_hz
from train import folder
from train.folder import (
    note_number,
    pitch_and_velocity,
    read_sample,
    samples_by_name,
    samples_by_table,
    takes,
)
from train.notes import SAMPLE_RATE_HZ
from train.pitch import measure


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("C4", (60, None)),
        ("a4", (69, None)),
        ("Piano.ff.Bb2", (46, None)),
        ("violin_Cs4_05_forte", (61, None)),
        ("flute-F#5-v90", (78, 90)),
        ("E♭3", (51, None)),
        ("C-1", (0, None)),
        ("G9", (127, None)),
        ("Cello C4 C4", (60, None)),
        ("horn_D3_080", (50, 80)),
        ("take_300_D3", (50, None)),
        ("midi60", (60, None)),
        ("C3_midi60", (60, None)),  # for those whose middle C is C3
        ("pad MIDI-7 vel12", (7, 12)),
        ("bell_060_", (60, None)),
        ("bell_060_127", (60, 127)),
        ("guitar_acoustic_010-060-100", (60, 100)),
        ("bass_electronic_000-021-025", (21, 25)),
        ("synth_lead_synthetic_005-108-050", (108, 50)),
        ("noise", None),
        ("60", None),
        ("A1_C4", None),
        ("G10", None),
        ("A9", None),  # MIDI 129
        ("GrandPianoC4", None),
        ("x_001_060_100", None),
        ("midi128", None),
        ("C4_v00", None),
        ("440", None),
        ("", None),
    ],
)
def test_pitch_in_a_name(stem: str, expected: tuple[int, int | None] | None) -> None:
    assert pitch_and_velocity(stem) == expected


NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


@given(
    pitch=st.integers(0, 127),
    velocity=st.integers(1, 127),
    word=st.sampled_from(["", "viola_", "Big Bell ", "x-"]),
)
def test_every_pitch_in_every_spelling(pitch: int, velocity: int, word: str) -> None:
    name = f"{NAMES[pitch % 12]}{pitch // 12 - 1}"
    assert note_number(name) == pitch
    assert pitch_and_velocity(f"{word}{name}_{velocity:03d}") == (pitch, velocity)
    assert pitch_and_velocity(f"{word}midi{pitch}_v{velocity:02d}") == (pitch, velocity)
    assert pitch_and_velocity(f"{word}_{pitch:03d}_{velocity:03d}") == (pitch, velocity)
    assert pitch_and_velocity(f"string_acoustic_001-{pitch:03d}-{velocity:03d}") == (pitch, velocity)


@given(st.text(max_size=30))
def test_any_name_is_understood_or_not(stem: str) -> None:
    found = pitch_and_velocity(stem)
    assert found is None or 0 <= found[0] <= 127


def sine(f_hz: float, rate_hz: int, seconds: float = 0.8) -> npt.NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * f_hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def write(path: Path, audio: npt.NDArray[np.float64], rate_hz: int = SAMPLE_RATE_HZ, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate_hz, **options)
    return path


def test_names_folders_and_nsynth_names_give_instruments(tmp_path: Path) -> None:
    src = tmp_path / "My Sounds"
    for name in ("C4.wav", "Old Cello/Sul Tasto/A2_v60.flac", "nsynth/guitar_acoustic_010-060-100.wav"):
        write(src / name, sine(440, SAMPLE_RATE_HZ))
    (src / "read me C4.txt").write_text("no audio")
    (src / "._C5.wav").write_bytes(b"what macOS leaves on sticks")
    found = {s.instrument_str: (s.pitch, s.velocity, s.family, s.source) for s in samples_by_name(src)}
    assert found == {
        "my_sounds": (60, 100, "unknown", "unknown"),
        "old_cello_sul_tasto": (45, 60, "unknown", "unknown"),
        "guitar_acoustic_010": (60, 100, "guitar", "acoustic"),
    }


def test_names_without_a_pitch_are_refused_at_once(tmp_path: Path) -> None:
    for name in ("C4.wav", "kick.wav", "snare.wav"):
        write(tmp_path / name, sine(440, SAMPLE_RATE_HZ, 0.01))
    with pytest.raises(DarkrackError, match=r"'kick.wav' and 1 more(?s:.*)--table"):
        samples_by_name(tmp_path)
    with pytest.raises(DarkrackError, match="no such folder"):
        samples_by_name(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DarkrackError, match="audio files"):
        samples_by_name(tmp_path / "empty")


def test_a_table_says_what_names_do_not(tmp_path: Path) -> None:
    for name in ("one.wav", "more/two.wav", "3.wav"):
        write(tmp_path / name, sine(440, SAMPLE_RATE_HZ, 0.01))
    table = tmp_path / "table.csv"
    table.write_text(
        "\ufefftags,file,pitch,velocity,instrument,family\n"
        "warm  old,one.wav,60,90,My Horn,brass\n"
        ",more/two.wav,Bb2,,,\n"
        '"a ""b""",3.wav,a4,1,My Horn,brass\n',
        encoding="utf-8",
    )
    first, second, third = samples_by_table(tmp_path, table)
    assert (first.pitch, first.velocity, first.instrument_str, first.family) == (60, 90, "my_horn", "brass")
    assert first.tags == "warm old"
    assert (second.pitch, second.velocity, second.instrument_str, second.family) == (
        46,
        100,
        "more",
        "unknown",
    )
    assert (third.pitch, third.velocity, third.tags) == (69, 1, 'a "b"')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected a column file"),
        ("file\na.wav\n", "line 1: expected a column pitch"),
        ("file;pitch\na.wav;60\n", "line 1: expected the columns"),
        ("file,pitch,tag\na.wav,60,x\n", "got 'tag'"),
        ("file,pitch\n", "at least one sample"),
        ("file,pitch\na.wav\n", "line 2: expected 2 fields"),
        ("file,pitch\na.wav,60,1\n", "line 2: expected 2 fields"),
        ("file,pitch\na.wav,60\nb.wav,60\n", "line 3: expected a file in"),
        ("file,pitch\n,60\n", "line 2: expected a file in"),
        ("file,pitch\na.wav,128\n", "line 2: expected pitch"),
        ("file,pitch\na.wav,H4\n", "line 2: expected pitch"),
        ("file,pitch\na.wav,-1\n", "line 2: expected pitch"),
        ("file,pitch,velocity\na.wav,60,0\n", "line 2: expected velocity"),
        ("file,pitch,velocity\na.wav,60,loud\n", "line 2: expected velocity"),
        ('file,pitch\n"a.wav,60\n', "table.csv"),
    ],
)
def test_a_malformed_table_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path / "a.wav", sine(440, SAMPLE_RATE_HZ, 0.01))
    table = tmp_path / "table.csv"
    table.write_text(text)
    with pytest.raises(DarkrackError) as error:
        samples_by_table(tmp_path, table)
    assert said in str(error.value)
    with pytest.raises(DarkrackError, match="a table of samples"):
        samples_by_table(tmp_path, tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["s.wav", "s.flac", "s.aiff", "s.ogg", "s.mp3", "s.caf"])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_formats_and_rates_come_out_at_the_same_pitch(tmp_path: Path, name: str, rate_hz: int) -> None:
    left = sine(nominal_hz(69), rate_hz)
    audio = read_sample(write(tmp_path / name, np.stack([left, 0.5 * left], axis=1), rate_hz))
    assert audio.dtype == np.float64
    assert audio.ndim == 1
    # MP3 and Vorbis add or drop a frame at either end.
    assert len(audio) == pytest.approx(0.8 * SAMPLE_RATE_HZ, abs=0.08 * SAMPLE_RATE_HZ)
    middle = audio[len(audio) // 4 : -len(audio) // 4]
    assert np.abs(middle).max() == pytest.approx(0.375, rel=0.03)  # the mean of .5 and .25
    assert abs(measure(audio, SAMPLE_RATE_HZ, 69).cents or 99) < 0.1


def test_resampling_lets_no_alias_through(tmp_path: Path) -> None:
    # 30 kHz at 96 kHz has no place at 48 kHz; it must not turn up at 18 kHz.
    audio = read_sample(write(tmp_path / "high.wav", sine(30_000, 96_000), 96_000, subtype="FLOAT"))
    assert np.abs(audio[4800:-4800]).max() < 0.5 * 10 ** (-120 / 20)


def test_a_note_begins_at_its_first_sample(tmp_path: Path) -> None:
    sound = np.r_[np.zeros(SAMPLE_RATE_HZ), sine(440, SAMPLE_RATE_HZ)]
    write(tmp_path / "A4.wav", sound, subtype="FLOAT")
    write(tmp_path / "A4 b.wav", sound[SAMPLE_RATE_HZ:], subtype="FLOAT")
    late, early = takes(samples_by_name(tmp_path)[::-1])
    fade = round(folder.ONSET_FADE_S * SAMPLE_RATE_HZ)
    assert len(late.audio) == pytest.approx(len(early.audio) + fade, abs=2)
    np.testing.assert_allclose(late.audio[200:], sound[-len(late.audio) + 200 :], atol=1e-7)  # float32 file


def test_long_samples_are_cut(tmp_path: Path) -> None:
    audio = read_sample(write(tmp_path / "long.wav", sine(440, 8_000, 11.0), 8_000))
    assert len(audio) == folder.LONGEST_S * SAMPLE_RATE_HZ


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("RIFF, but not really")
    write(tmp_path / "empty.wav", np.zeros(0))
    write(tmp_path / "nan.wav", np.array([0.0, np.nan]), subtype="FLOAT")
    for name in ("text.wav", "empty.wav", "nan.wav", "none.wav"):
        with pytest.raises(DarkrackError, match=name):
            read_sample(tmp_path / name)


def test_the_key_follows_the_files(tmp_path: Path) -> None:
    path = write(tmp_path / "C4.wav", sine(440, SAMPLE_RATE_HZ, 0.01))
    before = folder.key(samples_by_name(tmp_path))
    assert folder.key(samples_by_name(tmp_path)) == before
    os.utime(path, ns=(0, 0))
    assert folder.key(samples_by_name(tmp_path)) != before
