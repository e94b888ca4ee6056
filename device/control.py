"""The control process's half of the instrument: hands whose voices are events for the audio callback.

A call is stamped with ``at_ns``, the time of the edge that made it, and sounds at that time plus a constant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from device.engine import (
    BEND,
    KILL,
    LEVEL,
    RELEASE,
    SETTINGS,
    SETTINGS_EPOCH,
    START,
    Desk,
    N,
    hand_over,
    push,
    wish,
)
from device.hands import GLIDE_SEMITONES, FloatArray, Hands, Voice
from device.modulation import Preset
from device.patch import Patch

# A control process that was started anew must not use the numbers of notes that the last one had on its way.
NOTES_PER_START = 1 << 32


NOTHING = Preset("", np.zeros(0, np.float32), np.zeros(1, np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True)
class Layout:
    """What the control process has to know of a bundle: its knobs by name, its presets, and what was trained."""

    epoch: int
    patch: Patch
    attributes: tuple[str, ...]
    pitch_range_midi: tuple[float, float]
    name: str = ""
    presets: tuple[Preset, ...] = (NOTHING,)


class Control(Hands):
    """Plays on ``desk``; set ``at_ns`` (CLOCK_MONOTONIC) before each call."""

    def __init__(self, desk: Desk, layout: Layout, seed: int = 0) -> None:
        super().__init__(layout.patch, layout.pitch_range_midi, len(desk.wish), seed)
        self.at_ns = 0
        self._holding = self._held = False
        self._desk = desk
        desk.counts[N["control_starts"]] += 1
        self._note = int(desk.counts[N["control_starts"]]) * NOTES_PER_START
        self._notes = [0] * len(desk.wish)  # that each voice was last sent
        self._unsent: dict[int, tuple[int, int]] = {}  # voice -> what ends its note, and that note
        self._lay_out(layout)

    def set_up(self, layout: Layout) -> None:
        """Go over to another bundle or patch: what sounds rings out, new notes are of the new one."""
        self.finish()
        self._patch, self._pitch_range = layout.patch, layout.pitch_range_midi
        self._lay_out(layout)

    def set_attribute(self, name: str, setting: float, carry: bool | None = None) -> None:
        """Turn a knob, see `device.timbre.Timbre.turn`; a name that the bundle does not have is passed over."""
        index = self._index.get(name)
        if index is None:
            return
        carries = self._patch.carry if carry is None else carry
        if self._desk.settings[index] != setting or self._desk.carries[index] != carries:
            self._desk.carries[index] = carries
            self._desk.settings[index] = setting
            self._publish()

    def unset_attributes(self) -> None:
        """Put every knob back where the patch has it."""
        self._desk.settings[:] = np.nan
        self._publish()

    def stand(self, base: FloatArray | None, z: FloatArray | None, shift: FloatArray | None) -> None:
        """Take another timbre under the knobs, see `device.timbre.Timbre.stand`."""
        desk = self._desk
        for there, here, none in (
            (desk.base, base, np.nan),
            (desk.latent[0], z, np.nan),
            (desk.latent[1], shift, 0),
        ):
            there[: len(there) if here is None else len(here)] = none if here is None else here
        self._publish()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Whatever of the timbre is told within is published as one version."""
        self._holding, self._held = True, False
        try:
            yield
        finally:
            self._holding = False
            if self._held:
                self._publish()

    def catch_up(self) -> None:
        """Send what the ring had no place for and what must not be lost: the ends of notes."""
        for v, (kind, note) in list(self._unsent.items()):
            if not push(self._desk, self.at_ns, kind, v, note, 0.0, 0.0, 0.0, 0.0, 0):
                return
            del self._unsent[v]

    def expect(self, pitches_midi: Sequence[float]) -> None:
        """Name pitches that a gate is likely to ask for, so that their frames are ready."""
        tuning = self._patch.tuning_semitones + self._shift_semitones
        self._desk.expected[: len(pitches_midi)] = np.add(pitches_midi, tuning)

    def _publish(self) -> None:
        """Let the worker know that labels, latent or settings have changed."""
        if self._holding:
            self._held = True
        else:
            hand_over(self._desk.version, SETTINGS, int(self._desk.version[SETTINGS]) + 1)

    def _now_s(self) -> float:
        return self.at_ns * 1e-9

    def _lay_out(self, layout: Layout) -> None:
        self._epoch = layout.epoch
        self._index: Mapping[str, int] = {name: place for place, name in enumerate(layout.attributes)}
        self._desk.settings[:] = self._desk.base[:] = self._desk.latent[0] = np.nan
        self._desk.latent[1] = 0.0
        self._desk.version[SETTINGS_EPOCH] = layout.epoch
        self._publish()

    def _sounds(self, v: int) -> bool:
        voice = self._desk.state.voice[v]
        # Sent and not yet begun, or begun and not yet over.
        return bool(int(voice["note"]) < self._notes[v] or voice["active"])

    def _start(self, v: int, voice: Voice, f0_hz: float) -> None:
        self._note += 1
        self._notes[v] = self._note
        self._wish(v, voice)
        seed = voice.noise_seed
        self._push(v, START, f0_hz, self._gain(voice), voice.pan, self._release_s, seed)
        counts = self._desk.counts
        counts[N["stolen"]], counts[N["stolen_held"]] = self.counts.stolen, self.counts.stolen_held

    def _retune(self, v: int, voice: Voice, glide_s: float) -> None:
        if abs(self._pitch(voice) - voice.frames_midi) > GLIDE_SEMITONES:
            self._wish(v, voice)
        self._push(v, BEND, self._f0_hz(voice), 0.0, 0.0, glide_s, 0)

    def _regain(self, v: int, voice: Voice) -> None:
        self._push(v, LEVEL, 0.0, self._gain(voice), 0.0, 0.0, 0)

    def _release(self, v: int) -> None:
        self._push(v, RELEASE, 0.0, 0.0, 0.0, 0.0, 0)

    def _kill(self, v: int) -> None:
        self._push(v, KILL, 0.0, 0.0, 0.0, 0.0, 0)

    def _wish(self, v: int, voice: Voice) -> None:
        voice.frames_midi = self._pitch(voice)
        wish(
            self._desk,
            v,
            self._notes[v],
            voice.frames_midi,
            voice.velocity,
            voice.noise_seed,
            voice.latent,
            self._epoch,
            self.at_ns,
        )

    def _push(  # noqa: PLR0917
        self, v: int, kind: int, f0_hz: float, gain: float, pan: float, seconds: float, seed: int
    ) -> None:
        sent = push(self._desk, self.at_ns, kind, v, self._notes[v], f0_hz, gain, pan, seconds, seed)
        if not sent:
            self._desk.counts[N["lost_events"]] += 1
            if kind == START:  # nobody will ever begin it
                self._notes[v] = int(self._desk.state.voice[v]["note"])
            elif kind in {RELEASE, KILL}:
                self._unsent[v] = (kind, self._notes[v])
