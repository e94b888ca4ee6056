"""Recipes: what is written is what is read, and every wrong key has its own error."""

from __future__ import annotations

from pathlib import Path

import pytest
from training import ONE_TEACHER, RECIPE, TWO_TEACHERS, write_recipe

from device import bundle
from device.errors import DarkrackError
from train.recipe import TeacherLabels, read_recipe

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "recipes").rglob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_recipes_are_whole(path: Path) -> None:
    recipe, digest = read_recipe(path)
    assert (
        recipe.grid.frames >> (len(recipe.generator.channels) - 1) << (len(recipe.generator.channels) - 1)
        == recipe.grid.frames
    )
    assert len(digest) == 64


def test_values_arrive(tmp_path: Path) -> None:
    recipe, _ = read_recipe(write_recipe(tmp_path))
    assert recipe.pitch_range_midi == (48, 72)
    assert recipe.generator.channels == (8, 8, 8)
    assert recipe.data[0].licence == "CC0"
    assert recipe.adversarial.class_weight == 1.0


def test_labels_of_one_teacher_or_of_several(tmp_path: Path) -> None:
    one, _ = read_recipe(write_recipe(tmp_path))
    assert one.labels.teachers == (TeacherLabels("mn04", 3, 1.0, 2.0),)
    assert one.labels.temperature == 2.0
    several, _ = read_recipe(write_recipe(tmp_path, TWO_TEACHERS))
    assert several.labels.teachers == (*one.labels.teachers, TeacherLabels("descriptors", 4, 1.0, 2.0))
    listed, _ = read_recipe(write_recipe(tmp_path, RECIPE.replace("[labels]", "[[labels]]")))
    assert listed == one


def test_shipped_recipes_are_those_of_the_shipped_voices() -> None:
    """A card names the hash of its recipe, and a run goes on with no other: these files may not change."""
    digests = {read_recipe(path)[1] for path in SHIPPED}
    bundles = sorted((ROOT / "models").rglob("*.rack"))
    assert bundles
    for path in bundles:
        assert bundle.read(path, replay=False).manifest.recipe_sha256 in digests, path


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("attributes = 4", "attributes = 0", "labels[1]: attributes: expected at least 1, got 0"),
        ("attributes = 4", 'attributes = "all"', "labels[1]: attributes: expected a value of type int"),
        ("attributes = 4", "", "labels[1]: attributes: expected a value, got nothing"),
        ("attributes = 4", "attributes = 4\nknobs = 2", "labels[1]: knobs"),
        ('"descriptors"', '"mn04"', "labels[1]: teacher: expected each teacher once, got 'mn04' again"),
        (
            "temperature = 2.0\n\n[grid]",
            "temperature = 1.5\n\n[grid]",
            "labels[1]: temperature: expected 2, as of mn04, got 1.5",
        ),
        ("temperature = 2.0", "temperature = 0.0", "labels[0]: temperature: expected a number above 0"),
        ("temperature = 2.0", "temperature = nan", "labels[0]: temperature: expected a number above 0"),
    ],
)
def test_wrong_labels_of_several_teachers(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in TWO_TEACHERS
    with pytest.raises(DarkrackError) as caught:
        read_recipe(write_recipe(tmp_path, TWO_TEACHERS.replace(old, new)))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("[]", "labels: expected one teacher at least, got none"),
        ('["mn04"]', "labels[0]: expected a table, got 'mn04'"),
        ('"mn04"', "labels: expected a table, got 'mn04'"),
    ],
)
def test_labels_that_are_no_table(tmp_path: Path, value: str, says: str) -> None:
    with pytest.raises(DarkrackError) as caught:
        read_recipe(write_recipe(tmp_path, f"labels = {value}\n" + RECIPE.replace(ONE_TEACHER, "")))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seed = 3", "sead = 3", "did you mean seed"),
        ("seed = 3", "", "seed: expected a value, got nothing"),
        ("batch = 8", "batch = 8.5", "batch: expected a value of type int"),
        ("batch = 8", "batch = true", "batch: expected a value of type int"),
        ("[48, 72]", "[48]", "expected 2 values, got 1"),
        ("[8, 8, 8]", '[8, "x", 8]', "channels[1]"),
        ("[critic]", "[[critic]]", "critic: expected a table"),
        ("batch = 8", "batch = 8\ntouch_share = 1.5", "touch_share: expected 0 to 1, got 1.5"),
        ("rows = 12", "rows = 12\nrows_a_partial = 3", "rows_a_partial: expected 1 to 2, got 3"),
        ("rows = 12", "rows = 11\nrows_a_partial = 2", "rows: expected a multiple of 2"),
        ("channels = [8, 8, 8]", "channels = 8", "expected a list"),
        ("temperature = 2.0", "temperature = ", "TOML"),
        (
            "noise_scales = 2",
            'noise_scales = 2\nconditioning = "none"',
            "conditioning: expected concatenated or film, got 'none'",
        ),
        (
            "deviation_weight = 0.5",
            "deviation_weight = 0.5\nfader_weight = -1.0",
            "fader_weight: expected 0 or more, got -1",
        ),
        (
            "deviation_weight = 0.5",
            "deviation_weight = 0.5\nfader_steps = -1",
            "fader_steps: expected 0 or more, got -1",
        ),
        (
            "deviation_weight = 0.5",
            "deviation_weight = 0.5\nfader_lessons = 0",
            "fader_lessons: expected 1 or more, got 0",
        ),
    ],
)
def test_wrong_keys(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "wrong.toml"
    assert old in RECIPE
    path.write_text(RECIPE.replace(old, new), encoding="utf-8")
    with pytest.raises(DarkrackError) as caught:
        read_recipe(path)
    assert says in str(caught.value)
    assert "wrong.toml" in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DarkrackError, match="No such file"):
        read_recipe(tmp_path / "none.toml")
