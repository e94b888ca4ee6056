"""The demo on a tiny real bundle: real driver, LiteRT and voices; what is heard follows what is turned."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

import darkrack
from device import adc, demo, recording, simulation
from device.bundle import Bundle
from device.demo import PHRASE, Phrase
from device.knobs import choose_attributes
from device.performance import SAMPLE_RATE_HZ as RATE_HZ

STILL_POTS: tuple[demo.Curve, ...] = (((0.0, 0.3),),) * 4
# One note for four seconds while the first pot goes from one end to the other.
SWEEP = Phrase(
    beat_s=1.0, beats=4, line=((0.0, 5.0, 48),), chords=(), pots=(((0.5, 0.0), (3.5, 1.0)), *STILL_POTS[1:])
)


def brightness_hz(audio: demo.FloatArray) -> npt.NDArray[np.float64]:
    """Centroid of each tenth of a second while the pot is turned, 0.5 s to 3.5 s."""
    frames = np.split(audio[RATE_HZ // 2 : 7 * RATE_HZ // 2], 30)
    return np.array([recording.centroid_hz(frame, RATE_HZ) for frame in frames])


def test_the_command_writes_sound_picture_figures_and_a_table(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    options = ["--bundle", str(tiny_bundle.path), "--out", str(out), "--json", str(tmp_path / "demo.json")]
    assert darkrack.main(["demo", *options, "--seconds", "6.5"]) == 0

    audio, rate_hz = soundfile.read(out / "demo.wav", dtype="float32")
    assert (rate_hz, audio.shape) == (RATE_HZ, (6.5 * RATE_HZ, 2))
    assert 0.05 < np.abs(audio).max() < 10 ** (-0.9 / 20)
    assert all(np.abs(second).max() > 0.01 for second in np.split(audio[: 6 * RATE_HZ], 6))
    assert np.abs(audio[-RATE_HZ // 50 :]).max() < 1e-3, "it ends, it is not cut off"

    from matplotlib.image import imread

    picture = imread(out / "demo.png")
    assert picture.shape[0] > 800
    assert picture.shape[1] > 1200
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 500

    measured = json.loads((tmp_path / "demo.json").read_text())
    assert measured["attributes"] == [entry.name for entry in tiny_bundle.manifest.attributes]
    # 20 notes of the line and one chord of three begin before 6.2 s, when everything is let go.
    assert measured["notes"] == 20 + 3
    assert measured["generations"] > measured["notes"], "the pots morphed sounding notes"
    assert measured["clicks"] == 0
    assert measured["render_x_real_time"] > 0
    assert measured["model_bytes"] == len(tiny_bundle.model())
    assert measured["macs"] == tiny_bundle.manifest.macs
    assert -40 < measured["peak_dbfs"] < 0
    printed = capsys.readouterr().out
    for word in ("median", "first", "x real time", "model", "multiply-adds", "dBFS", "clicks", "demo.wav"):
        assert word in printed


def test_timbre_follows_a_pot_and_only_then(tiny_bundle: Bundle) -> None:
    names = ["Trumpet", "Plucked string instrument", "Clarinet", "Wind noise, breath"]
    swept = brightness_hz(demo.play(tiny_bundle, names, SWEEP, 4.0).audio)
    still = dataclasses.replace(SWEEP, pots=STILL_POTS)
    kept = brightness_hz(demo.play(tiny_bundle, names, still, 4.0).audio)
    order = np.argsort(np.argsort(swept))
    assert np.corrcoef(order, np.arange(30))[0, 1] > 0.9
    assert swept[-1] > 1.5 * swept[0]
    assert kept.max() < 1.2 * kept.min()


def test_the_gate_plays_and_the_same_take_sounds_the_same(tiny_bundle: Bundle) -> None:
    phrase = Phrase(beat_s=0.5, beats=4, line=((1.0, 0.5, 60), (2.0, 0.5, 67)), chords=(), pots=STILL_POTS)
    names = choose_attributes(tiny_bundle.manifest.attributes, tiny_bundle.manifest.copula, demo.POTS)
    take = demo.play(tiny_bundle, names, phrase, 2.0)
    edges_ms = np.flatnonzero(np.diff(take.gate.astype(int))) + 1
    assert list(edges_ms) == [500, 750, 1000, 1250]
    assert take.notes == 2
    assert take.audio.shape == (2 * RATE_HZ, 2)
    assert not take.audio[: RATE_HZ // 2].any(), "silent before the gate rises"
    assert take.audio[RATE_HZ // 2 : RATE_HZ // 2 + RATE_HZ // 100].any(), "and not for long after"
    for start_s, note in ((0.5, 60), (1.0, 67)):
        begin = round((start_s + 0.05) * RATE_HZ)
        spectrum = np.abs(np.fft.rfft(take.audio[begin : begin + RATE_HZ // 5].mean(axis=1)))
        f0_hz = 440 * 2 ** ((note - 69) / 12)
        assert abs(np.argmax(spectrum[: round(1.5 * f0_hz / 5)]) * 5 - f0_hz) <= 5
    again = demo.play(tiny_bundle, names, phrase, 2.0)
    np.testing.assert_array_equal(take.audio, again.audio)


def test_chords_end_before_others_begin() -> None:
    phrase = dataclasses.replace(PHRASE, beat_s=1.0, chords=((0, 1, (60, 64), 0.5), (1, 1, (60,), 0.4)))
    assert demo._chord_events(phrase) == [
        (0, 0.5, 60),
        (0, 0.5, 64),
        (1000, 0.0, 60),
        (1000, 0.0, 64),
        (1000, 0.4, 60),
        (2000, 0.0, 60),
    ]


def test_every_semitone_passes_the_converter() -> None:
    highest = int(demo.CV_ZERO_MIDI + 12 * demo.REFERENCE_V / demo.CV_V_PER_OCTAVE)
    notes = range(demo.CV_ZERO_MIDI, highest)
    line = tuple((float(number), 0.5, note) for number, note in enumerate(notes))
    pitch_v, gate = demo._sequencer(Phrase(1.0, len(notes), line, (), STILL_POTS))
    clock = simulation.Clock()
    inputs = adc.open_knobs(1, simulation.Mcp3x08(clock, [lambda _now_s: 0.0] * 4 + [pitch_v]))
    read = []
    for number in range(len(notes)):
        assert (gate(number), gate(number + 0.5)) == (1.0, 0.0)
        clock.now_s = number
        read.append(demo.key_of(inputs.read_code(demo.CV_CHANNEL)))
    assert read == list(notes)


def test_the_phrase_is_playable() -> None:
    assert 20 <= PHRASE.seconds <= 30
    assert len(PHRASE.pots) == demo.POTS
    ends = [0.0, *(start + length for start, length, _ in PHRASE.line)]
    assert all(start >= end for (start, _, _), end in zip(PHRASE.line, ends, strict=False)), (
        "one after another"
    )
    keys = [key for _, _, key in PHRASE.line] + [key for _, _, chord, _ in PHRASE.chords for key in chord]
    assert min(keys) <= 38
    assert max(keys) == 84
    assert max(start + length for start, length, _, _ in PHRASE.chords) < PHRASE.beats
    for curve in PHRASE.pots:
        beats = [beat for beat, _ in curve]
        assert beats == sorted(beats)
        assert all(0 <= position <= 1 for _, position in curve)


@pytest.mark.parametrize("seconds", ["0.5", "1000", "nan"])
def test_seconds_outside_the_phrase_are_refused(
    seconds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert darkrack.main(["demo", "--seconds", seconds, "--out", str(tmp_path)]) == 1
    assert f"error: --seconds: expected 1 to {PHRASE.seconds:g}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_is_not_there_is_our_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing.rack"
    assert darkrack.main(["demo", "--bundle", str(missing), "--out", str(tmp_path)]) == 1
    assert f"error: {missing}" in capsys.readouterr().err
