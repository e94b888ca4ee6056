"""fluidsynth, through its library: the yardstick that is no network.

Source of the calls: FluidSynth's API documentation (fluidsynth.org/api). The library comes with the program; it is
called directly, because the program renders files and would be timed with its start. No reverberation and no chorus,
one core.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from pathlib import Path
from typing import Any

import numpy as np

from device.errors import DarkrackError

RATE_HZ = 48_000
BLOCK_SAMPLES = 64  # that it works in (FLUID_BUFSIZE)
MODULATION, EXPRESSION = 1, 11  # controllers
FAILED = -1


class Sampler:
    """One SoundFont, ready to play; DarkrackError where the library or a font that it can read is missing."""

    def __init__(self, font: Path) -> None:
        name = ctypes.util.find_library("fluidsynth")
        if name is None:
            hint = "apt install fluidsynth (Debian, Ubuntu), brew install fluid-synth (macOS)"
            raise DarkrackError("fluidsynth", "its library", "none that is installed", hint)
        library: Any = ctypes.CDLL(name)
        self._library = library
        for make in (library.new_fluid_settings, library.new_fluid_synth):
            make.restype = ctypes.c_void_p
        library.fluid_set_log_function.restype = ctypes.c_void_p
        for level in range(5):  # what it would print comes as our error
            library.fluid_set_log_function(level, None, None)
        settings = ctypes.c_void_p(library.new_fluid_settings())
        library.fluid_settings_setnum(settings, b"synth.sample-rate", ctypes.c_double(RATE_HZ))
        for key in (b"synth.reverb.active", b"synth.chorus.active"):
            library.fluid_settings_setint(settings, key, 0)
        library.fluid_settings_setint(settings, b"synth.cpu-cores", 1)
        self._synth = ctypes.c_void_p(library.new_fluid_synth(settings))
        if not font.is_file() or library.fluid_synth_sfload(self._synth, str(font).encode(), 1) == FAILED:
            got = "a file that it does not read" if font.is_file() else "no such file"
            raise DarkrackError(str(font), "a SoundFont that fluidsynth reads", got)

    def render(self, samples: int) -> np.ndarray:
        """The next ``samples`` of sound, (2, samples) float32."""
        out = np.zeros((2, samples), np.float32)
        left, right = (one.ctypes.data_as(ctypes.c_void_p) for one in out)
        self._library.fluid_synth_write_float(self._synth, samples, left, 0, 1, right, 0, 1)
        return out

    def start(self, channel: int, key: int, velocity: int = 100) -> None:
        """Begin a note."""
        self._library.fluid_synth_noteon(self._synth, channel, key, velocity)

    def silence(self) -> None:
        """End all notes at once."""
        for channel in range(16):
            self._library.fluid_synth_all_sounds_off(self._synth, channel)

    def turn(self, channel: int, controller: int, value: int) -> None:
        """Move a controller, 0 to 127."""
        self._library.fluid_synth_cc(self._synth, channel, controller, value)
