"""The bundles that ship: small, whole, in tune, without a click, and with a card that says what was measured.

What lies in models/comparison is there to be compared with, so only that it is whole and plays is asked of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from device import bundle
from device.bundle import Bundle
from device.patch import Patch
from device.performance import SAMPLE_RATE_HZ, Performance
from device.recording import clicks, pitch_cents

FloatArray = npt.NDArray[np.float32]

MODELS = Path(__file__).parent.parent / "models"
SHIPPED = sorted(MODELS.glob("*.rack"))
COMPARED = sorted((MODELS / "comparison").glob("*.rack"))
LIMIT_BYTES = 1_000_000


def played(rack: Bundle, preset: str, pitch_midi: float) -> tuple[FloatArray, FloatArray]:
    """A note held for three seconds, and that with the second after it is let go: stereo."""
    player = Performance(rack, patch=Patch(preset=preset), voices=1)
    player.note_on(60, pitch_midi, 0.8)
    held = player.render(3 * SAMPLE_RATE_HZ)
    player.note_off(60)
    return held, np.concatenate([held, player.render(SAMPLE_RATE_HZ)])


def test_a_bundle_ships() -> None:
    assert SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
class TestShipped:
    def test_it_is_whole_and_small(self, path: Path) -> None:
        shipped = bundle.read(path)  # replays golden
        assert path.stat().st_size < LIMIT_BYTES
        assert shipped.manifest.data
        assert all(source.licence for source in shipped.manifest.data)

    def test_its_card_is_measured(self, path: Path) -> None:
        shipped = bundle.read(path, replay=False)
        assert "| knob |" in shipped.card
        assert all(one.correlation is not None for one in shipped.manifest.attributes)
        assert len(shipped.manifest.quality["evaluation"]["confirmed_knobs"]) >= 10

    def test_held_notes_are_in_tune_and_click_nowhere(self, path: Path) -> None:
        shipped = bundle.read(path, replay=False)
        random = np.random.default_rng(0)
        for preset in shipped.manifest.presets:
            pitch = float(random.uniform(30, 90))  # beyond the trained range on both sides
            held, sound = played(shipped, preset.name, pitch)
            nominal_hz = 440 * 2 ** ((pitch - 69) / 12)
            assert abs(pitch_cents(held, SAMPLE_RATE_HZ, nominal_hz)) < 5, preset.name
            assert not clicks(sound, SAMPLE_RATE_HZ, shipped.manifest.representation.limit_hz), preset.name
            assert np.abs(sound).max() < 1


@pytest.mark.parametrize("path", COMPARED, ids=lambda path: path.stem)
def test_what_is_compared_with_is_whole_judged_and_plays(path: Path) -> None:
    compared = bundle.read(path)  # replays golden
    assert all(source.licence for source in compared.manifest.data)
    assert "FAD by yamnet" in compared.card
    _, sound = played(compared, compared.manifest.presets[0].name, 60.0)
    assert 0.001 < np.sqrt((sound**2).mean()) < 1
    assert not clicks(sound, SAMPLE_RATE_HZ, compared.manifest.representation.sample_rate_hz / 2)
