"""What the network is asked for besides pitch and velocity: latent and soft labels, as preset and knobs have them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.bundle import Bundle
from device.errors import DarkrackError
from device.knobs import Knobs
from device.patch import SETTING_MAX, Patch, nearest

FloatArray = npt.NDArray[np.float32]


class Timbre:
    """The knobs of a bundle as a patch sets them up, and as somebody turns them.

    DarkrackError where the patch names what the bundle lacks. ``z`` (2, Z): the latent that plays, and another specimen
    of the same instrument for the second voice of a unison.
    """

    def __init__(self, bundle: Bundle, patch: Patch) -> None:
        manifest = bundle.manifest
        self._knobs = Knobs(manifest.attributes, manifest.copula)
        self._carry = patch.carry
        self._spelt: dict[str, str] = {}
        self._base, self.z = _start(bundle, patch)
        # name -> (setting, does it carry the related attributes along)
        self._settings = {name: (value, patch.carry) for name, value in patch.attributes.items()}
        self._vector = self._turned()
        self._turning = False

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

    @property
    def vector(self) -> FloatArray:
        """The soft labels (A,) with all knobs where they stand now; the same array until they say something else."""
        if self._turning:  # worked out only when somebody listens: pots are read far more often
            self._turning = False
            vector = self._turned()
            if not np.array_equal(vector, self._vector):
                self._vector = vector
        return self._vector

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
    z = start.z if seed is None else np.random.default_rng(seed).standard_normal(size)
    twin = np.random.default_rng([0 if seed is None else seed, 1]).standard_normal(size)
    return start.attributes.astype(np.float32), np.stack([z, twin]).astype(np.float32)
