"""The `stft` grid inverted, and notes that can be held: 60 of NSynth through the real voices, and worse input."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from device.errors import DarkrackError
from device.partials import nominal_hz
from device.recording import centroid_hz, clicks, level, pitch_cents
from device.stft import (
    FADED_SHARE,
    GUARD_SAMPLES,
    LARGEST_LOG,
    LOUDEST_S,
    NoteSamples,
    Stft,
    decode_samples,
    invert,
)
from device.voices import VoiceBank
from train.stft import encode, target

Audio = npt.NDArray[np.floating]
GRID = Stft()
RATE_HZ = 48_000
SECOND = RATE_HZ
HEARD_HZ = 9000.0  # what 16 kHz can hold, and the reader's transition


def loudest_rms(audio: Audio) -> float:
    moment = round(LOUDEST_S * GRID.sample_rate_hz)
    energy = np.concatenate([[0.0], np.cumsum(np.asarray(audio, np.float64) ** 2)])
    return float(np.sqrt((energy[moment:] - energy[:-moment]).max() / moment))


def as_played(sample: NoteSamples) -> Audio:
    """Once, with its decay."""
    since_s = np.maximum(np.arange(len(sample.samples)) - sample.loop_start, 0) / sample.sample_rate_hz
    return np.asarray(sample.samples * 10 ** (sample.decay_db_per_s * since_s / 20))


def note(midi: float, decay_db_per_s: float = 0.0, partials: int = 8, cents: float = 0.0) -> Audio:
    """A second of a harmonic note at 16 kHz."""
    seconds = np.arange(GRID.samples) / GRID.sample_rate_hz
    f0_hz = nominal_hz(midi + cents / 100)
    audio = sum(
        np.sin(2 * np.pi * k * f0_hz * seconds + k * k) / k
        for k in range(1, partials + 1)
        if k * f0_hz < 7000
    )
    return np.asarray(0.3 * audio * 10 ** (decay_db_per_s * seconds / 20) * np.minimum(seconds / 0.005, 1))


def held(sample: NoteSamples, hz: float, seconds: float, gain: float = 0.1) -> npt.NDArray[np.float32]:
    """Through a voice, let go at the end, with a second to ring out."""
    bank = VoiceBank(1, 1, 1, RATE_HZ, samples=GRID.samples)
    out = np.zeros((round((seconds + 1) * SECOND), 2), np.float32)
    bank.start(0, sample, hz, gain, made_for_hz=sample.f0_hz)
    bank.render(out[:-SECOND])
    bank.release(0)
    bank.render(out[-SECOND:])
    return out


def nsynth(folder: Path) -> Iterator[tuple[str, Audio]]:
    with (folder / "nsynth60" / "notes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    audio, rate_hz = soundfile.read(folder / "nsynth60" / rows[0]["file"])
    assert rate_hz == GRID.sample_rate_hz
    for row in rows:
        begin = int(row["start"])
        yield row["note_str"], audio[begin : begin + 4 * rate_hz]


# The inverse


@pytest.mark.parametrize("midi", [36.0, 44.0, 60.0, 69.0, 84.0])
def test_what_was_encoded_comes_back(midi: float) -> None:
    audio = note(midi)
    back = invert(encode(audio, GRID), GRID)
    assert back.shape == (GRID.samples,)
    noise = back - audio
    assert 10 * np.log10(np.sum(audio**2) / np.sum(noise**2)) > 45  # what is lost is bin 0


@pytest.mark.data
def test_real_notes_come_back_but_for_what_lies_at_0_hz(darkrack_data: Path) -> None:
    ratios_db = []
    for _, audio in nsynth(darkrack_data):
        whole = audio[: GRID.samples]
        noise = invert(encode(audio, GRID), GRID) - whole
        ratios_db.append(float(10 * np.log10(np.sum(whole**2) / np.sum(noise**2))))
        # What is missing is below 1.5 bins.
        spectrum = np.abs(np.fft.rfft(noise * np.hanning(len(noise)))) ** 2
        assert spectrum[: round(2.5 * len(noise) / GRID.fft_samples)].sum() > 0.98 * spectrum.sum()
    print(f"float64: {np.median(ratios_db):.1f} dB median, {min(ratios_db):.1f} to {max(ratios_db):.1f}")
    assert len(ratios_db) == 60
    assert np.median(ratios_db) > 60  # measured 66


@pytest.mark.data
def test_real_notes_as_training_keeps_them(darkrack_data: Path) -> None:
    """Targets rounded to float16, as the data set's files have them: the phase is a sum of what was rounded."""
    ratios_db = []
    for _, audio in nsynth(darkrack_data):
        wanted = invert(target(audio, GRID), GRID)
        noise = invert(target(audio, GRID).astype(np.float16), GRID) - wanted
        ratios_db.append(float(10 * np.log10(np.sum(wanted**2) / np.sum(noise**2))))
    print(f"float16: {np.median(ratios_db):.1f} dB median, {min(ratios_db):.1f} to {max(ratios_db):.1f}")
    assert np.median(ratios_db) > 40


def test_a_network_that_shouts_is_clipped_before_it_overflows() -> None:
    planes = encode(note(60), GRID)
    planes[0] += 1000
    back = invert(planes, GRID)
    assert np.isfinite(back).all()
    assert np.abs(back).max() <= np.exp(LARGEST_LOG) * GRID.bins


@pytest.mark.parametrize(
    ("shape", "where"), [((2, 1024, 31), "frames"), ((1024, 32), "frames"), ((2, 2, 1024, 32), "frames")]
)
def test_another_shape_is_refused(shape: tuple[int, ...], where: str) -> None:
    with pytest.raises(DarkrackError, match=r"expected shape \(2, 1024, 32\)") as caught:
        decode_samples(np.zeros(shape, np.float32), GRID, 60.0)
    assert where in caught.value.where


@pytest.mark.parametrize(("channel", "name"), [(0, "log magnitude"), (1, "frequency")])
def test_what_is_no_number_is_refused_with_its_place(channel: int, name: str) -> None:
    planes = encode(note(60), GRID)
    planes[channel, 17, 5] = np.nan
    planes[channel, 18, 5] = np.inf
    with pytest.raises(DarkrackError, match=f"expected finite {name}, got nan in row 17, frame 5 .2 in all"):
        decode_samples(planes, GRID, 60.0)


# A note that can be held


@pytest.mark.data
def test_every_real_note_is_held_without_a_click_in_tune_and_at_its_level(darkrack_data: Path) -> None:
    """Six seconds of each. The steady ones stay, those that decay go on decaying, and none of them beats."""
    sustained = decaying = 0
    brightness = []
    for name, audio in nsynth(darkrack_data):
        sample = decode_samples(target(audio, GRID), GRID, 60.0)
        assert loudest_rms(as_played(sample)) == pytest.approx(1.0, abs=0.02), name
        assert sample.loop_end < (1 - FADED_SHARE) * GRID.samples, name
        assert sample.loop_end - sample.loop_start > 0.1 * GRID.sample_rate_hz, name
        assert len(sample.samples) >= sample.loop_end + GUARD_SAMPLES, name
        assert len(sample.samples) <= GRID.samples, name
        sound = held(sample, nominal_hz(60), 6.0)
        assert clicks(sound, RATE_HZ, HEARD_HZ) == [], name
        early, late = sound[SECOND : 2 * SECOND], sound[4 * SECOND : 5 * SECOND]
        fell_db = level(early).rms_dbfs - level(late).rms_dbfs
        if sample.decay_db_per_s == 0:
            sustained += 1
            assert abs(fell_db) < 0.5, name
        else:
            decaying += 1
            if level(late).rms_dbfs > -150:  # above what a float can say
                assert fell_db == pytest.approx(-3 * sample.decay_db_per_s, rel=0.2), name
        if level(late).rms_dbfs > -90:
            cents = [pitch_cents(one, RATE_HZ, nominal_hz(60)) for one in (early, late)]
            assert abs(cents[0] - cents[1]) < 3, name
            assert max(abs(cents[0]), abs(cents[1])) < 6, name  # measured 3.5 for a mallet; 0.2 on average
        # The loop sounds like what was in its place.
        part = invert(target(audio, GRID), GRID)[round(sample.loop_start) : round(sample.loop_end)]
        if sample.decay_db_per_s == 0:
            there, here = centroid_hz(part, GRID.sample_rate_hz), centroid_hz(early, RATE_HZ)
            brightness.append(here / there)
    # A moment of .1 s against a second: where a note breathes they may differ.
    assert np.abs(np.log2(brightness)).max() < 0.5
    assert np.abs(np.log2(brightness)).mean() < 0.1
    assert (sustained, decaying) == (31, 29)


@pytest.mark.data
def test_what_is_held_goes_on_as_the_recording_does(darkrack_data: Path) -> None:
    """The network gives one second; the recordings have three before the key was let go."""
    wrong_db, flutter_db = [], []
    for _, audio in nsynth(darkrack_data):
        sound = held(decode_samples(target(audio, GRID), GRID, 60.0), nominal_hz(60), 2.0)[:, 0]
        fell_db = [
            level(whole[round(0.1 * rate_hz) :][: round(0.3 * rate_hz)]).rms_dbfs
            - level(whole[round(1.5 * rate_hz) :][: round(0.3 * rate_hz)]).rms_dbfs
            for whole, rate_hz in ((sound, RATE_HZ), (audio, GRID.sample_rate_hz))
        ]
        wrong_db.append(abs(min(fell_db[0], 60.0) - min(fell_db[1], 60.0)))
        recorded = audio[round(0.26 * GRID.sample_rate_hz) : round(0.68 * GRID.sample_rate_hz)]
        looped = sound[round(0.7 * RATE_HZ) : round(1.9 * RATE_HZ)]
        flutter_db.append(sway_db(looped, RATE_HZ) - sway_db(recorded, GRID.sample_rate_hz))
    assert np.mean(wrong_db) < 5.2  # measured 4.7; 5.6 by the rule of note frames
    assert np.mean(flutter_db) < 0.1  # measured -0.03
    assert np.max(flutter_db) < 1.8  # measured 1.3


def sway_db(audio: Audio, rate_hz: int) -> float:
    """How far six bands of a note vary about their slopes, in moments of 40 ms; those within 30 dB of the loudest."""
    moment = round(0.04 * rate_hz)
    pieces = np.lib.stride_tricks.sliding_window_view(audio, moment)[:: moment // 2] * np.hanning(moment)
    power = np.abs(np.fft.rfft(pieces, axis=1)) ** 2
    hz, edges = np.fft.rfftfreq(moment, 1 / rate_hz), np.geomspace(150, 7000, 7)
    bands = [power[:, (hz >= low) & (hz < high)].sum(axis=1) for low, high in itertools.pairwise(edges)]
    levels_db = 10 * np.log10(np.array(bands) + 1e-12)
    levels_db = levels_db[levels_db.mean(axis=1) > levels_db.mean(axis=1).max() - 30]
    at = np.arange(levels_db.shape[1])
    slopes = np.array([np.polyval(np.polyfit(at, one, 1), at) for one in levels_db])
    return float((levels_db - slopes).std(axis=1).mean())


@pytest.mark.parametrize("midi", [28.0, 33.0, 44.0, 60.0, 76.0, 93.0, 108.0])
@pytest.mark.parametrize("cents", [-45.0, -25.0, 0.0, 17.0, 39.0])
def test_the_pitch_that_came_out_is_measured_and_played_as_asked(midi: float, cents: float) -> None:
    sample = decode_samples(target(note(midi, cents=cents), GRID), GRID, midi)
    assert 1200 * np.log2(sample.f0_hz / nominal_hz(midi)) == pytest.approx(cents, abs=1.0)
    sound = held(sample, nominal_hz(midi), 3.0)
    assert abs(pitch_cents(sound[SECOND : 3 * SECOND], RATE_HZ, nominal_hz(midi))) < 1.0
    assert clicks(sound, RATE_HZ, HEARD_HZ) == []


def test_a_note_far_off_its_pitch_is_taken_as_it_was_asked_for() -> None:
    sample = decode_samples(target(note(60, cents=120), GRID), GRID, 60.0)
    assert sample.f0_hz == nominal_hz(60)


def test_vibrato_is_held_at_the_pitch_of_its_loop() -> None:
    """Of 5 Hz and 30 cents either way: a loop may be of any part of it."""
    seconds = np.arange(GRID.samples) / GRID.sample_rate_hz
    turns = seconds + 30 / 1200 * np.log(2) * np.sin(2 * np.pi * 5 * seconds) / (2 * np.pi * 5)
    audio = sum(0.3 / k * np.sin(2 * np.pi * k * nominal_hz(60) * turns) for k in range(1, 8))
    sample = decode_samples(target(np.asarray(audio), GRID), GRID, 60.0)
    sound = held(sample, nominal_hz(60), 3.0)
    assert abs(pitch_cents(sound[SECOND : 3 * SECOND], RATE_HZ, nominal_hz(60))) < 2.0
    assert clicks(sound, RATE_HZ, HEARD_HZ) == []


def test_a_strong_octave_does_not_take_half_a_period() -> None:
    audio = note(60) + 5 * note(72)
    sample = decode_samples(target(audio, GRID), GRID, 60.0)
    turns = (sample.loop_end - sample.loop_start) * sample.f0_hz / sample.sample_rate_hz
    assert turns == pytest.approx(round(turns), abs=0.05)


def test_a_note_that_falls_and_stays_is_held() -> None:
    """Bowed and blown notes begin with an accent: only what still falls at the end is struck."""
    seconds = np.arange(GRID.samples) / GRID.sample_rate_hz
    for to_db in (-5.0, -8.0):
        audio = note(60) * 10 ** (to_db * np.minimum(seconds / 0.35, 1.0) / 20)
        sample = decode_samples(target(audio, GRID), GRID, 60.0)
        assert sample.decay_db_per_s == 0.0, to_db


@pytest.mark.parametrize("decay_db_per_s", [-6.0, -15.0, -40.0])
def test_a_decay_is_taken_out_of_the_loop_and_given_back(decay_db_per_s: float) -> None:
    sample = decode_samples(target(note(60, decay_db_per_s), GRID), GRID, 60.0)
    assert sample.decay_db_per_s == pytest.approx(decay_db_per_s, rel=0.1)
    sound = held(sample, nominal_hz(60), 3.0)
    levels_db = [level(sound[round(at * SECOND) :][: SECOND // 4]).rms_dbfs for at in (0.3, 1.0, 2.0)]
    assert levels_db[0] - levels_db[1] == pytest.approx(-0.7 * decay_db_per_s, abs=1.5)
    assert levels_db[1] - levels_db[2] == pytest.approx(-1.0 * decay_db_per_s, abs=1.5)
    assert clicks(sound, RATE_HZ, HEARD_HZ) == []


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_a_bent_note_falls_without_a_halt_from_its_beginning_into_the_loop(ratio: float) -> None:
    """An octave up, it comes to the loop, whose decay was taken out, in half the time."""
    sample = decode_samples(target(note(60, -40.0), GRID), GRID, 60.0)
    sound = held(sample, ratio * nominal_hz(60), 1.0)[:RATE_HZ]
    levels_db = [level(piece).rms_dbfs for piece in sound.reshape(10, -1, 2)]
    falls_db = -np.diff(levels_db)[1:]  # 4 dB each in the loop, and ratio times that before it
    assert falls_db.min() > min(ratio, 1.0) * 4 - 0.7
    assert falls_db.max() < max(ratio, 1.0) * 4 + 0.7


def test_the_planted_seam_is_found() -> None:
    """The same note looped at a place chosen without looking: the tests above would not miss it."""
    good = decode_samples(target(note(60), GRID), GRID, 60.0)
    bad = NoteSamples(
        invert(target(note(60), GRID), GRID).astype(np.float32) * 4, 16_000.0, good.f0_hz, 4000.0, 9037.0, 0.0
    )
    assert clicks(held(good, nominal_hz(60), 3.0), RATE_HZ, HEARD_HZ) == []
    assert len(clicks(held(bad, nominal_hz(60), 3.0), RATE_HZ, HEARD_HZ)) >= 5


def test_silence_is_over_when_it_has_been_played() -> None:
    sample = decode_samples(encode(np.zeros(GRID.samples), GRID), GRID, 60.0)
    assert np.abs(sample.samples).max() < 1e-6
    assert sample.loop_start == sample.loop_end == len(sample.samples)
    assert np.abs(held(sample, nominal_hz(60), 1.0)).max() < 1e-6


def test_a_faint_note_stays_faint() -> None:
    loud, faint = (decode_samples(target(gain * note(60), GRID), GRID, 60.0) for gain in (1.0, 0.001))
    assert loudest_rms(loud.samples) == pytest.approx(1.0, abs=0.02)
    assert loudest_rms(faint.samples) < 0.05


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(21, 108), st.sampled_from([0.0, 2.0, 6.0]))
def test_any_output_becomes_a_sample_that_voices_can_play(seed: int, midi: float, spread: float) -> None:
    """What an untrained network says: noise of any loudness, at any pitch."""
    rng = np.random.default_rng(seed)
    planes = np.stack(
        [
            rng.normal(-5, spread, (GRID.bins, GRID.frames)),
            rng.uniform(-np.pi, np.pi, (GRID.bins, GRID.frames)),
        ]
    )
    sample = decode_samples(planes, GRID, midi)
    assert np.isfinite(sample.samples).all()
    assert loudest_rms(as_played(sample)) < 1.01
    assert 0 <= sample.loop_start <= sample.loop_end <= len(sample.samples) <= GRID.samples
    assert sample.decay_db_per_s <= 0
    sound = held(sample, nominal_hz(midi), 0.5)
    assert np.isfinite(sound).all()


@settings(max_examples=40)
@given(
    st.sampled_from([16, 64, 512, 2048]),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(2, 40),
    st.sampled_from([1000, 8000, 44_100, 192_000]),
    st.floats(0, 127),
)
@example(16, 4, 2, 1000, 0.0)  # no sample of it is before the fade
def test_any_grid_that_a_bundle_may_have_is_played(
    fft_samples: int, parts: int, frames: int, rate_hz: int, midi: float
) -> None:
    grid = Stft(fft_samples, fft_samples // parts, frames, rate_hz)
    rng = np.random.default_rng(frames)
    planes = rng.normal(0, 1, (1, 2, grid.bins, grid.frames))
    sample = decode_samples(planes, grid, midi)
    assert np.isfinite(sample.samples).all()
    assert 0 <= sample.loop_start <= sample.loop_end <= len(sample.samples) <= grid.samples
    if sample.loop_end < len(sample.samples):
        assert len(sample.samples) >= sample.loop_end + GUARD_SAMPLES


# In a voice


def test_bends_retriggers_steals_and_releases_do_not_click() -> None:
    samples = [decode_samples(target(note(midi), GRID), GRID, midi) for midi in (48.0, 60.0)]
    bank = VoiceBank(1, 1, 1, RATE_HZ, samples=GRID.samples)
    rng = np.random.default_rng(5)
    pieces = []
    for turn in range(40):
        sample = samples[turn % 2]
        bank.start(0, sample, sample.f0_hz, 0.1, made_for_hz=sample.f0_hz)
        for ratio in (1.0, 2.0, 0.5, 1.1):
            bank.bend(0, sample.f0_hz * ratio, 0.05 if turn % 3 else 0.0)
            out = np.zeros((int(rng.integers(500, 6000)), 2), np.float32)
            bank.render(out)
            pieces.append(out)
        if turn % 4 == 3:
            bank.release(0)
            pieces.append(np.zeros((RATE_HZ // 5, 2), np.float32))
            bank.render(pieces[-1])
    sound = np.concatenate(pieces)
    assert level(sound).rms_dbfs > -30
    assert clicks(sound, RATE_HZ, 2 * HEARD_HZ) == []


def test_a_sample_is_as_loud_as_its_gain() -> None:
    sample = decode_samples(target(note(60), GRID), GRID, 60.0)
    for gain in (0.05, 0.2):
        sound = held(sample, nominal_hz(60), 1.0, gain)[:, 0] * np.sqrt(2)  # the middle has half the power
        moment = round(LOUDEST_S * RATE_HZ)
        energy = np.concatenate([[0.0], np.cumsum(sound.astype(np.float64) ** 2)])
        loudest = np.sqrt((energy[moment:] - energy[:-moment]).max() / moment)
        assert 20 * np.log10(loudest / gain) == pytest.approx(0.0, abs=0.3)
