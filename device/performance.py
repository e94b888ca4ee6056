"""A bundle played by hand: notes, bends and knobs in, stereo samples out. Knows neither files nor MIDI.

Whoever plays (a MIDI file, the demo's pots and gate) calls the methods of `Hands` between calls of ``render``;
what was called takes effect at the next sample rendered. Frames are made at the gate: on the clock of a file there
is time for that. `device.play` is the live instrument.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from device.bundle import Bundle
from device.hands import GLIDE_SEMITONES, Hands, Voice
from device.maker import Maker
from device.partials import Partials
from device.patch import Patch
from device.timbre import Stance, Timbre
from device.voices import Note, VoiceBank

FloatArray = NDArray[np.float32]

SAMPLE_RATE_HZ = 48_000
# A turning knob reaches the sounding voices 50 times a second; each time they crossfade until the next time,
# so that a sweep is a chain of ramps without rests.
MORPH_S = 1 / 50
MORPH_SAMPLES = round(MORPH_S * SAMPLE_RATE_HZ)


class Performance(Hands):
    """Plays ``bundle`` as ``patch`` sets it up, with up to ``voices`` notes at once.

    The same calls give the same samples; another ``seed`` gives every note other noise. ``counts`` may be
    read at any time.
    """

    def __init__(
        self, bundle: Bundle, patch: Patch, *, voices: int = 16, seed: int = 0, variant: str | None = None
    ) -> None:
        """Load the generator; DarkrackError where the patch names what the bundle lacks."""
        manifest = bundle.manifest
        super().__init__(patch, manifest.pitch_range_midi, voices, seed)
        self.now_samples = 0
        self._maker = Maker(bundle, variant)
        self._timbre = Timbre(bundle, patch)
        grid = manifest.representation
        if isinstance(grid, Partials):
            self._bank = VoiceBank(
                voices, grid.rows, grid.frames, SAMPLE_RATE_HZ, grid.frame_rate_hz, limit_hz=grid.limit_hz
            )
        else:
            self._bank = VoiceBank(voices, 1, 1, SAMPLE_RATE_HZ, samples=grid.samples)
        self._stances: list[Stance | None] = [None] * voices  # that the frames were made for
        self._stale = False
        self._next_morph_samples = 0

    def set_attribute(self, name: str, setting: float, carry: bool | None = None) -> None:
        """Turn a knob: ``setting`` 0..1 along what the data have, up to 2 beyond it; see `Timbre.turn`."""
        self._stale |= self._timbre.turn(name, setting, carry)

    def unset_attributes(self) -> None:
        """Put every knob back where the patch has it."""
        self._timbre.unset()
        self._stale = True

    def stand(self, base: FloatArray | None, z: FloatArray | None, shift: FloatArray | None) -> None:
        """Take another timbre under the knobs, see `Timbre.stand`; sounding notes crossfade."""
        self._timbre.stand(base, z, shift)
        self._stale = True

    @property
    def vector(self) -> FloatArray:
        """The soft labels (A,) with all knobs where they stand now."""
        return self._timbre.stance.vector

    @property
    def sounding(self) -> bool:
        """Whether any voice still sounds, releases included."""
        return bool(self._bank.active.any())

    def render(self, n_samples: int) -> FloatArray:
        """The next ``n_samples`` of sound, (n, 2) float32; 1.0 is full scale, and the sum may exceed it."""
        out = np.zeros((n_samples, 2), np.float32)
        done = 0
        while done < n_samples:
            if self._stale and self.now_samples >= self._next_morph_samples:
                self._morph()
            piece = n_samples - done
            if self._stale:
                piece = min(piece, self._next_morph_samples - self.now_samples)
            self._bank.render(out[done : done + piece])
            done += piece
            self.now_samples += piece
        return out

    def _morph(self) -> None:
        """Give every sounding voice the frames of the present knobs and of the pitch it has glided to.

        Samples do not morph; the next note has the present knobs.
        """
        stance = self._timbre.stance
        for v, voice in self._sounding(None) if self._maker.grid else ():
            glided = abs(self._pitch(voice) - voice.frames_midi) > GLIDE_SEMITONES
            if glided or self._stances[v] is not stance:
                voice.frames_midi = self._pitch(voice)
                frames, made_for_hz = self._generate(v, voice)
                self._bank.morph(v, frames, MORPH_S, made_for_hz)
                self.counts.morphs += 1
        self._stale = False
        self._next_morph_samples = self.now_samples + MORPH_SAMPLES

    def _generate(self, v: int, voice: Voice) -> tuple[Note, float]:
        """A note for the voice's pitch and the present knobs, and f0 in Hz of the pitch it is for.

        The noise stays, so it is the same note.
        """
        begin = time.perf_counter()
        self._stances[v] = stance = self._timbre.stance
        z = stance.latent(voice.latent)
        made = self._maker.note(z, stance.vector, voice.frames_midi, voice.velocity, voice.noise_seed)
        self.counts.generation_ms.append((time.perf_counter() - begin) * 1000.0)
        return made

    def _now_s(self) -> float:
        return self.now_samples / SAMPLE_RATE_HZ

    def _sounds(self, v: int) -> bool:
        return bool(self._bank.active[v])

    def _start(self, v: int, voice: Voice, f0_hz: float) -> None:
        frames, made_for_hz = self._generate(v, voice)
        gain = self._gain(voice)
        self._bank.start(v, frames, f0_hz, gain, voice.pan, self._release_s, made_for_hz=made_for_hz)

    def _retune(self, v: int, voice: Voice, glide_s: float) -> None:
        self._bank.bend(v, self._f0_hz(voice), glide_s)
        self._stale |= abs(self._pitch(voice) - voice.frames_midi) > GLIDE_SEMITONES

    def _regain(self, v: int, voice: Voice) -> None:
        self._bank.level(v, self._gain(voice))

    def _release(self, v: int) -> None:
        self._bank.release(v)

    def _kill(self, v: int) -> None:
        self._bank.kill(v)
