"""A SoundFont of a few seconds, written here, so that what is in it is known and no package brings one."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

PERIOD = 184  # samples; at 48,139 Hz that is 261.625 Hz, middle C within .01 cent
RATE_HZ = 48_139
LOW_KEYS = (0, 59)
ALL_KEYS = (0, 127)

# program -> name, root key, cents sharp, keys that have a sample
SAW, OCTAVE_LOW, SHARP, HALF_EMPTY, NOISE = 0, 4, 6, 19, 122
PROGRAMS = {
    SAW: ("Plain Saw", 60, 0, ALL_KEYS),
    OCTAVE_LOW: ("Octave Low", 72, 0, ALL_KEYS),  # root an octave too high: sounds an octave low
    SHARP: ("Sharp (70 cents)", 60, 70, ALL_KEYS),
    HALF_EMPTY: ("Half Empty", 60, 0, LOW_KEYS),
    NOISE: ("Noise", 60, 0, ALL_KEYS),
}
END_OF_PRESETS = struct.pack("<20sHHHIII", b"EOP", 0, 0, len(PROGRAMS), 0, 0, 0)


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def preset_records() -> bytes:
    """The preset headers without the one that ends the table; in no order, as fonts have them."""
    zones = list(enumerate(PROGRAMS.items()))
    return b"".join(
        struct.pack("<20sHHHIII", name.encode(), program, 0, zone, 0, 0, 0)
        for zone, (program, (name, *_)) in zones
    )


def font_bytes() -> bytes:
    """The whole file: SoundFont 2.04 specification, section 7; one sample, zone and instrument a preset."""
    t = np.arange(PERIOD) / PERIOD
    period = sum(np.sin(2 * np.pi * k * t) / k for k in range(1, 12))
    saw = np.tile(period, 20)
    noise = np.random.default_rng(0).standard_normal(RATE_HZ)
    silence = b"\0\0" * 46  # that the specification wants after a sample
    samples, headers, at = b"", b"", 0
    pbag, pgen, instruments, ibag, igen = b"", b"", b"", b"", b""
    for index, (program, (name, root, cents, keys)) in enumerate(PROGRAMS.items()):
        wave = noise if program == NOISE else saw
        data = np.round(wave / np.abs(wave).max() * 30_000).astype("<i2").tobytes() + silence
        end = at + len(wave)
        samples += data
        # start, end, loop start, loop end, rate, root key, correction, link, type 1 = mono
        places = (at, end, at + PERIOD, end - PERIOD, RATE_HZ, root, 0, 0, 1)
        headers += struct.pack("<20sIIIIIBbHH", name.encode(), *places)
        at = end + 46
        pbag += struct.pack("<HH", index, 0)
        pgen += struct.pack("<HH", 41, index)  # instrument
        instruments += struct.pack("<20sH", name.encode(), index)
        ibag += struct.pack("<HH", 4 * index, 0)
        igen += struct.pack("<HBB", 43, *keys)  # key range
        igen += struct.pack("<Hh", 52, cents)  # fine tune
        igen += struct.pack("<HH", 54, 1)  # loop
        igen += struct.pack("<HH", 53, index)  # sample
    count = len(PROGRAMS)
    pdta = chunk(b"phdr", preset_records() + END_OF_PRESETS)
    pdta += chunk(b"pbag", pbag + struct.pack("<HH", count, 0)) + chunk(b"pmod", bytes(10))
    pdta += chunk(b"pgen", pgen + bytes(4))
    pdta += chunk(b"inst", instruments + struct.pack("<20sH", b"EOI", count))
    pdta += chunk(b"ibag", ibag + struct.pack("<HH", 4 * count, 0)) + chunk(b"imod", bytes(10))
    pdta += chunk(b"igen", igen + bytes(4)) + chunk(b"shdr", headers + struct.pack("<20s26x", b"EOS"))
    info = (
        chunk(b"ifil", struct.pack("<HH", 2, 1)) + chunk(b"isng", b"EMU8000\0") + chunk(b"INAM", b"Tiny\0\0")
    )
    lists = chunk(b"LIST", b"INFO" + info) + chunk(b"LIST", b"sdta" + chunk(b"smpl", samples))
    return chunk(b"RIFF", b"sfbk" + lists + chunk(b"LIST", b"pdta" + pdta))


def write_font(path: Path) -> Path:
    """Write it; ``Tiny_GM.sf2`` gives instruments named ``tiny_000_plain_saw`` and so on."""
    path.write_bytes(font_bytes())
    return path
