"""`darkrack bench` on a real small network and the real voices; nothing here depends on how fast they are."""

from __future__ import annotations

import copy
import json
import math
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import matplotlib.image
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import darkrack
from device import bench, comparison, realtime
from device.bundle import Bundle
from device.inference import Budget
from device.partials import Partials, nominal_hz

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((ROOT / "device" / "bench.schema.json").read_text())
SHORT = bench.Effort(
    2,
    math.inf,
    Budget(20, 5.0),
    0.05,
    0.1,
    (256,),
    realtime.Lengths(0.9, 1.8, 0, 0, midi=0.9),
    sustained_s=2.0,
)


def valid(document: Any) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(document)


@pytest.fixture(scope="module")
def document(tiny_bundle: Bundle) -> dict[str, Any]:
    """All of it, once, as short as it goes."""
    return bench.measure_all([tiny_bundle], [1, 2], None, bench.PARTS, SHORT, quick=True)


def test_all_of_it_is_measured_and_has_the_form_of_the_schema(
    document: dict[str, Any], tiny_bundle: Bundle
) -> None:
    valid(json.loads(json.dumps(document, allow_nan=False)))
    assert document["rounds"] == document["rounds_wanted"] == 2
    assert [(row["variant"], row["threads"]) for row in document["inference"]] == [
        ("float32", 1),
        ("float32", 2),
    ]
    for row in document["inference"]:
        figures, whole = row["figures"], row["all_ms"]
        assert row["bundle"] == tiny_bundle.path.name
        assert row["size_bytes"] == len(tiny_bundle.model("float32"))
        assert row["macs"] == tiny_bundle.manifest.macs
        assert row["notes"] == sum(row["histogram"]["counts"]) == 40
        assert 0 < whole["p50"] <= whole["p90"] <= whole["p99"] <= whole["max"]
        assert whole["p99_9"] is None  # of 40 notes there is none
        assert row["macs_per_s"] == pytest.approx(row["macs"] / figures["p50"]["value"] * 1e3, rel=1e-3)
        assert all(len(figure["rounds"]) == 2 for figure in figures.values())
        assert figures["to the first note"]["value"] > figures["first note"]["value"]
        assert "slice" not in figures
        assert row["quality_from"] == "the reference" or row["quality_db"] == 200
    full, lowest = document["voices"]
    assert (full["rows"], full["voices"]) == (tiny_bundle.manifest.representation.rows, 8)
    assert (lowest["key_midi"], lowest["rows"]) == (36, 244)  # 16 kHz / 65.4 Hz
    assert [row["block_frames"] for row in document["callback"]] == [32, 64, 128, 256]
    for row in document["callback"]:
        assert row["blocks"] > 10
        assert 0 < row["figures"]["mean"]["value"] <= row["max_ms"]
        assert row["margin"] == pytest.approx(1 - row["p99_ms"] / row["block_ms"], abs=1e-3)
    start, gate, midi, *_knob = document["program"]
    assert start["what"] == "program start to first sound"
    assert (
        start["figures"]["p50"]["low"] > 100
    )  # Python alone takes that; it counts from the process's beginning
    for row, what in ((gate, "gate"), (midi, "MIDI")):
        assert row["what"].startswith(what)
        assert row["answers"] + row["missed"] == 12
        assert row["answers"] >= 6
        assert row["constant_ms"] == pytest.approx(256 / 48 + 1 + 1, abs=1e-3)
        # Not before its constant, but for what the sample clock's smoothing may be off.
        assert row["figures"]["p50"]["value"] > row["constant_ms"] - 0.1
    found = document["sustained"]
    assert found["seconds"] >= 2
    assert len(found["stretches"]) >= 3
    assert found["blocks"] == sum(one["blocks"] for one in found["stretches"]) > 100


def test_what_is_printed_is_what_was_measured(document: dict[str, Any]) -> None:
    said = bench.table(document)
    one = document["inference"][0]
    assert document["machine"]["processor"] in said
    assert document["date"] in said
    line = next(line for line in said.splitlines() if re.match(r"tiny.rack +float32 +LiteRT +1 ", line))
    for shown in ("to the first note", "p50", "p99"):
        assert bench._ranged(one["figures"][shown]) in line
    assert f"{one['figures']['peak memory']['value']:.0f}" in line
    for row in document["program"] + document["callback"] + document["voices"]:
        assert row["what"] in said
    assert "ONNX Runtime CUDA: not present" in said
    assert "no ONNX file in tiny.rack" in said
    assert "of the MACs" in said
    assert max(map(len, said.splitlines())) < 240


def test_noise_and_rounds_that_were_left_out_are_said(document: dict[str, Any]) -> None:
    changed = copy.deepcopy(document)
    changed["quiet"]["noise"] = ["equal loops differ 3.00 times"]
    changed["rounds_wanted"] = 5
    said = bench.table(changed)
    assert "A NOISY MACHINE: equal loops differ 3.00 times" in said
    assert "2 rounds (of 5: too busy for more; of the whole program 2)" in said
    changed["quiet"]["noise"] = []
    assert "a quiet machine" in bench.table(changed)


def test_a_run_is_no_different_from_itself(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    rows = comparison.compare(comparison.read(path), document)
    assert len(rows) > 20
    assert {row.verdict for row in rows} == {comparison.NOISE}


def test_the_picture_shows_a_line_for_each(document: dict[str, Any], tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    bench.draw(two, document)
    bench.draw(one, {**document, "inference": document["inference"][:1]})
    both, alone = (matplotlib.image.imread(path) for path in (two, one))
    second = np.array([0xD1, 0x49, 0x5B]) / 255  # the colour of the second line
    near = [int((np.abs(image[..., :3] - second).max(axis=2) < 0.02).sum()) for image in (both, alone)]
    assert near[0] > 200
    assert near[1] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"extra": 1},
        {"rounds": 0},
        {"machine": {}},
        {"sustained": {}},
    ],
)
def test_the_schema_refuses_what_is_not_its_own(document: dict[str, Any], change: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        valid({**document, **change})


def test_the_page_of_boards_has_the_columns_of_the_row(document: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "boards.md").read_text(encoding="utf-8").splitlines()
    head = page.index(f"| {' | '.join(bench.ROW_HEADS)} |")
    rows = [line for line in page[head + 2 :] if line.startswith("|")]
    assert len(rows) >= 4
    assert {len(line.split("|")) for line in rows} == {len(bench.ROW_HEADS) + 2}
    row = bench.row(document, "A board")
    assert row.startswith(f"| A board | {document['machine']['processor']}, ")
    assert len(row.split("|")) == len(bench.ROW_HEADS) + 2
    bare = bench.row({**document, "inference": [], "program": [], "voices": [], "callback": []}, "A board")
    assert bare.count("not measured") == 9
    measured = [line for line in rows if "not measured" not in line]
    assert all(re.search(r"\| 20\d\d-\d\d-\d\d, (noisy|quiet)", line) for line in measured)


def test_the_command_writes_what_it_prints(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "QUICK", SHORT)
    out, png = tmp_path / "bench.json", tmp_path / "bench.png"
    words = [
        "bench",
        str(tiny_bundle.path),
        "--quick",
        "--parts",
        "inference",
        "--json",
        str(out),
        "--row",
        "Mine",
    ]
    assert darkrack.main([*words, "--png", str(png), "--variant", "float32"]) == 0
    found = json.loads(out.read_text())
    valid(found)
    printed = capsys.readouterr().out
    assert bench.table(found) in printed
    assert bench.row(found, "Mine") in printed
    assert found["quick"] is True
    assert found["callback"] == found["program"] == []
    assert png.read_bytes().startswith(b"\x89PNG")


def test_a_bundle_of_samples_is_measured_without_what_it_has_not(tiny_samples_bundle: Bundle) -> None:
    found = bench.measure_all([tiny_samples_bundle], [1], None, ("inference", "voices"), SHORT, quick=True)
    valid(found)
    assert found["voices"] == []
    assert found["inference"][0]["notes"] > 0
    assert "tiny-samples.rack" in bench.table(found)


def test_a_busy_machine_makes_three_rounds_and_one_of_what_takes_long(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock of the test's own: two kinds of voices take a second each, a start takes ``long_s``."""
    now_s, long_s = 0.0, 100.0

    def takes(seconds: float, gives: float) -> float:
        nonlocal now_s
        now_s += seconds
        return gives

    clock = SimpleNamespace(monotonic=lambda: now_s, perf_counter=time.perf_counter)
    monkeypatch.setattr(bench, "time", clock)
    monkeypatch.setattr(bench, "voices_speed", lambda *_: takes(1.0, 20.0))
    monkeypatch.setattr(realtime, "start_s", lambda *_: takes(long_s, 2.0))

    def rounds() -> tuple[int, int, int, int]:
        found = bench.measure_all([tiny_bundle], [1], None, ("voices", "start"), bench.QUICK, quick=True)
        voices, start = (
            found["voices"][0]["figures"]["times real time"],
            found["program"][0]["figures"]["p50"],
        )
        return found["rounds_wanted"], found["rounds"], len(voices["rounds"]), len(start["rounds"])

    assert rounds() == (6, 3, 3, 1)
    long_s = 4.0  # six times of everything are 36 s
    assert rounds() == (6, 6, 6, 6)
    long_s = 20.0  # the fourth would end after 75 s
    assert rounds() == (6, 6, 6, 3)


@pytest.mark.parametrize(("key_midi", "rows"), [(54, 80), (36, 244)])
def test_every_partial_that_is_timed_sounds(key_midi: int, rows: int) -> None:
    """Or the voices would be timed for what they leave out: each stands over the gaps on either side of it."""
    bank = bench.full_bank(Partials(), key_midi, rows)
    block = np.zeros((bench.SAMPLE_RATE_HZ, 2), np.float32)  # a second: bins of 1 Hz
    bank.render(block)
    spectrum = np.abs(np.fft.rfft(block[:, 0] * np.hanning(len(block))))
    f0_hz = nominal_hz(key_midi)
    for k in range(1, rows + 1):
        at, beside = round(k * f0_hz), round((k + 0.5) * f0_hz)
        peak = spectrum[at - 2 : at + 3].max()
        # The last ones lie in the soft edge under the limit, hence 10 times and not 1000.
        assert peak > 10 * spectrum[beside - 2 : beside + 3].max(), f"partial {k}"


@given(st.integers(1, 300), st.floats(500, 20_000))
def test_all_rows_sound_at_the_key_that_is_chosen(rows: int, limit_hz: float) -> None:
    grid = Partials(rows=rows, limit_hz=limit_hz)
    key = bench.highest_full_key(grid)
    assert key == 0 or rows * nominal_hz(key) <= bench.SOFT_EDGE * limit_hz * (1 + 1e-9)
    assert rows * nominal_hz(key + 1) > bench.SOFT_EDGE * limit_hz * (1 - 1e-9)


@given(st.floats(100, 20_000), st.integers(0, 127))
def test_a_key_has_the_rows_up_to_the_limit(limit_hz: float, key_midi: int) -> None:
    rows = bench.rows_at(Partials(limit_hz=limit_hz), key_midi)
    assert rows == 1 or rows * nominal_hz(key_midi) <= limit_hz
    assert (rows + 1) * nominal_hz(key_midi) > limit_hz


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5", "²"])
def test_a_number_of_threads_that_is_none_is_a_usage_error(
    threads: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        darkrack.main(["bench", "x.rack", f"--threads={threads}"])
    assert caught.value.code == 2
    assert "a whole number from 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "one of the three"),
        (["x.rack", "--loopback"], "one of the three"),
        (["x.rack", "--compare", "a.json", "b.json"], "one of the three"),
        (["--loopback", "--png", "x.png"], "bundles to measure"),
        (["--compare", "a.json", "b.json", "--json", "c.json"], "bundles to measure"),
        (["x.rack", "--png", "x.jpg"], "ends in .png"),
        (["x.rack", "--sustained", "0"], "1 to 86400"),
        (["x.rack", "--sustained", "nan"], "1 to 86400"),
        (["x.rack", "--json", "."], "a folder"),
        (["x.rack", "--parts", "voices", "--png", "x.png"], "inference"),
        (["nowhere.rack"], "nowhere.rack"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert darkrack.main(["bench", *words]) == 1
    assert told in capsys.readouterr().err


def test_a_variant_that_is_not_there_and_a_bundle_that_is_none_are_our_errors(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert darkrack.main(["bench", str(tiny_bundle.path), "--variant", "int4"]) == 1
    assert "expected one of float32" in capsys.readouterr().err
    path = tmp_path / "noise.rack"
    path.write_bytes(b"noise")
    assert darkrack.main(["bench", str(path)]) == 1
    assert str(path) in capsys.readouterr().err
