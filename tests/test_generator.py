"""The generator on a real LiteRT model: whole notes, repeatable, and refusals that name the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import ATTRIBUTES, BRIGHT, FRAMES_SHAPE, INPUTS, PLUCKED, tiny_files, tiny_manifest

from device import bundle
from device.bundle import Bundle
from device.errors import DarkrackError
from device.generator import Generator, Network, snr_db

Z = np.zeros(4)
LABELS = np.full(len(ATTRIBUTES), 0.2)


def level_db(frames: np.ndarray) -> np.ndarray:
    return -100.0 * (1.0 - frames[0])


def test_note_is_float32_of_the_grid_and_belongs_to_the_caller(tiny_bundle: Bundle) -> None:
    generator = Generator(tiny_bundle)
    first = generator.note(Z, LABELS, 60.0, 0.8, noise_seed=1)
    assert first.shape == (2, 80, 128)
    assert first.dtype == np.float32
    kept = first.copy()
    second = generator.note(Z, LABELS * 2, 48.0, 0.1, noise_seed=2)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, kept)  # no view of memory that the next note overwrites


def test_same_seed_same_note(tiny_bundle: Bundle) -> None:
    one, other = Generator(tiny_bundle), Generator(tiny_bundle, "float32", threads=2)
    note = one.note(Z, LABELS, 60.5, 0.8, noise_seed=3)
    np.testing.assert_array_equal(note, one.note(Z, LABELS, 60.5, 0.8, noise_seed=3))
    np.testing.assert_allclose(note, other.note(Z, LABELS, 60.5, 0.8, noise_seed=3), atol=1e-6)
    assert not np.array_equal(note, one.note(Z, LABELS, 60.5, 0.8, noise_seed=4))


def test_a_bundle_without_slices_says_so(tiny_bundle: Bundle) -> None:
    generator = Generator(tiny_bundle)
    assert generator.slice_frames is None
    with pytest.raises(DarkrackError, match="variant float32: expected a model with the signature 'slice'"):
        generator.slice(Z, LABELS, 60.0, 0.5, 0, begin=0)
    with pytest.raises(DarkrackError, match="expected a TFLite signature 'slice', got note"):
        Network(tiny_bundle.model(), "my model", INPUTS, FRAMES_SHAPE, slice_frames=16)


def test_every_input_reaches_the_network(tiny_bundle: Bundle) -> None:
    generator = Generator(tiny_bundle)
    plain = level_db(generator.note(Z, LABELS, 60.0, 0.5, 0))
    plucked, bright = LABELS.copy(), LABELS.copy()
    plucked[PLUCKED] = bright[BRIGHT] = 0.8
    assert abs(plain[0, 125] - plain[0, 20]) < 6.0
    assert level_db(generator.note(Z, plucked, 60.0, 0.5, 0))[0, 125] < plain[0, 20] - 15.0
    assert level_db(generator.note(Z, bright, 60.0, 0.5, 0))[15, 60] > plain[15, 60] + 10.0
    assert level_db(generator.note(Z, LABELS, 80.0, 0.5, 0))[15, 60] < plain[15, 60] - 2.0
    assert level_db(generator.note(Z, LABELS, 60.0, 1.0, 0))[15, 60] > plain[15, 60] + 2.0
    assert not np.allclose(level_db(generator.note(Z + 1.0, LABELS, 60.0, 0.5, 0)), plain)


def test_reference_kernels_agree_with_golden_and_nearly_with_the_delegate(tiny_bundle: Bundle) -> None:
    golden = tiny_bundle.golden()
    inputs = {name: golden[name][:1] for name in INPUTS}
    model = tiny_bundle.model()
    reference = Network(model, "m", INPUTS, FRAMES_SHAPE, reference=True)(inputs)
    np.testing.assert_allclose(reference, golden["frames"][:1], atol=bundle.GOLDEN_TOLERANCE)
    np.testing.assert_allclose(Network(model, "m", INPUTS, FRAMES_SHAPE)(inputs), reference, atol=1e-4)


@pytest.mark.parametrize(("asked", "heard"), [(0.0, 36.0), (35.9, 36.0), (84.5, 84.0), (127.0, 84.0)])
def test_pitch_beyond_the_trained_range_sounds_like_its_end(
    tiny_bundle: Bundle, asked: float, heard: float
) -> None:
    generator = Generator(tiny_bundle)
    note = generator.note(Z, LABELS, asked, 0.5, 0)
    np.testing.assert_array_equal(note, generator.note(Z, LABELS, heard, 0.5, 0))


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"z": np.zeros(5)}, "z"),
        ({"z": np.zeros((1, 4))}, "z"),
        ({"z": Z + np.inf}, "z"),
        ({"attributes": LABELS[:-1]}, "attributes"),
        ({"attributes": LABELS * np.nan}, "attributes"),
        ({"pitch_midi": float("nan")}, "pitch"),
        ({"pitch_midi": 128.0}, "pitch"),
        ({"velocity": 1.01}, "velocity"),
        ({"velocity": -0.01}, "velocity"),
    ],
)
def test_wrong_input_is_refused(tiny_bundle: Bundle, wrong: dict[str, Any], where: str) -> None:
    right = {"z": Z, "attributes": LABELS, "pitch_midi": 60.0, "velocity": 0.5, "noise_seed": 0}
    with pytest.raises(DarkrackError) as caught:
        Generator(tiny_bundle).note(**{**right, **wrong})
    assert caught.value.where == f"{tiny_bundle.path}: variant float32: {where}"


def test_unknown_variant_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(DarkrackError, match="one of float32, got dynamic_int8"):
        Generator(tiny_bundle, "dynamic_int8")


def test_output_that_is_not_finite_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """One weight of a second variant is NaN; the default one is good, so the bundle reads and replays."""
    manifest, files = tiny_manifest(), tiny_files(tiny_bundle.model())
    weight = np.float32(0.002).tobytes()  # of the deviation, in tests/bundles.py
    damaged = tiny_bundle.model().replace(weight, np.float32(np.nan).tobytes())
    assert damaged != tiny_bundle.model()
    manifest["variants"]["damaged"] = {"file": "generator.damaged.tflite"}
    written = bundle.write(tmp_path / "a.rack", manifest, {**files, "generator.damaged.tflite": damaged})
    generator = Generator(written, "damaged")
    with pytest.raises(
        DarkrackError, match=r"a\.rack: variant damaged: expected finite frames, got 10240 of"
    ):
        generator.note(Z, LABELS, 60.0, 0.5, 0)


@pytest.mark.parametrize("model", [b"", b"no model", b"\0" * 5000])
def test_bytes_that_are_no_model(model: bytes) -> None:
    with pytest.raises(DarkrackError, match="my model: expected a TFLite model"):
        Network(model, "my model", INPUTS, FRAMES_SHAPE)


def test_truncated_model(tiny_bundle: Bundle) -> None:
    with pytest.raises(DarkrackError, match="expected a TFLite model"):
        Network(tiny_bundle.model()[:2000], "my model", INPUTS, FRAMES_SHAPE)


def test_model_of_another_manifest(tiny_bundle: Bundle) -> None:
    model = tiny_bundle.model()
    with pytest.raises(
        DarkrackError, match=r"expected inputs .*z float32 \[1, 9\].*got .*z float32 \[1, 4\]"
    ):
        Network(model, "my model", {**INPUTS, "z": (1, 9)}, FRAMES_SHAPE)
    with pytest.raises(DarkrackError, match=r"expected output frames float32 \[1, 2, 64, 128\]"):
        Network(model, "my model", INPUTS, (1, 2, 64, 128))
    with pytest.raises(DarkrackError, match="expected inputs"):
        Network(model, "my model", {name: INPUTS[name] for name in ("z", "pitch")}, FRAMES_SHAPE)


def test_model_without_the_signature(tiny_bundle: Bundle) -> None:
    """The signature's name is text in the flatbuffer: another of the same length is another signature."""
    renamed = tiny_bundle.model().replace(b"\x04\0\0\0note\0", b"\x04\0\0\0toot\0")
    assert renamed != tiny_bundle.model()
    with pytest.raises(DarkrackError, match="expected a TFLite signature 'note', got toot"):
        Network(renamed, "my model", INPUTS, FRAMES_SHAPE)


def test_signal_to_noise_says_how_far_frames_are_off() -> None:
    wanted = np.random.default_rng(0).standard_normal((3, 2, 5)).astype(np.float32)
    assert snr_db(wanted, wanted) == 200
    assert snr_db(wanted, wanted * np.float32(1.01)) == pytest.approx(40, abs=0.01)
    assert snr_db(np.zeros_like(wanted), wanted) == -200
    for broken in (np.nan, np.inf):
        got = wanted.copy()
        got[0, 0, 0] = broken
        assert snr_db(wanted, got) == -200
