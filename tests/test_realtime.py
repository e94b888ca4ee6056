"""`darkrack realtime`: what it measures against sounds whose times are known, and the whole of it once, shortened."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from darkrack import main
from device import realtime
from device.bundle import Bundle
from device.realtime import RATE_HZ, Cell, Lateness, Lengths, Quantiles

SOME = Quantiles(10, 1.0, 2.0, 3.0)


def test_an_onset_is_found_at_its_sample() -> None:
    heard = np.zeros(RATE_HZ, np.float32)
    heard[24_000:] = 1e-5
    assert realtime._first_sample(heard, 23_760.0) == pytest.approx(5.0)
    assert realtime._first_sample(heard, 23_760.5) == pytest.approx(5.0 - 0.5 / 48)
    assert realtime._first_sample(heard, 10_000.0) is None  # too long ago to be its answer
    assert realtime._first_sample(heard, 30_000.0) is None  # something else sounds already


def test_the_middle_of_a_change_is_found_within_a_window() -> None:
    n = np.arange(RATE_HZ)
    change = np.clip((n - 24_000 - 0.030 * RATE_HZ) / (0.020 * RATE_HZ), 0, 1)  # 30 to 50 ms after the leap
    bright = sum(np.sin(2 * np.pi * 261.6 * k * n / RATE_HZ) / k for k in range(2, 12))
    heard = np.sin(2 * np.pi * 261.6 * n / RATE_HZ) + change * bright
    assert realtime._half_changed(heard.astype(np.float32), 24_000.0) == pytest.approx(40.0, abs=1.5)
    still = np.sin(2 * np.pi * 261.6 * n / RATE_HZ).astype(np.float32)
    assert realtime._half_changed(still, 24_000.0) is None
    assert realtime._half_changed(still, 100.0) is None  # the beginning is not there


def test_quantiles_of_a_histogram_are_upper_ends_of_bins() -> None:
    bins = np.zeros(256, np.int64)
    bins[3], bins[9], bins[127] = 98, 1, 1
    found = realtime._binned(bins, 128)
    block_ms = 128 / 48
    assert found.n == 100
    assert found.p50_ms == pytest.approx(4 / 128 * block_ms, abs=1e-4)
    assert found.p99_ms == pytest.approx(10 / 128 * block_ms, abs=1e-4)
    assert found.max_ms == pytest.approx(block_ms, abs=1e-4)


def test_the_page_says_what_was_measured(tmp_path: Path) -> None:
    cell = Cell(
        128, realtime.IDLE, 4.667, Quantiles(99, 4.7, 4.9, 5.0), 1, SOME, SOME, 900, 2, 3, 4, (50.0, 49.0)
    )
    figures = {
        "machine": "a machine, 2 cores",
        "load_before": 0.5,
        "real_time_scheduling": False,
        "date": "2026-11-21",
        "bundle": "First",
        "macs": 19_000_000,
    }
    text = realtime.page(
        figures, [cell], [Lateness("compiled", realtime.IDLE, SOME, 7)], Path("flagship.rack")
    )
    assert "| 128 | idle | 4.667 | 4.700 | 4.900 | 5.000 | +0.233 | 226 235 240 | 99 (1) |" in text
    assert "| 128 | idle | 1.000 | 2.000 | 3.000 | 75 % | 2 of 900 | 3 | 4 | 50, 49 Hz |" in text
    assert "without real-time scheduling" in text
    # 569 million MACs in 75 ms on four cores: 1.9 thousand million a second on one.
    assert "a note takes 19.0 million" in text
    assert "100 to 200 notes a second" in text
    assert "| compiled | idle | 1.000 | 2.000 | 3.000 | 7 of 10 |" in text
    assert max(map(len, text.splitlines())) < 200


def test_the_whole_program_answers_after_its_constant(tiny_bundle: Bundle) -> None:
    """Real processes and real time; how late they are is the machine's affair, that they are not early is ours."""
    cell = realtime.measure(tiny_bundle, 256, realtime.IDLE, Lengths(1.5, 2.0, 1.5, 1.5))
    constant_ms = 256 / 48 + 1 + 1
    assert cell.delay_ms == pytest.approx(constant_ms, abs=1e-3)
    assert cell.gate_ms.n + cell.missed == 10
    assert cell.gate_ms.n >= 5
    assert cell.gate_ms.p50_ms > constant_ms - 0.1
    assert cell.knob_ms.n >= 1
    assert cell.knob_ms.p50_ms > 10  # half a crossfade at least
    assert cell.blocks > 100
    assert min(cell.morphs_hz) > 1


@pytest.mark.parametrize("kind", [realtime.COMPILED, realtime.APART, realtime.PYTHON])
def test_every_kind_of_callback_is_timed(tiny_bundle: Bundle, kind: str) -> None:
    found = realtime.measure_callback(tiny_bundle, kind, realtime.WEB_SERVER, 0.5)
    assert found.ready_ms.n > 50
    assert 0 <= found.not_in_time <= found.ready_ms.n
    assert found.ready_ms.p50_ms <= found.ready_ms.p99_ms <= found.ready_ms.max_ms


def test_a_bundle_of_samples_is_refused(
    tiny_samples_bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["realtime", str(tiny_samples_bundle.path), "--quick", "--json", str(tmp_path / "x.json")]) == 1
    )
    assert "expected a bundle of partials, got one of samples" in capfd.readouterr().err
    assert not (tmp_path / "x.json").exists()


@pytest.mark.slow
def test_the_command_writes_page_and_figures(tiny_bundle: Bundle, tmp_path: Path) -> None:
    out, figures = tmp_path / "realtime.md", tmp_path / "figures.json"
    assert (
        main(["realtime", str(tiny_bundle.path), "--quick", "--out", str(out), "--json", str(figures)]) == 0
    )
    read = json.loads(figures.read_text())
    assert [cell["load"] for cell in read["cells"]] == list(realtime.LOADS)
    assert len(read["lateness"]) == 12
    assert out.read_text().startswith("# In real time")
