"""What docs/your-own-sounds.md tells one to type is what is timed, and it makes an instrument with one's own words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from training import EAR, ONE_TEACHER, RECIPE, write_set

import darkrack
from benchmarks import own_sounds
from device import bundle

PAGE = Path(__file__).parent.parent / "docs" / "your-own-sounds.md"


def test_the_page_says_what_is_timed() -> None:
    said = re.findall(r"^ {4}darkrack (.*)$", PAGE.read_text(), re.MULTILINE)
    assert said == [
        " ".join(words) for _, words in own_sounds.steps(Path(), Path("mine.toml"), Path("mn04_as.onnx"))
    ]


def test_from_a_folder_of_files_to_an_instrument(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path / "rendered")  # instruments 8, 11 and 14 are metal, 12 is wood
    assert own_sounds.write_samples(tmp_path / "rendered", tmp_path / "samples") == 120
    words = ONE_TEACHER.replace("mn04", "tags").replace("attributes = 3", "attributes = 2")
    recipe = tmp_path / "own.toml"
    recipe.write_text(RECIPE.replace(ONE_TEACHER, words) + EAR.replace("descriptors", "tags"))
    for title, line in own_sounds.steps(tmp_path, recipe, None)[
        :-1
    ]:  # six unseen notes are too few to judge by
        assert darkrack.main(line) == 0, (title, capsys.readouterr().err)
    made = bundle.read(tmp_path / "mine.rack").manifest
    assert {one.name for one in made.attributes} <= {"metal", "struck", "wood"}
    assert {one.teacher for one in made.attributes} == {"tags"}


def test_a_step_that_fails_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert own_sounds.main([str(tmp_path / "none.sf2"), "--out", str(tmp_path / "out")]) == 1
    assert "none.sf2" in capsys.readouterr().err
