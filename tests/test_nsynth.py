"""NSynth as published: folders and archives, examples.json before and after, damaged in every way, gone on with."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import darkrack
from device.errors import DarkrackError
from device.partials import Partials, nominal_hz, sounding_rows
from train import data, nsynth
from train.dataset import encode_note
from train.label import read_labels
from train.notes import FIELDS, Note, parse_note_name, read_audio, read_notes, split
from train.partials import encode

RATE_HZ = nsynth.SAMPLE_RATE_HZ
INSTRUMENTS = ("bass_synthetic_033", "flute_acoustic_002", "synth_lead_synthetic_000")
QUALITIES = {"bass_synthetic_033": ["dark", "fast_decay"], "flute_acoustic_002": ["tempo-synced"]}
NAMES = [f"{name}-{pitch:03d}-100" for name in INSTRUMENTS for pitch in (30, 44, 57, 69, 70)]
ALL = nsynth.Choice(tuple(range(128)), 1.1, nsynth.SOURCES, nsynth.FAMILIES, "instrument")


def wav(audio: npt.NDArray[Any], rate_hz: int = RATE_HZ, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, audio, rate_hz, subtype=subtype, format=kind)
    return out.getvalue()


def tone(pitch: int, samples: int = nsynth.SAMPLES) -> npt.NDArray[np.int16]:
    phase = 2 * np.pi * nominal_hz(pitch) / RATE_HZ * np.arange(samples)
    both = np.sin(phase) + 0.5 * np.sin(2 * phase)
    return np.round(0.4 * 32767 * both).astype(np.int16)


def entry(name: str, qualities: list[str]) -> dict[str, Any]:
    parsed = parse_note_name(name)
    assert parsed
    instrument, pitch, velocity = parsed
    return {
        "note": 201034, "sample_rate": RATE_HZ, "instrument_family": 3, "qualities": [0] * 10, "pitch": pitch,
        "instrument_source": 0, "instrument": 417, "velocity": velocity, "note_str": name,
        "instrument_str": instrument.instrument_str, "instrument_family_str": instrument.family,
        "instrument_source_str": instrument.source, "qualities_str": qualities,
    }  # fmt: skip


def files_of(part: str, notes: dict[str, tuple[bytes, list[str]]], *, json_first: bool) -> dict[str, bytes]:
    """The files of a published part in their order: path to content."""
    listed = {name: entry(name, qualities) for name, (_, qualities) in notes.items()}
    examples = {f"nsynth-{part}/examples.json": json.dumps(listed, indent=4).encode()}
    audio = {f"nsynth-{part}/audio/{name}.wav": content for name, (content, _) in notes.items()}
    return examples | audio if json_first else audio | examples


def as_archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as out:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return path


def as_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path / next(iter(files)).split("/")[0]


@pytest.fixture(scope="module")
def notes() -> dict[str, tuple[bytes, list[str]]]:
    return {name: (wav(tone(int(name[-7:-4]))), QUALITIES.get(name[:-8], [])) for name in NAMES}


@pytest.fixture
def train_files(notes: dict[str, tuple[bytes, list[str]]]) -> dict[str, bytes]:
    return files_of("train", notes, json_first=True)


def make(source: Path, out: Path, *options: str) -> int:
    return darkrack.main(["data", "nsynth", str(source), "--out", str(out), "--jobs", "1", *options])


def without_place(note: Note) -> tuple[Any, ...]:
    return tuple(getattr(note, field) for field in FIELDS if field not in ("file", "start"))


@pytest.mark.parametrize("layout", ["folder", "x.tar.gz first", "x.tar.gz last", "x.tar first", "x.tar last"])
def test_every_layout_gives_the_same_notes(
    notes: dict[str, tuple[bytes, list[str]]],
    layout: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = files_of("train", notes, json_first="first" in layout)
    if layout == "folder":
        source = as_folder(tmp_path, files)
        (source / "audio" / "._left_by_a_mac.wav").touch()
    else:
        source = as_archive(
            tmp_path / layout.split(maxsplit=1)[0], {"nsynth-train/._examples.json": b"", **files}
        )
    out = tmp_path / "set"
    assert make(source, out) == 0
    assert "9 notes of 3 instruments; 9 made" in capsys.readouterr().out
    found = {note.note_str: note for note in read_notes(out)}
    assert sorted(found) == sorted(name for name in NAMES if 44 <= int(name[-7:-4]) <= 69)
    bass = found["bass_synthetic_033-057-100"]
    assert (bass.instrument_str, bass.instrument_family_str, bass.instrument_source_str) == (
        "bass_synthetic_033",
        "bass",
        "synthetic",
    )
    assert (bass.pitch, bass.velocity, bass.sample_rate, bass.samples) == (57, 100, 16_000, 17_600)
    assert (bass.check, bass.tags, bass.part) == ("ok", "dark fast_decay", "")
    assert bass.f0_hz == pytest.approx(220, abs=0.01)
    assert found["flute_acoustic_002-044-100"].tags == "tempo-synced"
    assert found["synth_lead_synthetic_000-044-100"].instrument_family_str == "synth_lead"
    # Sample for sample what was published, up to the fade at the end.
    kept = read_audio(out, bass, 1.095)
    np.testing.assert_array_equal(kept, tone(57)[: len(kept)] / np.float32(32768))
    assert (out / "notes.csv").read_text().splitlines()[0] == ",".join(FIELDS)
    assert soundfile.info(out / bass.file).subtype == "PCM_16"

    assert make(source, out) == 0
    assert "9 notes of 3 instruments; 0 made" in capsys.readouterr().out
    assert {note.note_str: note for note in read_notes(out)} == found


def test_a_set_grows_by_other_parts_and_no_note_comes_twice(
    notes: dict[str, tuple[bytes, list[str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = list(notes)
    halves = [{name: notes[name] for name in names[:8]}, {name: notes[name] for name in names[8:]}]
    first = as_archive(tmp_path / "a.tar", files_of("train", halves[0], json_first=False))
    second = as_folder(tmp_path, files_of("test", halves[1], json_first=True))
    assert make(first, tmp_path / "set") == 0
    words = ["data", "nsynth", str(second), str(first), str(second), "--out", str(tmp_path / "set")]
    assert darkrack.main(words) == 0  # with a process for each core
    assert "9 notes of 3 instruments; 4 made" in capsys.readouterr().out
    assert (
        make(as_archive(tmp_path / "all.tar", files_of("train", notes, json_first=True)), tmp_path / "one")
        == 0
    )
    both = [sorted(map(without_place, read_notes(tmp_path / name))) for name in ("set", "one")]
    assert both[0] == both[1]


def test_only_what_is_asked_for(train_files: dict[str, bytes], tmp_path: Path) -> None:
    source = as_archive(tmp_path / "x.tar", train_files)
    options = ["--pitches", "30,69-127", "--sources", "synthetic, electronic", "--families", "flute,bass"]
    assert make(source, tmp_path / "set", *options, "--seconds", "0.5") == 0
    kept = read_notes(tmp_path / "set")
    assert [note.note_str for note in kept] == [f"bass_synthetic_033-{n:03d}-100" for n in (30, 69, 70)]
    assert {note.samples for note in kept} == {8000}


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tar"])
@pytest.mark.parametrize("json_first", [True, False])
def test_an_archive_cut_short_keeps_what_was_read_and_goes_on(
    notes: dict[str, tuple[bytes, list[str]]],
    *,
    name: str,
    json_first: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(data, "SHARD", 2)
    source = as_archive(tmp_path / name, files_of("train", notes, json_first=json_first))
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) * 6 // 10])
    out = tmp_path / "set"
    assert make(source, out) == 1
    error = capsys.readouterr().err
    assert f"{source}: nsynth-train/audio/" in error
    assert "expected a whole archive of NSynth" in error
    assert "download it again; what was done so far is kept" in error
    assert not (out / "notes.csv").exists()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("audio/*.flac")}
    assert len(finished) >= 2

    source.write_bytes(whole)
    assert make(source, out) == 0
    made = int(capsys.readouterr().out.split("instruments; ")[1].split()[0])
    assert 0 < made <= 9 - 2 * len(finished) + 1
    assert all(path.stat().st_mtime_ns == before for path, before in finished.items())
    assert make(source, tmp_path / "at once") == 0
    both = [sorted(map(without_place, read_notes(tmp_path / name))) for name in ("set", "at once")]
    assert both[0] == both[1]


def test_an_archive_that_ends_between_two_notes_is_found_out(
    train_files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = as_archive(tmp_path / "x.tar", train_files)
    examples = 512 + -(-len(train_files["nsynth-train/examples.json"]) // 512) * 512
    source.write_bytes(source.read_bytes()[: examples + 4 * nsynth.TAR_BYTES])
    assert make(source, tmp_path / "set") == 1
    error = capsys.readouterr().err
    assert "audio of every note, got none of flute_acoustic_002-044-100 and 5 more" in error
    assert len(list((tmp_path / "set" / "parts").iterdir())) == 1


def test_a_wrong_checksum_is_found_at_the_very_end(
    train_files: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for size in ("_CHUNK", "_LONGEST_ENTRY"):  # the archive's end mark is read long before its last byte
        monkeypatch.setattr(nsynth, size, 1024)
    source = as_archive(tmp_path / "x.tar.gz", train_files)
    content = bytearray(source.read_bytes())
    content[-8] ^= 1
    source.write_bytes(content)
    assert make(source, tmp_path / "set") == 1
    assert "expected a whole archive of NSynth, got CRC check failed" in capsys.readouterr().err


Change = Callable[[dict[str, bytes]], None]
WAV = "nsynth-train/audio/flute_acoustic_002-057-100.wav"
EXAMPLES = "nsynth-train/examples.json"


def put(name: str, content: bytes) -> Change:
    return lambda files: files.update({name: content})


def rename(old: str, new: str) -> Change:
    return lambda files: files.update({new: files.pop(old)})


def drop(name: str) -> Change:
    def change(files: dict[str, bytes]) -> None:
        del files[name]

    return change


def say(field: str, value: object) -> Change:
    def change(files: dict[str, bytes]) -> None:
        listed = json.loads(files[EXAMPLES])
        listed["flute_acoustic_002-057-100"][field] = value
        files[EXAMPLES] = json.dumps(listed).encode()

    return change


def cut_json(files: dict[str, bytes]) -> None:
    files[EXAMPLES] = files[EXAMPLES][: len(files[EXAMPLES]) * 2 // 3]


def not_finite(files: dict[str, bytes]) -> None:
    audio = tone(57) / 32768
    audio[9] = np.nan
    files[WAV] = wav(audio, subtype="FLOAT")


DAMAGE: list[tuple[Change, list[str]]] = [
    (put(WAV, wav(tone(57), 44_100)), [WAV, "16000 Hz, mono, 64000 samples", "got 44100 Hz, 1 channel"]),
    (put(WAV, wav(tone(57, 63_999))), [WAV, "63999 samples"]),
    (put(WAV, wav(np.stack([tone(57)] * 2, axis=1))), [WAV, "2 channel(s)"]),
    (put(WAV, b"no wav at all"), [WAV, "expected a WAV"]),
    (put(WAV, b""), [WAV, "expected a WAV"]),
    (put(WAV, wav(tone(57))[:70_000]), [WAV, "samples"]),
    (not_finite, [WAV, "expected finite samples"]),
    (
        rename(WAV, WAV.replace("057", "57")),
        ["002-57-100.wav", "a name as in bass_synthetic_033-022-050.wav"],
    ),
    (rename(WAV, WAV.replace("057", "128")), ["002-128-100.wav", "a name as in"]),
    (rename(WAV, WAV.replace("057", "058")), ["audio of every note, got none of flute_acoustic_002-057-100"]),
    (drop(WAV), ["audio of every note, got none of flute_acoustic_002-057-100\n"]),
    (put(WAV.replace("057", "061"), wav(tone(61))), ["an entry in examples.json of every note, got none of"]),
    (drop(EXAMPLES), ["examples.json"]),
    (put(EXAMPLES, b""), [EXAMPLES, "an object with an entry a note", "after its beginning"]),
    (put(EXAMPLES, b"{}"), [EXAMPLES, "an object with an entry a note"]),
    (put(EXAMPLES, b"\xff\xfe{"), [EXAMPLES, "an object with an entry a note"]),
    (put(EXAMPLES, b'{"noise": {}}'), [EXAMPLES, "names as in bass_synthetic_033-022-050, got 'noise'"]),
    (put(EXAMPLES, b'{"flute_acoustic_002-057-100": 7}'), [EXAMPLES, "an entry that is no object"]),
    (cut_json, [EXAMPLES, "an object with an entry a note", "after flute_acoustic_002-"]),
    (say("pitch", 58), [f"{EXAMPLES}, flute_acoustic_002-057-100: expected pitch 57, got 58"]),
    (say("velocity", None), ["expected velocity 100, got None"]),
    (say("instrument_family_str", "reed"), ["expected instrument_family_str flute, got 'reed'"]),
    (say("instrument_source_str", "synthetic"), ["expected instrument_source_str acoustic"]),
    (say("note_str", "x"), ["expected note_str flute_acoustic_002-057-100, got 'x'"]),
    (say("sample_rate", 48_000), ["expected sample_rate 16000, got 48000"]),
    (say("qualities_str", "dark"), ["qualities_str as a list of words, got 'dark'"]),
    (say("qualities_str", ["very dark"]), ["qualities_str as a list of words"]),
]


@pytest.mark.parametrize(("change", "said"), DAMAGE)
@pytest.mark.parametrize("layout", ["folder", "archive"])
def test_what_is_damaged_is_named_and_the_rest_goes_on(
    train_files: dict[str, bytes],
    *,
    layout: str,
    change: Change,
    said: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(files := dict(train_files))
    source, whole = tmp_path / "x.tar", tmp_path / "whole.tar"
    source = as_folder(tmp_path, files) if layout == "folder" else as_archive(source, files)
    out = tmp_path / "set"
    options = ["--pitches", "57-61"]
    assert make(source, out, *options) == 1
    error = capsys.readouterr().err
    for words in said:
        assert words in error
    assert not (out / "notes.csv").exists()
    if "/audio/" in error:
        assert (out / "audio" / "nsynth_00000.flac").exists()  # the bass before it
    assert make(as_archive(whole, train_files), out, *options) == 0
    assert {name for name in NAMES if "-057-" in name} <= {note.note_str for note in read_notes(out)}


def test_a_name_that_is_no_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"<html>not found</html>" * 99)
    (tmp_path / "empty.tar").touch()
    (tmp_path / "folder" / "audio").mkdir(parents=True)
    for name, said in (
        ("none.tar.gz", "No such file"),
        ("x.tar.gz", "a whole archive of NSynth"),
        ("empty.tar", "a whole archive of NSynth"),
        ("folder", "a folder without audio/*.wav"),
    ):
        assert make(tmp_path / name, tmp_path / "set") == 1
        error = capsys.readouterr().err
        assert f"{tmp_path / name}: expected" in error
        assert said in error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pitches", "44-128"], "--pitches: expected numbers of 0 to 127"),
        (["--seconds", "4.1"], "--seconds: expected 0.1 to 4"),
        (["--seconds", "nan"], "--seconds: expected 0.1 to 4"),
        (
            ["--sources", "acoustic,electric"],
            "--sources: expected some of acoustic,electronic,synthetic, got",
        ),
        (["--families", ""], "--families: expected some of bass,"),
        (["--jobs", "0"], "--jobs: expected 1 or more"),
    ],
)
def test_options_that_cannot_be(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(tmp_path, tmp_path / "set", *options) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_a_full_disk_is_seen_before_anything_is_written(
    train_files: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = as_folder(tmp_path, train_files)
    needed = 9 * 1.1 * 16_000 * nsynth.FLAC_BYTES_A_SAMPLE
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(needed) - 1))
    assert make(source, tmp_path / "new" / "set") == 1
    assert "GB free, got 0.000 GB" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(needed) + 1))
    assert make(source, tmp_path / "new" / "set") == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert make(source, tmp_path / "new" / "set") == 0  # nothing left to write


def test_the_notes_in_an_archive_are_guessed_from_its_size() -> None:
    # All of it, published: 305,979 notes; DarkGAN's pitches are said to be about 90,000 of them.
    whole = nsynth.Source(Path("x.tar.gz"), 25_233_566_634, zipped=True)
    assert whole.notes(ALL) == pytest.approx(305_979, rel=1e-4)
    choice = nsynth.Choice(tuple(range(44, 70)), 1.1, nsynth.SOURCES, nsynth.FAMILIES, "paper")
    assert whole.notes(choice) == pytest.approx(90_000, rel=0.01)
    assert nsynth.Source(Path("x.tar"), 100 * nsynth.TAR_BYTES).notes(ALL) == 100


def test_an_archive_is_read_as_it_comes(train_files: dict[str, bytes], tmp_path: Path) -> None:
    many = {name.replace(".wav", f"{n}.wav"): b for n in range(10) for name, b in train_files.items()}
    source = nsynth.find(as_archive(tmp_path / "x.tar", {**train_files, **many}))
    read: list[int] = []
    takes = nsynth.takes(source, ALL, set(), {}, read.append)
    for _ in range(3):
        next(takes)
    assert sum(read) < 0.2 * source.size_bytes
    assert len(next(takes).audio) == 17_600


# ---- the split ----


@given(
    names=st.lists(
        st.builds("{}-{:03d}-100".format, st.sampled_from(INSTRUMENTS), st.integers(0, 127)), min_size=1
    ),
    published=st.sampled_from(["train", "valid", "test"]),
)
def test_a_part_depends_on_names_alone(names: list[str], published: str) -> None:
    for name in names:
        for kind in nsynth.SPLITS:
            choice = nsynth.Choice((60,), 1.0, (), (), kind)
            part = choice.part(name, published)
            assert part == choice.part(name, published)
            assert (part == "") == (kind == "instrument")
            assert (part == "unseen_instruments") == (kind == "published" and published != "train")


def test_a_tenth_of_the_notes_is_the_papers() -> None:
    choice = nsynth.Choice((60,), 1.0, (), (), "paper")
    parts = [choice.part(f"bass_synthetic_{n:05d}-060-100", "train") for n in range(10_000)]
    assert set(parts) == {"train", "unseen_notes"}
    assert 910 < parts.count("unseen_notes") < 1090  # 3 standard deviations of 30


def test_the_split_of_a_set_is_kept_with_it(
    notes: dict[str, tuple[bytes, list[str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = list(notes)
    train = as_archive(
        tmp_path / "a.tar", files_of("train", {n: notes[n] for n in names[:10]}, json_first=True)
    )
    valid = as_folder(tmp_path, files_of("valid", {n: notes[n] for n in names[10:]}, json_first=True))
    out = tmp_path / "set"
    for source in (train, valid):
        assert make(source, out, "--split", "published", "--pitches", "0-127") == 0
    found = read_notes(out)
    parts = {part: [found[row] for row in rows] for part, rows in split(found).items()}
    assert {note.instrument_str for note in parts["unseen_instruments"]} == {INSTRUMENTS[2]}
    assert len(parts["unseen_instruments"]) == 5
    assert {note.instrument_str for note in parts["train"]} == set(INSTRUMENTS[:2])
    assert (out / "notes.csv").read_text().startswith(",".join((*FIELDS, "part")) + "\n")

    capsys.readouterr()
    assert make(train, out, "--split", "paper", "--pitches", "0-127") == 1
    assert "split = published, as this set was begun, got paper" in capsys.readouterr().err
    elsewhere = as_folder(tmp_path / "b", files_of("mine", notes, json_first=True))
    assert make(elsewhere, tmp_path / "other", "--split", "published") == 1
    assert "nsynth-train, nsynth-valid or nsynth-test" in capsys.readouterr().err
    assert make(elsewhere, tmp_path / "third", "--split", "paper") == 0
    assert not split(read_notes(tmp_path / "third"))["unseen_instruments"]


# ---- examples.json, entry by entry ----

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    listed=st.dictionaries(
        st.text(min_size=1, max_size=9), st.dictionaries(st.text(), json_values), min_size=1
    ),
    indent=st.sampled_from([None, 0, 4]),
    ascii_only=st.booleans(),
    ending=st.sampled_from(["", "\n", " \r\n\t"]),
)
def test_entries_are_what_json_says(
    listed: dict[str, dict[str, Any]], indent: int | None, ascii_only: bool, ending: str
) -> None:
    text = json.dumps(listed, indent=indent, ensure_ascii=ascii_only) + ending
    assert list(nsynth.entries(io.BytesIO(text.encode()), "x")) == list(json.loads(text).items())


@given(cut=st.integers(0, 400), extra=st.sampled_from(["", "}", "x", ",{}", '"', "[" * 5000]))
def test_what_is_no_such_object_is_refused(cut: int, extra: str) -> None:
    text = json.dumps({name: entry(name, []) for name in NAMES[:1]})
    broken = text[: max(len(text) - 1 - cut, 0)] + extra
    if broken != text:
        with pytest.raises(DarkrackError, match="an object with an entry a note"):
            list(nsynth.entries(io.BytesIO(broken.encode()), "x"))


def test_a_long_list_is_read_in_pieces_over_every_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {f"bass_synthetic_{n:03d}-060-100": {"text": "é" * (n % 50)} for n in range(300)}
    text = json.dumps(listed, ensure_ascii=False).encode()
    monkeypatch.setattr(nsynth, "_LONGEST_ENTRY", 200)
    for chunk in (1 << 8, 257, 1001):
        monkeypatch.setattr(nsynth, "_CHUNK", chunk)
        assert dict(nsynth.entries(io.BytesIO(text), "x")) == listed


# ---- the real notes ----


def real_notes(folder: Path) -> dict[str, tuple[bytes, list[str]]]:
    audio, rate_hz = soundfile.read(folder / "nsynth60.flac", dtype="int16")
    assert rate_hz == RATE_HZ
    with (folder / "notes.csv").open(newline="") as source:
        return {
            row["note_str"]: (
                wav(audio[int(row["start"]) : int(row["start"]) + nsynth.SAMPLES]),
                row["qualities"].split(),
            )
            for row in csv.DictReader(source)
        }


@pytest.mark.data
def test_real_notes_from_archive_to_labels_and_frames(
    darkrack_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = real_notes(darkrack_data / "nsynth60")
    found = []
    for name, json_first in (("first.tar.gz", True), ("last.tar.gz", False), ("folder", True)):
        files = files_of("test", notes, json_first=json_first)
        source = as_folder(tmp_path, files) if name == "folder" else as_archive(tmp_path / name, files)
        assert make(source, tmp_path / f"set-{name}", "--json", str(tmp_path / "checks.json")) == 0
        found.append(sorted(map(without_place, read_notes(tmp_path / f"set-{name}"))))
    assert found[0] == found[1] == found[2]
    out = tmp_path / "set-last.tar.gz"
    kept = read_notes(out)
    assert len(kept) == 60
    assert {note.note_str: note.tags.split() for note in kept} == {
        name: words for name, (_, words) in notes.items()
    }
    checks = json.loads((tmp_path / "checks.json").read_text())["checks"]
    assert sum(checks["ok"].values()) >= 57

    weights = darkrack_data / "teachers" / "mn04_as.onnx"
    classes = darkrack_data / "teachers" / "audioset_527.csv"
    words = ["label", "--data", str(out), "--weights", str(weights), "--classes", str(classes)]
    assert darkrack.main(words) == 0
    labels = read_labels(out, "mn04")
    assert len(labels.note_str) == sum(note.check in ("ok", "octave") for note in kept)
    heard = dict(zip(labels.note_str, labels.logits, strict=True))
    organ = labels.classes.index("Organ")
    organs = [logits[organ] for name, logits in heard.items() if name.startswith("organ")]
    others = [logits[organ] for name, logits in heard.items() if not name.startswith("organ")]
    assert np.median(organs) > np.median(others) + 1

    # What 16 kHz can hold: the grid ends under 8 kHz.
    grid = Partials(rows=28, frames=128, frame_rate_hz=125.0, floor_db=-100.0, limit_hz=7200.0)
    for note in [note for note in kept if note.check == "ok"][::6]:
        encoded = encode_note(out, note, grid)
        assert encoded.shape == (2, 28, 128)
        assert np.isfinite(encoded).all()
        assert encoded[0, : sounding_rows(nominal_hz(60), grid)].max() > 0.85
        # The 1.1 s that were kept reach as far as the windows of the last frames: more would change nothing.
        audio = soundfile.read(io.BytesIO(notes[note.note_str][0]), dtype="float32")[0]
        longer = encode(audio[: round(1.2 * RATE_HZ)], RATE_HZ, note.f0_hz or nominal_hz(60), grid)
        np.testing.assert_allclose(encoded, longer, atol=1e-6)
