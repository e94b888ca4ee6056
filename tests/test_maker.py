"""The maker of notes: every bundle equally loud, every pitch from the nearest that was trained."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import numpy as np
import pytest
from bundles import FRAME_RATE_HZ, FRAMES, tiny_files, tiny_manifest

from device import bundle as bundles
from device.bundle import Bundle
from device.errors import DarkrackError
from device.maker import HEARD_MIDI, MATCHED_DB, MOST_MATCHED_DB, Maker
from device.partials import NoteFrames, loudness_db, nominal_hz
from device.patch import Patch
from device.performance import SAMPLE_RATE_HZ, Performance
from device.recording import pitch_cents
from device.stft import NoteSamples


def shifted(model: bytes, level_db: float) -> bytes:
    """The tiny model with every partial louder by so much: the constant in it that holds the attack is replaced."""
    seconds = np.arange(FRAMES, dtype=np.float32) / np.float32(FRAME_RATE_HZ)
    attack = 3.0 - 30.0 * np.exp(-seconds / 0.010)
    words = np.frombuffer(model[: len(model) // 4 * 4], np.float32)
    with np.errstate(invalid="ignore"):
        places = [
            place
            for place in np.flatnonzero(np.abs(words[: -FRAMES + 1] - attack[0]) < 1e-3)
            if np.abs(words[place : place + FRAMES] - attack).max() < 1e-3
        ]
    assert len(places) == 1
    begin = 4 * int(places[0])
    loud = np.frombuffer(model[begin : begin + 4 * FRAMES], np.float32) + np.float32(level_db)
    return model[:begin] + loud.tobytes() + model[begin + 4 * FRAMES :]


def levelled(bundle: Bundle, folder: Path, level_db: float) -> Bundle:
    """A bundle whose network puts everything out at another level."""
    files = tiny_files(shifted(bundle.model(), level_db))
    return bundles.write(folder / f"{level_db:g}.rack", tiny_manifest(), files)


def heard_db(bundle: Bundle) -> float:
    """The median loudness of the presets, by ITU-R BS.1770, as they are made for the voices."""
    maker = Maker(bundle)
    found = []
    for preset in bundle.manifest.presets:
        for midi in HEARD_MIDI:
            note, hz = maker.note(preset.z, preset.attributes, midi, 0.8, 0)
            assert isinstance(note, NoteFrames)
            found.append(loudness_db(note, hz))
    return statistics.median(found)


def test_a_bundle_is_brought_to_the_loudness_that_all_have(tiny_bundle: Bundle) -> None:
    assert heard_db(tiny_bundle) == pytest.approx(MATCHED_DB, abs=0.1)


# The decoder brings up to 6 dB back by itself, so -12 reaches the maker as -6 or so.
@pytest.mark.parametrize("level_db", [-16.0, -12.0, -6.0])
def test_bundles_of_different_levels_are_matched_within_a_decibel(
    tiny_bundle: Bundle, tmp_path: Path, level_db: float
) -> None:
    quiet = levelled(tiny_bundle, tmp_path, level_db)
    assert heard_db(quiet) == pytest.approx(heard_db(tiny_bundle), abs=1.0)
    # Without matching it would not have been so: the planted difference.
    if level_db < -10:
        assert Maker(quiet).gain_db - Maker(tiny_bundle).gain_db > 3


def test_what_is_much_too_quiet_is_meant_to_be(tiny_bundle: Bundle, tmp_path: Path) -> None:
    faint = levelled(tiny_bundle, tmp_path, -40.0)
    assert Maker(faint).gain_db == MOST_MATCHED_DB
    assert heard_db(faint) < heard_db(tiny_bundle) - 6


def test_samples_and_partials_are_equally_loud_in_what_is_rendered(
    tiny_bundle: Bundle, tiny_samples_bundle: Bundle
) -> None:
    """Weighted by K as ITU-R BS.1770 says, over the rendered sound: the weighting has an FFT of its own here."""

    def rendered_db(bundle: Bundle) -> float:
        found = []
        for preset in bundle.manifest.presets:
            for midi in HEARD_MIDI:
                performance = Performance(bundle, Patch(preset=preset.name, velocity_curve=0.0))
                performance.note_on(60, midi, 0.8)
                audio = performance.render(SAMPLE_RATE_HZ).astype(np.float64)
                found.append(loudest_db(audio))
        return statistics.median(found)

    assert rendered_db(tiny_samples_bundle) == pytest.approx(rendered_db(tiny_bundle), abs=1.0)


def loudest_db(audio: np.ndarray) -> float:
    """The loudest 100 ms, both channels together, K-weighted by the filters of BS.1770 as recursions."""
    first = ((1.53512485958697, -2.69169619938638, 1.19839281085285), (-1.69065929318241, 0.73248077421585))
    second = ((1.0, -2.0, 1.0), (-1.99004745483398, 0.99007225036621))
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(len(audio)))
    spectrum = np.fft.rfft(audio, axis=0)
    for (b0, b1, b2), (a1, a2) in (first, second):
        spectrum *= ((b0 + b1 * turn + b2 * turn**2) / (1 + a1 * turn + a2 * turn**2))[:, None]
    weighted = np.fft.irfft(spectrum, len(audio), axis=0)
    energy = np.cumsum((weighted**2).sum(axis=1))
    span = SAMPLE_RATE_HZ // 10
    return float(10 * np.log10((energy[span:] - energy[:-span]).max() / span))


@pytest.mark.parametrize(
    ("asked", "made"), [(20.0, 36.0), (36.0, 36.0), (61.37, 61.37), (84.0, 84.0), (120.0, 84.0)]
)
def test_a_pitch_that_was_not_trained_is_made_at_the_nearest_that_was(
    tiny_bundle: Bundle, asked: float, made: float
) -> None:
    preset = tiny_bundle.manifest.presets[0]
    maker = Maker(tiny_bundle)
    note, hz = maker.note(preset.z, preset.attributes, asked, 0.8, 3)
    assert hz == pytest.approx(nominal_hz(made))
    same, _ = maker.note(preset.z, preset.attributes, made, 0.8, 3)
    assert isinstance(note, NoteFrames)
    assert isinstance(same, NoteFrames)
    np.testing.assert_array_equal(note.level_db, same.level_db)


@pytest.mark.parametrize(
    ("asked", "made"), [(20.0, 44.0), (44.4, 44.0), (60.6, 61.0), (69.0, 69.0), (100.0, 69.0)]
)
def test_a_sample_is_made_at_the_nearest_whole_pitch_that_was_trained(
    tiny_samples_bundle: Bundle, asked: float, made: float
) -> None:
    preset = tiny_samples_bundle.manifest.presets[0]
    note, hz = Maker(tiny_samples_bundle).note(preset.z, preset.attributes, asked, 0.8, 0)
    assert isinstance(note, NoteSamples)
    assert 1200 * abs(np.log2(hz / nominal_hz(made))) < 50
    assert np.isfinite(note.samples).all()


@pytest.mark.parametrize("asked", [21.0, 44.0, 60.6, 96.0])
def test_a_sample_sounds_at_the_pitch_that_was_asked_for(tiny_samples_bundle: Bundle, asked: float) -> None:
    performance = Performance(tiny_samples_bundle, Patch())
    performance.note_on(60, asked, 0.8)
    audio = performance.render(3 * SAMPLE_RATE_HZ)
    assert abs(pitch_cents(audio[SAMPLE_RATE_HZ // 2 :], SAMPLE_RATE_HZ, nominal_hz(asked))) < 10


def test_the_same_seed_is_the_same_note_and_another_one_another(tiny_bundle: Bundle) -> None:
    maker = Maker(tiny_bundle)
    attributes = np.array([0.4, 0.05, 0.6, 0.9])
    notes = [maker.note(np.zeros(4), attributes, 60.0, 0.8, seed)[0] for seed in (1, 1, 2)]
    first, again, other = (note.level_db for note in notes if isinstance(note, NoteFrames))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_a_network_that_is_asked_for_nan_says_so(tiny_bundle: Bundle) -> None:
    with pytest.raises(DarkrackError, match="finite"):
        Maker(tiny_bundle).note(np.zeros(4), np.full(4, np.nan), 60.0, 0.8, 0)


def test_a_variant_that_is_not_there_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(DarkrackError, match="float32"):
        Maker(tiny_bundle, "int4")


def test_a_bundle_whose_presets_are_gone_is_not_matched(tiny_bundle: Bundle) -> None:
    bare = dataclasses.replace(tiny_bundle, manifest=dataclasses.replace(tiny_bundle.manifest, presets=()))
    assert Maker(bare).gain_db == 0
