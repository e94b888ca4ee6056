"""The temperature experiment: arms differ in what they should, are run once, and the page says what the table holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training import ONE_TEACHER, RECIPE, label_descriptors, write_set

from benchmarks import temperature
from benchmarks.temperature import BEGIN, END, Arm, arm_recipe
from device.errors import DarkrackError
from train.recipe import read_recipe

REPO = Path(__file__).parent.parent
ARMS = st.builds(
    Arm, st.one_of(st.none(), st.floats(0.1, 9.9).map(lambda t: round(t, 1))), st.integers(1, 10**6)
)


@pytest.mark.parametrize("name", ["temperature", "darkgan-small", "darkgan"])
@given(arm=ARMS)
def test_an_arm_differs_in_temperature_seed_and_attributes_alone(name: str, arm: Arm) -> None:
    text = (REPO / "recipes" / f"{name}.toml").read_text()
    made = arm_recipe(text, arm)
    wanted = {"seed = "} | ({"attributes = "} if arm.temperature is None else {"temperature = "})
    changed = [
        (old, new) for old, new in zip(text.splitlines(), made.splitlines(), strict=True) if old != new
    ]
    assert all(any(old.startswith(key) and new.startswith(key) for key in wanted) for old, new in changed)
    assert f"seed = {arm.seed}\n" in made
    assert "attributes = true" in made or arm.temperature is None


@pytest.mark.parametrize("name", ["temperature", "darkgan-small"])
def test_what_an_arm_asks_for_is_what_is_read(tmp_path: Path, name: str) -> None:
    text = (REPO / "recipes" / f"{name}.toml").read_text()
    path = tmp_path / "arm.toml"
    path.write_text(arm_recipe(text, Arm(1.5, 7)))
    recipe, _ = read_recipe(path)
    assert (recipe.labels.temperature, recipe.seed, recipe.generator.attributes) == (1.5, 7, True)
    path.write_text(arm_recipe(text, Arm(None, 2)))
    recipe, _ = read_recipe(path)
    assert (recipe.labels.temperature, recipe.seed, recipe.generator.attributes) == (2.0, 2, False)
    # The arm that the recipe itself is has its identity too: a run of either is a run of the other.
    assert arm_recipe(text, Arm(2.0, 1)) == text


def test_a_recipe_that_cannot_be_varied_is_our_error() -> None:
    with pytest.raises(DarkrackError, match=r"one line 'attributes = \.\.\.', got 0"):
        arm_recipe("seed = 1\ntemperature = 2.0\n", Arm(1.0, 1))


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The command on 800 synthetic notes that the descriptors labelled."""
    recipe = tmp_path / "tiny.toml"
    labels = ONE_TEACHER.replace("mn04", "descriptors")
    text = RECIPE.replace(ONE_TEACHER, labels).replace("\n[critic]", "\nattributes = true\n\n[critic]")
    recipe.write_text(text)
    data = label_descriptors(write_set(tmp_path / "set", instruments=160))
    options = ["--recipe", str(recipe), "--data", str(data), "--runs", str(tmp_path / "runs")]
    options += ["--ear", "descriptors", "--quick", "--arms", "1", "baseline", "--table"]
    return [*options, str(tmp_path / "results" / "figures.json"), "--page", str(tmp_path / "results.md")]


@pytest.mark.slow
def test_arms_are_trained_judged_and_kept(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temperature, "QUICK_EFFORT", (50, 60, 10, 0, 10, 50, (2, 6, 3), (2, 6, 3)))
    assert temperature.main([*words, "--train-only"]) == 0
    assert not (tmp_path / "results").exists()
    assert temperature.main(words) == 0, capsys.readouterr().err
    table = json.loads((tmp_path / "results" / "figures.json").read_text())
    assert [(one["temperature"], one["seed"]) for one in table["arms"]] == [(1.0, 1), (None, 1)]
    for one in table["arms"]:
        assert one["parts"]["unseen_instruments"]["frechet"]["descriptors"][0] > 0
        assert len(one["out_of_distribution"]["correlation"]) == 3
        assert str(tmp_path) not in json.dumps(one)
    page = (tmp_path / "results.md").read_text()
    assert "Not run: T = 1.5, T = 2, T = 3, T = 5." in page
    assert (tmp_path / "results" / "tiny" / "increments.png").is_file()

    # What stands in the table is not run again, and words that people write around it stay.
    (tmp_path / "results.md").write_text(page.replace("# Results", "# Results\n\nIn plain words."))
    monkeypatch.setattr(temperature, "_train", None)
    assert temperature.main(words) == 0
    assert json.loads((tmp_path / "results" / "figures.json").read_text()) == table
    assert "In plain words." in (tmp_path / "results.md").read_text()


def test_what_is_none_of_ours_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, table = tmp_path / "page.md", tmp_path / "table.json"
    options = ["--page", str(page), "--table", str(table)]
    page.write_text("a page without marks")
    assert temperature.main(options) == 1
    assert page.read_text() == "a page without marks"
    table.write_text('{"format": 9, "arms": []}')
    assert temperature.main(options) == 1
    assert temperature.main([*options[:2], "--data", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert "a table of format 1" in errors
    assert "--runs" in errors


def test_the_page_in_the_repository_says_what_its_table_holds() -> None:
    table = temperature.read_table(REPO / "docs" / "results" / "figures.json")
    text = (REPO / "docs" / "results.md").read_text(encoding="utf-8")
    made = text.partition(BEGIN)[2].partition(END)[0]
    assert made.strip() == "\n".join(temperature.sections(table)).strip()
    for recipe in table["beside"]:
        assert (REPO / "docs" / "results" / recipe / "out_of_distribution.png").is_file()
        _, digest = read_recipe(REPO / "recipes" / f"{recipe}.toml")
        assert digest in {one["recipe_sha256"] for one in table["arms"] if one["recipe"] == recipe}
