"""`darkrack bench --loopback`: how long sound takes from this program to the output, through a cable, and back.

As jack_iodelay does it, but with a sweep in place of steady tones: it is played and recorded through one duplex
stream, so what is recorded and what is played have the same clock, and the place where the recording resembles the
sweep most is the round trip, to a fraction of a sample. In it are the buffers of both directions, both converters with
their filters, and the cable. Of an instrument's latency only the way out is part; nothing here can tell the two apart.
"""

from __future__ import annotations

import dataclasses
import datetime
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from device.audio import find_device, sounddevice_or_error
from device.comparison import FORMAT
from device.errors import DarkrackError

Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

KIND = "darkrack bench --loopback"
RATE_HZ = 48_000
SWEEP_HZ = (100.0, 18_000.0)
SWEEP_S, EDGE_S = 0.25, 0.01
LEVEL = 0.5  # of full scale: -6 dB
EVERY_S = 0.75  # from one sweep to the next: what comes later than the rest of it is not found
SWEEPS = 8
LEAD_S = 0.5  # of silence, while a device and its ports settle
FINER = 16  # steps a sample at which the resemblance is computed; a parabola through three finds the rest
LEAST = 8.0  # times that the resemblance at its place stands over what it is elsewhere, or nothing was heard
LEAST_LEVEL = 10 ** (-90 / 20)  # of the recording, against full scale: less than that is a converter's noise

Duplex = Callable[
    [Array], tuple[Array, bool]
]  # what is played (n,) -> what was recorded (n,), and whether any was lost


@dataclass(frozen=True)
class Loopback:
    """What was measured. ``round_trips``: of each sweep that was heard, in samples; ``stated_ms``: input and output

    latency as PortAudio states them together. ``inverted``: the recording is upside down; ``level_db``: of the
    recording against what was played. ``lost``: PortAudio said that samples were lost.
    """

    device: str
    block_frames: int
    round_trips: tuple[float, ...]
    missed: int
    stated_ms: float | None
    inverted: bool
    level_db: float
    lost: bool


def measure(device: str | None, block_frames: int) -> Loopback:
    """Play and record on a real device; DarkrackError where there is none, or nothing comes back."""
    name, stated_ms, duplex = open_duplex(device, block_frames)
    return heard(name, block_frames, stated_ms, duplex)


def stated(device: str | None, block_frames: int) -> tuple[str, float]:
    """An output's name, and its latency in ms as PortAudio states it; DarkrackError where it is not there."""
    sounddevice = sounddevice_or_error()
    found = find_device(sounddevice, device)
    try:
        with sounddevice.OutputStream(
            samplerate=RATE_HZ,
            blocksize=block_frames,
            device=found["index"],
            channels=2,
            dtype="float32",
            latency="low",
        ) as probe:
            return str(found["name"]), 1e3 * float(probe.latency)
    except sounddevice.PortAudioError as error:
        expected = f"a device that plays two channels at {RATE_HZ} Hz"
        raise DarkrackError(f"audio device {str(found['name'])!r}", expected, str(error)) from error


def open_duplex(device: str | None, block_frames: int) -> tuple[str, float | None, Duplex]:
    """The device's name, what latency PortAudio states for both ways together, and what plays and records on it."""
    sounddevice = sounddevice_or_error()
    found = find_device(sounddevice, device, inputs=1)
    where = f"audio device {str(found['name'])!r}"
    stream_options: dict[str, Any] = {
        "samplerate": RATE_HZ,
        "blocksize": block_frames,
        "device": (found["index"], found["index"]),
        "channels": (1, 2),
        "dtype": "float32",
        "latency": "low",
    }
    expected = f"a device that plays and records at {RATE_HZ} Hz"
    try:
        with sounddevice.Stream(**stream_options) as probe:
            stated_ms = 1e3 * float(sum(probe.latency))
    except sounddevice.PortAudioError as error:
        raise DarkrackError(where, expected, str(error), "--audio with another device") from error

    def duplex(played: Array) -> tuple[Array, bool]:
        """One stream, whose callback copies: sample n of what is recorded was handed over with sample n to play."""
        recorded, at, lost = np.zeros(len(played), np.float32), 0, False
        done = threading.Event()

        def copy(incoming: Array, outgoing: Array, frames: int, _times: object, status: Any) -> None:
            nonlocal at, lost
            end = min(at + frames, len(played))
            outgoing[:] = 0.0
            outgoing[: end - at] = played[at:end, np.newaxis]
            recorded[at:end] = incoming[: end - at, 0]
            lost |= bool(status) and at > 0
            at = end
            if at == len(played):
                done.set()

        try:
            with sounddevice.Stream(**stream_options, callback=copy):
                if not done.wait(2 * len(played) / RATE_HZ + 5.0):
                    raise DarkrackError(
                        where, expected, "one that stopped calling", "--audio with another device"
                    )
        except sounddevice.PortAudioError as error:
            raise DarkrackError(where, expected, str(error), "--audio with another device") from error
        return recorded, lost

    return str(found["name"]), stated_ms, duplex


def heard(name: str, block_frames: int, stated_ms: float | None, duplex: Duplex) -> Loopback:
    """Play sweeps and look for each in what comes back."""
    played, begins = programme()
    recorded, lost = duplex(played)
    tone = sweep()
    every = round(EVERY_S * RATE_HZ)
    level = float(np.sqrt(np.mean(recorded[begins[0] :].astype(np.float64) ** 2)))
    found = [place(recorded[begin : begin + every], tone) for begin in begins]
    good = [(at, sign) for at, sign, stands in found if stands >= LEAST] if level > LEAST_LEVEL else []
    if not good:
        got = "silence" if level <= LEAST_LEVEL else "something else"
        hint = "put a cable from the left output to the left input; look at the mixer's levels (alsamixer)"
        raise DarkrackError(f"audio device {name!r}", "to hear what is played come back", got, hint)
    return Loopback(
        device=name,
        block_frames=block_frames,
        round_trips=tuple(round(at, 3) for at, _ in good),
        missed=len(found) - len(good),
        stated_ms=stated_ms,
        inverted=sum(sign for _, sign in good) < 0,
        level_db=round(
            20 * float(np.log10(level / np.sqrt(np.mean(played[begins[0] :].astype(np.float64) ** 2)))), 1
        ),
        lost=lost,
    )


def sweep() -> Array:
    """(SWEEP_S,) from low to high, an octave in equal times, its edges rounded."""
    low, high = SWEEP_HZ
    times_s = np.arange(round(SWEEP_S * RATE_HZ)) / RATE_HZ
    rate = np.log(high / low) / SWEEP_S
    tone = np.sin(2 * np.pi * low / rate * (np.exp(rate * times_s) - 1))
    edge = round(EDGE_S * RATE_HZ)
    rise = 0.5 - 0.5 * np.cos(np.pi * np.arange(edge) / edge)
    tone[:edge] *= rise
    tone[-edge:] *= rise[::-1]
    rounded: Array = (LEVEL * tone).astype(np.float32)
    return rounded


def programme() -> tuple[Array, list[int]]:
    """All that is played, (n,), and where each sweep begins in it."""
    every, lead = round(EVERY_S * RATE_HZ), round(LEAD_S * RATE_HZ)
    begins = [lead + n * every for n in range(SWEEPS)]
    played = np.zeros(lead + SWEEPS * every, np.float32)
    tone = sweep()
    for begin in begins:
        played[begin : begin + len(tone)] = tone
    return played, begins


def place(recorded: Array, tone: Array) -> tuple[float, int, float]:
    """Where ``tone`` begins in ``recorded``, in samples from 0; its sign; how far that stands out of all other places.

    The maximum of their correlation, with the spectra whitened in the tone's band (the phase transform of Knapp and
    Carter, IEEE Trans. ASSP 24, 1976), so that neither the sweep's own colour nor an amplifier's broadens it; FINER
    times interpolated by a longer inverse transform, then by a parabola.
    """
    size = 1 << (len(recorded) + len(tone) - 1).bit_length()
    cross = np.fft.rfft(recorded.astype(np.float64), size) * np.conj(
        np.fft.rfft(tone.astype(np.float64), size)
    )
    hz = np.fft.rfftfreq(size, 1 / RATE_HZ)
    low, high = 1.5 * SWEEP_HZ[0], 0.9 * SWEEP_HZ[1]
    # Hann over the band: a sharp end of it would ring in time.
    window = np.where(
        (hz > low) & (hz < high), 0.5 - 0.5 * np.cos(2 * np.pi * (hz - low) / (high - low)), 0.0
    )
    strength = np.abs(cross)
    white = cross / np.maximum(strength, 1e-6 * max(float(strength.max()), 1e-30)) * window
    like: Doubles = np.fft.irfft(white, size * FINER)  # goes round: what is before 0 stands at its end
    peak = int(np.argmax(np.abs(like[: len(recorded) * FINER])))
    sign = 1 if like[peak] > 0 else -1
    before, at, after = (abs(float(like[(peak + n) % len(like)])) for n in (-1, 0, 1))
    curve = before - 2 * at + after
    offset = 0.5 * (before - after) / curve if curve < 0 else 0.0
    elsewhere = float(np.sqrt(np.mean(like**2)))
    return (peak + offset) / FINER, sign, at / max(elsewhere, 1e-30)


def document(found: Loopback) -> dict[str, Any]:
    """As --json writes it."""
    return {
        "kind": KIND,
        "format": FORMAT,
        "date": datetime.date.today().isoformat(),
        "rate_hz": RATE_HZ,
        **dataclasses.asdict(found),
        "round_trip_samples": statistics.median(found.round_trips),
        "round_trip_ms": _ms(statistics.median(found.round_trips)),
    }


def table(found: Loopback) -> str:
    """For people."""
    middle, spread = statistics.median(found.round_trips), max(found.round_trips) - min(found.round_trips)
    sides = "upside down" if found.inverted else "right side up"
    lines = [
        f"{found.device}, {RATE_HZ} Hz, blocks of {found.block_frames} frames",
        f"round trip      {middle:.3f} samples, {_ms(middle):.4f} ms (output, cable, input)",
        f"spread          {spread:.3f} samples over {_sweeps(found.round_trips)}, {found.missed} not heard",
        f"came back       at {found.level_db:+.1f} dB, {sides}",
    ]
    if found.stated_ms is not None:
        over = _ms(middle) - found.stated_ms
        lines.append(
            f"PortAudio says  {found.stated_ms:.4f} ms for both ways; measured is {over:+.4f} ms on that"
        )
    if found.lost:
        lines.append("samples were lost on the way (PortAudio): larger blocks may help, --block 256")
    if spread > 1:
        lines.append("the round trip changed from one sweep to the next: not a figure to rely on")
    return "\n".join(lines)


def _sweeps(found: Sequence[float]) -> str:
    return f"{len(found)} sweep{'s' * (len(found) != 1)}"


def _ms(samples: float) -> float:
    return round(samples / RATE_HZ * 1e3, 4)
