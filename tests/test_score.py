"""MIDI files written by mido, by hand and by hypothesis: read as they sound, or refused where they break."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import mido
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from device.errors import DarkrackError
from device.score import Score, read_score

NOTE = b"\x00\x90\x45\x64\x60\x80\x45\x40"  # on at tick 0, off at tick 96
END = b"\x00\xff\x2f\x00"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "big") + content


def _file(*tracks: bytes, form: int = 1, division: bytes = b"\x00\x60") -> bytes:
    header = form.to_bytes(2, "big") + len(tracks).to_bytes(2, "big") + division
    return _chunk(b"MThd", header) + b"".join(_chunk(b"MTrk", track) for track in tracks)


def _read(tmp_path: Path, data: bytes) -> Score:
    path = tmp_path / "song.mid"
    path.write_bytes(data)
    return read_score(path)


def _refused(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(DarkrackError) as refusal:
        _read(tmp_path, data)
    assert "song.mid" in refusal.value.where
    return str(refusal.value)


def _saved(file: mido.MidiFile) -> bytes:
    target = io.BytesIO()
    file.save(file=target)
    return target.getvalue()


def test_a_note_at_the_default_tempo(tmp_path: Path) -> None:
    score = _read(tmp_path, _file(NOTE + END))
    assert [(event.time_s, event.message.type) for event in score.events] == [
        (0.0, "note_on"),
        (0.5, "note_off"),
    ]
    assert score.duration_s == 0.5


def test_tracks_merge_and_tempo_counts_in_all_of_them(tmp_path: Path) -> None:
    """The tempo track comes last, and its changes fall inside the notes of the others."""
    song = mido.MidiFile(ticks_per_beat=480)
    for channel, start in ((0, 0), (1, 480), (2, 1200)):
        track = song.add_track()
        track.append(mido.Message("note_on", channel=channel, note=60, velocity=90, time=start))
        track.append(mido.Message("note_off", channel=channel, note=60, time=960))
    tempi = song.add_track()
    for delta, bpm in ((0, 60), (960, 120), (480, 30)):
        tempi.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm), time=delta))
    score = _read(tmp_path, _saved(song))
    on = {event.message.channel: event.time_s for event in score.events if event.message.type == "note_on"}
    off = {event.message.channel: event.time_s for event in score.events if event.message.type == "note_off"}
    # 60 beats a minute to beat 2 (2 s), 120 to beat 3 (2.5 s), then 30.
    assert on == pytest.approx({0: 0.0, 1: 1.0, 2: 2.25})
    assert off == pytest.approx({0: 2.0, 1: 2.5, 2: 2.25 + 0.25 + 2 * 1.5})
    assert [event.time_s for event in score.events] == sorted(event.time_s for event in score.events)


def test_running_status_goes_on_after_meta_events(tmp_path: Path) -> None:
    track = b"\x00\x93\x45\x64\x10\x45\x00\x00\xff\x01\x02hi\x10\x47\x64\x10\x47\x00" + END
    messages = [event.message for event in _read(tmp_path, _file(track)).events]
    assert [(m.type, m.channel, m.note, m.velocity) for m in messages] == [
        ("note_on", 3, 69, 100),
        ("note_on", 3, 69, 0),
        ("note_on", 3, 71, 100),
        ("note_on", 3, 71, 0),
    ]


@pytest.mark.parametrize(
    ("division", "seconds_per_tick"),
    [(b"\xe7\x28", 1e-3), (b"\xe8\x50", 1 / 1920), (b"\xe3\x64", 1.001 / 3000), (b"\xe2\x04", 1 / 120)],
)
def test_smpte_time_ignores_tempo(tmp_path: Path, division: bytes, seconds_per_tick: float) -> None:
    tempo = b"\x00\xff\x51\x03\x01\x00\x00"
    score = _read(tmp_path, _file(tempo + NOTE + END, division=division))
    assert score.duration_s == pytest.approx(96 * seconds_per_tick)


def test_foreign_chunks_longer_headers_and_sysex_are_passed_over(tmp_path: Path) -> None:
    header = _chunk(b"MThd", b"\x00\x00\x00\x01\x00\x60\xca\xfe")
    sysex = b"\x00\xf0\x05\x7e\x7f\x09\x01\xf7\x00\xf7\x02\xf3\x01"
    data = header + _chunk(b"XFIH", b"who knows") + _chunk(b"MTrk", sysex + NOTE + END)
    assert len(_read(tmp_path, data).events) == 2


def test_bytes_after_the_end_of_a_track_are_remarked(tmp_path: Path) -> None:
    score = _read(tmp_path, _file(NOTE + END + b"\x00\x00\x00"))
    assert score.remarks == ("track 1: 3 bytes after its end of track are ignored",)


# ---- refused, one test per way to be broken; the header is 14 bytes, a track's events begin at byte 22 ----


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(DarkrackError, match="No such file"):
        read_score(tmp_path / "song.mid")
    assert "empty file" in _refused(tmp_path, b"")


def test_not_a_midi_file(tmp_path: Path) -> None:
    assert "byte 0: expected a MIDI file, which begins with MThd, got 'OggS'" in _refused(
        tmp_path, b"OggS" * 9
    )
    assert "RIFF wrapper" in _refused(tmp_path, b"RIFF" + bytes(30))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (_file(NOTE + END)[:12], "byte 12: expected a header of 14 bytes"),
        (b"MThd\x00\x00\x00\x03" + bytes(8), "byte 4: expected a header length of 6, got 3"),
        (_file(NOTE + END, form=2), "byte 8: expected MIDI format 0 or 1, got format 2"),
        (_file(NOTE + END, form=77), "byte 8: expected MIDI format 0 or 1, got format 77"),
        (_file(), "byte 10: expected at least one track"),
        (_file(NOTE + END, division=b"\x00\x00"), "byte 12: expected at least one tick"),
        (_file(NOTE + END, division=b"\xf0\x04"), "byte 12: expected SMPTE time"),
        (_file(NOTE + END, division=b"\xe7\x00"), "byte 12: expected SMPTE time"),
    ],
)
def test_broken_headers(tmp_path: Path, data: bytes, told: str) -> None:
    assert told in _refused(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (_file(NOTE + END)[:14], "byte 14: track 1 of 1: expected a chunk MTrk, got the end of the file"),
        (_file(NOTE + END)[:19], "byte 14: track 1 of 1: expected a chunk MTrk and its length"),
        (_file(NOTE + END)[:-1], "byte 14: track 1 of 1: expected 12 bytes as its length says, got 11"),
        (_file(NOTE + END, NOTE + END)[:34], "byte 34: track 2 of 2: expected a chunk MTrk, got the end"),
        (_file(NOTE + END) + b"MTrk", ""),
    ],
)
def test_truncated_files(tmp_path: Path, data: bytes, told: str) -> None:
    if told:
        assert told in _refused(tmp_path, data)
    else:  # bytes after the last track change nothing
        assert _read(tmp_path, data).events


@pytest.mark.parametrize("wrong_length", [11, 10, 9, 5, 13, 20])
def test_a_wrong_track_length_is_found(tmp_path: Path, wrong_length: int) -> None:
    data = bytearray(_file(NOTE + END, NOTE + END))
    data[18:22] = wrong_length.to_bytes(4, "big")
    assert "length" in _refused(tmp_path, bytes(data))


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (
            b"\x00\x90\x45\xc8",
            "byte 25 (track 1, tick 0): expected a data byte from 0 to 127, got 200 (0xc8)",
        ),
        (NOTE + b"\x05\xb0\x80\x01", "byte 32 (track 1, tick 101): expected a data byte from 0 to 127"),
        (b"\x00\x45\x64", "byte 23 (track 1, tick 0): expected a status byte, got data byte 0x45"),
        (
            b"\x00\xf8",
            "byte 23 (track 1, tick 0): expected an event that a file may hold, got status byte 0xf8",
        ),
        (
            b"\x81\x82\x83\x84\x05\x90",
            "byte 22 (track 1, tick 0): expected a delta time of at most four bytes",
        ),
        (
            b"\x00\xff\x51\x02\x01\x02",
            "byte 23 (track 1, tick 0): expected a tempo of three bytes above zero",
        ),
        (b"\x00\xff\x51\x03\x00\x00\x00", "expected a tempo of three bytes above zero"),
        (b"\x00\xff\x01\x7fab", "expected 127 bytes of meta event 0x01, got 6 to the end of the track"),
        (b"\x00\xf0\x20ab", "expected 32 bytes of a system exclusive message"),
    ],
)
def test_broken_events(tmp_path: Path, events: bytes, told: str) -> None:
    assert told in _refused(tmp_path, _file(events + END))


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (NOTE, "byte 30 (track 1, tick 96): expected an end of track (FF 2F 00), got the end of its chunk"),
        (
            NOTE + b"\x00",
            "byte 31 (track 1, tick 96): expected the rest of an event, got the end of the track",
        ),
        (NOTE + b"\x00\x90", "expected the rest of a channel message"),
        (NOTE + b"\x00\xff", "expected the rest of a meta event"),
        (NOTE + b"\x81", "expected the rest of a delta time"),
    ],
)
def test_tracks_that_stop_in_the_middle(tmp_path: Path, events: bytes, told: str) -> None:
    assert told in _refused(tmp_path, _file(events))


def test_a_song_without_notes(tmp_path: Path) -> None:
    assert "expected a MIDI file with notes" in _refused(tmp_path, _file(b"\x00\xc0\x05" + END, END))
    assert "expected a MIDI file with notes" in _refused(tmp_path, _file(b"\x00\x90\x40\x00" + END))


# ---- whatever the bytes, a score or our error ----


def _score_or_refusal(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> Score | None:
    path = tmp_path_factory.getbasetemp() / "fuzz.mid"
    path.write_bytes(data)
    try:
        return read_score(path)
    except DarkrackError:
        return None


@given(st.binary(max_size=200))
@example(b"MThd")
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    _score_or_refusal(tmp_path_factory, data)


@given(st.binary(max_size=120), st.binary(min_size=2, max_size=2))
def test_any_bytes_as_a_track(
    tmp_path_factory: pytest.TempPathFactory, track: bytes, division: bytes
) -> None:
    _score_or_refusal(tmp_path_factory, _file(track, division=division))
    _score_or_refusal(tmp_path_factory, _file(NOTE + track + END, division=division))


@given(
    st.lists(st.tuples(st.integers(0, 67), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 68)
)
def test_damaged_songs(
    tmp_path_factory: pytest.TempPathFactory, damage: Sequence[tuple[int, int]], keep: int
) -> None:
    song = bytearray(_file(NOTE + b"\x00\xff\x51\x03\x07\xa1\x20" + NOTE + END, NOTE + END))
    for at, value in damage:
        song[at] = value
    _score_or_refusal(tmp_path_factory, bytes(song))
    _score_or_refusal(tmp_path_factory, bytes(song[:keep]))


_MESSAGES = st.one_of(
    st.builds(
        mido.Message,
        st.sampled_from(["note_on", "note_off"]),
        channel=st.integers(0, 15),
        note=st.integers(0, 127),
        velocity=st.integers(0, 127),
        time=st.integers(0, 100_000),
    ),
    st.builds(
        mido.Message, st.just("pitchwheel"), pitch=st.integers(-8192, 8191), time=st.integers(0, 100_000)
    ),
    st.builds(
        mido.MetaMessage, st.just("set_tempo"), tempo=st.integers(1, 2**24 - 1), time=st.integers(0, 9999)
    ),
    st.builds(mido.MetaMessage, st.just("text"), text=st.text("abc", max_size=200)),
    st.builds(mido.Message, st.just("sysex"), data=st.lists(st.integers(0, 127), max_size=200)),
)


@given(st.lists(st.lists(_MESSAGES, max_size=20), min_size=1, max_size=4), st.integers(1, 32767))
def test_what_mido_writes_is_read_as_mido_reads_it(
    tmp_path_factory: pytest.TempPathFactory, tracks: list[list[mido.Message]], ticks_per_beat: int
) -> None:
    song = mido.MidiFile(ticks_per_beat=ticks_per_beat)
    for messages in tracks:
        song.add_track().extend(messages)
    score = _score_or_refusal(tmp_path_factory, _saved(song))
    times_s, expected = 0.0, []
    for message in song:
        times_s += message.time
        if not message.is_meta and message.type != "sysex":
            expected.append((times_s, message.bytes()))
    has_notes = any(data[0] & 0xF0 == 0x90 and data[2] for _, data in expected)
    assert (score is not None) == has_notes
    if score is not None:
        assert [event.message.bytes() for event in score.events] == [data for _, data in expected]
        assert [event.time_s for event in score.events] == pytest.approx([at for at, _ in expected], rel=1e-9)
