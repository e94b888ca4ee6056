"""`darkrack bench` on a real small network and the real voices; nothing here depends on how fast they are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import darkrack
from device import bench
from device.bundle import Bundle
from device.partials import Partials, nominal_hz


def test_it_measures_every_variant_and_prints_what_it_writes(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    assert (
        darkrack.main(["bench", str(tiny_bundle.path), "--quick", "--threads", "2", "--json", str(out)]) == 0
    )
    found = json.loads(out.read_text())
    printed = capsys.readouterr().out

    assert found["machine"]["threads"] == 2
    assert found["machine"]["processor"] in printed
    assert found["machine"]["date"] in printed
    assert [row["variant"] for row in found["inference"]] == list(tiny_bundle.manifest.variants)
    for row in found["inference"]:
        assert row["size_bytes"] == len(tiny_bundle.model(row["variant"]))
        assert row["macs"] == tiny_bundle.manifest.macs
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert min(row["load_ms"], row["first_ms"], row["again_p50_ms"]) > 0
        assert row["slice_frames"] is row["slice_p50_ms"] is None
        assert f" all {1e3 * row['again_p50_ms']:.0f}, no slices\n" in printed
        line = rf"{tiny_bundle.path.name} +{row['variant']} .* {row['p50_ms']:.2f} .* {row['max_ms']:.2f}\n"
        assert re.search(line, printed)
    full, lowest = found["voices"]
    assert (full["rows"], full["voices"]) == (tiny_bundle.manifest.representation.rows, 8)
    assert (lowest["key_midi"], lowest["rows"]) == (36, 244)  # 16 kHz / 65.4 Hz
    for speed in (full, lowest):
        assert f"{speed['times_real_time']:.1f} times real time" in printed


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


def test_the_machine_is_named() -> None:
    assert bench.processor().strip()


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5", "²"])
def test_a_number_of_threads_that_is_none_is_a_usage_error(
    threads: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        darkrack.main(["bench", "x.rack", f"--threads={threads}"])
    assert caught.value.code == 2
    assert "a whole number from 1" in capsys.readouterr().err


def test_a_bundle_that_is_none_is_our_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "noise.rack"
    path.write_bytes(b"noise")
    assert darkrack.main(["bench", str(path)]) == 1
    assert str(path) in capsys.readouterr().err
