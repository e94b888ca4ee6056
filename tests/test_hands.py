"""Hands: mono, legato, glide and unison, heard in what a performance renders; the rest is in test_performance."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from device.bundle import Bundle
from device.hands import UNISON_CENTS
from device.patch import Patch
from device.performance import SAMPLE_RATE_HZ, Performance
from device.recording import clicks, level, pitch_cents

SECOND = SAMPLE_RATE_HZ
STEADY = Patch(attributes={"Wind noise, breath": 0.0, "Plucked string instrument": 0.0})
MONO = dataclasses.replace(STEADY, mono=True)


def hz(midi: float) -> float:
    return float(440.0 * 2.0 ** ((midi - 69.0) / 12.0))


def played(performance: Performance) -> list[float]:
    """Pitches (MIDI) that voices sound at, and that are not released."""
    state = performance._bank._state.voice
    return sorted(
        round(69 + 12 * float(np.log2(voice["f0_goal_hz"] / 440)), 2)
        for voice in state
        if voice["active"] and not voice["released"]
    )


def test_poly_plays_both_keys_and_mono_the_last(tiny_bundle: Bundle) -> None:
    for patch, sounding in ((STEADY, [60, 64]), (MONO, [64])):
        performance = Performance(tiny_bundle, patch)
        performance.note_on(60, 60.0, 0.8)
        performance.note_on(64, 64.0, 0.8)
        performance.render(SECOND // 10)
        assert played(performance) == sounding


def test_in_mono_the_key_that_is_still_down_comes_back(tiny_bundle: Bundle) -> None:
    performance = Performance(tiny_bundle, MONO)
    for key in (60, 64, 67):
        performance.note_on(key, key, 0.8)
    performance.note_off(64)
    assert played(performance) == [67]
    performance.note_off(67)
    assert played(performance) == [60]
    performance.note_off(60)
    performance.render(SECOND)
    assert not performance.sounding


def test_legato_goes_on_and_a_new_attack_begins_anew(tiny_bundle: Bundle) -> None:
    for legato, notes in ((True, 1), (False, 2)):
        performance = Performance(tiny_bundle, dataclasses.replace(MONO, legato=legato))
        performance.note_on(60, 60.0, 0.8)
        before = performance.render(SECOND // 2)
        performance.note_on(64, 64.0, 0.8)
        after = performance.render(2 * SECOND)
        assert performance.counts.notes == notes
        assert abs(pitch_cents(after[SECOND // 2 :], SAMPLE_RATE_HZ, hz(64))) < 5
        performance.finish()
        audio = np.concatenate([before, after, performance.render(SECOND)])
        assert clicks(audio, SAMPLE_RATE_HZ, 16_000) == []


def test_a_glide_is_even_in_semitones_and_arrives(tiny_bundle: Bundle) -> None:
    performance = Performance(tiny_bundle, dataclasses.replace(MONO, glide_s=0.5))
    performance.note_on(48, 48.0, 0.8)
    performance.render(SECOND // 2)
    performance.note_on(60, 60.0, 0.8)
    sung = []
    for _ in range(60):
        performance.render(SECOND // 100)
        f0_hz = float(performance._bank._state.voice[0]["f0_hz"])
        sung.append(69 + 12 * float(np.log2(f0_hz / 440)))
    steps = np.diff(sung[3:45])
    np.testing.assert_allclose(steps, 12 / 50, atol=0.02)
    assert sung[-1] == pytest.approx(60, abs=0.05)
    audio = performance.render(2 * SECOND)
    assert abs(pitch_cents(audio, SAMPLE_RATE_HZ, hz(60))) < 5


def test_a_glide_keeps_formants_where_they_are(tiny_bundle: Bundle) -> None:
    """The brightness (Hz) of a gliding note is that of the note it comes to, not moved along with the pitch."""
    from device.recording import centroid_hz

    def brightness(pitch_midi: float, come_from: float | None) -> float:
        performance = Performance(tiny_bundle, MONO)
        if come_from is not None:
            performance.note_on(1, come_from, 0.8)
            performance.render(SECOND // 2)
            performance._stale = False
            performance._next_morph_samples = 10 * SECOND  # the frames stay those of the first pitch
        performance.note_on(2, pitch_midi, 0.8)
        return centroid_hz(performance.render(2 * SECOND)[SECOND // 2 :], SAMPLE_RATE_HZ)

    there, slid = brightness(67.0, None), brightness(67.0, 60.0)
    start = brightness(60.0, None)
    transposed = start * 2 ** (7 / 12)
    assert abs(np.log2(slid / there)) < abs(np.log2(transposed / there)) + 0.02


def test_unison_is_two_latents_left_and_right_at_the_same_power(tiny_bundle: Bundle) -> None:
    single, double = (
        Performance(tiny_bundle, dataclasses.replace(STEADY, unison=unison)) for unison in (False, True)
    )
    sound = []
    for performance in (single, double):
        performance.note_on(60, 64.5, 0.8)
        sound.append(performance.render(3 * SECOND)[SECOND // 2 :])
    assert abs(level(sound[0]).rms_dbfs - level(sound[1]).rms_dbfs) < 3
    left, right = double._bank._state.voice[:2]
    assert 1200 * np.log2(right["f0_hz"] / left["f0_hz"]) == pytest.approx(2 * UNISON_CENTS, abs=0.1)
    apart = sound[1][:, 0] - sound[1][:, 1]
    assert level(apart[:, None]).rms_dbfs > level(sound[1]).rms_dbfs - 6
    assert np.abs(sound[0][:, 0] - sound[0][:, 1]).max() < 1e-3  # 64.5 is the middle
    double.note_off(60)
    double.render(SECOND)
    assert not double.sounding


def test_a_key_is_repitched_only_while_it_is_down(tiny_bundle: Bundle) -> None:
    performance = Performance(tiny_bundle, STEADY)
    performance.note_on(60, 60.0, 0.8)
    performance.repitch(60, 62.5)
    assert played(performance) == [62.5]
    performance.render(SECOND // 10)
    performance.repitch(61, 70.0)
    assert played(performance) == [62.5]
    performance.note_off(60)
    performance.repitch(60, 72.0)
    assert performance._bank._state.voice[0]["f0_goal_hz"] == pytest.approx(hz(62.5))


def frequency(performance: Performance) -> float:
    """MIDI of what the one voice sounds at now."""
    (voice,) = [voice for voice in performance._bank._state.voice if voice["active"]]
    return 69 + 12 * float(np.log2(voice["f0_hz"] / 440))


@pytest.mark.parametrize("moved_by", ["nothing", "vibrato", "wheel"])
def test_nothing_that_moves_pitch_cuts_a_glide_short(tiny_bundle: Bundle, moved_by: str) -> None:
    performance = Performance(tiny_bundle, dataclasses.replace(MONO, glide_s=0.5))
    performance.note_on(48, 48.0, 0.8)
    performance.render(SECOND // 10)
    performance.note_on(72, 72.0, 0.8)
    heard = []
    for step in range(70):
        cents = 5 * np.sin(step)
        if moved_by == "vibrato":
            performance.shift(cents / 100)
        elif moved_by == "wheel":
            performance.bend(cents / 100)
        performance.render(SECOND // 100)
        heard.append(frequency(performance))
    assert heard[24] == pytest.approx(60, abs=1.0), "half of the way in half of the time"
    assert heard[12] == pytest.approx(54, abs=1.0)
    assert heard[-1] == pytest.approx(72, abs=0.1)


def test_a_glide_begins_where_the_note_before_sounded_wheel_and_all(tiny_bundle: Bundle) -> None:
    performance = Performance(tiny_bundle, dataclasses.replace(MONO, legato=False, glide_s=0.5))
    performance.bend(2.0)
    performance.note_on(60, 60.0, 0.8)
    performance.render(SECOND // 5)
    performance.note_on(60, 60.0, 0.8)
    performance.render(SECOND // 100)
    newest = max(performance._bank._state.voice, key=lambda voice: voice["active"] and not voice["released"])
    assert 69 + 12 * np.log2(newest["f0_hz"] / 440) == pytest.approx(62, abs=0.05)


def test_tuning_is_heard_once_in_everything(tiny_bundle: Bundle) -> None:
    performance = Performance(tiny_bundle, dataclasses.replace(STEADY, tuning_semitones=1.5))
    performance.note_on(60, 60.0, 0.8)
    assert played(performance) == [61.5]
    performance.repitch(60, 64.0)
    assert played(performance) == [65.5]
    performance.note_on(84, 83.0, 0.8)
    assert performance.counts.out_of_range == (tiny_bundle.manifest.pitch_range_midi[1] < 83 + 1.5)


def test_trim_and_stretch(tiny_bundle: Bundle) -> None:
    lasted = {}
    for octaves in (0.0, 3.0):
        performance = Performance(tiny_bundle, dataclasses.replace(STEADY, release_s=0.1))
        performance.stretch(octaves)
        performance.note_on(60, 60.0, 0.8)
        loud = level(performance.render(SECOND)[SECOND // 2 :]).rms_dbfs
        performance.trim(0.25)
        performance.render(SECOND // 10)
        soft = level(performance.render(SECOND // 2)).rms_dbfs
        assert loud - soft == pytest.approx(12, abs=1)
        performance.note_off(60)
        steps = 0
        while performance.sounding:
            performance.render(SECOND // 100)
            steps += 1
        lasted[octaves] = steps
    assert 4 < lasted[3.0] / lasted[0.0] < 12


def test_both_voices_of_a_unison_go_along_with_another_latent(tiny_bundle: Bundle) -> None:
    performance = Performance(tiny_bundle, dataclasses.replace(STEADY, unison=True))
    before = performance._timbre.stance.z.copy()
    z = np.random.default_rng(1).standard_normal(before.shape[1]).astype(np.float32)
    performance.stand(None, z, None)
    after = performance._timbre.stance.z
    np.testing.assert_array_equal(after[0], z)
    assert (np.abs(after - before).max(axis=1) > 0.1).all()
    assert np.abs(after[1] - after[0]).max() > 0.1
