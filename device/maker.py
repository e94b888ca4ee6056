"""Notes that a voice can play, made by a bundle's network at the level that all bundles share."""

from __future__ import annotations

import dataclasses
import statistics

import numpy as np
import numpy.typing as npt

from device.bundle import Bundle
from device.generator import Generator, trained_pitch
from device.partials import NoteFrames, Partials, decode, loudness_db, nominal_hz
from device.stft import NoteSamples, Stft, decode_samples

# Loudness of a note after matching: one sine of RMS 1 at 1 kHz has 0 LU on this scale, a rich spectrum some 2 more.
MATCHED_DB = 0.0
MOST_MATCHED_DB = 12.0  # a bundle that is further off is meant to be
HEARD_MIDI = (48.0, 60.0, 72.0)
HEARD_S = 0.1  # of a sample; at MIDI 48, 13 periods


class Maker:
    """A bundle's network with all that follows it up to a table; not for two threads at once.

    ``grid`` is None for a bundle of samples. ``gain_db`` brings the median loudness (ITU-R BS.1770) of the bundle's
    presets at three pitches to MATCHED_DB.
    """

    def __init__(self, bundle: Bundle, variant: str | None = None) -> None:
        manifest = bundle.manifest
        self._generator = Generator(bundle, variant)
        self._representation = manifest.representation
        self._pitch_range_midi = manifest.pitch_range_midi
        self.grid = manifest.representation if isinstance(manifest.representation, Partials) else None
        self.gain_db = 0.0
        heard = [
            loudness_db(note, hz)
            if isinstance(note, NoteFrames)
            else loudness_db(_loudest_spectrum(note), hz)
            for preset in manifest.presets
            for note, hz in (self.note(preset.z, preset.attributes, midi, 0.8, 0) for midi in HEARD_MIDI)
        ]
        if heard:
            off_db = MATCHED_DB - statistics.median(heard)
            self.gain_db = float(np.clip(off_db, -MOST_MATCHED_DB, MOST_MATCHED_DB))

    def note(
        self, z: npt.ArrayLike, attributes: npt.ArrayLike, pitch_midi: float, velocity: float, seed: int
    ) -> tuple[NoteFrames | NoteSamples, float]:
        """A note, and the f0 in Hz that it was made for, that of the nearest trained pitch; see `Generator.note`."""
        made_for = trained_pitch(pitch_midi, self._pitch_range_midi, self._representation)
        output = self._generator.note(z, attributes, made_for, velocity, seed)
        note, f0_hz = decoded(output, self._representation, made_for)
        if isinstance(note, NoteSamples):
            louder = note.samples * np.float32(10 ** (self.gain_db / 20))
            return dataclasses.replace(note, samples=louder), f0_hz
        return dataclasses.replace(note, level_db=note.level_db + np.float32(self.gain_db)), f0_hz


def decoded(
    output: npt.NDArray[np.floating], grid: Partials | Stft, pitch_midi: float
) -> tuple[NoteFrames | NoteSamples, float]:
    """What a voice can play of a network's output for a trained pitch, and the f0 in Hz that it has."""
    if isinstance(grid, Stft):
        sample = decode_samples(output, grid, pitch_midi)
        return sample, sample.f0_hz
    return decode(output, grid), nominal_hz(pitch_midi)


def _loudest_spectrum(note: NoteSamples) -> NoteFrames:
    """The loudest moment of a sample as one frame with a partial for every bin, for `loudness_db`."""
    size = min(round(HEARD_S * note.sample_rate_hz), len(note.samples))
    energy = np.cumsum(np.concatenate([[0.0], note.samples.astype(np.float64) ** 2]))
    begin = int(np.argmax(energy[size:] - energy[:-size]))
    window = np.hanning(size + 2)[1:-1]
    spectrum = np.abs(np.fft.rfft(note.samples[begin : begin + size] * window))[1:-1]
    # Half the sum of their squares is the power of what was heard through the window (Parseval).
    amplitude = 2 * spectrum / np.sqrt(size * np.sum(window**2))
    ratio = np.arange(1, len(spectrum) + 1) * (note.sample_rate_hz / size / note.f0_hz)
    level_db = 20 * np.log10(np.maximum(amplitude, 1e-10))
    frame = (level_db.astype(np.float32)[:, np.newaxis], ratio.astype(np.float32)[:, np.newaxis])
    return NoteFrames(*frame, np.zeros(len(spectrum), np.float32), 0, 0)
