"""Descriptors: each moves as its name says, by the figure where there is one, and nothing else moves them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training import write_set

from device.errors import DarkrackError
from device.partials import nominal_hz
from train import descriptors
from train.dataset import soft_label
from train.descriptors import CALIBRATION, CLASSES, MEASURES, analyse, measure
from train.teacher import load_teacher

RATE_HZ = 48_000
SECONDS = np.arange(RATE_HZ) / RATE_HZ
FEW = settings(deadline=None, max_examples=20)
PITCHES = (36, 48, 60, 72, 84)
Audio = npt.NDArray[np.float64]


def note(f0_hz: float, slope_db: float = 6.0, stretch: float = 0.0) -> Audio:
    """Partials at k f0 sqrt(1 + stretch k^2) up to 15 kHz, falling by ``slope_db`` an octave; no click at first."""
    audio = np.zeros_like(SECONDS)
    for k in range(1, int(15_000 / f0_hz) + 1):
        hz = k * f0_hz * np.sqrt(1 + stretch * k**2)
        if hz < 16_000:
            audio += 10 ** (-slope_db * np.log2(k) / 20) * np.sin(2 * np.pi * hz * SECONDS + k * k)
    return audio * np.clip(SECONDS / 0.003, 0, 1)


def sines(*partials: tuple[float, float]) -> Audio:
    """Sines of (Hz, amplitude)."""
    return sum((a * np.sin(2 * np.pi * hz * SECONDS + hz) for hz, a in partials), np.zeros_like(SECONDS))


def filtered(audio: Audio, gain_db: npt.NDArray[np.float64]) -> Audio:
    """``audio`` with a gain for each bin of its whole spectrum, 1 Hz apart."""
    return np.fft.irfft(np.fft.rfft(audio) * 10 ** (gain_db / 20), len(audio))


def value(name: str, audio: Audio) -> float:
    return MEASURES[name](analyse(audio, RATE_HZ))


def rises(values: list[float]) -> bool:
    return bool((np.diff(values) > 0).all())


# Each as its name says


@pytest.mark.parametrize("pitch", PITCHES)
def test_a_low_pass_takes_brightness_away(pitch: int) -> None:
    f0_hz = nominal_hz(pitch)
    audio, hz = note(f0_hz), np.arange(RATE_HZ // 2 + 1)
    cutoffs_hz = [2 * f0_hz, 4 * f0_hz, 8 * f0_hz]
    low_passed = [filtered(audio, -12 * np.log2(np.maximum(hz / cutoff, 1))) for cutoff in cutoffs_hz]
    assert rises([value("Brightness", one) for one in [*low_passed, audio]])


@given(st.sampled_from(PITCHES), st.floats(0, 15), st.floats(1, 9))
@FEW
def test_a_steeper_spectrum_is_less_bright(pitch: int, slope_db: float, more_db: float) -> None:
    steep, flat = note(nominal_hz(pitch), slope_db + more_db), note(nominal_hz(pitch), slope_db)
    assert value("Brightness", steep) < value("Brightness", flat)


def test_nothing_is_less_bright_than_a_sine() -> None:
    for pitch in PITCHES:
        sine, dull = (
            value("Brightness", one)
            for one in (sines((nominal_hz(pitch), 1.0)), note(nominal_hz(pitch), 12.0))
        )
        assert sine < dull
        assert sine < 3.5  # Cams: a filter of the ear is as wide as that at its foot


def test_brightness_orders_a_pitch_as_the_centroid_of_librosa_does() -> None:
    import librosa

    audio = [note(nominal_hz(60), slope_db) for slope_db in (3, 18, 9, 24, 12, 0)]
    centroids = [librosa.feature.spectral_centroid(y=one, sr=RATE_HZ).mean() for one in audio]
    assert np.argsort(centroids).tolist() == np.argsort([value("Brightness", one) for one in audio]).tolist()


@pytest.mark.parametrize("pitch", PITCHES)
@pytest.mark.parametrize("silence_s", [0.0, 0.2])
def test_attack_is_the_time_that_a_ramp_takes(pitch: int, silence_s: float) -> None:
    ramps_s = [0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7]
    audio = note(nominal_hz(pitch))
    values = [value("Attack", audio * np.clip((SECONDS - silence_s) / ramp_s, 0, 1)) for ramp_s in ramps_s]
    assert rises(values)
    for ramp_s, log_s in zip(ramps_s[3:], values[3:], strict=True):
        assert 10**log_s == pytest.approx(0.8 * ramp_s, rel=0.1)  # from 10 to 90 %


def test_a_slow_end_is_no_part_of_the_attack() -> None:
    rise = np.interp(SECONDS, [0, 0.05, 1.0], [0, 0.95, 1.0])
    assert 10 ** value("Attack", note(220.0) * rise) < 0.06
    decay = np.clip(SECONDS / 0.05, 0, 1) * np.exp(-5 * SECONDS)
    assert 10 ** value("Attack", note(220.0) * decay) < 0.06


def test_warmth_is_energy_to_three_and_a_half_f0_over_the_rest() -> None:
    audio = sines(*((220.0 * k, 1 / k) for k in range(1, 9)))
    below, above = sum(1 / k**2 for k in (1, 2, 3)), sum(1 / k**2 for k in range(4, 9))
    assert value("Warmth", audio) == pytest.approx(10 * np.log10(below / above), abs=0.1)
    assert 50 < value("Warmth", sines((220.0, 1.0))) <= 60


@pytest.mark.parametrize("pitch", [36, 43, 50])
def test_a_low_shelf_makes_warm_and_boomy(pitch: int) -> None:
    hz, audio = np.arange(RATE_HZ // 2 + 1), note(nominal_hz(pitch), 3.0)
    edge_hz = 3.4 * nominal_hz(pitch)
    shelved = [filtered(audio, gain_db / (1 + (hz / edge_hz) ** 4)) for gain_db in (0, 4, 8, 12)]
    assert rises([value("Warmth", one) for one in shelved])
    assert rises([value("Boominess", one) for one in shelved])


def test_high_notes_do_not_boom() -> None:
    booms = [value("Boominess", note(nominal_hz(pitch), 12.0)) for pitch in reversed(PITCHES)]
    assert rises(booms)
    assert booms[0] < 0.01


def test_roughness_of_two_sines_by_hand() -> None:
    # X = .5, Y = 2 * .5 / 1.5, s = .24 / (.0207 * 500 + 18.96), and they are 40 Hz apart
    apart = 0.24 / (0.0207 * 500 + 18.96) * 40
    expected = 0.5**0.1 / 2 * (2 / 3) ** 3.11 * (np.exp(-3.5 * apart) - np.exp(-5.75 * apart))
    assert value("Roughness", sines((500.0, 1.0), (540.0, 0.5))) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("hz", [300.0, 1000.0, 3000.0])
@pytest.mark.parametrize("apart_hz", [30.0, 50.0, 70.0])
def test_two_sines_beat_roughly_when_near(hz: float, apart_hz: float) -> None:
    rough = value("Roughness", sines((hz, 1.0), (hz + apart_hz, 1.0)))
    for other_hz in (0.0, 2.0, 2000.0):
        assert rough > 3 * value("Roughness", sines((hz, 1.0), (hz + other_hz, 1.0)))


@pytest.mark.parametrize("pitch", PITCHES)
def test_noise_makes_noisy_by_its_share(pitch: int) -> None:
    noise = np.random.default_rng(pitch).standard_normal(RATE_HZ)
    audio = note(nominal_hz(pitch), 9.0)
    audio /= audio.std()
    values = [value("Noisiness", audio + 10 ** (level_db / 20) * noise) for level_db in (-60, -40, -20, 0)]
    assert rises([value("Noisiness", audio), *values])
    heard = np.array([-60, -40, -20, -3]) + 10 * np.log10(
        [2 / 3, 2 / 3, 2 / 3, 4 / 5]
    )  # 16 of the noise's 24 kHz
    np.testing.assert_allclose(values, heard, atol=1.5)


@pytest.mark.parametrize("pitch", PITCHES)
def test_stretched_partials_are_inharmonic(pitch: int) -> None:
    values = [
        value("Inharmonicity", note(nominal_hz(pitch), 6.0, stretch)) for stretch in (0, 3e-4, 1e-3, 3e-3)
    ]
    assert rises(values)
    assert values[0] < 0.001


def test_inharmonicity_by_hand() -> None:
    # The fundamental is as strong as can be; the third partial lies .26 f0 off: 2 * .26, by its energy.
    audio = sines((300.0, 1.0), (600.0, 0.8), (978.0, 0.2))
    assert value("Inharmonicity", audio) == pytest.approx(0.52 * 0.04 / (1 + 0.64 + 0.04), rel=0.02)


@given(st.floats(36, 84), st.floats(0, 18))
@FEW
def test_the_fundamental_is_found(pitch: float, slope_db: float) -> None:
    assert analyse(note(nominal_hz(pitch), slope_db), RATE_HZ).f0_hz == pytest.approx(
        nominal_hz(pitch), rel=1e-3
    )


# Nothing else moves them


@pytest.mark.parametrize("gain", [1e-4, 0.03, 20.0])
def test_level_changes_nothing(gain: float) -> None:
    audio = note(nominal_hz(50)) + 0.01 * np.random.default_rng(1).standard_normal(RATE_HZ)
    np.testing.assert_allclose(measure(gain * audio, RATE_HZ), measure(audio, RATE_HZ), rtol=1e-4)


def test_what_follows_the_first_second_changes_nothing_and_what_lacks_is_silence() -> None:
    audio = note(nominal_hz(50)) * np.exp(-20 * SECONDS)
    longer = np.concatenate([audio, np.random.default_rng(1).standard_normal(RATE_HZ)])
    np.testing.assert_array_equal(measure(longer, RATE_HZ), measure(audio, RATE_HZ))
    half = audio.copy()
    half[RATE_HZ // 2 :] = 0
    np.testing.assert_array_equal(measure(audio[: RATE_HZ // 2], RATE_HZ), measure(half, RATE_HZ))


def test_one_sample_of_a_higher_rate_is_silence() -> None:
    np.testing.assert_array_equal(measure(np.ones(1), 384_000), measure(np.zeros(RATE_HZ), RATE_HZ))


def test_another_rate_says_the_same() -> None:
    import soxr

    audio = note(nominal_hz(60), 9.0) * np.clip(SECONDS / 0.1, 0, 1)
    there = measure(soxr.resample(audio, RATE_HZ, 44_100, "HQ"), 44_100)
    np.testing.assert_allclose(there, measure(audio, RATE_HZ), rtol=0.02, atol=0.01)


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(RATE_HZ),
        np.eye(1, RATE_HZ, 100)[0],
        np.ones(RATE_HZ),
        np.full(10, 0.1),
        np.random.default_rng(0).standard_normal(RATE_HZ),
    ],
    ids=["silence", "click", "constant", "ten samples", "noise"],
)
def test_what_is_no_note_still_has_finite_labels(audio: Audio) -> None:
    logits, embeddings = load_teacher("descriptors").hear(audio[None].astype(np.float32), RATE_HZ)
    assert np.isfinite(logits).all()
    assert np.isfinite(embeddings).all()
    assert np.isfinite(measure(audio, RATE_HZ)).all()


@pytest.mark.parametrize("audio", [np.zeros(0), np.zeros((2, 9)), np.array([0.0, np.nan])])
def test_what_cannot_be_heard_is_our_error(audio: Audio) -> None:
    with pytest.raises(DarkrackError, match="audio"):
        measure(audio, RATE_HZ)


# The teacher


def tables() -> dict[str, list[float]]:
    quantiles: dict[str, list[float]] = json.loads(CALIBRATION.read_text())["quantiles"]
    return quantiles


def share(raw: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """Soft labels at T = 1 of raw values, as the teacher's logits give them in float32."""
    table = descriptors._tables(CALIBRATION)[CLASSES.index(name)]
    return soft_label(descriptors._logit_of(np.asarray(raw, np.float64), table).astype(np.float32), 1.0)


@pytest.mark.parametrize("name", CLASSES)
def test_a_label_is_the_share_of_notes_that_have_less(name: str) -> None:
    quantiles = tables()[name]
    probability = 0.005 + 0.99 * np.arange(33) / 32
    single = [n for n, one in enumerate(quantiles) if quantiles.count(one) == 1]
    np.testing.assert_allclose(share([quantiles[n] for n in single], name), probability[single], atol=1e-6)
    equal = [n for n, one in enumerate(quantiles) if quantiles.count(one) > 1]
    if equal:  # many notes have no roughness at all
        np.testing.assert_allclose(share([quantiles[equal[0]]], name), probability[equal].mean(), atol=1e-6)


@pytest.mark.parametrize("name", CLASSES)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20))
@FEW
def test_labels_rise_and_stay_within(name: str, raw: list[float]) -> None:
    labels = share(np.sort(raw), name)
    assert (np.diff(labels) >= 0).all()
    assert 0 < labels.min() <= labels.max() < 1


@pytest.mark.parametrize("name", CLASSES)
def test_labels_go_on_beyond_the_ends(name: str) -> None:
    values = np.unique(tables()[name])
    reach = np.array([0, 0.3, 1.0])
    assert rises(share(values[-1] + (values[-1] - values[-5]) * reach, name).tolist())
    assert rises(share(values[0] - (values[4] - values[0]) * reach[::-1], name).tolist())


def test_the_teacher_is_a_tagger_of_seven_classes() -> None:
    teacher = load_teacher("descriptors")
    audio = np.stack([note(nominal_hz(60), slope_db) for slope_db in (6.0, 18.0)])[:, : RATE_HZ // 2]
    logits, embeddings = teacher.hear(audio.astype(np.float32), RATE_HZ)
    assert (teacher.name, teacher.classes, len(teacher.weights_sha256)) == ("descriptors", CLASSES, 64)
    assert logits.shape == embeddings.shape == (2, teacher.embedding_size) == (2, 7)
    assert logits.dtype == embeddings.dtype == np.float32
    assert logits[0, 0] > logits[1, 0]
    for row, one in enumerate(audio):
        for column, raw in enumerate(measure(one, RATE_HZ)):
            assert soft_label(logits[row], 1.0)[column] == pytest.approx(
                share(raw, CLASSES[column]), abs=1e-3
            )
    again, _ = teacher.hear(audio.astype(np.float32), RATE_HZ)
    np.testing.assert_array_equal(again, logits)


@pytest.mark.data
def test_real_notes_spread_over_the_table(darkrack_data: Path) -> None:
    """60 notes of NSynth, another collection than the reference: labels neither crowd nor stick to an end."""
    import csv

    import soundfile

    folder = darkrack_data / "nsynth60"
    with (folder / "notes.csv").open(newline="") as file:
        starts = [int(row["start"]) for row in csv.DictReader(file)]
    audio, rate = soundfile.read(folder / "nsynth60.flac", dtype="float32")
    second = np.stack([audio[start : start + rate] for start in starts])
    labels = soft_label(load_teacher("descriptors").hear(second, rate)[0], 1.0)
    assert (labels.std(axis=0) > 0.1).all()
    assert ((labels.mean(axis=0) > 0.1) & (labels.mean(axis=0) < 0.9)).all()


# Its calibration


def test_a_calibration_is_the_quantiles_of_its_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from train.notes import read_audio, read_notes

    folder = write_set(tmp_path / "set", instruments=4)
    with pytest.raises(DarkrackError, match="at least 1000 notes in tune"):
        descriptors.calibrate(folder, tmp_path / "table.json")
    monkeypatch.setattr(descriptors, "LEAST_NOTES", 20)
    descriptors.calibrate(folder, tmp_path / "table.json")
    written = json.loads((tmp_path / "table.json").read_text())
    raw = np.array([measure(read_audio(folder, one, 1.0), RATE_HZ) for one in read_notes(folder)])
    assert written["notes"] == len(raw) == 20
    for column, name in enumerate(CLASSES):
        assert written["quantiles"][name][16] == pytest.approx(np.median(raw[:, column]), rel=1e-5, abs=1e-9)
    before = load_teacher("descriptors")
    monkeypatch.setattr(descriptors, "CALIBRATION", tmp_path / "table.json")
    assert load_teacher("descriptors").weights_sha256 != before.weights_sha256  # labels count as another's


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content["quantiles"].pop("Attack"), "KeyError"),
        (lambda content: content["quantiles"]["Attack"].pop(), "calibration"),
        (lambda content: content["quantiles"]["Attack"].reverse(), "Attack: expected finite quantiles"),
        (lambda content: content["quantiles"].update(Attack=[1.0] * 33), "Attack: expected finite"),
        (lambda content: content["quantiles"].update(Attack=[float("nan")] * 33), "Attack: expected finite"),
        (lambda content: content.update(version=0), "version 0"),
        (lambda content: content.clear(), "KeyError"),
    ],
)
def test_a_damaged_calibration_is_our_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: object, says: str
) -> None:
    content = json.loads(CALIBRATION.read_text())
    assert callable(change)
    change(content)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(content))
    monkeypatch.setattr(descriptors, "CALIBRATION", path)
    with pytest.raises(DarkrackError, match=says) as caught:
        load_teacher("descriptors")
    assert str(path) in caught.value.where
    path.unlink()
    descriptors._tables.cache_clear()
    with pytest.raises(DarkrackError, match="No such file"):
        load_teacher("descriptors")
