"""What is timed sounds, boards are worked out from their ratios and nothing else, and the page says all of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from benchmarks import ours, scaling
from benchmarks.arm64 import page as arm64_page
from benchmarks.arm64.cost import MACHINES, estimate
from benchmarks.arm64.counts import Piece
from device.bundle import Bundle
from device.partials import Partials

ROOT = Path(__file__).resolve().parent.parent
BOARDS = """
[[board]]
name = "Half"
callback = [2, 4.0]
inference = [2.0, 10.0]
source = "a test"
"""


@pytest.mark.parametrize(("voices", "rows", "block"), [(1, 80, 128), (8, 128, 32), (32, 16, 1024)])
def test_every_voice_and_partial_that_is_timed_sounds(voices: int, rows: int, block: int) -> None:
    playing = ours.Callback(voices, rows)  # which itself counts its voices
    sound = np.concatenate([playing.render(block, block).copy() for _ in range(ours.RATE_HZ // block)])[:, 0]
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    f0_bins = ours.full_hz(rows, Partials(rows=rows)) * len(sound) / ours.RATE_HZ
    for k in range(1, rows + 1):
        at, beside = round(k * f0_bins), round((k + 0.5) * f0_bins)
        assert spectrum[at - 3 : at + 4].max() > 100 * spectrum[beside - 3 : beside + 4].max(), f"partial {k}"


def test_networks_grow_with_their_width() -> None:
    models, macs = ours.converted(8)
    _, twice = ours.converted(16)
    assert set(models) == {"float32", "dynamic_int8"}
    assert 1.2 * macs < twice < 4 * macs
    assert len(models["float32"]) > len(models["dynamic_int8"])


@pytest.fixture(scope="module")
def written(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scaling")
    (folder / "boards.toml").write_text(BOARDS)
    words = [str(tiny_bundle.path), "--widths", "--rounds", "2", "--boards", str(folder / "boards.toml")]
    words += ["--json", str(folder / "scaling.json"), "--out", str(folder / "scaling.md")]
    assert scaling.main(words) == 0
    return folder


@pytest.fixture
def content(written: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((written / "scaling.json").read_text())
    return found


def test_what_it_writes_holds_its_schema(content: dict[str, Any]) -> None:
    schema = json.loads(scaling.SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(content)
    for spoilt in ({"rounds": 0}, {"boards": []}, {"more": 1}):
        assert not validator.is_valid({**content, **spoilt})


def test_every_axis_has_its_points(content: dict[str, Any]) -> None:
    for axis, key, values in (
        ("voices", "voices", scaling.VOICES),
        ("partials", "rows", scaling.ROWS),
        ("blocks", "block", scaling.BLOCKS),
    ):
        assert tuple(point[key] for point in content[axis]) == values
    usual = [point for axis in ("voices", "partials", "blocks") for point in content[axis]]
    same = [point for point in usual if (point["voices"], point["rows"], point["block"]) == (8, 80, 128)]
    assert len(same) == 3
    assert same[0] == same[1] == same[2], "where the axes meet is one measurement"


def test_a_board_is_its_ratios_times_this_machine() -> None:
    """20 ms a second for each voice and 10 for the rest: 500 ms hold (500 - 10) / 20 = 24.5 voices."""
    figures: dict[str, Any] = {
        "voices": [{"voices": n, "ms_per_second": [10.0 + 20.0 * n] * 3} for n in scaling.VOICES],
        "networks": [
            {"name": "a", "bundle": "a.rack", "frames_ms": [0.5] * 3},
            {"name": "random", "bundle": None, "frames_ms": None},
        ],
    }
    here = scaling._board(scaling._here(), figures)
    assert here["held_voices"] == [24, 24]
    assert here["morphing_voices"] == {"a": [36, 36]}  # 900 ms / (50 * .5 ms)
    half = scaling._board(scaling.Board("Half", (2.0, 4.0), (2.0, 10.0), "a test"), figures)
    assert half["held_voices"] == [5, 12]  # (125 - 10) / 20 and (250 - 10) / 20
    assert half["morphing_voices"] == {"a": [3, 18]}
    none = scaling._board(scaling.Board("Slow", (100.0, 100.0), (1e3, 1e3), "a test"), figures)
    assert none["held_voices"] == [0, 0]


def test_a_counted_bundle_says_how_far_a_pi_goes() -> None:
    """Estimated milliseconds over measured ones: a machine twice as quick is twice as far ahead of the same board."""
    counted = arm64_page.kept()["bundles"]
    name = next(iter(counted))

    def boards(here_ms: float, bundle: str = name) -> list[scaling.Board]:
        network = {"bundle": bundle, "variant": "dynamic_int8", "ms": [here_ms] * 3}
        voices = [{"voices": 8, "ms_per_second": [375 * here_ms] * 3}]
        return scaling.counted_boards({"networks": [network], "voices": voices})

    once, twice = boards(0.1), boards(0.05)
    assert [board.name for board in once] == ["Raspberry Pi 4, 1.8 GHz", "Raspberry Pi 5, 2.4 GHz"]
    for one, two in zip(once, twice, strict=True):
        np.testing.assert_allclose(two.callback, [2 * ratio for ratio in one.callback])
        np.testing.assert_allclose(two.inference, [2 * ratio for ratio in one.inference])
    note = estimate(
        Piece.of(counted[name]["boards"]["pi5"]["counts"]["note dynamic_int8"]).counts, MACHINES["pi5"]
    )
    assert once[1].inference == pytest.approx((note.low_ms / 0.1, note.high_ms / 0.1))
    assert boards(0.1, "nobody.rack") == []


def test_the_page_says_what_is_an_estimate_and_what_nobody_measured(
    written: Path, content: dict[str, Any]
) -> None:
    page = (written / "scaling.md").read_text()
    assert page == scaling.page(content, "scaling.png")
    assert "| Half (estimate) |" in page
    assert "not measured" not in page
    alone = scaling.markdown({**content, "boards": content["boards"][:1]})
    assert "| Raspberry Pi 4 | not measured | not measured | – |" in alone
    assert (written / "scaling.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[board]", "boards.toml"),
        ("board = 1", "tables [[board]]"),
        (BOARDS + "more = 1", "the keys"),
        (BOARDS.replace('source = "a test"', ""), "the keys"),
        (BOARDS.replace('"a test"', '" "'), "source"),
        (BOARDS.replace("[2, 4.0]", "[4.0, 2]"), "two numbers above 0"),
        (BOARDS.replace("[2, 4.0]", "[0, 2]"), "two numbers above 0"),
        (BOARDS.replace("[2, 4.0]", "2"), "two numbers above 0"),
        (BOARDS.replace("[2, 4.0]", "[true, 2]"), "two numbers above 0"),
        (BOARDS.replace("[2, 4.0]", "[2, inf]"), "two numbers above 0"),
    ],
)
def test_boards_that_are_none_are_our_error(
    text: str, said: str, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "boards.toml"
    path.write_text(text)
    assert scaling.main([str(tiny_bundle.path), "--boards", str(path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert said in told


def test_a_bundle_that_is_none_is_our_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scaling.main([str(tmp_path / "nothing.rack")]) == 1
    assert "nothing.rack" in capsys.readouterr().err


def test_the_page_in_docs_is_that_of_its_figures() -> None:
    content = json.loads((ROOT / "docs" / "scaling.json").read_text())
    jsonschema.validate(content, json.loads(scaling.SCHEMA.read_text()))
    assert (
        (ROOT / "docs" / "scaling.md")
        .read_text(encoding="utf-8")
        .startswith(scaling.page(content, "scaling.png").rstrip("\n"))
    )
