"""What the judge listens to: the same notes through a run and its bundle, and faults that are really there."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from training import train_run, write_set

from compress import export
from device.bundle import Bundle
from device.errors import DarkrackError
from device.generator import Asked, Generator
from train.voice import FAULTS, MISCALIBRATED_LEVEL, Voice, open_voice, planted


@pytest.fixture(scope="module")
def run_and_bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("voice")
    run = train_run(folder, write_set(folder / "set"))
    export.export(run, folder / "x.rack", "Tin", ("float32",))
    return run, folder / "x.rack"


def asked_of(voice: Voice, seed: int, pitch_midi: float = 60.5) -> Asked:
    random = np.random.default_rng(seed)
    labels = [random.uniform(one.quantiles[0], one.quantiles[-1]) for one in voice.attributes]
    return Asked(
        random.standard_normal(voice.latent_size, np.float32),
        np.array(labels, np.float32),
        pitch_midi,
        0.8,
        seed,
    )


def test_a_run_and_its_bundle_sing_the_same_notes(run_and_bundle: tuple[Path, Path]) -> None:
    run, bundle = open_voice(run_and_bundle[0]), open_voice(run_and_bundle[1], "float32")
    assert run.named() == bundle.named()
    assert run.recipe_sha256 == bundle.recipe_sha256
    assert run.pitch_range_midi == bundle.pitch_range_midi
    assert run.temperature == bundle.temperature
    assert [one.name for one in run.presets] == [one.name for one in bundle.presets]
    np.testing.assert_allclose(run.presets[1].z, bundle.presets[1].z, atol=1e-3)
    for seed in range(3):
        asked = asked_of(bundle, seed, 58 + seed / 3)
        np.testing.assert_allclose(run.note(asked), bundle.note(asked), atol=1e-4)


def test_a_checkpoint_is_its_run(run_and_bundle: tuple[Path, Path]) -> None:
    run = run_and_bundle[0]
    one, other = open_voice(run), open_voice(run / "checkpoint.pt")
    asked = asked_of(one, 4)
    np.testing.assert_array_equal(one.note(asked), other.note(asked))


def test_a_bundle_sings_what_the_instrument_plays(tiny_bundle: Bundle) -> None:
    voice = open_voice(tiny_bundle.path)
    asked = asked_of(voice, 0)
    played = Generator(tiny_bundle).note(
        asked.z, asked.attributes, asked.pitch_midi, asked.velocity, asked.noise_seed
    )
    np.testing.assert_array_equal(voice.note(asked), played)


def test_only_a_run_has_an_encoder(run_and_bundle: tuple[Path, Path]) -> None:
    run, bundle = (open_voice(path) for path in run_and_bundle)
    assert bundle.latent is None
    assert run.latent is not None
    grid = run.grid
    frames = np.random.default_rng(0).uniform(0, 1, (3, 2, grid.rows, grid.frames)).astype(np.float32)
    labels = np.stack([asked_of(run, seed).attributes for seed in range(3)])
    assert run.latent(frames, labels, [60, 61, 62], [0.5, 0.6, 0.7]).shape == (3, run.latent_size)


def test_a_run_from_before_there_were_several_teachers_had_one(
    run_and_bundle: tuple[Path, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_and_bundle[0], run)
    facts = json.loads((run / "run.json").read_text())
    del facts["teachers"]
    (run / "run.json").write_text(json.dumps(facts))
    assert set(open_voice(run).trained_by) == {"mn04"}


class TestFaults:
    def test_each_is_named_and_leaves_the_voice_alone(self, tiny_bundle: Bundle) -> None:
        voice = open_voice(tiny_bundle.path)
        asked = asked_of(voice, 0)
        before = voice.note(asked)
        for fault in FAULTS:
            faulty = planted(voice, fault)
            assert faulty.fault == fault
            assert faulty.name != voice.name
            faulty.note(asked)
        np.testing.assert_array_equal(voice.note(asked), before)

    def test_z_ignored(self, tiny_bundle: Bundle) -> None:
        voice = open_voice(tiny_bundle.path)
        faulty = planted(voice, "z_ignored")
        one = asked_of(voice, 0)
        other = dataclasses.replace(one, z=asked_of(voice, 9).z, noise_seed=9)
        assert np.abs(voice.note(one) - voice.note(other)).max() > 0.01
        np.testing.assert_array_equal(faulty.note(one), faulty.note(other))

    def test_attributes_permuted(self, tiny_bundle: Bundle) -> None:
        voice = open_voice(tiny_bundle.path)
        faulty = planted(voice, "permuted")
        lowest = np.array([one.quantiles[0] for one in voice.attributes], np.float32)
        raised = lowest.copy()
        raised[1] = voice.attributes[1].quantiles[-1]
        neighbour = lowest.copy()
        neighbour[2] = voice.attributes[2].quantiles[-1]
        base = dataclasses.replace(asked_of(voice, 0), attributes=raised)
        np.testing.assert_allclose(
            faulty.note(base), voice.note(dataclasses.replace(base, attributes=neighbour)), atol=1e-5
        )

    def test_detuned_is_the_players_fault(self, tiny_bundle: Bundle) -> None:
        voice = open_voice(tiny_bundle.path)
        faulty = planted(voice, "detuned")
        asked = asked_of(voice, 0)
        np.testing.assert_array_equal(faulty.note(asked), voice.note(asked))
        assert (voice.detuned_cents, faulty.detuned_cents) == (0.0, 20.0)

    def test_badly_calibrated_int8_clips_in_256_steps(self, tiny_bundle: Bundle) -> None:
        voice = open_voice(tiny_bundle.path)
        asked = asked_of(voice, 0)
        assert voice.note(asked)[0].max() > MISCALIBRATED_LEVEL
        levels = planted(voice, "miscalibrated").note(asked)[0]
        assert levels.max() == pytest.approx(MISCALIBRATED_LEVEL)
        assert len(np.unique(levels)) <= 256

    def test_still_leaves_the_levels_and_no_frequency(self, tiny_bundle: Bundle) -> None:
        voice = open_voice(tiny_bundle.path)
        asked = asked_of(voice, 0)
        levels, frequencies = planted(voice, "still").note(asked)
        np.testing.assert_array_equal(levels, voice.note(asked)[0])
        assert not frequencies.any()


class TestRefused:
    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(DarkrackError, match="no such file"):
            open_voice(tmp_path / "none.rack")

    def test_a_folder_that_is_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(DarkrackError, match="recipe"):
            open_voice(tmp_path)

    def test_a_checkpoint_of_another_recipe(self, run_and_bundle: tuple[Path, Path], tmp_path: Path) -> None:
        run = tmp_path / "run"
        shutil.copytree(run_and_bundle[0], run)
        recipe = run / "recipe.toml"
        recipe.write_text(recipe.read_text().replace("seed = 3", "seed = 4"))
        with pytest.raises(DarkrackError, match="one of another recipe"):
            open_voice(run)

    def test_a_damaged_checkpoint(self, run_and_bundle: tuple[Path, Path], tmp_path: Path) -> None:
        run = tmp_path / "run"
        shutil.copytree(run_and_bundle[0], run)
        (run / "checkpoint.pt").write_bytes(b"half")
        with pytest.raises(DarkrackError, match="whole checkpoint"):
            open_voice(run)
