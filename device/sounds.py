"""What a player wants to find again: kept sounds, controllers that were taught, the sound of the last time.

Kept in the state folder (`device.state`), read when the instrument starts, written by its main process while nothing
sounds.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from device import state
from device.modulation import Sound, sound_from_json, sound_to_json
from device.patch import Knob

log = logging.getLogger(__name__)

SOUNDS, LEARNED, LAST = "sounds.json", "learned.json", "last.json"
MOST_SOUNDS = 64  # the lower half of MIDI's programs; the upper half are the bundle's presets
LONGEST_NAME = 64


def shortened(name: str) -> str:
    """A name as it is kept: so long at most, without spaces at its ends."""
    return name.strip()[:LONGEST_NAME].strip()


@dataclass(frozen=True)
class Kept:
    """A sound under a name, of the bundle with this name."""

    name: str
    bundle: str
    sound: Sound


@dataclass(frozen=True)
class Memory:
    """All that is remembered: sounds in the order in which they were first kept, controllers, the last sound."""

    sounds: tuple[Kept, ...] = ()
    learned: Mapping[int, Knob] = field(default_factory=dict)
    last: Kept | None = None

    def find(self, name: str) -> Kept | None:
        """The sound of this name, whatever its case."""
        folded = shortened(name).casefold()
        return next((kept for kept in self.sounds if kept.name.casefold() == folded), None)

    def with_sound(self, kept: Kept) -> Memory:
        """With this sound kept: in the place of one of its name, or as the last one. ValueError where it is full."""
        before = self.find(kept.name)
        if before is not None:
            return replace(self, sounds=tuple(kept if one is before else one for one in self.sounds))
        if len(self.sounds) >= MOST_SOUNDS:
            raise ValueError(f"{MOST_SOUNDS} sounds are kept already")
        return replace(self, sounds=(*self.sounds, kept))

    def without(self, name: str) -> Memory:
        """Without the sound of this name."""
        gone = self.find(name)
        return replace(self, sounds=tuple(one for one in self.sounds if one is not gone))


def read_memory(folder: Path) -> Memory:
    """What is remembered in ``folder``; what cannot be read is passed over and logged: an instrument has to play."""
    return Memory(
        sounds=tuple(_each(folder / SOUNDS, _kept)),
        learned=dict(_each(folder / LEARNED, _learned)),
        last=next(iter(_each(folder / LAST, _kept)), None),
    )


def write_memory(folder: Path, memory: Memory) -> None:
    """Keep what has changed; DarkrackError where the folder cannot be written."""
    state.keep(folder / SOUNDS, [_kept_to_json(kept) for kept in memory.sounds])
    learned = [
        {"cc": number, "attribute": knob.attribute, "carry": knob.carry}
        for number, knob in memory.learned.items()
    ]
    state.keep(folder / LEARNED, learned)
    state.keep(folder / LAST, [] if memory.last is None else [_kept_to_json(memory.last)])


def _each(path: Path, read: Any) -> list[Any]:
    """The entries of one file that make sense."""
    found = []
    content = state.read(path)
    for entry in content if isinstance(content, list) else []:
        try:
            found.append(read(entry))
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s: an entry that makes no sense is passed over: %s", path, error)
    return found


def _kept(entry: Any) -> Kept:
    return Kept(shortened(str(entry["name"])), str(entry["bundle"]), sound_from_json(entry["sound"]))


def _kept_to_json(kept: Kept) -> dict[str, Any]:
    return {"name": kept.name, "bundle": kept.bundle, "sound": sound_to_json(kept.sound)}


def _learned(entry: Any) -> tuple[int, Knob]:
    number = int(entry["cc"])
    if not 0 <= number < 120:
        raise ValueError(f"controller {number}")
    return number, Knob(str(entry["attribute"]), carry=bool(entry["carry"]))
