"""docs/own-data.md: its commands parse, its notes go the way that is timed, its steps are counted right."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest
import soundfile
from teachers import write_classes, write_network
from test_nsynth import tone

import darkrack
from benchmarks import nsynth_time
from train.growing import moment_at
from train.notes import read_notes
from train.recipe import GrowingRecipe, read_recipe

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "own-data.md").read_text()


@pytest.mark.parametrize(
    "line", re.findall(r"^ {4}(?:darkrack|torchrun .* -- darkrack\.py) (.*)$", PAGE, re.M)
)
def test_commands_of_the_page_parse(line: str) -> None:
    command, *words = shlex.split(line)
    parser = argparse.ArgumentParser()
    importlib.import_module(darkrack.COMMANDS[command][0]).add_arguments(parser)
    parser.parse_args(words)


def test_ranks_of_the_page_divide_the_published_batches() -> None:
    recipe, _ = read_recipe(ROOT / "recipes" / "darkgan.toml")
    assert isinstance(recipe, GrowingRecipe)
    for nodes, each in re.findall(r"torchrun (?:--nnodes (\d+) )?--nproc-per-node (\d+)", PAGE):
        assert not any(batch % (int(nodes or 1) * int(each)) for batch in recipe.growth.batch)


def test_steps_of_the_page_are_those_that_are_counted() -> None:
    """The last scale: G's 11.863 GMAC a note, and 17.9 passes; the page's rows and its sum."""
    path = ROOT / "recipes" / "darkgan.toml"
    found = nsynth_time.step_macs(path)
    recipe, _ = read_recipe(path)
    assert isinstance(recipe, GrowingRecipe)
    assert [steps for steps, _ in found] == list(recipe.growth.steps)
    notes = moment_at(recipe.growth, 1_227_999).batch
    assert found[-1][1] / notes / 11.863e9 == pytest.approx(17.9, abs=0.05)
    rows = re.findall(r"^\| \d+x\d+ \| ([\d,]+) \| ([\d.]+) \|$", PAGE, re.M)
    assert [(int(steps.replace(",", "")), float(gmac)) for steps, gmac in rows] == [
        (steps, pytest.approx(1e-9 * one, rel=0.01)) for steps, one in found
    ]
    total = sum(steps * one for steps, one in found)
    assert total == pytest.approx(1.58e18, rel=0.005)
    for tflops, hours in ((10, 88), (50, 17.5), (100, 8.8)):
        assert 2e-12 * total / tflops / 3600 == pytest.approx(hours, rel=0.01)


def test_notes_go_the_way_that_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "few"
    notes.mkdir()
    names = [f"bass_synthetic_{n:03d}-{pitch:03d}-100" for n, pitch in enumerate((48, 55, 60))]
    lines = ["note_str,file,start"]
    for name in names:
        soundfile.write(notes / f"{name}.flac", tone(int(name[-7:-4])), 16_000, subtype="PCM_16")
        lines.append(f"{name},{name}.flac,0")
    (notes / "notes.csv").write_text("\n".join(lines) + "\n")
    write_network(tmp_path / "tiny.onnx")
    write_classes(tmp_path / "audioset_527.csv", 527)
    monkeypatch.setattr("train.label.EXCLUDED", tmp_path / "none.txt")
    (tmp_path / "none.txt").write_text("")
    monkeypatch.setattr(nsynth_time, "step_macs", lambda _: [(10, 1e12)])
    words = [str(notes), "--out", str(tmp_path / "out"), "--mn04", str(tmp_path / "tiny.onnx")]
    recipe = str(ROOT / "recipes" / "darkgan.toml")
    assert nsynth_time.main([*words, "--copies", "2", "--recipe", recipe]) == 0
    made = read_notes(tmp_path / "out" / "notes")
    assert len({note.note_str for note in made}) == 6
    printed = capsys.readouterr().out
    assert "6 notes;" in printed
    assert "in all 1e+13 multiply-accumulates" in printed
