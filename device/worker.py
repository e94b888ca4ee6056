"""The worker: keeps the frames ready that a gate may ask for, and those of what sounds.

First come notes that have just been asked for, then sounding ones whose knobs or pitch have moved, then pitches that
a gate is likely to ask for, then the shelf: a table every SHELF_SEMITONES over the trained range, at the present knobs,
the ones longest out of date first. Whoever is late finds the last frames playing; that is counted, and nothing waits.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device import bundle as bundles
from device.engine import EPOCH, MUTE, READY, SETTINGS, SETTINGS_EPOCH, SHELF, Desk, N, free_slots, hand_over
from device.errors import DarkrackError
from device.hands import GLIDE_SEMITONES
from device.maker import Maker
from device.patch import Patch
from device.timbre import Stance, Timbre
from device.voices import fill

log = logging.getLogger(__name__)

SHELF_SEMITONES = 3.0
SAMPLES_SEMITONES = 1.0  # of samples, which do not morph to frames of their own
SHELF_VELOCITY = 0.8
EXPECTED = 4  # places at the end of the shelf for pitches that are likely
LATE_S = 0.05  # a wish that waited longer is late: two and a half crossfades
# Of each sounding voice: a crossfade (1/50 s) is over when the next begins.
REFRESH_HZ = 50.0
# Of each table on the shelf, while knobs keep moving: a gate seldom needs them, and every one costs as much as a note.
SHELF_HZ = 10.0
SAME_SEMITONES = 0.02  # an expected pitch that moved less is still the same


@dataclass(frozen=True)
class Setup:
    """What is to be played: the worker reads the bundle from its file, so that nothing heavy crosses a pipe."""

    epoch: int
    bundle: Path
    patch: Patch
    variant: str | None = None


@dataclass
class _Made:
    """What a voice or a place on the shelf was last given."""

    note: int = 0
    stance: Stance | None = None
    pitch_midi: float = 0.0
    time_s: float = 0.0


class Worker:
    """Makes frames on ``desk``; may begin on one that another worker left in the middle of anything.

    `step` does the most urgent thing there is; the process calls it for ever, the offline clock some times a block.
    """

    def __init__(self, desk: Desk, setup: Setup) -> None:
        self._desk = desk
        # Whatever lies about was left by an earlier worker and may still be on its way to a voice.
        blocks = int(desk.counts[N["blocks"]])
        self._retired = dict.fromkeys(range(len(desk.state.table)), blocks) if blocks else {}
        self._plant_nan = 0
        self._voices = [_Made() for _ in desk.wish]
        desk.counts[N["worker_starts"]] += 1
        self.set_up(setup)

    def set_up(self, setup: Setup) -> None:
        """Go over to another bundle or patch; DarkrackError where it cannot be read, and the old one stays.

        Sounding notes keep the frames they have, the shelf is renewed place by place.
        """
        bundle = bundles.read(setup.bundle)
        timbre = Timbre(bundle, setup.patch)
        maker = Maker(bundle, setup.variant)
        self._bundle, self._timbre, self._maker, self._epoch = bundle, timbre, maker, setup.epoch
        self._names = [attribute.name for attribute in bundle.manifest.attributes]
        low, high = bundle.manifest.pitch_range_midi
        apart = SHELF_SEMITONES if maker.grid else SAMPLES_SEMITONES
        places = min(SHELF - EXPECTED, int((high - low) // apart) + 1)
        self._shelf = [_Made(pitch_midi=float(midi)) for midi in np.linspace(low, high, places)]
        self._expected = [_Made() for _ in range(EXPECTED)]
        self._settings = np.full(len(self._names), np.nan, np.float32)
        self._carries = np.zeros(len(self._names), np.int64)
        unset = np.full(timbre.size, np.nan, np.float32)
        self._stands = (self._settings, unset, np.zeros(timbre.size, np.float32))  # what was read last
        self._version = -1
        self._since_shelf = 0
        for place in range(places, SHELF - EXPECTED):
            self._put_on_shelf(place, -1)
        hand_over(self._desk.version, EPOCH, setup.epoch)

    def plant_nan(self, generations: int) -> None:
        """Have the network say NaN that many times; for tests of what follows."""
        self._plant_nan += generations

    def step(self, now_s: float) -> bool:
        """Make one set of frames; False where everything is up to date. ``now_s``: the monotonic clock's."""
        self._desk.counts[N["worker_beat_ns"]] = int(now_s * 1e9)
        self._read_settings()
        stance = self._timbre.stance
        if self._since_shelf >= len(self._voices) and self._renew_shelf(stance, now_s):
            return True
        return (
            self._serve(now_s)
            or self._refresh(stance, now_s)
            or self._expect(stance, now_s)
            or self._renew_shelf(stance, now_s)
        )

    @property
    def ready(self) -> bool:
        """Whether a gate at any pitch finds a table."""
        return all(made.stance is not None for made in self._shelf)

    def _read_settings(self) -> None:
        """Turn the knobs to where the control process says they are."""
        version = int(self._desk.version[SETTINGS])
        if version == self._version or int(self._desk.version[SETTINGS_EPOCH]) != self._epoch:
            return
        self._version = version
        z = self._desk.latent[:, : self._timbre.size].copy()
        base = self._desk.base[: len(self._names)].copy()
        stands = (base, z[0], z[1])
        if any(
            not np.array_equal(new, old, equal_nan=True)
            for new, old in zip(stands, self._stands, strict=True)
        ):
            self._stands = stands
            self._timbre.stand(
                None if np.isnan(base).any() else base, None if np.isnan(z[0]).any() else z[0], z[1]
            )
        settings = self._desk.settings[: len(self._names)].copy()
        if (np.isnan(settings) & ~np.isnan(self._settings)).any():
            self._timbre.unset()
            self._settings[:] = np.nan
        carries = self._desk.carries[: len(self._names)].copy()
        for index in np.flatnonzero(
            ~np.isnan(settings) & ((settings != self._settings) | (carries != self._carries))
        ):
            self._timbre.turn(self._names[index], float(settings[index]), bool(carries[index]))
        self._settings, self._carries = settings, carries

    def _serve(self, now_s: float) -> bool:
        """Frames for a note that has none of its own yet."""
        for v, made in enumerate(self._voices):
            wish = self._desk.wish[v]
            note = int(wish["note"])
            if note and note != made.note and wish["epoch"] == self._epoch and not self._is_over(v, note):
                waited_ns = max(int(now_s * 1e9) - int(wish["time_ns"]), 0)
                counts = self._desk.counts
                counts[N["late_frames"]] += waited_ns > LATE_S * 1e9
                counts[N["latest_frames_ns"]] = max(counts[N["latest_frames_ns"]], waited_ns)
                return self._offer(v, note, now_s)
        return False

    def _refresh(self, stance: Stance, now_s: float) -> bool:
        """New frames for the sounding note whose are the oldest, where knobs or pitch have moved."""
        if self._maker.grid is None:  # samples do not morph
            return False
        oldest, chosen = now_s - 1 / REFRESH_HZ, -1
        for v, made in enumerate(self._voices):
            wish = self._desk.wish[v]
            if not made.note or int(wish["note"]) != made.note or wish["epoch"] != self._epoch:
                continue
            moved = abs(float(wish["pitch_midi"]) - made.pitch_midi) > GLIDE_SEMITONES
            if (
                (moved or made.stance is not stance)
                and made.time_s <= oldest
                and not self._is_over(v, made.note)
            ):
                oldest, chosen = made.time_s, v
        if chosen < 0:
            return False
        self._desk.counts[N["refreshed"]] += 1
        self._since_shelf += 1
        return self._offer(chosen, self._voices[chosen].note, now_s)

    def _offer(self, v: int, note: int, now_s: float) -> bool:
        """Make frames for a note and hand them to the callback; mute it where the network fails."""
        wish = self._desk.wish[v]
        pitch_midi, velocity = float(wish["pitch_midi"]), float(wish["velocity"])
        seed, latent = int(wish["seed"]), int(wish["latent"])
        if int(wish["note"]) != note:  # written again while it was read
            return True
        slot = self._make(pitch_midi, velocity, seed, latent)
        if slot is None:
            return False
        before = (int(self._desk.offer[v]) & 255) - 1
        hand_over(self._desk.offer, v, note << 8 | (MUTE if slot < 0 else slot + 1))
        self._retire(before)
        self._voices[v] = _Made(note, self._timbre.stance, pitch_midi, now_s)
        return True

    def _expect(self, stance: Stance, now_s: float) -> bool:
        """A table for a pitch that a gate is likely to ask for."""
        for place, made in enumerate(self._expected):
            pitch_midi = float(self._desk.expected[place])
            known = abs(pitch_midi - made.pitch_midi) < SAME_SEMITONES and made.stance is stance
            if pitch_midi > 0 and not known and now_s - made.time_s >= 1 / REFRESH_HZ:
                self._since_shelf += 1
                made.pitch_midi, made.stance = pitch_midi, None  # not known before it is there
                return self._shelve(SHELF - EXPECTED + place, made, now_s)
        return False

    def _renew_shelf(self, stance: Stance, now_s: float) -> bool:
        """The table on the shelf that is longest out of date."""
        due_s = now_s - 1 / SHELF_HZ
        stale = [
            (made.time_s, place)
            for place, made in enumerate(self._shelf)
            if made.stance is None or (made.stance is not stance and made.time_s <= due_s)
        ]
        if not stale:
            return False
        self._since_shelf = 0
        place = min(stale)[1]
        made = self._shelve(place, self._shelf[place], now_s)
        if self.ready and not self._desk.version[READY]:
            hand_over(self._desk.version, READY, 1)
        return made

    def _shelve(self, place: int, made: _Made, now_s: float) -> bool:
        slot = self._make(made.pitch_midi, SHELF_VELOCITY, 0, 0)
        if slot is None:
            return False
        made.stance, made.time_s = self._timbre.stance, now_s
        if slot >= 0:  # else the old one stays
            self._put_on_shelf(place, slot)
        return True

    def _put_on_shelf(self, place: int, slot: int) -> None:
        before = int(self._desk.shelf[place]) - 1
        hand_over(self._desk.shelf, place, slot + 1)
        self._retire(before)

    def _retire(self, slot: int) -> None:
        if 0 <= slot < MUTE - 1:
            self._retired[slot] = int(self._desk.counts[N["blocks"]])

    def _make(self, pitch_midi: float, velocity: float, seed: int, latent: int) -> int | None:
        """Fill a slot; its number, -1 where the network failed, None where no slot is free."""
        free = free_slots(self._desk, self._retired)
        counts = self._desk.counts
        if not free:  # the callback stands still
            counts[N["slots_short"]] += 1
            return None
        begin_ns = time.perf_counter_ns()
        stance = self._timbre.stance
        vector = stance.vector
        if self._plant_nan:
            self._plant_nan -= 1
            vector = np.full_like(vector, np.nan)
        try:
            note, made_for_hz = self._maker.note(stance.latent(latent), vector, pitch_midi, velocity, seed)
        except DarkrackError as error:
            counts[N["network_faults"]] += 1
            log.warning("no frames for MIDI %.2f: %s", pitch_midi, error)
            return -1
        fill(self._desk.state, free[0], note, made_for_hz, self._maker.grid)
        counts[N["generated"]] += 1
        counts[N["generation_ns"]] += time.perf_counter_ns() - begin_ns
        return free[0]

    def _is_over(self, v: int, note: int) -> bool:
        """Whether the callback has played this note to its end, or a later one."""
        voice = self._desk.state.voice[v]
        return int(voice["note"]) > note or (int(voice["note"]) == note and not voice["active"])
