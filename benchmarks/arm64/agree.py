"""Whether an emulated board says and plays what this machine does: golden outputs, a rendered song, a played script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.arm64.root import CLONE, Board, Root
from device.errors import DarkrackError

# `bundle verify` itself holds golden to 1e-4, or 60 dB where it is rounded, without LiteRT's delegate. With it, as it
# is played, int8 kernels of different cores round differently: the energy of the difference against that of the sound.
# Another network, or a wrong one, is over -10 dB; a Cortex-A76's dot products came out at -61, a Cortex-A72's without
# them at -142.
AUDIO_TOLERANCE_DB = -40.0
PLAYED_TOLERANCE_DB = 1.0  # between the signal-to-noise ratios of a variant as it is played, there and here
SCRIPT, SECONDS = "hello", 3
SILENT_DB = -200.0  # equal to the last bit
KEYS = (48, 60, 67)


@dataclass(frozen=True)
class Heard:
    """What one machine made of a bundle: `verify`'s figures, and two recordings (n, 2)."""

    golden_largest_difference: float
    variants_snr_db: dict[str, float]
    rendered: npt.NDArray[np.float64] | None
    played: npt.NDArray[np.float64] | None


def hear(bundle: Path, folder: Path, root: Root | None, board: Board | None, *, sound: bool) -> Heard:
    """Run the three commands on a board, or (``root`` None) here; ``sound`` False leaves out what numba compiles."""
    import soundfile

    def darkrack(*words: str) -> None:
        if root is not None and board is not None:
            root.run(board, ["-m", "darkrack", *words], folder=folder)
        else:
            _here(words, folder)

    name = board.name if board is not None else "here"
    verified, song = folder / f"{name}.json", folder / "song.mid"
    rendered, played = folder / f"{name}-render.wav", folder / f"{name}-play.wav"
    darkrack("bundle", "verify", str(bundle.resolve()), "--json", str(verified))
    if sound:
        _write_song(song)
        darkrack("render", str(song), "--bundle", str(bundle.resolve()), "--out", str(rendered))
        offline = ("--profile", "sim", "--script", SCRIPT, "--offline", "--seconds", str(SECONDS))
        darkrack(
            "play", str(bundle.resolve()), *offline, "--midi", "none", "--osc", "0", "--wav", str(played)
        )
    figures = json.loads(verified.read_text(encoding="utf-8"))
    return Heard(
        figures["golden_largest_difference"],
        figures["variants_snr_db"],
        soundfile.read(rendered)[0] if sound else None,
        soundfile.read(played)[0] if sound else None,
    )


def difference_db(sound: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Energy of the difference of two recordings against that of the first; SILENT_DB where they are the same.

    DarkrackError where one is longer, or the first is silent.
    """
    if sound.shape != other.shape:
        raise DarkrackError("arm64", f"{sound.shape} samples, as here", str(other.shape))
    energy = float(np.sum(sound**2))
    if not energy > 0:
        raise DarkrackError("arm64", "sound", "silence")
    return float(10 * np.log10(max(float(np.sum((sound - other) ** 2)) / energy, 10 ** (SILENT_DB / 10))))


def faults(figures: dict[str, object]) -> list[str]:
    """What a board's figures, as they are reported, break of the tolerances."""
    found = []
    for what in ("render_db", "play_db"):
        value = figures.get(what)
        if isinstance(value, float) and not value <= AUDIO_TOLERANCE_DB:
            found.append(f"{what}: {value:.1f} dB from this machine's sound, over {AUDIO_TOLERANCE_DB:g}")
    there, here = figures["played_snr_db"], figures["here_snr_db"]
    assert isinstance(there, dict)
    assert isinstance(here, dict)
    for variant, value in there.items():
        if not abs(value - here[variant]) <= PLAYED_TOLERANCE_DB:
            found.append(f"{variant}: {value:.1f} dB from golden, here {here[variant]:.1f}")
    return found


def _write_song(path: Path) -> None:
    """A chord, one key after the other, and let go."""
    import mido

    track = mido.MidiTrack(
        [mido.Message("note_on", note=key, velocity=90, time=120) for key in KEYS]
        + [mido.Message("note_off", note=key, velocity=0, time=240) for key in KEYS]
    )
    song = mido.MidiFile(ticks_per_beat=480)
    song.tracks.append(track)
    song.save(str(path))


def _here(words: Sequence[str], folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DARKRACK_STATE": str(folder)}
    command = [sys.executable, str(CLONE / "darkrack.py"), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DarkrackError("darkrack " + words[0], "it to end well here", done.stderr.strip()[-500:])
