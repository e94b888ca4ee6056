from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from teachers import plucked, write_classes, write_network

from device.errors import DarkrackError
from train.teacher import (
    KINDS,
    at_listening_level,
    heard_second,
    load_teacher,
    mn04_spectrogram,
    mn04_spectrogram_of_tiled,
    noise_bed,
    yamnet_mel,
    yamnet_window,
)

NOISE = np.random.default_rng(1).normal(0.0, 0.1, (3, 48_000)).astype(np.float32)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A network with mn04's shape and a list of its classes beside it."""
    write_network(tmp_path / "tiny.onnx")
    write_classes(tmp_path / "audioset_527.csv", 527)
    return tmp_path / "tiny.onnx"


@pytest.mark.data
def test_mn04_reproduces_golden(darkrack_data: Path) -> None:
    golden = np.load(darkrack_data / "teachers" / "golden.npz")
    teacher = load_teacher("mn04", darkrack_data / "teachers" / "mn04_as.onnx")
    assert teacher.official
    assert teacher.classes[140] == "Guitar"
    spectrogram = mn04_spectrogram(golden["wav32k"])
    logits, embeddings = teacher.infer(spectrogram)
    np.testing.assert_allclose(spectrogram, golden["mn04_spec"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(logits, golden["mn04_logits"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(embeddings, golden["mn04_features"], atol=1e-4, rtol=0)


@pytest.mark.data
def test_yamnet_reproduces_golden(darkrack_data: Path) -> None:
    golden = np.load(darkrack_data / "teachers" / "golden.npz")
    teacher = load_teacher("yamnet", darkrack_data / "teachers" / "yamnet_float.onnx")
    assert teacher.official
    bands = teacher.front_end(golden["wav16k"])
    logits, embeddings = teacher.infer(bands)
    np.testing.assert_allclose(bands, golden["yamnet_log_mel"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(logits, golden["yamnet_logits"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(embeddings, golden["yamnet_embedding"], atol=1e-4, rtol=0)


@pytest.mark.data
def test_yamnet_s_tables_are_the_published_ones(darkrack_data: Path) -> None:
    """To the last bit: one unit in the last place of the window shows behind the logarithm."""
    published = np.load(darkrack_data / "teachers" / "yamnet_frontend.npz")
    np.testing.assert_array_equal(yamnet_window(), published["win"])
    np.testing.assert_array_equal(yamnet_mel().T, published["mel"])


def test_yamnet_s_window_is_a_hann_window_but_for_rounding() -> None:
    exact = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    np.testing.assert_allclose(yamnet_window(), exact, atol=3e-7, rtol=0)
    assert yamnet_window().dtype == np.float32


@pytest.mark.data
@pytest.mark.parametrize(("name", "weights"), [("mn04", "mn04_as.onnx"), ("yamnet", "yamnet_float.onnx")])
def test_several_threads_hear_what_one_hears(darkrack_data: Path, name: str, weights: str) -> None:
    teacher = load_teacher(name, darkrack_data / "teachers" / weights)
    notes = [plucked(pitch, 0.4)[None] for pitch in range(40, 64)]
    alone = [teacher.hear(note, 48_000) for note in notes]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda note: teacher.hear(note, 48_000), notes))
    for (logits, embeddings), (same_logits, same_embeddings) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(logits, same_logits)
        np.testing.assert_array_equal(embeddings, same_embeddings)


@pytest.mark.data
@pytest.mark.parametrize(("name", "weights"), [("mn04", "mn04_as.onnx"), ("yamnet", "yamnet_float.onnx")])
def test_real_notes_are_told_apart(darkrack_data: Path, name: str, weights: str) -> None:
    """On NSynth's notes "Guitar" is higher for guitars, "Organ" for organs: area under the ROC over .7."""
    import csv

    import soundfile

    with (darkrack_data / "nsynth60" / "notes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    audio, rate = soundfile.read(darkrack_data / "nsynth60" / "nsynth60.flac", dtype="float32")
    notes = np.stack([audio[int(row["start"]) :][: 4 * rate] for row in rows])
    teacher = load_teacher(name, darkrack_data / "teachers" / weights)
    logits, _ = teacher.hear(notes, rate)
    for family, class_name in (("guitar", "Guitar"), ("organ", "Organ")):
        heard = logits[:, teacher.classes.index(class_name)]
        is_one = np.array([row["instrument_family_str"] == family for row in rows])
        assert (heard[is_one][:, None] > heard[~is_one][None]).mean() > 0.7


@pytest.mark.data
def test_only_the_first_second_is_heard_and_not_its_level(darkrack_data: Path) -> None:
    teacher = load_teacher("mn04", darkrack_data / "teachers" / "mn04_as.onnx")
    note = np.stack([plucked(60, 0.5), plucked(52, 0.9)])
    second = teacher.hear(note[:, :48_000], 48_000)
    for other in (note, 0.01 * note, np.pad(note[:, :48_000], ((0, 0), (0, 9_600)), constant_values=0.2)):
        for mine, theirs in zip(second, teacher.hear(other.astype(np.float32), 48_000), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=2e-3)


def test_a_batch_hears_what_single_notes_hear(tiny: Path) -> None:
    teacher = load_teacher("mn04", tiny)
    notes = np.stack([plucked(pitch, 0.3) for pitch in range(40, 60)])  # more than one batch
    logits, embeddings = teacher.hear(notes, 48_000)
    assert logits.shape == (20, 527)
    assert embeddings.shape == (20, 384)
    assert logits.dtype == embeddings.dtype == np.float32
    alone, _ = teacher.hear(notes[13:14], 48_000)
    np.testing.assert_allclose(logits[13], alone[0], atol=1e-3)


def test_three_seconds_from_the_frames_of_one() -> None:
    second = NOISE[:, :32_000]
    whole = mn04_spectrogram(np.tile(second, 3))
    assert whole.shape == (3, 128, 300)
    np.testing.assert_allclose(mn04_spectrogram_of_tiled(second), whole, atol=1e-5)


def test_a_sine_lights_its_mel_band() -> None:
    sine = np.sin(2 * np.pi * 1000 * np.arange(32_000) / 32_000).astype(np.float32)
    bands = mn04_spectrogram(sine[None])[0, :, 50]
    mel = 1127 * np.log1p(1000 / 700)
    assert int(bands.argmax()) == round(mel / (1127 * np.log1p(15_000 / 700) / 129)) - 1


@given(gain_db=st.floats(-80.0, 20.0))
@settings(deadline=None, max_examples=20)
def test_every_note_comes_to_one_level(gain_db: float) -> None:
    level = at_listening_level(NOISE * np.float32(10 ** (gain_db / 20)), 48_000)
    loudest = np.sqrt((level.reshape(3, 20, 2400) ** 2).mean(axis=2)).max(axis=1)
    np.testing.assert_allclose(20 * np.log10(loudest), -15.0, atol=1e-3)


def test_silence_stays_silence() -> None:
    assert not heard_second(np.zeros((2, 100), np.float32), 48_000, 32_000).any()


def test_a_resampled_sine_keeps_its_pitch_and_level() -> None:
    sine = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100).astype(np.float32)
    second = heard_second(sine[None], 44_100, 32_000)[0]
    assert second.shape == (32_000,)
    ours = np.sqrt(2) * 10 ** (-15 / 20) * np.sin(2 * np.pi * 440 * np.arange(32_000) / 32_000)
    np.testing.assert_allclose(second[200:-200], ours[200:-200], atol=2e-3)


def test_the_bed_is_one_noise_at_its_level() -> None:
    bed = noise_bed(48_000, -90.0)
    assert bed.shape == (48_000,)
    assert 20 * np.log10(np.sqrt(np.mean(bed.astype(np.float64) ** 2))) == pytest.approx(-90.0, abs=1e-3)
    np.testing.assert_array_equal(bed, noise_bed(48_000, -90.0))
    np.testing.assert_allclose(noise_bed(48_000, -70.0), 10 * bed, rtol=1e-5)
    quarters = np.abs(np.fft.rfft(bed)[1:].reshape(4, -1)) ** 2  # white: a quarter of the band each
    np.testing.assert_allclose(quarters.sum(axis=1) / quarters.sum(), 0.25, atol=0.01)


def test_the_bed_is_what_a_teacher_hears_of_silence(tiny: Path) -> None:
    teacher = load_teacher("mn04", tiny)
    silence = np.zeros((2, 48_000), np.float32)
    plain, _ = teacher.hear(silence, 48_000)
    np.testing.assert_array_equal(teacher.hear(silence, 48_000, None)[0], plain)
    bedded, _ = teacher.hear(silence, 16_000, -70.0)
    np.testing.assert_array_equal(bedded[0], bedded[1])
    expected, _ = teacher.infer(teacher.front_end(noise_bed(32_000, -70.0)[None]))
    np.testing.assert_allclose(bedded[0], expected[0], atol=1e-3)
    assert np.abs(bedded - plain).max() > 0.1


def test_the_bed_hides_the_floor_under_a_note(tiny: Path) -> None:
    """White noise at -100 dBFS beside none, with and without a bed 20 dB above it."""
    teacher = load_teacher("mn04", tiny)
    note = plucked(60, 0.5)[None]
    noisy = note + np.random.default_rng(2).normal(0.0, 1e-5, note.shape).astype(np.float32)

    def difference(bed_dbfs: float | None) -> float:
        hears = [teacher.hear(audio, 48_000, bed_dbfs)[0] for audio in (note, noisy)]
        return float(np.abs(hears[0] - hears[1]).mean())

    assert difference(-80.0) < 0.5 * difference(None)


@pytest.mark.parametrize("level_dbfs", [0.0, 6.0, np.nan, -np.inf])
def test_a_bed_of_no_level_is_refused(tiny: Path, level_dbfs: float) -> None:
    with pytest.raises(DarkrackError, match="below 0 dBFS"):
        load_teacher("mn04", tiny).hear(NOISE, 48_000, level_dbfs)


def test_weights_that_are_unknown_are_taken_and_said(tiny: Path) -> None:
    teacher = load_teacher("mn04", tiny)
    assert not teacher.official
    assert len(teacher.weights_sha256) == 64


def test_external_data_count_among_the_weights(tiny: Path) -> None:
    before = load_teacher("mn04", tiny).weights_sha256
    tiny.with_name("tiny.onnx.data").write_bytes(b"other weights")
    assert load_teacher("mn04", tiny).weights_sha256 != before


def test_missing_weights_say_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DarkrackError, match="EfficientAT") as caught:
        load_teacher("mn04", tmp_path / "mn04_as.onnx")
    assert "mn04_as.onnx" in caught.value.where
    with pytest.raises(DarkrackError, match="TensorFlow Hub"):
        load_teacher("yamnet", tmp_path / "yamnet.onnx")


def test_missing_class_list_is_named(tmp_path: Path) -> None:
    write_network(tmp_path / "tiny.onnx")
    with pytest.raises(DarkrackError, match="--classes"):
        load_teacher("mn04", tmp_path / "tiny.onnx")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("index,mid,display_name\n0,/m/0,Speech\n", "527 classes, got 1"),
        ("index,mid,name\n" + "0,/m/0,Speech\n" * 527, "empty or there twice"),
        ("index,mid,display_name\n" + "0,/m/0,Speech\n" * 527, "empty or there twice"),
        ("display_name\n\xff\n", "UTF-8"),
    ],
)
def test_a_wrong_class_list_is_refused(tiny: Path, text: str, problem: str) -> None:
    tiny.with_name("audioset_527.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DarkrackError, match=problem):
        load_teacher("mn04", tiny)


def test_a_network_with_another_number_of_classes_is_refused(tiny: Path) -> None:
    write_network(tiny, outputs=50)
    with pytest.raises(DarkrackError, match=r"527 classes, got logits of shape \(1, 50\)"):
        load_teacher("mn04", tiny)


def test_a_network_of_other_frames_is_refused(tiny: Path) -> None:
    write_network(tiny, bands=64)
    with pytest.raises(DarkrackError, match=r"takes frames of shape \(1, 128, 300\)"):
        load_teacher("mn04", tiny)


def test_a_network_that_answers_in_no_numbers_is_refused(tiny: Path) -> None:
    write_network(tiny, gain=np.nan)
    teacher = load_teacher("mn04", tiny)
    with pytest.raises(DarkrackError, match="finite logits"):
        teacher.hear(NOISE, 48_000)


def test_a_network_with_other_names_is_refused(tiny: Path) -> None:
    write_network(tiny, seen="waveform")
    with pytest.raises(DarkrackError, match="the input 'spec'"):
        load_teacher("mn04", tiny)


def test_a_file_that_is_no_network_is_refused(tiny: Path) -> None:
    tiny.write_bytes(b"PK\x03\x04 not ONNX")
    with pytest.raises(DarkrackError, match="in ONNX"):
        load_teacher("mn04", tiny)


def test_an_unknown_teacher_is_refused(tiny: Path) -> None:
    with pytest.raises(DarkrackError, match="mn04 or yamnet"):
        load_teacher("vggish", tiny)


@pytest.mark.parametrize("name", KINDS)
def test_a_network_without_its_file_says_where_to_get_it(name: str) -> None:
    with pytest.raises(DarkrackError, match="the network of") as caught:
        load_teacher(name)
    assert caught.value.where == "--weights"
    assert caught.value.hint


def test_descriptors_take_no_files(tiny: Path) -> None:
    with pytest.raises(DarkrackError, match="computed") as caught:
        load_teacher("descriptors", tiny)
    assert caught.value.where == "--weights"
    with pytest.raises(DarkrackError, match="computed") as caught:
        load_teacher("descriptors", classes_path=tiny)
    assert caught.value.where == "--classes"


def test_audio_that_cannot_be_heard_is_refused(tiny: Path) -> None:
    teacher = load_teacher("mn04", tiny)
    broken = NOISE.copy()
    broken[1, 7] = np.nan
    with pytest.raises(DarkrackError, match="note 1 of the batch"):
        teacher.hear(broken, 48_000)
    with pytest.raises(DarkrackError, match=r"shape \(0, 5\)"):
        teacher.hear(np.zeros((0, 5), np.float32), 48_000)
    with pytest.raises(DarkrackError, match="shape"):
        teacher.hear(NOISE[0], 48_000)
    with pytest.raises(DarkrackError, match="0 Hz"):
        teacher.hear(NOISE, 0)
