"""Which voice plays what: keys, pedals and bends of channels, stealing, mono and unison; no sound of its own.

`device.performance` renders what the hands play; `device.control` sends it to the audio callback.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from device.partials import nominal_hz
from device.patch import Patch
from device.timbre import LATENT_SEEDS, latent_word

FloatArray = npt.NDArray[np.float32]

# A voice that has glided further than this from the pitch of its frames gets new ones: the voice keeps the envelope
# in Hz by itself, but a spectrum has more in it than its envelope.
GLIDE_SEMITONES = 1.0
# Keys spread as on a piano heard from its stool: lowest A (21) left, highest C (108) right, at 40 % of the
# full width.
PAN_CENTRE_KEY, PAN_HALF_SPAN_KEYS, PAN_WIDTH = 64.5, 43.5, 0.4
UNISON_PAN = 0.7  # to either side
UNISON_CENTS = 4.0  # up and down: beats once a second at A4 (440 * 8 / 1200 * ln 2 = 2 Hz between both)
UNISON_GAIN = 0.5**0.5  # two voices at equal power

RELEASE_MIN_S, RELEASE_MAX_S = 0.005, 20.0  # as a patch may have it
SHIFT_S = 0.01  # from one step of a modulation to the next, so that a vibrato is a line and no staircase

# Not 0, which a voice takes for a note that need not begin: a swell may begin in silence.
SMALLEST_GAIN = 10 ** (-120 / 20)


@dataclass
class Voice:
    """What sounds in one place. Orders count events, so that the older of two is the smaller.

    ``noise_seed`` makes it the note it is; ``latent`` says which latent it has (`device.timbre.latent_word`);
    ``frames_midi`` is the pitch that its frames were last asked for.
    """

    channel: int
    key: int
    pitch_midi: float
    velocity: float
    noise_seed: int
    order: int
    latent: int = 0
    detune_cents: float = 0.0
    pan: float = 0.0
    gain: float = 1.0
    frames_midi: float = 0.0
    arrives_s: float = 0.0  # where a glide ends, on the clock of `Hands._now_s`
    down: bool = True
    released: int | None = None


@dataclass
class _Channel:
    """What is set for all notes of a channel, sounding and to come."""

    bend_semitones: float = 0.0
    gain: float = 1.0
    pedal: bool = False
    # Keys that are down, in the order in which they were pressed, with pitch and velocity: for mono.
    down: dict[int, tuple[float, float]] = field(default_factory=dict)


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


class Hands(ABC):
    """Plays up to ``voices`` voices as ``patch`` says; another ``seed`` gives every note other noise."""

    def __init__(
        self, patch: Patch, pitch_range_midi: tuple[float, float], voices: int, seed: int = 0
    ) -> None:
        self.counts = Counts()
        self._patch = patch
        self._pitch_range = pitch_range_midi
        self._seed = seed
        self._channels: dict[int, _Channel] = {}
        self._voices: list[Voice | None] = [None] * voices
        self._order = 0
        self._last_midi: float | None = None
        self._shift_semitones = 0.0  # of everything, by modulation
        self._trim = 1.0  # likewise, a gain
        self._stretch = 1.0  # likewise, of what a release takes
        self.new_latents = False  # every note is another specimen
        # Called before a note begins, with its pitch and velocity, so that it begins with what it moves.
        self.struck: Callable[[float, float], None] = lambda _pitch_midi, _velocity: None

    def note_on(self, key: int, pitch_midi: float, velocity: float, channel: int = 0) -> None:
        """Start a note at the present knobs.

        ``key`` names it for ``note_off``; ``pitch_midi`` is what sounds (69 = 440 Hz, fractions allowed);
        ``velocity`` is above 0, up to 1. A pitch outside the bundle's range is generated at the nearest
        trained one and sounds where it was asked.
        """
        at = self._channel(channel)
        at.down.pop(key, None)
        at.down[key] = (pitch_midi, velocity)
        self.struck(pitch_midi, velocity)
        if self._patch.mono:
            sounding = [(v, voice) for v, voice in self._sounding(channel) if voice.released is None]
            if sounding and self._patch.legato:
                self._slide(sounding, key, pitch_midi)
                return
            for v, voice in sounding:
                self._let_go(v, voice)
        for v, voice in self._sounding(channel):
            if voice.key == key and not voice.down:  # held by the pedal only: the string is struck again
                self._let_go(v, voice)
        self.counts.notes += 1
        low, high = self._pitch_range
        self.counts.out_of_range += not low <= pitch_midi + self._patch.tuning_semitones <= high
        specimen = self._drawn_latent() if self.new_latents else 0
        order = self._tick()
        pan = PAN_WIDTH * min(1.0, max(-1.0, (pitch_midi - PAN_CENTRE_KEY) / PAN_HALF_SPAN_KEYS))
        unison = self._patch.unison
        for side in (-1, 1) if unison else (0,):
            voice = Voice(
                channel,
                key,
                pitch_midi,
                velocity,
                noise_seed=(self._seed * 1_000_003 + 2 * self.counts.notes + (side > 0)) % 2**32,
                order=order,
                latent=latent_word(specimen, twin=side > 0),
                detune_cents=side * UNISON_CENTS,
                pan=side * UNISON_PAN if unison else pan,
                gain=UNISON_GAIN if unison else 1.0,
            )
            place = self._place()
            self._voices[place] = voice
            voice.frames_midi = self._pitch(voice)
            comes_from = self._last_midi if self._patch.glide_s else None
            leap = 0.0 if comes_from is None else comes_from - pitch_midi
            self._start(place, voice, self._f0_hz(voice) * 2.0 ** (leap / 12.0))
            if comes_from is not None:
                self._glide(place, voice)
        self._last_midi = pitch_midi

    def note_off(self, key: int, channel: int = 0) -> None:
        """Let the key go; the note ends now, or with the pedal. Of two equal keys the one pressed first."""
        at = self._channel(channel)
        at.down.pop(key, None)
        pressed = [(v, voice) for v, voice in self._sounding(channel) if voice.key == key and voice.down]
        if not pressed:
            return
        first = min(voice.order for _, voice in pressed)
        pressed = [(v, voice) for v, voice in pressed if voice.order == first]
        if self._patch.mono and at.down:  # back to the key that is still down
            other = next(reversed(at.down))
            self._slide(pressed, other, at.down[other][0])
            return
        for v, voice in pressed:
            voice.down = False
            if not at.pedal:
                self._let_go(v, voice)

    def repitch(self, key: int, pitch_midi: float, channel: int = 0) -> None:
        """Move the notes of a key that is down to another pitch, as a V/oct input does while its gate is high."""
        for v, voice in self._sounding(channel):
            if voice.key == key and voice.down:
                voice.pitch_midi = pitch_midi
                self._glide(v, voice)
                self._last_midi = pitch_midi

    def pedal(self, down: bool, channel: int = 0) -> None:
        """Sustain: while it is down, notes sound on after their key is let go."""
        self._channel(channel).pedal = down
        if not down:
            for v, voice in self._sounding(channel):
                if not voice.down:
                    self._let_go(v, voice)

    def bend(self, semitones: float, channel: int = 0) -> None:
        """Shift every note of the channel, sounding or to come, by ``semitones`` from its own pitch."""
        self._channel(channel).bend_semitones = semitones
        for v, voice in self._sounding(channel):
            self._retune(v, voice, self._left_s(voice))

    def level(self, gain: float, channel: int = 0) -> None:
        """Set the channel's linear gain (1 = as the patch has it), for sounding notes too."""
        self._channel(channel).gain = gain
        for v, voice in self._sounding(channel):
            self._regain(v, voice)

    def shift(self, semitones: float) -> None:
        """Move everything that sounds or will by so much, beside all bends: where a modulation has brought it."""
        if semitones != self._shift_semitones:
            self._shift_semitones = semitones
            for v, voice in self._sounding(None):
                self._retune(v, voice, max(self._left_s(voice), SHIFT_S))

    def trim(self, gain: float) -> None:
        """Multiply everything that sounds or will by so much, beside all levels."""
        if gain != self._trim:
            self._trim = gain
            for v, voice in self._sounding(None):
                self._regain(v, voice)

    def stretch(self, octaves: float) -> None:
        """Let notes that begin from now on take 2 ** ``octaves`` times as long to fade."""
        self._stretch = 2.0**octaves

    @property
    def _release_s(self) -> float:
        return min(max(self._patch.release_s * self._stretch, RELEASE_MIN_S), RELEASE_MAX_S)

    @property
    def keys_down(self) -> bool:
        """Whether any key is held."""
        return any(at.down for at in self._channels.values())

    def release_all(self, channel: int | None = None) -> None:
        """Let every key of the channel (or of all channels) go; the pedal keeps what it holds."""
        for number, at in self._channels.items():
            if channel in {None, number}:
                at.down.clear()
        for _, voice in list(self._sounding(channel)):
            self.note_off(voice.key, voice.channel)

    def finish(self) -> None:
        """Let everything go, pedals too; what sounds rings out."""
        self.release_all()
        for channel in self._channels:
            self.pedal(False, channel)

    def silence(self, channel: int | None = None) -> None:
        """Stop every note of the channel (or of all channels) at once, without a click."""
        for v, voice in self._sounding(channel):
            self._channel(voice.channel).down.pop(voice.key, None)
            self._kill(v)

    @abstractmethod
    def set_attribute(self, name: str, setting: float, carry: bool | None = None) -> None:
        """Turn a knob, see `device.timbre.Timbre.turn`; sounding notes crossfade to it, new ones have it."""

    @abstractmethod
    def unset_attributes(self) -> None:
        """Put every knob back where the patch has it."""

    @abstractmethod
    def stand(self, base: FloatArray | None, z: FloatArray | None, shift: FloatArray | None) -> None:
        """Take another timbre under the knobs: soft labels (A,), latent (Z,), what is added to every latent (Z,).

        None: as the patch has it. Sounding notes crossfade.
        """

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Whatever of the timbre is told within takes effect together."""
        yield

    @abstractmethod
    def _now_s(self) -> float:
        """The time of what is played now, on any clock."""

    @abstractmethod
    def _sounds(self, v: int) -> bool:
        """Whether the voice in this place sounds, or is about to."""

    @abstractmethod
    def _start(self, v: int, voice: Voice, f0_hz: float) -> None:
        """Begin a note, at a pitch that it may glide away from."""

    @abstractmethod
    def _retune(self, v: int, voice: Voice, glide_s: float) -> None:
        """Bring a sounding voice to its present pitch."""

    @abstractmethod
    def _regain(self, v: int, voice: Voice) -> None:
        """Bring a sounding voice to its present gain."""

    @abstractmethod
    def _release(self, v: int) -> None:
        """Let a sounding voice fade."""

    @abstractmethod
    def _kill(self, v: int) -> None:
        """Silence a voice without a click."""

    def _slide(self, pressed: list[tuple[int, Voice]], key: int, pitch_midi: float) -> None:
        """Take sounding voices over to another key, without a new attack."""
        for v, voice in pressed:
            voice.key, voice.pitch_midi, voice.down = key, pitch_midi, True
            self._glide(v, voice)
        self._last_midi = pitch_midi

    def _glide(self, v: int, voice: Voice) -> None:
        """Bring a sounding voice to its present pitch as slowly as the patch says."""
        voice.arrives_s = self._now_s() + self._patch.glide_s
        self._retune(v, voice, self._patch.glide_s)

    def _left_s(self, voice: Voice) -> float:
        """What is left of a voice's glide: whatever else moves its pitch must not cut it short."""
        return max(voice.arrives_s - self._now_s(), 0.0)

    def _place(self) -> int:
        """A free voice; else the one released first; else the one pressed first. The voices soften its end."""
        for v in range(len(self._voices)):
            if not self._sounds(v):
                return v
        released = [(voice.released, v) for v, voice in self._sounding(None) if voice.released is not None]
        self.counts.stolen += 1
        self.counts.stolen_held += not released
        return min(released or [(voice.order, v) for v, voice in self._sounding(None)])[1]

    def _let_go(self, v: int, voice: Voice) -> None:
        if voice.released is None:
            voice.released = self._tick()
            voice.down = False
            self._release(v)

    def _sounding(self, channel: int | None) -> Iterator[tuple[int, Voice]]:
        for v, voice in enumerate(self._voices):
            if voice is not None and channel in {None, voice.channel} and self._sounds(v):
                yield v, voice

    def _channel(self, channel: int) -> _Channel:
        return self._channels.setdefault(channel, _Channel())

    def _pitch(self, voice: Voice) -> float:
        """Where a voice sounds, before its detuning in a unison: the one place where all that moves pitch meets."""
        bent = self._channel(voice.channel).bend_semitones + self._shift_semitones
        return voice.pitch_midi + self._patch.tuning_semitones + bent

    def _drawn_latent(self) -> int:
        """The seed of a specimen of its own for the note that begins."""
        return (self._seed * 1_000_003 + self.counts.notes) % LATENT_SEEDS

    def _f0_hz(self, voice: Voice) -> float:
        return nominal_hz(self._pitch(voice) + voice.detune_cents / 100.0)

    def _gain(self, voice: Voice) -> float:
        loud = 10.0 ** (self._patch.level_db / 20.0) * voice.gain
        gain = loud * voice.velocity**self._patch.velocity_curve * self._channel(voice.channel).gain
        return float(max(gain * self._trim, SMALLEST_GAIN))

    def _tick(self) -> int:
        self._order += 1
        return self._order
