"""A bundle played by hand: notes, bends and knobs in, stereo samples out. Knows neither files nor MIDI.

Whoever plays (a MIDI file, the demo's pots and gate, a live input) calls the methods between calls of
``render``; what was called takes effect at the next sample rendered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from device.bundle import Bundle
from device.errors import DarkrackError
from device.generator import Generator
from device.knobs import Knobs
from device.partials import NoteFrames, decode, nominal_hz
from device.patch import SETTING_MAX, Patch, nearest
from device.voices import VoiceBank

FloatArray = NDArray[np.float32]

SAMPLE_RATE_HZ = 48_000
# A turning knob reaches the sounding voices 50 times a second; each time they crossfade until the next time,
# so that a sweep is a chain of ramps without rests.
MORPH_S = 1 / 50
MORPH_SAMPLES = round(MORPH_S * SAMPLE_RATE_HZ)
# A voice that has glided further than this from the pitch of its frames gets new ones: formants are fixed
# in Hz, so the envelope over the partials must not move along with the pitch.
GLIDE_SEMITONES = 1.0
# Keys spread as on a piano heard from its stool: lowest A (21) left, highest C (108) right, at 40 % of the
# full width.
PAN_CENTRE_KEY, PAN_HALF_SPAN_KEYS, PAN_WIDTH = 64.5, 43.5, 0.4

# Not 0, which the bank takes for a note that need not begin: a swell may begin in silence.
SMALLEST_GAIN = 10 ** (-120 / 20)


@dataclass
class _Voice:
    """What sounds in one place of the bank. Orders count events, so that the older of two is the smaller."""

    channel: int
    key: int
    pitch_midi: float
    velocity: float
    noise_seed: int
    order: int
    frames_pitch: float
    frames_vector: FloatArray
    down: bool = True
    released: int | None = None


@dataclass
class _Channel:
    """What is set for all notes of a channel, sounding and to come."""

    bend_semitones: float = 0.0
    gain: float = 1.0
    pedal: bool = False


@dataclass
class Counts:
    """What happened so far.

    ``stolen``: voices taken from a note for another one; ``stolen_held`` of them from notes not yet released.
    ``out_of_range``: notes whose pitch was not trained. ``morphs``: times a sounding note got new frames.
    ``generation_ms``: one entry per generated set of frames, decoding included.
    """

    notes: int = 0
    stolen: int = 0
    stolen_held: int = 0
    out_of_range: int = 0
    morphs: int = 0
    generation_ms: list[float] = field(default_factory=list)


class Performance:
    """Plays ``bundle`` as ``patch`` sets it up, with up to ``voices`` notes at once.

    The same calls give the same samples; another ``seed`` gives every note other noise. ``counts`` may be
    read at any time.
    """

    def __init__(
        self, bundle: Bundle, patch: Patch, *, voices: int = 16, seed: int = 0, variant: str | None = None
    ) -> None:
        """Load the generator; DarkrackError where the patch names what the bundle lacks."""
        manifest = bundle.manifest
        self.counts = Counts()
        self.now_samples = 0
        self._patch = patch
        self._seed = seed
        self._partials = manifest.representation
        self._generator = Generator(bundle, variant)
        self._pitch_range = manifest.pitch_range_midi
        self._knobs = Knobs(manifest.attributes, manifest.copula)
        self._base, self._z = _start(bundle, patch)
        # name -> (setting, does it carry the related attributes along)
        self._settings = {name: (value, patch.carry) for name, value in patch.attributes.items()}
        self._vector = self._turned()
        self._turning = False
        self._channels: dict[int, _Channel] = {}
        self._bank = VoiceBank(
            voices,
            self._partials.rows,
            self._partials.frames,
            SAMPLE_RATE_HZ,
            self._partials.frame_rate_hz,
            limit_hz=self._partials.limit_hz,
        )
        self._voices: list[_Voice | None] = [None] * voices
        self._order = 0
        self._stale = False
        self._next_morph_samples = 0

    def note_on(self, key: int, pitch_midi: float, velocity: float, channel: int = 0) -> None:
        """Start a note at the present knobs.

        ``key`` names it for ``note_off``; ``pitch_midi`` is what sounds (69 = 440 Hz, fractions allowed);
        ``velocity`` is above 0, up to 1. A pitch outside the bundle's range is generated at the nearest
        trained one and sounds where it was asked.
        """
        for v, voice in self._sounding(channel):
            if voice.key == key and not voice.down:  # held by the pedal only: the string is struck again
                self._release(v, voice)
        self.counts.notes += 1
        low, high = self._pitch_range
        self.counts.out_of_range += not low <= pitch_midi <= high
        voice = _Voice(
            channel,
            key,
            pitch_midi,
            velocity,
            noise_seed=(self._seed * 1_000_003 + self.counts.notes) % 2**32,
            order=self._tick(),
            frames_pitch=0.0,
            frames_vector=self.vector,
        )
        frames = self._generate(voice)
        place = self._place()
        self._voices[place] = voice
        pan = PAN_WIDTH * min(1.0, max(-1.0, (pitch_midi - PAN_CENTRE_KEY) / PAN_HALF_SPAN_KEYS))
        self._bank.start(place, frames, self._f0_hz(voice), self._gain(voice), pan, self._patch.release_s)

    def note_off(self, key: int, channel: int = 0) -> None:
        """Let the key go; the note ends now, or with the pedal. Of two equal keys the one pressed first."""
        pressed = [(v, voice) for v, voice in self._sounding(channel) if voice.key == key and voice.down]
        if pressed:
            v, voice = min(pressed, key=lambda pair: pair[1].order)
            voice.down = False
            if not self._channel(channel).pedal:
                self._release(v, voice)

    def pedal(self, down: bool, channel: int = 0) -> None:
        """Sustain: while it is down, notes sound on after their key is let go."""
        self._channel(channel).pedal = down
        if not down:
            for v, voice in self._sounding(channel):
                if not voice.down:
                    self._release(v, voice)

    def bend(self, semitones: float, channel: int = 0) -> None:
        """Shift every note of the channel, sounding or to come, by ``semitones`` from its own pitch."""
        self._channel(channel).bend_semitones = semitones
        for v, voice in self._sounding(channel):
            self._bank.bend(v, self._f0_hz(voice))
            self._stale |= abs(self._pitch(voice) - voice.frames_pitch) > GLIDE_SEMITONES

    def level(self, gain: float, channel: int = 0) -> None:
        """Set the channel's linear gain (1 = as the patch has it), for sounding notes too."""
        self._channel(channel).gain = gain
        for v, voice in self._sounding(channel):
            self._bank.level(v, self._gain(voice))

    def release_all(self, channel: int | None = None) -> None:
        """Let every key of the channel (or of all channels) go; the pedal keeps what it holds."""
        for _, voice in list(self._sounding(channel)):
            self.note_off(voice.key, voice.channel)

    def finish(self) -> None:
        """Let everything go, pedals too; what sounds rings out."""
        self.release_all()
        for channel in self._channels:
            self.pedal(False, channel)

    def silence(self, channel: int | None = None) -> None:
        """Stop every note of the channel (or of all channels) at once, without a click."""
        for v, _ in self._sounding(channel):
            self._bank.kill(v)

    def set_attribute(self, name: str, setting: float, carry: bool | None = None) -> None:
        """Turn a knob: ``setting`` 0..1 along what the data have, up to 2 beyond it.

        ``carry``: take the related attributes along (None: as the patch says). New notes have the new vector;
        sounding ones crossfade to it. DarkrackError for an unknown name (with the nearest) or a setting out
        of range.
        """
        name = self._knobs.names[self._knobs.index(name)]  # as the bundle spells it
        if not 0.0 <= setting <= SETTING_MAX:
            raise DarkrackError(f"knob {name!r}", f"a setting from 0 to {SETTING_MAX:g}", f"{setting:g}")
        turned = (setting, self._patch.carry if carry is None else carry)
        if self._settings.get(name) != turned:
            self._settings[name] = turned
            self._turning = self._stale = True

    @property
    def vector(self) -> FloatArray:
        """The soft labels (A,) with all knobs where they stand now."""
        if self._turning:  # worked out only when somebody listens: pots are read far more often
            self._turning = False
            vector = self._turned()
            if not np.array_equal(vector, self._vector):
                self._vector = vector
        return self._vector

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
        """Give every sounding voice the frames of the present knobs and of the pitch it has glided to."""
        vector = self.vector
        for v, voice in self._sounding(None):
            glided = abs(self._pitch(voice) - voice.frames_pitch) > GLIDE_SEMITONES
            if glided or voice.frames_vector is not vector:
                self._bank.morph(v, self._generate(voice), MORPH_S)
                self.counts.morphs += 1
        self._stale = False
        self._next_morph_samples = self.now_samples + MORPH_SAMPLES

    def _generate(self, voice: _Voice) -> NoteFrames:
        """Frames for the voice's pitch and the present knobs; its noise stays, so it is the same note."""
        begin = time.perf_counter()
        voice.frames_pitch = self._pitch(voice)
        voice.frames_vector = self.vector
        low, high = self._pitch_range
        output = self._generator.note(
            self._z,
            voice.frames_vector,
            min(high, max(low, voice.frames_pitch)),
            voice.velocity,
            voice.noise_seed,
        )
        frames = decode(output, self._partials)
        self.counts.generation_ms.append((time.perf_counter() - begin) * 1000.0)
        return frames

    def _place(self) -> int:
        """A free voice; else the one released first; else the one pressed first. The bank softens its end."""
        for v in range(len(self._voices)):
            if not self._bank.active[v]:
                return v
        released = [(voice.released, v) for v, voice in self._sounding(None) if voice.released is not None]
        self.counts.stolen += 1
        self.counts.stolen_held += not released
        return min(released or [(voice.order, v) for v, voice in self._sounding(None)])[1]

    def _release(self, v: int, voice: _Voice) -> None:
        if voice.released is None:
            voice.released = self._tick()
            voice.down = False
            self._bank.release(v)

    def _sounding(self, channel: int | None) -> Iterator[tuple[int, _Voice]]:
        for v, voice in enumerate(self._voices):
            if voice is not None and self._bank.active[v] and channel in {None, voice.channel}:
                yield v, voice

    def _channel(self, channel: int) -> _Channel:
        return self._channels.setdefault(channel, _Channel())

    def _pitch(self, voice: _Voice) -> float:
        return voice.pitch_midi + self._channel(voice.channel).bend_semitones

    def _f0_hz(self, voice: _Voice) -> float:
        return nominal_hz(self._pitch(voice))

    def _gain(self, voice: _Voice) -> float:
        level = 10.0 ** (self._patch.level_db / 20.0)
        gain = level * voice.velocity**self._patch.velocity_curve * self._channel(voice.channel).gain
        return float(max(gain, SMALLEST_GAIN))

    def _tick(self) -> int:
        self._order += 1
        return self._order

    def _turned(self) -> FloatArray:
        """The attribute vector of all knobs where they stand: those that carry first, then the solo ones."""
        vector = self._base
        for carry in (True, False):
            turned = {name: value for name, (value, carries) in self._settings.items() if carries is carry}
            if turned:
                vector = self._knobs.vector(vector, turned, carry=carry)
        return vector


def _start(bundle: Bundle, patch: Patch) -> tuple[FloatArray, FloatArray]:
    """Attributes and latent of the patch's preset, or the bundle's first; the patch may draw a latent."""
    presets = {preset.name: preset for preset in bundle.manifest.presets}
    if not presets:
        raise DarkrackError(str(bundle.path), "a bundle with presets", "none", "export the bundle again")
    name = patch.preset or next(iter(presets))
    start = presets[nearest(name, list(presets), "preset", "a preset of the bundle")]
    z = start.z
    if patch.latent_seed is not None:
        z = np.random.default_rng(patch.latent_seed).standard_normal(bundle.manifest.latent_size)
    return start.attributes.astype(np.float32), z.astype(np.float32)
