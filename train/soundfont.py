"""Notes from a SoundFont: which programs it holds, and fluidsynth playing them one by one."""

from __future__ import annotations

import dataclasses
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from device.errors import DarkrackError
from train.notes import SAMPLE_RATE_HZ, Take, slug

# One slot is hold, tail, guard. fluidsynth plays MIDI in blocks of 64 samples = 4/3 ms and times it in whole
# milliseconds; at multiples of 4 ms = 3 blocks both grids meet, so every note starts at the same offset in
# its slot.
GRID_MS = 4
GUARD_MS = 20  # all sound off, then silence: nothing of a note reaches the next
LEAD_MS = 100  # before the first note and after the last
ALL_SOUND_OFF = "control_change control=120"
LATENCY_SAMPLES = 64  # an event sounds one block after the block that it falls in

# General MIDI level 1: first program of a group -> NSynth's family and source. NSynth has no pads, effects,
# percussion; they get names of their own.
_GROUPS: tuple[tuple[int, str, str], ...] = (
    (0, "keyboard", "acoustic"),
    (4, "keyboard", "electronic"),  # electric pianos
    (6, "keyboard", "acoustic"),  # harpsichord
    (7, "keyboard", "electronic"),  # clavinet
    (8, "mallet", "acoustic"),
    (16, "organ", "electronic"),
    (19, "organ", "acoustic"),  # church and reed organ
    (21, "reed", "acoustic"),  # accordion, harmonica, bandoneon: free reeds
    (24, "guitar", "acoustic"),
    (26, "guitar", "electronic"),
    (32, "bass", "acoustic"),
    (33, "bass", "electronic"),
    (38, "bass", "synthetic"),
    (40, "string", "acoustic"),
    (47, "mallet", "acoustic"),  # timpani
    (48, "string", "acoustic"),
    (50, "string", "synthetic"),
    (52, "vocal", "acoustic"),
    (54, "vocal", "synthetic"),
    (55, "string", "acoustic"),  # orchestra hit
    (56, "brass", "acoustic"),
    (62, "brass", "synthetic"),
    (64, "reed", "acoustic"),
    (72, "flute", "acoustic"),
    (80, "synth_lead", "synthetic"),
    (88, "synth_pad", "synthetic"),
    (96, "synth_effect", "synthetic"),
    (104, "guitar", "acoustic"),  # sitar, banjo, shamisen, koto: plucked, with a neck or without
    (108, "mallet", "acoustic"),  # kalimba
    (109, "reed", "acoustic"),  # bagpipe
    (110, "string", "acoustic"),  # fiddle
    (111, "reed", "acoustic"),  # shanai
    (112, "mallet", "acoustic"),  # tinkle bell, agogo, steel drums
    (115, "percussion", "acoustic"),
    (118, "percussion", "synthetic"),
    (120, "sound_effect", "acoustic"),
)


@dataclasses.dataclass(frozen=True)
class Preset:
    """One sound of a SoundFont: MIDI ``bank`` and ``program`` (0-based), ``name`` as the font gives it."""

    bank: int
    program: int
    name: str


@dataclasses.dataclass(frozen=True)
class Keys:
    """What is played: MIDI ``pitches``, each at all ``velocities``, held ``hold_ms``, then ``tail_ms``."""

    pitches: tuple[int, ...]
    velocities: tuple[int, ...]
    hold_ms: int
    tail_ms: int


def family(program: int) -> tuple[str, str]:
    """NSynth's instrument family and source (acoustic, electronic, synthetic) of a General MIDI program."""
    return next((name, source) for first, name, source in reversed(_GROUPS) if program >= first)


def instrument_name(font: Path, preset: Preset) -> str:
    """instrument_str: font, program and name in lower case, as in ``fluidr3_000_yamaha_grand_piano``."""
    return f"{slug(re.sub(r'[ _-]*gm$', '', font.stem, flags=re.I))}_{preset.program:03d}_{slug(preset.name)}"


def read_presets(path: Path) -> list[Preset]:
    """The presets of a SoundFont 2 (or 3) file by bank and program, from its ``phdr`` chunk.

    SoundFont 2.04 specification, section 7.2: RIFF 'sfbk' holds the lists INFO, sdta, pdta; pdta holds phdr,
    38 bytes a preset and a last one, "EOP", that ends the table:

        char name[20] | u16 program | u16 bank | u16 first zone | u32 library, genre, morphology

    Raises DarkrackError that says what is malformed.
    """
    try:
        with path.open("rb") as source:
            size = source.seek(0, 2)
            source.seek(0)
            return _presets(source, size, str(path))
    except OSError as error:
        raise DarkrackError(str(path), "a SoundFont (.sf2)", error.strerror or str(error)) from error


def _presets(source: BinaryIO, size: int, where: str) -> list[Preset]:
    head = source.read(12)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise DarkrackError(
            where, "a SoundFont (RIFF, form 'sfbk')", f"a file that begins with {head[:12]!r}"
        )
    end = 8 + struct.unpack("<I", head[4:8])[0]
    if end > size:
        raise DarkrackError(
            where, f"{end} bytes, as its head says", f"{size}", "download it again: it is cut short"
        )
    position = 12
    for name, start, length in _chunks(source, position, end, where):
        if name != b"LIST":
            continue
        source.seek(start)
        if source.read(4) != b"pdta":
            continue
        for inner, at, count in _chunks(source, start + 4, start + length, where):
            if inner == b"phdr":
                source.seek(at)
                return _preset_table(source.read(count), where)
        raise DarkrackError(where, "a preset table (chunk 'phdr' in list 'pdta')", "none")
    raise DarkrackError(where, "a list 'pdta'", "none")


def _chunks(source: BinaryIO, start: int, end: int, where: str) -> Iterator[tuple[bytes, int, int]]:
    """The RIFF chunks between two positions: name, then where the content starts and its length in bytes."""
    while start < end:
        source.seek(start)
        head = source.read(8)
        length = struct.unpack("<I", head[4:])[0] if len(head) == 8 else 0
        if len(head) < 8 or start + 8 + length > end:
            raise DarkrackError(
                f"{where}, byte {start}",
                "a chunk inside its list",
                f"{head[:4]!r} of {length} bytes past its end",
            )
        yield head[:4], start + 8, length
        start += 8 + length + length % 2  # an odd chunk is padded


def _preset_table(table: bytes, where: str) -> list[Preset]:
    if len(table) % 38 or len(table) < 2 * 38:
        raise DarkrackError(
            where, "a preset table of 38 bytes a preset, with its end mark", f"{len(table)} bytes"
        )
    presets = []
    for at in range(0, len(table) - 38, 38):  # the last record only ends the table
        name, program, bank = struct.unpack_from("<20sHH", table, at)
        text = name.split(b"\0")[0].decode("latin-1").strip()
        presets.append(Preset(bank, program, text))
    return sorted(presets, key=lambda preset: (preset.bank, preset.program))


def fluidsynth_path() -> str:
    """Where fluidsynth is; DarkrackError with how to install it where it is not."""
    path = shutil.which("fluidsynth")
    if path is None:
        raise DarkrackError(
            "darkrack data soundfont",
            "the program fluidsynth",
            "none on the PATH",
            "apt install fluidsynth fluid-soundfont-gm (Debian, Ubuntu), brew install fluid-synth (macOS)",
        )
    return path


def render(font: Path, program: int, keys: Keys) -> Iterator[Take]:
    """Play every pitch at every velocity on one program of bank 0, hold + tail each, as mean of the channels.

    The first sample of a take is the first that the note can sound in. One fluidsynth process plays all
    notes, each in a slot of its own with all sound off at its end; no reverb, no chorus, gain 1, floating
    point, so nothing clips and nothing is rounded. Raises DarkrackError where fluidsynth is missing or fails.
    """
    import soundfile

    slot_ms = -(-(keys.hold_ms + keys.tail_ms + GUARD_MS) // GRID_MS) * GRID_MS
    order = [(pitch, velocity) for pitch in keys.pitches for velocity in keys.velocities]
    notes = [(LEAD_MS + index * slot_ms, *note) for index, note in enumerate(order)]
    end_ms = LEAD_MS + len(order) * slot_ms
    with tempfile.TemporaryDirectory(prefix="darkrack-") as folder:
        score, wave, config = Path(folder, "notes.mid"), Path(folder, "notes.w64"), Path(folder, "empty.conf")
        _write_score(score, _events(program, keys, notes, end_ms))
        config.touch()  # instead of the user's own settings
        command = [fluidsynth_path(), "-f", str(config), "-n", "-i", "-q", "-R", "0", "-C", "0", "-g", "1"]
        command += ["-o", "synth.dynamic-sample-loading=1", "-o", "synth.midi-bank-select=gm"]
        # w64, because a WAV ends at 4 GiB.
        command += ["-r", str(SAMPLE_RATE_HZ), "-T", "w64", "-O", "float", "-F", str(wave)]
        command += [str(font.resolve()), str(score)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        try:
            with soundfile.SoundFile(wave) as source:
                # Without a font that it can read, fluidsynth renders silence and exits 0.
                if done.returncode or "fluidsynth: error" in done.stderr or source.frames < _samples(end_ms):
                    raise _failed(font, program, done)
                for start_ms, pitch, velocity in notes:
                    source.seek(_samples(start_ms) + LATENCY_SAMPLES)
                    stereo = source.read(
                        _samples(keys.hold_ms + keys.tail_ms), dtype="float64", always_2d=True
                    )
                    yield Take(pitch, velocity, stereo.mean(axis=1))
        except soundfile.LibsndfileError as error:
            raise _failed(font, program, done) from error


def _events(
    program: int, keys: Keys, notes: list[tuple[int, int, int]], end_ms: int
) -> list[tuple[int, str]]:
    """(milliseconds, message in mido's words) for ``notes`` of (start in ms, pitch, velocity)."""
    events = [(0, f"program_change program={program}")]
    # A voice of fluidsynth's ramps through its first block, but only the first time it is used: more voices
    # than a note needs are used before the first note.
    events += [(0, f"note_on note={pitch} velocity=127") for pitch in range(0, 128, 4)]
    events.append((GUARD_MS, ALL_SOUND_OFF))
    for start_ms, pitch, velocity in notes:
        events.append((start_ms, f"note_on note={pitch} velocity={velocity}"))
        events.append((start_ms + keys.hold_ms, f"note_off note={pitch}"))
        events.append((start_ms + keys.hold_ms + keys.tail_ms, ALL_SOUND_OFF))
    events.append((end_ms + LEAD_MS, ALL_SOUND_OFF))  # keeps fluidsynth at it until the last slot is whole
    return events


def _samples(ms: int) -> int:
    return ms * SAMPLE_RATE_HZ // 1000


def _failed(font: Path, program: int, done: subprocess.CompletedProcess[str]) -> DarkrackError:
    said = " ".join((done.stderr or done.stdout).split())[:300] or "no word"
    return DarkrackError(
        f"{font}, program {program}", "fluidsynth to render it", f"exit {done.returncode}: {said}"
    )


def _write_score(path: Path, events: list[tuple[int, str]]) -> None:
    """The events as a MIDI file of 500 ticks and 500,000 microseconds a beat: a tick is a millisecond."""
    import mido

    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)])
    now_ms = 0
    for at_ms, words in events:
        track.append(mido.Message.from_str(f"{words} time={at_ms - now_ms}"))
        now_ms = at_ms
    mido.MidiFile(type=0, ticks_per_beat=500, tracks=[track]).save(path)
