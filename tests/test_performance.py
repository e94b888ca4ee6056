"""A performance heard: pitch, bends, pedal, stealing, knobs and swells, measured in what it renders."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from device.bundle import Bundle
from device.errors import DarkrackError
from device.patch import Patch
from device.performance import MORPH_SAMPLES, SAMPLE_RATE_HZ, Performance
from device.recording import centroid_hz, clicks, level, pitch_cents

Audio = NDArray[np.float32]
LIMIT_HZ = 16_000.0
SECOND = SAMPLE_RATE_HZ
STEADY = Patch(attributes={"Wind noise, breath": 0.0, "Plucked string instrument": 0.0})


def _hz(midi: float) -> float:
    return float(440.0 * 2.0 ** ((midi - 69.0) / 12.0))


def _rms_db(audio: Audio) -> float:
    return level(audio).rms_dbfs


@pytest.mark.parametrize("pitch", [21.0, 36.0, 43.5, 60.0, 69.0, 84.0, 96.0, 108.0])
def test_a_note_sounds_at_its_pitch_trained_or_not(tiny_bundle: Bundle, pitch: float) -> None:
    performance = Performance(tiny_bundle, Patch())
    performance.note_on(60, pitch, 0.8)
    audio = performance.render(3 * SECOND)
    assert abs(pitch_cents(audio[SECOND // 2 :], SAMPLE_RATE_HZ, _hz(pitch))) < 5.0
    assert performance.counts.out_of_range == (not 36 <= pitch <= 84)
    assert performance.sounding


def test_a_note_lasts_as_long_as_it_is_held_and_then_rings_out(tiny_bundle: Bundle) -> None:
    performance = Performance(tiny_bundle, STEADY)
    performance.note_on(60, 60.0, 0.8)
    held = performance.render(8 * SECOND)
    assert _rms_db(held[-SECOND:]) == pytest.approx(_rms_db(held[SECOND : 2 * SECOND]), abs=1.0)
    performance.note_off(60)
    tail = performance.render(SECOND)
    assert not performance.sounding
    after = round(STEADY.release_s * SECOND)  # -60 dB by then
    assert _rms_db(tail[after : after + 480]) < _rms_db(held[-SECOND:]) - 50.0
    assert clicks(np.concatenate([held, tail]), SAMPLE_RATE_HZ, LIMIT_HZ) == []


def test_the_pedal_holds_what_the_key_lets_go(tiny_bundle: Bundle) -> None:
    performance = Performance(tiny_bundle, STEADY)
    performance.pedal(True)
    performance.note_on(60, 60.0, 0.8)
    performance.note_on(64, 64.0, 0.8, channel=1)  # another channel has another pedal
    performance.render(SECOND // 2)
    performance.note_off(60)
    performance.note_off(64, channel=1)
    performance.render(SECOND)
    held = performance.render(SECOND)
    assert abs(pitch_cents(held, SAMPLE_RATE_HZ, _hz(60))) < 5.0
    only_note = Performance(tiny_bundle, STEADY)
    only_note.note_on(60, 60.0, 0.8)
    only_note.render(SECOND + SECOND // 2)
    assert _rms_db(held) == pytest.approx(_rms_db(only_note.render(SECOND)), abs=0.1)  # 64 is gone
    performance.pedal(False)
    performance.render(SECOND)
    assert not performance.sounding


def test_a_key_struck_again_under_the_pedal_does_not_pile_up(tiny_bundle: Bundle) -> None:
    performance = Performance(tiny_bundle, STEADY, voices=4)
    performance.pedal(True)
    for _ in range(20):
        performance.note_on(60, 60.0, 0.8)
        performance.render(SECOND // 10)
        performance.note_off(60)
        performance.render(SECOND // 4)
    assert performance.counts.stolen == 0


def test_of_two_equal_keys_the_first_ends_first(tiny_bundle: Bundle) -> None:
    """Two tracks of a file may hold the same note at once, and each keeps its length."""
    performance = Performance(tiny_bundle, STEADY)
    performance.note_on(60, 60.0, 0.8)
    performance.render(SECOND // 2)
    performance.note_on(60, 72.0, 0.8)
    performance.note_off(60)
    performance.render(SECOND)
    rest = performance.render(SECOND)
    assert abs(pitch_cents(rest, SAMPLE_RATE_HZ, _hz(72))) < 5.0
    performance.note_off(60)
    performance.note_off(60)  # one too many is nothing
    performance.render(SECOND)
    assert not performance.sounding


@pytest.mark.parametrize("semitones", [-2.0, -0.37, 0.5, 2.0, 12.0])
def test_a_bend_moves_sounding_and_later_notes_of_its_channel(tiny_bundle: Bundle, semitones: float) -> None:
    performance = Performance(tiny_bundle, STEADY)
    performance.note_on(60, 60.0, 0.8, channel=3)
    performance.render(SECOND)
    performance.bend(semitones, channel=3)
    performance.render(SECOND // 10)
    bent = performance.render(2 * SECOND)
    assert abs(pitch_cents(bent, SAMPLE_RATE_HZ, _hz(60 + semitones))) < 2.0
    performance.silence()
    performance.note_on(67, 67.0, 0.8, channel=3)
    assert abs(pitch_cents(performance.render(2 * SECOND), SAMPLE_RATE_HZ, _hz(67 + semitones))) < 2.0
    performance.silence()
    performance.note_on(67, 67.0, 0.8, channel=4)
    assert abs(pitch_cents(performance.render(2 * SECOND), SAMPLE_RATE_HZ, _hz(67))) < 2.0
    # A long glide leaves the register that the frames were made for.
    assert performance.counts.morphs == (abs(semitones) > 1.0)


def test_the_oldest_released_voice_is_stolen_then_the_oldest(tiny_bundle: Bundle) -> None:
    performance = Performance(tiny_bundle, Patch(release_s=5.0, attributes=STEADY.attributes), voices=3)
    pieces = []
    for key in (60, 64, 67):
        performance.note_on(key, key, 0.8)
        pieces.append(performance.render(SECOND // 4))
    performance.note_off(67)
    performance.note_off(64)
    performance.note_on(72, 72.0, 0.8)  # takes 67, released first
    performance.note_on(76, 76.0, 0.8)  # takes 64
    assert (performance.counts.stolen, performance.counts.stolen_held) == (2, 0)
    performance.note_on(79, 79.0, 0.8)  # takes 60, pressed first
    assert (performance.counts.stolen, performance.counts.stolen_held) == (3, 1)
    pieces.append(performance.render(SECOND // 4))
    rest = performance.render(SECOND)
    heard = np.abs(np.fft.rfft(rest.mean(axis=1) * np.hanning(SECOND)))  # a bin is 1 Hz

    def peak(key: int) -> float:
        centre = round(_hz(key))
        return float(heard[centre - 3 : centre + 4].max())

    assert min(peak(key) for key in (72, 76, 79)) > 10 * max(peak(key) for key in (60, 64))
    performance.silence()
    pieces += [rest, performance.render(SECOND // 4)]
    assert clicks(np.concatenate(pieces), SAMPLE_RATE_HZ, LIMIT_HZ) == []


def _phrase(performance: Performance, piece_samples: int) -> Audio:
    """Half a second of events at fixed places, rendered in pieces of any size."""
    events = {
        0: lambda: performance.note_on(60, 60.0, 0.9),
        5000: lambda: performance.set_attribute("Trumpet", 0.9),
        6001: lambda: performance.set_attribute("Clarinet", 0.1),
        9999: lambda: performance.bend(1.5),
        12_345: lambda: performance.note_on(64, 64.0, 0.4),
        20_000: lambda: performance.note_off(60),
    }
    pieces = []
    for begin, end in pairwise([*events, SECOND // 2]):
        events[begin]()
        for at in range(begin, end, piece_samples):
            pieces.append(performance.render(min(piece_samples, end - at)))
    return np.concatenate(pieces)


def test_the_same_calls_give_the_same_samples_however_they_are_split(tiny_bundle: Bundle) -> None:
    whole = _phrase(Performance(tiny_bundle, Patch()), SECOND)
    np.testing.assert_array_equal(_phrase(Performance(tiny_bundle, Patch()), SECOND), whole)
    np.testing.assert_allclose(_phrase(Performance(tiny_bundle, Patch()), 117), whole, atol=1e-6)


def test_seed_preset_and_latent_change_the_sound(tiny_bundle: Bundle) -> None:
    noisy = Patch(attributes={"Wind noise, breath": 1.0})
    takes = [
        _phrase(Performance(tiny_bundle, noisy, seed=0), SECOND),
        _phrase(Performance(tiny_bundle, noisy, seed=1), SECOND),
        _phrase(Performance(tiny_bundle, Patch(preset="Harp")), SECOND),
        _phrase(Performance(tiny_bundle, Patch(latent_seed=1)), SECOND),
        _phrase(Performance(tiny_bundle, Patch(latent_seed=2)), SECOND),
    ]
    for one, other in pairwise(takes):
        assert np.abs(one - other).max() > 1e-3


def test_names_that_the_bundle_lacks(tiny_bundle: Bundle) -> None:
    with pytest.raises(DarkrackError, match="did you mean 'Reed'"):
        Performance(tiny_bundle, Patch(preset="Reeds"))
    performance = Performance(tiny_bundle, Patch())
    with pytest.raises(DarkrackError, match="did you mean 'Trumpet'"):
        performance.set_attribute("Trumpets", 0.5)
    with pytest.raises(DarkrackError, match="from 0 to 2, got nan"):
        performance.set_attribute("Trumpet", float("nan"))
    performance.set_attribute("trumpet", 0.5)  # whatever its case; and the wrong name has left nothing behind
    performance.note_on(60, 60.0, 0.5)


def test_velocity_and_level(tiny_bundle: Bundle) -> None:
    def loudness_db(velocity: float, gain: float = 1.0, level_db: float = -18.0) -> float:
        performance = Performance(tiny_bundle, Patch(attributes=STEADY.attributes, level_db=level_db))
        performance.level(gain)
        performance.note_on(60, 60.0, velocity)
        return _rms_db(performance.render(SECOND))

    full_db = loudness_db(1.0)
    # The velocity's own gain is the square, -12 dB at half; the rest is timbre.
    assert loudness_db(0.5) == pytest.approx(full_db - 12.0, abs=1.5)
    assert loudness_db(1.0, gain=0.5) == pytest.approx(full_db - 6.0, abs=0.1)
    assert loudness_db(1.0, level_db=-24.0) == pytest.approx(full_db - 6.0, abs=0.1)


def test_a_swell_may_begin_in_silence(tiny_bundle: Bundle) -> None:
    performance = Performance(tiny_bundle, STEADY)
    performance.level(0.0)
    performance.note_on(60, 60.0, 0.8)
    assert _rms_db(performance.render(SECOND // 2)) < -100.0
    pieces = []
    for step in range(1, 101):
        performance.level((step / 100) ** 2)
        pieces.append(performance.render(SECOND // 100))
    loud = performance.render(SECOND)
    performance.finish()
    assert _rms_db(loud) > -30.0
    assert clicks(np.concatenate([*pieces, loud, performance.render(SECOND)]), SAMPLE_RATE_HZ, LIMIT_HZ) == []


def test_a_knob_sweep_reaches_sounding_voices_smoothly(tiny_bundle: Bundle) -> None:
    """The pot moves every 2 ms; the voices follow at most 50 times a second, and the spectrum with them."""
    performance = Performance(tiny_bundle, Patch(attributes={**STEADY.attributes, "Trumpet": 0.0}))
    performance.note_on(48, 48.0, 0.8)
    dark = performance.render(SECOND)
    pieces = []
    for step in range(500):
        performance.set_attribute("Trumpet", step / 499, carry=False)
        pieces.append(performance.render(SECOND // 500))
    bright = performance.render(SECOND)
    assert 49 <= performance.counts.morphs <= SECOND // MORPH_SAMPLES + 1
    assert centroid_hz(bright, SAMPLE_RATE_HZ) > 1.3 * centroid_hz(dark[SECOND // 2 :], SAMPLE_RATE_HZ)
    assert abs(pitch_cents(bright, SAMPLE_RATE_HZ, _hz(48))) < 5.0
    settled = performance.counts.morphs
    performance.set_attribute("Trumpet", 1.0, carry=False)  # where it stands already
    performance.finish()
    end = performance.render(SECOND)
    assert performance.counts.morphs == settled
    assert clicks(np.concatenate([dark, *pieces, bright, end]), SAMPLE_RATE_HZ, LIMIT_HZ) == []


def test_a_knob_that_carries_moves_more_than_one_that_does_not(tiny_bundle: Bundle) -> None:
    def changed(carry: bool) -> int:
        performance = Performance(tiny_bundle, Patch())
        before = performance.vector
        performance.set_attribute("Trumpet", 0.9, carry=carry)
        return int((performance.vector != before).sum())

    assert (changed(False), changed(True)) == (1, 4)


def test_silence_stops_at_once_without_a_click_and_finish_lets_go_of_all(tiny_bundle: Bundle) -> None:
    performance = Performance(tiny_bundle, STEADY)
    for channel in range(4):
        performance.pedal(True, channel)
        performance.note_on(60 + channel, 60.0 + channel, 1.0, channel)
    before = performance.render(SECOND)
    performance.silence(2)
    assert performance.sounding
    performance.finish()
    after = performance.render(SECOND)
    assert not performance.sounding
    assert clicks(np.concatenate([before, after]), SAMPLE_RATE_HZ, LIMIT_HZ) == []


def test_low_keys_stand_a_little_to_the_left(tiny_bundle: Bundle) -> None:
    def left_over_right_db(pitch: float) -> float:
        performance = Performance(tiny_bundle, STEADY)
        performance.note_on(60, pitch, 0.8)
        audio = performance.render(SECOND)
        return _rms_db(audio[:, 0]) - _rms_db(audio[:, 1])

    differences = [left_over_right_db(pitch) for pitch in (21.0, 48.0, 64.5, 84.0, 108.0)]
    assert differences == sorted(differences, reverse=True)
    assert differences[2] == pytest.approx(0.0, abs=1e-3)
    assert 3.0 < differences[0] < 7.0


def test_a_bundle_of_samples_plays_behind_the_same_keys(tiny_samples_bundle: Bundle) -> None:
    limit_hz = tiny_samples_bundle.manifest.representation.limit_hz
    steady = Patch(attributes={"Plucked string instrument": 0.0})
    for midi in (40.0, 52.4, 69.0, 76.0):  # under, between, on and over the trained pitches
        performance = Performance(tiny_samples_bundle, steady)
        performance.note_on(60, midi, 0.8)
        held = performance.render(4 * SECOND)
        performance.bend(2.0)
        performance.set_attribute("Trumpet", 1.0)  # for the next note
        bent = performance.render(SECOND)
        performance.note_off(60)
        audio = np.concatenate([held, bent, performance.render(SECOND)])
        assert not performance.sounding
        assert performance.counts.morphs == 0
        assert abs(pitch_cents(held[SECOND:], SAMPLE_RATE_HZ, _hz(midi))) < 5.0
        assert abs(pitch_cents(bent[SECOND // 2 :], SAMPLE_RATE_HZ, _hz(midi + 2))) < 5.0
        assert _rms_db(held[3 * SECOND :]) == pytest.approx(_rms_db(held[SECOND : 2 * SECOND]), abs=1.0)
        assert clicks(audio, SAMPLE_RATE_HZ, limit_hz) == []


def test_a_decaying_sample_keeps_decaying(tiny_samples_bundle: Bundle) -> None:
    performance = Performance(tiny_samples_bundle, Patch(attributes={"Plucked string instrument": 1.0}))
    performance.note_on(60, 60.0, 0.8)
    levels_db = [_rms_db(performance.render(SECOND)) for _ in range(4)]
    falls_db = [before - after for before, after in pairwise(levels_db)]
    assert all(fall_db > 10.0 for fall_db in falls_db)
    assert falls_db[-1] == pytest.approx(falls_db[-2], abs=1.0)


def test_partials_and_samples_are_equally_loud(tiny_bundle: Bundle, tiny_samples_bundle: Bundle) -> None:
    def loud_db(bundle: Bundle) -> float:
        performance = Performance(bundle, STEADY)
        performance.note_on(60, 60.0, 1.0)
        return _rms_db(performance.render(SECOND)[SECOND // 4 : SECOND // 2])

    # Both are meant to be, by loudness; RMS differs by what the K weighting makes of two spectra.
    assert loud_db(tiny_samples_bundle) == pytest.approx(loud_db(tiny_bundle), abs=3.0)
