"""What the network is asked for besides pitch and velocity: latent and soft labels, as preset and knobs have them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.bundle import Bundle
from device.errors import DarkrackError
from device.knobs import Knobs
from device.patch import SETTING_MAX, Patch, nearest

FloatArray = npt.NDArray[np.float32]

LATENT_SEEDS = 1 << 31  # of specimens that notes draw; with the twin's bit they fit into a wish's word


@dataclass(frozen=True)
class Stance:
    """All that the network is asked for besides a note: soft labels (A,) and latents (2, Z), see `Timbre`."""

    vector: FloatArray
    z: FloatArray
    shift: FloatArray  # (Z,) that is already in ``z``

    def latent(self, word: int) -> FloatArray:
        """The latent (Z,) of a voice, by its `latent_word`."""
        specimen, twin = word >> 1, word & 1
        found: FloatArray = self.z[twin]
        if specimen:
            drawn = np.random.default_rng([specimen, twin]).standard_normal(len(self.shift))
            found = (drawn + self.shift).astype(np.float32)
        return found


def latent_word(specimen: int, twin: bool) -> int:
    """Which latent a voice has, in one number: 0 the timbre's own, else a specimen's seed; ``twin`` is its second."""
    return specimen << 1 | twin


def latent_of(seed: int, size: int) -> FloatArray:
    """The latent (``size``,) that a patch's ``latent_seed`` stands for."""
    drawn: FloatArray = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return drawn


def twin_of(z: FloatArray, other: FloatArray) -> FloatArray:
    """The latent of the second voice of a unison: one of its own that goes along where the first one goes."""
    along, apart = 0.6, 0.8  # 0.6^2 + 0.8^2 = 1: as far from the middle as the first
    return (along * z + apart * other).astype(np.float32)


class Timbre:
    """The knobs of a bundle as a patch sets them up, and as somebody turns them.

    DarkrackError where the patch names what the bundle lacks. The latents (2, Z) of its `stance`: the one that plays,
    and another specimen of the same instrument for the second voice of a unison.
    """

    def __init__(self, bundle: Bundle, patch: Patch) -> None:
        manifest = bundle.manifest
        self._knobs = Knobs(manifest.attributes, manifest.copula)
        self._carry = patch.carry
        self._spelt: dict[str, str] = {}
        self._patched = _start(bundle, patch)
        self._base, z = self._patched
        self._other = z[1]  # what makes the twin another one
        self._patched = (self._base, np.stack([z[0], twin_of(z[0], self._other)]))
        self._z = self._patched[1]
        self._shift = np.zeros(self._z.shape[1], np.float32)
        # name -> (setting, does it carry the related attributes along)
        self._patched_settings = {name: (value, patch.carry) for name, value in patch.attributes.items()}
        self._settings = dict(self._patched_settings)
        self._stance = Stance(self._turned(), self._z, self._shift)
        self._turning = False

    @property
    def size(self) -> int:
        """Of a latent."""
        return int(self._z.shape[1])

    def turn(self, name: str, setting: float, carry: bool | None = None) -> bool:
        """Put a knob somewhere, 0..1 along what the data have, up to 2 beyond; whether that moves it.

        ``carry``: take the related attributes along (None: as the patch says). DarkrackError for an unknown name
        (with the nearest) or a setting out of range.
        """
        if name not in self._spelt:
            self._spelt[name] = self._knobs.names[self._knobs.index(name)]  # as the bundle does
        name = self._spelt[name]
        if not 0.0 <= setting <= SETTING_MAX:
            raise DarkrackError(f"knob {name!r}", f"a setting from 0 to {SETTING_MAX:g}", f"{setting:g}")
        turned = (setting, self._carry if carry is None else carry)
        moves = self._settings.get(name) != turned
        if moves:
            self._settings[name] = turned
            self._turning = True
        return moves

    def unset(self) -> None:
        """Put every knob back where the patch has it."""
        self._settings = dict(self._patched_settings)
        self._turning = True

    def stand(self, base: FloatArray | None, z: FloatArray | None, shift: FloatArray | None) -> None:
        """Take other soft labels (A,) under the knobs, another latent (Z,), and what is added to all of them (Z,).

        None: as the patch has it, and nothing.
        """
        patched_base, patched_z = self._patched
        self._base = patched_base if base is None else base
        self._z = patched_z if z is None else np.stack([z, twin_of(z, self._other)])
        self._shift = np.zeros(self._z.shape[1], np.float32) if shift is None else shift
        self._turning = True

    @property
    def stance(self) -> Stance:
        """All that is asked for with everything where it stands now; the same object until it says something else."""
        if self._turning:  # worked out only when somebody listens: pots are read far more often
            self._turning = False
            vector, before = self._turned(), self._stance
            z = self._z + self._shift
            if not np.array_equal(vector, before.vector) or not np.array_equal(z, before.z):
                self._stance = Stance(vector, z.astype(np.float32), self._shift)
        return self._stance

    def _turned(self) -> FloatArray:
        """The attribute vector of all knobs where they stand: those that carry first, then the solo ones."""
        vector = self._base
        for carry in (True, False):
            turned = {name: value for name, (value, carries) in self._settings.items() if carries is carry}
            if turned:
                vector = self._knobs.vector(vector, turned, carry=carry)
        return vector


def _start(bundle: Bundle, patch: Patch) -> tuple[FloatArray, FloatArray]:
    """Attributes and latents of the patch's preset, or the bundle's first; the patch may draw a latent."""
    presets = {preset.name: preset for preset in bundle.manifest.presets}
    if not presets:
        raise DarkrackError(str(bundle.path), "a bundle with presets", "none", "export the bundle again")
    name = patch.preset or next(iter(presets))
    start = presets[nearest(name, list(presets), "preset", "a preset of the bundle")]
    size = bundle.manifest.latent_size
    seed = patch.latent_seed
    z = start.z if seed is None else latent_of(seed, size)
    other = np.random.default_rng([0 if seed is None else seed, 1]).standard_normal(size)
    return start.attributes.astype(np.float32), np.stack([z, other]).astype(np.float32)
