"""The judge's classifier on notes whose pitch and family are planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from device.errors import DarkrackError
from device.partials import nominal_hz
from train import classifier
from train.classifier import FAMILIES, prepare
from train.notes import Note, note_name, read_audio, read_notes, write_notes

RATE_HZ = 48_000
RANGE_MIDI = (48.0, 60.0)


def write_set(folder: Path, instruments: int = 40, families: tuple[str, ...] = ("organ", "guitar")) -> Path:
    """Steady organs and decaying guitars, each instrument with its own slope; a note every third semitone."""
    random = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    seconds = np.arange(RATE_HZ) / RATE_HZ
    notes = []
    for instrument in range(instruments):
        family = families[instrument % len(families)]
        name, file = f"{family}_{instrument:02d}", f"audio/{instrument}.flac"
        slope_db, pieces = random.uniform(3, 9), []
        for pitch in range(48, 61, 3):
            note = np.zeros_like(seconds)
            for k in range(1, 13):
                fall = np.exp(-seconds * (0 if family == "organ" else random.uniform(3, 6)))
                phase = random.uniform(0, 6)
                note += (
                    10 ** (-slope_db * np.log2(k) / 20)
                    * fall
                    * np.sin(2 * np.pi * k * nominal_hz(pitch) * seconds + phase)
                )
            pieces.append(0.1 * note)
            notes.append(
                Note(
                    note_str=note_name(name, pitch, 100),
                    instrument_str=name,
                    instrument_family_str=family,
                    instrument_source_str="acoustic",
                    pitch=pitch,
                    velocity=100,
                    sample_rate=RATE_HZ,
                    file=file,
                    start=len(seconds) * (len(pieces) - 1),
                    samples=len(seconds),
                    f0_hz=nominal_hz(pitch),
                    cents=0.0,
                    check="ok",
                    tags="",
                )
            )
        soundfile.write(folder / file, np.concatenate(pieces), RATE_HZ, subtype="PCM_16")
    write_notes(folder, notes)
    return folder


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_set(tmp_path_factory.mktemp("classifier") / "set", instruments=60)
    assert prepare([folder], RANGE_MIDI) is not None
    return folder


def test_it_names_pitch_and_family_of_instruments_it_never_heard(taught: Path) -> None:
    judge = prepare([taught], RANGE_MIDI)
    assert judge is not None
    assert judge.accuracy["pitch"]["unseen_instruments"].value > 0.9
    assert judge.accuracy["family"]["unseen_instruments"].value > 0.9
    low, value, high = (judge.accuracy["pitch"]["unseen_notes"][n] for n in (1, 0, 2))
    assert low <= value <= high
    notes = read_notes(taught)[:10]
    audio = np.stack([read_audio(taught, note, 1.0) for note in notes])
    pitch, family = judge.probabilities(audio, RATE_HZ)
    assert pitch.shape == (10, 13)
    assert family is not None
    assert family.shape == (10, len(FAMILIES))
    np.testing.assert_allclose(pitch.sum(1), 1, rtol=1e-5)
    assert [48 + int(n) for n in pitch.argmax(1)] == [note.pitch for note in notes]


def test_level_says_nothing(taught: Path) -> None:
    judge = prepare([taught], RANGE_MIDI)
    assert judge is not None
    audio = read_audio(taught, read_notes(taught)[7], 1.0)[None]
    for loud, quiet in zip(
        judge.probabilities(audio, RATE_HZ), judge.probabilities(0.01 * audio, RATE_HZ), strict=True
    ):
        assert loud is not None
        assert quiet is not None
        np.testing.assert_allclose(loud, quiet, atol=1e-3)


def test_it_is_trained_once_and_only_when_allowed(
    taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_set(tmp_path / "other", instruments=12)
    assert prepare([other], RANGE_MIDI, train=False) is None

    def never(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(classifier, "_train", never)
    assert prepare([taught], RANGE_MIDI) is not None


def test_a_stopped_training_goes_on_and_ends_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "EPOCHS", 3)
    whole, stopped = write_set(tmp_path / "whole", 30), write_set(tmp_path / "stopped", 30)
    once = prepare([whole], RANGE_MIDI)
    real, calls = classifier._disturbed, []

    def stop_in_the_second_epoch(*words: object) -> object:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*words)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(classifier, "_disturbed", stop_in_the_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            prepare([stopped], RANGE_MIDI)
    assert list(stopped.glob("judge-*.part"))
    again = prepare([stopped], RANGE_MIDI)
    assert once is not None
    assert again is not None
    assert not list(stopped.glob("judge-*.part"))
    assert again.accuracy == once.accuracy


def test_a_damaged_classifier_is_our_error(taught: Path, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", instruments=60)
    (folder / next(taught.glob("judge-*.pt")).name).write_bytes(b"no classifier")
    with pytest.raises(DarkrackError, match="a whole classifier"):
        prepare([folder], RANGE_MIDI)


def test_one_family_is_no_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "EPOCHS", 1)
    judge = prepare([write_set(tmp_path / "set", 20, ("organ",))], RANGE_MIDI)
    assert judge is not None
    pitch, family = judge.probabilities(np.ones((1, 100), np.float32), RATE_HZ)
    assert pitch.shape == (1, 13)
    assert family is None


def test_too_few_notes_teach_nothing(tmp_path: Path) -> None:
    with pytest.raises(DarkrackError, match="to train the judge's classifier on"):
        prepare([write_set(tmp_path / "set", 8)], RANGE_MIDI)


def test_a_sine_lights_the_bin_of_its_pitch() -> None:
    for midi in (45, 60, 81):
        sine = np.sin(2 * np.pi * nominal_hz(midi) * np.arange(48_000) / 48_000).astype(np.float32)
        log, mel = classifier._features(classifier._seconds(sine[None], 48_000))
        assert log.shape == (1, 288, 32)
        assert mel.shape == (1, 64, 101)
        assert abs(int(log[0, :, 16].argmax()) / 3 + 33 - midi) < 0.5
