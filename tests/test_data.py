"""The command: a set from a font and from a folder, gone on with, refused, interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_font
from hypothesis import given
from hypothesis import strategies as st

import darkrack
from device.errors import DarkrackError
from train.data import FLAC_BYTES_A_SAMPLE, TRIM_DB, numbers, trimmed
from train.notes import FIELDS, SAMPLE_RATE_HZ, read_audio, read_notes

SHORT = ["--hold-s", "0.5", "--tail-s", "0.1", "--jobs", "1"]


@pytest.fixture(scope="module")
def font(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_font.write_font(tmp_path_factory.mktemp("font") / "Tiny_GM.sf2")


def from_font(font: Path, out: Path, *options: str) -> int:
    return darkrack.main(["data", "soundfont", str(font), "--out", str(out), *SHORT, *options])


def test_a_set_from_a_font(font: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = tmp_path / "set", tmp_path / "report.json"
    options = [
        "--programs",
        "0,4,6,19,122",
        "--pitches",
        "48-72:12",
        "--velocities",
        "60,120",
    ]
    assert from_font(font, out, *options, "--json", str(report)) == 0
    assert (out / "notes.csv").read_text().splitlines()[0] == ",".join(FIELDS)
    notes = read_notes(out)
    assert len(notes) == 5 * 3 * 2
    by = {note.note_str: note for note in notes}
    plain = by["tiny_000_plain_saw-060-120"]
    assert (plain.instrument_family_str, plain.instrument_source_str) == ("keyboard", "acoustic")
    assert (plain.pitch, plain.velocity, plain.sample_rate) == (60, 120, SAMPLE_RATE_HZ)
    assert plain.f0_hz == pytest.approx(261.625, abs=0.001)
    checks = {note.instrument_str: set() for note in notes}  # type: dict[str, set[str]]
    for note in notes:
        checks[note.instrument_str].add(note.check)
    assert checks == {
        "tiny_000_plain_saw": {"ok"},
        "tiny_004_octave_low": {"octave"},
        "tiny_006_sharp_70_cents": {"detuned"},
        "tiny_019_half_empty": {"ok", "silent"},
        "tiny_122_noise": {"unpitched"},
    }
    said = capsys.readouterr().out
    assert "30 notes of 5 instruments; 30 made" in said
    assert "octave          6\n                6  tiny_004_octave_low" in said
    assert json.loads(report.read_text())["checks"]["silent"] == {"tiny_019_half_empty": 4}

    info = soundfile.info(out / plain.file)
    assert (info.samplerate, info.channels, info.format, info.subtype) == (
        SAMPLE_RATE_HZ,
        1,
        "FLAC",
        "PCM_24",
    )
    sound = read_audio(out, plain, 0.6)
    assert np.flatnonzero(sound)[0] == 1  # as fluidsynth played it, to the sample
    assert abs(sound[plain.samples - 1]) < 1e-4  # faded out
    empty = by["tiny_019_half_empty-060-060"]
    assert (empty.samples, empty.f0_hz, empty.cents) == (1, None, None)


def test_a_set_goes_on_grows_and_is_not_mixed(
    font: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--pitches", "60", "--velocities", "100"]
    assert from_font(font, tmp_path, *options, "--programs", "0,4") == 0
    audio = tmp_path / "audio" / "tiny_000_plain_saw.flac"
    before = audio.stat().st_mtime_ns
    assert from_font(font, tmp_path, *options, "--programs", "4,6") == 0
    assert "3 notes of 3 instruments; 1 made" in capsys.readouterr().out
    assert audio.stat().st_mtime_ns == before
    assert [note.instrument_str[:8] for note in read_notes(tmp_path)] == ["tiny_000", "tiny_004", "tiny_006"]

    # A part whose list is missing was not finished, whatever audio is there.
    (tmp_path / "parts" / "tiny_000_plain_saw.json").unlink()
    audio.write_bytes(b"half a file")
    assert from_font(font, tmp_path, *options, "--programs", "0") == 0
    assert "1 made" in capsys.readouterr().out
    assert soundfile.info(audio).frames > 0

    assert from_font(font, tmp_path, "--pitches", "61", "--velocities", "100", "--programs", "0") == 1
    error = capsys.readouterr().err
    assert "pitches = [60], as this set was begun, got [61]" in error
    assert "choose another --out" in error
    (tmp_path / "set.json").write_text("{")
    assert from_font(font, tmp_path, *options, "--programs", "0") == 1
    assert "JSON that darkrack wrote" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--programs", "1"], "--programs: expected programs in bank 0"),
        (["--programs", "128"], "--programs: expected numbers of 0 to 127"),
        (["--programs", "0", "--pitches", "60-"], "--pitches: expected numbers"),
        (["--programs", "0", "--velocities", "0"], "--velocities: expected numbers of 1 to 127"),
        (["--programs", "0", "--hold-s", "nan"], "--hold-s: expected 0.01 to 60"),
        (["--programs", "0", "--tail-s", "0"], "--tail-s: expected 0.01 to 60"),
        (["--programs", "0", "--jobs", "0"], "--jobs: expected 1 or more"),
    ],
)
def test_options_that_cannot_be(
    font: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert from_font(font, tmp_path / "set", *options) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_room_for_a_set_is_looked_for_before_it_is_begun(
    font: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a font: notes by seconds; of samples: what they last. Only of parts that are not there yet."""
    options = ["--programs", "0,4", "--pitches", "48-72:12", "--velocities", "60"]
    needed = 2 * 3 * 0.6 * SAMPLE_RATE_HZ * FLAC_BYTES_A_SAMPLE
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(needed) - 1))
    assert from_font(font, tmp_path / "set", *options) == 1
    assert f"expected {needed / 1e9:.3f} GB free" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(needed) + 1))
    assert from_font(font, tmp_path / "set", *options) == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert from_font(font, tmp_path / "set", *options) == 0
    samples = tmp_path / "samples"
    samples.mkdir()
    soundfile.write(samples / "pling_C4.wav", np.zeros(SAMPLE_RATE_HZ // 2), SAMPLE_RATE_HZ)
    assert darkrack.main(["data", "folder", str(samples), "--out", str(tmp_path / "own")]) == 1
    assert "GB free" in capsys.readouterr().err
    assert not (tmp_path / "own").exists()


def test_ctrl_c_leaves_whole_parts_to_go_on_with(font: Path, tmp_path: Path) -> None:
    options = f"--out {tmp_path} --programs 0,4,6,19,122 --pitches 36-60:2 --velocities 60,120 --jobs 2"
    # Who runs the tests in the background of a shell hands on that Ctrl-C is ignored.
    heard = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    front_door = f"import signal, sys, darkrack; {heard}; sys.exit(darkrack.main())"
    command = [sys.executable, "-c", front_door, "data", "soundfont", str(font), *options.split()]
    root = Path(__file__).resolve().parent.parent
    # A session of its own, so that the signal reaches the workers and fluidsynth too, as Ctrl-C does.
    first = subprocess.Popen(command, cwd=root, start_new_session=True, stderr=subprocess.PIPE, text=True)
    while first.poll() is None and not list(tmp_path.glob("parts/[!.]*.json")):
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGINT)
    assert first.communicate()[1].strip() == "interrupted"
    assert first.returncode == 130
    assert not (tmp_path / "notes.csv").exists()
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("parts/*.json")}
    assert 1 <= len(finished) < 5
    assert not list(tmp_path.glob("**/.*"))

    subprocess.run([*command, "--jobs", "1"], cwd=root, check=True, capture_output=True)
    assert all(path.stat().st_mtime_ns == before for path, before in finished.items())
    notes = read_notes(tmp_path)
    assert len(notes) == 5 * 13 * 2
    assert all(len(read_audio(tmp_path, note, 0.01)) for note in notes)


def test_a_set_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = tmp_path / "samples", tmp_path / "set"
    t = np.arange(44_100) / 44_100
    for name, f_hz in (("horn/A3.wav", 220.0), ("horn/A3 again.wav", 220.0), ("bell/A4.wav", 880.0)):
        (src / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(
            src / name, np.stack([np.sin(2 * np.pi * f_hz * t)] * 2, axis=1) * 1.5, 44_100, subtype="FLOAT"
        )
    command = ["data", "folder", str(src), "--out", str(out), "--jobs", "1"]
    assert darkrack.main(command) == 0
    notes = {note.note_str: note for note in read_notes(out)}
    assert sorted(notes) == ["bell-069-100", "horn-057-100", "horn-057-100-2"]
    assert notes["bell-069-100"].check == "octave"
    assert notes["horn-057-100"].cents == pytest.approx(0.0, abs=0.1)
    second = read_audio(out, notes["horn-057-100-2"], 0.5)
    assert np.abs(second).max() == pytest.approx(1.0, abs=0.01)  # 1.5 would clip: turned down

    capsys.readouterr()
    soundfile.write(src / "horn" / "B3.wav", 0.5 * np.sin(2 * np.pi * 246.94 * t), 44_100)
    (src / "bell" / "A4.wav").unlink()
    assert darkrack.main(command) == 0
    assert "3 notes of 1 instruments; 3 made" in capsys.readouterr().out
    assert [path.name for path in (out / "audio").iterdir()] == ["horn.flac"]
    assert darkrack.main(command) == 0
    assert "; 0 made" in capsys.readouterr().out

    (tmp_path / "table.csv").write_text("file,pitch,tags\nhorn/B3.wav,B3,soft dark\n")
    assert darkrack.main([*command, "--table", str(tmp_path / "table.csv")]) == 0
    (note,) = read_notes(out)
    assert (note.note_str, note.check, note.tags) == ("horn-059-100", "ok", "soft dark")
    assert darkrack.main(["data", "folder", str(src), "--out", str(src / "set")]) == 1
    assert "a folder outside" in capsys.readouterr().err


def test_numbers_that_options_name() -> None:
    assert numbers("0-7,12, 5 ,36-84:24", "--x", 0, 127) == (0, 1, 2, 3, 4, 5, 6, 7, 12, 36, 60, 84)
    assert numbers("0", "--x", 0, 127) == (0,)
    for text in ("", ",", "a", "3-1", "1-2-3", "4:2", "0-9:0", "-1", "1.5", "٣", "128", "1_0"):
        with pytest.raises(DarkrackError, match="--x"):
            numbers(text, "--x", 0, 127)


@given(st.text("0123456789-,: ", max_size=12))
def test_any_text_is_numbers_or_an_error(text: str) -> None:
    try:
        found = numbers(text, "--x", 0, 127)
    except DarkrackError:
        return
    assert found == tuple(sorted(set(found)))
    assert 0 <= min(found) <= max(found) <= 127


def test_the_tail_is_cut_where_nothing_is_heard() -> None:
    rng = np.random.default_rng(0)
    quiet = 10 ** ((TRIM_DB - 6) / 20)
    audio = np.r_[rng.uniform(-0.5, 0.5, 5000), rng.uniform(-quiet, quiet, 9000)]
    out = trimmed(audio)
    assert 4990 < len(out) <= 5000
    np.testing.assert_array_equal(out[:4500], audio[:4500])
    assert out[-1] == 0.0
    assert trimmed(np.zeros(100)).tolist() == [0.0]
    assert trimmed(np.ones(3)).shape == (3,)
