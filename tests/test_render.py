"""Songs written with mido, rendered by the command and measured from the WAV."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import darkrack
from device.bundle import Bundle
from device.recording import centroid_hz, clicks, level, pitch_cents
from device.render import count_clicks

TICKS = 480  # per quarter note; at the default 120 a minute that is half a second
RATE_HZ = 48_000
LIMIT_HZ = 16_000.0
Audio = NDArray[np.float64]


@dataclass(frozen=True)
class Take:
    """What a render left: the WAV's samples, its --json, and what was printed."""

    audio: Audio
    measured: dict[str, Any]
    printed: str
    wav: bytes

    def between(self, begin_s: float, end_s: float) -> Audio:
        return self.audio[round(begin_s * RATE_HZ) : round(end_s * RATE_HZ)]


class Studio:
    """Renders songs with the tiny bundle through the front door."""

    def __init__(self, rack: Bundle, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.rack = rack
        self.folder = folder
        self.capsys = capsys

    def command(self, song: mido.MidiFile | bytes, *options: str) -> list[str]:
        path = self.folder / "song.mid"
        if isinstance(song, bytes):
            path.write_bytes(song)
        else:
            song.save(path)
        out = ["--out", str(self.folder / "song.wav"), "--json", str(self.folder / "song.json")]
        return ["render", str(path), "--bundle", str(self.rack.path), *out, *options]

    def render(self, song: mido.MidiFile, *options: str) -> Take:
        status = darkrack.main(self.command(song, *options))
        printed = self.capsys.readouterr()
        assert status == 0, printed.err
        audio, rate_hz = soundfile.read(self.folder / "song.wav")
        assert rate_hz == RATE_HZ
        measured = json.loads((self.folder / "song.json").read_text())
        return Take(audio, measured, printed.out, (self.folder / "song.wav").read_bytes())

    def refusal(self, song: mido.MidiFile | bytes, *options: str) -> str:
        assert darkrack.main(self.command(song, *options)) == 1
        assert not (self.folder / "song.wav").exists()
        return self.capsys.readouterr().err


@pytest.fixture
def studio(tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Studio:
    return Studio(tiny_bundle, tmp_path, capsys)


def _song(*tracks: list[tuple[float, mido.Message]]) -> mido.MidiFile:
    """Tracks of (beat, message)."""
    song = mido.MidiFile(ticks_per_beat=TICKS)
    for events in tracks:
        track = song.add_track()
        now = 0
        for beat, message in sorted(events, key=lambda event: event[0]):
            track.append(message.copy(time=round(beat * TICKS) - now))
            now = round(beat * TICKS)
    return song


def _note(
    beat: float, beats: float, note: int, velocity: int = 90, channel: int = 0
) -> list[tuple[float, Any]]:
    return [
        (beat, mido.Message("note_on", note=note, velocity=velocity, channel=channel)),
        (beat + beats, mido.Message("note_off", note=note, channel=channel)),
    ]


def _cc(beat: float, control: int, value: int, channel: int = 0) -> tuple[float, Any]:
    return beat, mido.Message("control_change", control=control, value=value, channel=channel)


def _hz(midi: float) -> float:
    return float(440.0 * 2.0 ** ((midi - 69.0) / 12.0))


def _piece() -> mido.MidiFile:
    """Sixteen bars for four players and drums: tempo changes, a pedalled harp, a swell, a vibrato."""
    tempi = [(0.0, mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(104)))]
    tempi += [
        (48 + beat, mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(100 - 3 * beat))) for beat in range(16)
    ]
    chords = [(50, 57, 62, 65), (46, 58, 62, 65), (53, 57, 60, 69), (48, 55, 60, 64)]
    bass: list[tuple[float, Any]] = []
    harp: list[tuple[float, Any]] = []
    line: list[tuple[float, Any]] = []
    drums: list[tuple[float, Any]] = []
    for bar in range(16):
        beat, chord = 4.0 * bar, chords[bar % 4]
        bass += _note(beat, 3.5, chord[0] - 12, 100)
        harp += [_cc(beat, 64, 127, 1), _cc(beat + 3.9, 64, 0, 1)]
        for eighth in range(8):
            harp += _note(beat + eighth / 2, 0.2, chord[eighth % 4] + 12 * (eighth // 4), 60 + 5 * eighth, 1)
        line += [_cc(beat + step / 8, 11, 60 + 4 * min(step, 32 - step), 2) for step in range(32)]
        line += [
            (beat + step / 8, mido.Message("pitchwheel", channel=2, pitch=round(600 * np.sin(step))))
            for step in range(32)
        ]
        line += _note(beat, 2.0, chord[3] + 12, 90, 2) + _note(beat + 2, 1.9, chord[2] + 12, 80, 2)
        drums += _note(beat, 0.1, 36, 120, 9) + _note(beat + 2, 0.1, 38, 110, 9)
    line.insert(0, (0.0, mido.Message("program_change", channel=2, program=56)))
    return _song(tempi, bass, harp, line, drums)


def test_a_piece_for_four_players(studio: Studio) -> None:
    take = studio.render(_piece(), "--voices", "32")
    assert take.audio.shape[1] == 2
    last_note_s = 12 * 4 * 60 / 104 + sum(60 / (100 - 3 * beat) for beat in range(16))
    assert last_note_s - 0.5 < len(take.audio) / RATE_HZ < last_note_s + 1.0
    assert level(take.audio).peak_dbfs <= -1.0 + 1e-3
    assert level(take.audio).rms_dbfs > -40.0
    assert clicks(take.audio, RATE_HZ, LIMIT_HZ) == []
    assert take.measured["clicks"] == 0
    assert take.measured["notes"] == 16 * (1 + 8 + 2)
    assert take.measured["notes_stolen"] == 0
    assert take.measured["notes_out_of_range"] == 4 * sum(low < 36 for low in (38, 34, 41, 36))
    assert take.measured["remarks"] == [
        "channel 10 (drums) left out: 32 notes; --drums plays them",
        "program changes ignored (to 57): a bundle is one instrument",
    ]
    assert "x real time" in take.printed


def test_held_notes_are_in_tune_and_as_long_as_written(studio: Studio) -> None:
    """Three octaves and beyond, each note alone for a second and a half."""
    notes = [30, 36, 43, 48, 55, 60, 66, 69, 73, 78, 84, 91]
    take = studio.render(_song([event for i, note in enumerate(notes) for event in _note(4 * i, 3, note)]))
    for i, note in enumerate(notes):
        held = take.between(2.0 * i + 0.2, 2.0 * i + 1.5)
        assert abs(pitch_cents(held, RATE_HZ, _hz(note))) < 5.0, note
        assert level(take.between(2.0 * i + 1.4, 2.0 * i + 1.5)).rms_dbfs > -45.0, "held to its end"
        assert level(take.between(2.0 * i + 1.85, 2.0 * i + 2.0)).rms_dbfs < -80.0, "and no longer"
    assert clicks(take.audio, RATE_HZ, LIMIT_HZ) == []


def test_events_fall_on_their_sample(studio: Studio) -> None:
    """Notes at ticks that are no multiple of anything begin within a millisecond of their place."""
    song = _song([event for tick in (0, 481, 1003) for event in _note(tick / TICKS, 0.2, 84, 127)])
    take = studio.render(song)
    for tick in (481, 1003):
        at = round(tick / TICKS / 2 * RATE_HZ)
        quiet, sound = take.audio[at - 100 : at], take.audio[at : at + 96]
        assert level(quiet).rms_dbfs < -90.0
        assert level(sound).rms_dbfs > -70.0


def test_32_voices_at_full_velocity_do_not_clip(studio: Studio) -> None:
    keys = range(36, 36 + 2 * 32, 2)
    take = studio.render(_song([event for key in keys for event in _note(0, 8, key, 127)]), "--voices", "32")
    assert np.abs(take.audio).max() <= 10 ** (-1 / 20) + 1e-6
    assert take.measured["peak_dbfs"] == pytest.approx(-1.0, abs=0.01)
    assert take.measured["turned_down_db"] > 0
    assert "turned down by" in take.printed
    assert take.measured["notes_stolen"] == 0
    assert clicks(take.audio, RATE_HZ, LIMIT_HZ) == []


def test_stolen_voices_are_counted_and_do_not_click(studio: Studio) -> None:
    keys = range(48, 72)
    take = studio.render(
        _song([event for i, key in enumerate(keys) for event in _note(i / 4, 4, key)]), "--voices", "4"
    )
    assert take.measured["notes_stolen"] >= 20
    assert take.measured["notes_stolen_held"] >= 8
    assert clicks(take.audio, RATE_HZ, LIMIT_HZ) == []


def test_the_pedal_holds_and_bends_bend(studio: Studio) -> None:
    wheel = [
        (8.0, mido.Message("pitchwheel", pitch=0)),
        (10.0, mido.Message("pitchwheel", pitch=4096)),
        (12.0, mido.Message("pitchwheel", pitch=-8192)),
    ]
    take = studio.render(
        _song([_cc(0, 64, 127), *_note(0, 0.5, 60), _cc(4, 64, 0), *_note(8, 6, 69), *wheel])
    )
    assert abs(pitch_cents(take.between(0.5, 2.0), RATE_HZ, _hz(60))) < 5.0
    assert level(take.between(2.6, 3.9)).peak_dbfs < -90.0
    for begin_s, midi in ((4.2, 69.0), (5.1, 70.0), (6.1, 67.0)):
        assert abs(pitch_cents(take.between(begin_s, begin_s + 0.8), RATE_HZ, _hz(midi))) < 5.0


def test_a_cc_sweep_moves_the_spectrum(studio: Studio) -> None:
    patch = studio.folder / "sweep.toml"
    patch.write_text(
        '[cc]\n1 = { attribute = "trumpet", range = [0.0, 1.0], carry = false }\n'
        '[attributes]\nTrumpet = 0\n"wind noise, breath" = 0\n"Plucked string instrument" = 0\n'
    )
    sweep = [_cc(4 + 4 * value / 127, 1, value) for value in range(128)]
    take = studio.render(_song([*_note(0, 12, 48), *sweep]), "--patch", str(patch))
    before, after = take.between(1.0, 2.0), take.between(4.5, 5.5)
    assert centroid_hz(after, RATE_HZ) > 1.3 * centroid_hz(before, RATE_HZ)
    assert 60 <= take.measured["morphs"] <= 101  # two seconds, 64 values a second, at most 50 a second
    assert clicks(take.audio, RATE_HZ, LIMIT_HZ) == []


def test_the_same_inputs_make_the_same_file(studio: Studio) -> None:
    song = _song([*_note(0, 2, 60), *_note(0.5, 2, 64), *_note(1, 2, 67)])
    first = studio.render(song)
    assert studio.render(song).wav == first.wav
    noisy = ("--set", "wind noise, breath=1")
    assert studio.render(song, *noisy, "--seed", "1").wav != studio.render(song, *noisy, "--seed", "2").wav


def test_options_change_the_instrument(studio: Studio) -> None:
    song = _song(_note(0, 4, 60))
    plain = studio.render(song)
    assert studio.render(song, "--preset", "harp").wav != plain.wav
    assert (
        studio.render(song, "--set", "Trumpet=1.5").wav
        != studio.render(song, "--set", "Trumpet=1.5", "--solo").wav
    )
    assert studio.render(song, "--variant", "float32").wav == plain.wav
    raised = studio.render(song, "--transpose", "7")
    assert abs(pitch_cents(raised.between(0.2, 1.9), RATE_HZ, _hz(67))) < 5.0
    sixteen = studio.render(song, "--bits", "16")
    assert len(sixteen.wav) < 0.7 * len(plain.wav)
    np.testing.assert_allclose(sixteen.audio, plain.audio, atol=2.0**-15)
    assert clicks(sixteen.audio, RATE_HZ, LIMIT_HZ) == []


def test_solo_outdoes_the_patch(studio: Studio) -> None:
    patch = studio.folder / "carry.toml"
    patch.write_text('[cc]\n1 = { attribute = "Trumpet", carry = true }\n')
    song = _song([_cc(0, 1, 127), *_note(0.1, 2, 60)])
    carried = studio.render(song, "--patch", str(patch))
    assert studio.render(song, "--patch", str(patch), "--solo").wav != carried.wav


def test_a_song_that_ends_in_all_sound_off_ends_without_a_click(studio: Studio) -> None:
    song = _song([*_note(0, 8, 60)[:1], _cc(4, 120, 0)])
    take = studio.render(song)
    assert 2.0 < take.measured["duration_s"] < 2.3
    assert clicks(take.audio, RATE_HZ, LIMIT_HZ) == []


def test_notes_that_never_end_end_with_the_song(studio: Studio) -> None:
    take = studio.render(_song([*_note(0, 8, 60)[:1], *_note(1, 1, 64)]))
    assert 1.0 < take.measured["duration_s"] < 2.0


def test_refusals(studio: Studio) -> None:
    song = _song(_note(0, 1, 60))
    assert "which begins with MThd" in studio.refusal(b"no song")
    assert "did you mean 'Trumpet'?" in studio.refusal(song, "--set", "Trumpte=1")
    assert "did you mean 'Harp'?" in studio.refusal(song, "--preset", "Hrp")
    assert "--voices: expected 1 to 256, got 0" in studio.refusal(song, "--voices", "0")
    assert "--transpose: expected -60 to 60, got nan" in studio.refusal(song, "--transpose", "nan")
    assert "variant" in studio.refusal(song, "--variant", "float64")
    assert "channel 10 (drums) left out: 1 notes" in studio.refusal(_song(_note(0, 1, 60, channel=9)))
    assert "at most 60 minutes" in studio.refusal(_song(_note(8000, 1, 60)))
    assert "a name that ends in .wav" in studio.refusal(song, "--out", str(studio.folder / "song.mp3"))
    studio.rack.path.with_suffix(".toml").write_text("[voices]\n")
    assert "did you mean 'voice'?" in studio.refusal(
        song, "--patch", str(studio.rack.path.with_suffix(".toml"))
    )


def test_clicks_are_found_across_minutes(tmp_path: Path) -> None:
    """A planted click is found wherever it lies, also where one minute of the search meets the next."""
    sine = 0.1 * np.sin(2 * np.pi * 440 * np.arange(125 * RATE_HZ) / RATE_HZ)
    fade = np.minimum(1.0, np.minimum(np.arange(len(sine)), np.arange(len(sine))[::-1]) / RATE_HZ)
    audio = np.stack([sine * fade] * 2, axis=1).astype(np.float32)
    assert count_clicks(audio, RATE_HZ, LIMIT_HZ) == 0
    for second in (30.0, 60.0, 119.9999, 120.05):
        audio[round(second * RATE_HZ)] += 0.3
    found = clicks(audio, RATE_HZ, LIMIT_HZ)
    assert {round(time_s * 100) for time_s in found} == {3000, 6000, 12000, 12005}
    assert count_clicks(audio, RATE_HZ, LIMIT_HZ) == len(found)
