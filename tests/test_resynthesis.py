"""What the grid loses: noise is found where it is, laid in where it was, and every way is heard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from training import label_descriptors, write_set

from benchmarks import resynthesis
from benchmarks.resynthesis import NOISE_BANDS, noise_share, with_noise

RATE_HZ = 48_000
SECONDS = np.arange(RATE_HZ) / RATE_HZ


def tones(f0_hz: float, partials: int = 8) -> np.ndarray:
    return sum(np.sin(2 * np.pi * k * f0_hz * SECONDS + k * k) / k for k in range(1, partials + 1)).astype(
        np.float32
    )  # type: ignore[union-attr]


def hiss(level: float) -> np.ndarray:
    return (level * np.random.default_rng(1).standard_normal(RATE_HZ)).astype(np.float32)


def test_noise_is_found_where_it_is() -> None:
    middle = slice(4, 40)  # the ends of a note are neither
    clean = noise_share(tones(440.0), 440.0, RATE_HZ)[:, middle]
    sounding = resynthesis._band(np.arange(1, 9) * 440.0)
    assert clean[sounding].max() < 0.02
    assert noise_share(hiss(0.1), 440.0, RATE_HZ)[10:, middle].mean() == pytest.approx(1.0, abs=0.15)
    # A partial of amplitude a beside noise of that many times its energy in its band.
    audio = np.sin(2 * np.pi * 1000 * SECONDS).astype(np.float32) + hiss(0.2)
    band = int(resynthesis._band(np.array([1000.0]))[0])
    edges = resynthesis.LOWEST_HZ * (resynthesis.HIGHEST_HZ / resynthesis.LOWEST_HZ) ** (
        np.array([band, band + 1]) / NOISE_BANDS
    )
    noise = 0.2**2 * (edges[1] - edges[0]) / (RATE_HZ / 2)
    found = noise_share(audio, 1000.0, RATE_HZ)[band, middle].mean()
    assert found == pytest.approx(noise / (noise + 0.5), rel=0.35)


def test_noise_is_laid_in_at_the_level_that_was_there() -> None:
    # The note is noise above its partials; what the partials kept of that is a whistle there.
    real = tones(440.0, 2) + hiss(0.1)
    whistle = tones(440.0, 2) + 0.1 * np.sin(2 * np.pi * 7900 * SECONDS).astype(np.float32)
    made = with_noise(whistle.astype(np.float32), real, 440.0)
    assert len(made) == RATE_HZ

    def crest(audio: np.ndarray) -> float:
        """Of the spectrum from 7 to 9 kHz: a whistle stands out, noise does not."""
        power = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))[7000:9000]) ** 2
        return float(power.max() / power.mean())

    assert crest(whistle) > 500
    assert crest(made) < crest(whistle) / 8
    # Where there is none, nothing changes.
    clean = tones(440.0)
    kept = with_noise(clean, clean, 440.0)
    inside = slice(4800, -4800)
    assert np.abs(kept - clean)[inside].max() < 0.05 * np.abs(clean).max()


def test_every_way_is_heard_beside_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = label_descriptors(write_set(tmp_path / "set"))
    out = tmp_path / "found.json"
    words = ["--data", str(data), "--ear", "descriptors", "--json", str(out)]
    assert resynthesis.main([*words, "--each", "2"]) == 0
    found = json.loads(out.read_text())
    assert set(found["ways"]) == {way.name for way in resynthesis.WAYS}
    shipped = found["ways"]["as it ships"]["descriptors"]
    assert shipped["more"] == [0, 0, 0]
    assert -1 <= shipped["cosine"][0] <= 1
    same = [name for name, one in found["ways"].items() if one["descriptors"]["cosine"] == shipped["cosine"]]
    assert set(same) <= {"as it ships", "rows to 16 kHz"}  # these notes have nothing so high
    printed = capsys.readouterr().out
    assert all(f"| {way.name} |" in printed for way in resynthesis.WAYS)
    # What is compared with is the way that was named first.
    assert resynthesis.main([*words, "--each", "1", "--ways", "noise bands", "as it ships"]) == 0
    other = json.loads(out.read_text())["ways"]
    assert other["noise bands"]["descriptors"]["more"] == [0, 0, 0]
    assert other["as it ships"]["descriptors"]["more"] != [0, 0, 0]
    capsys.readouterr()
    assert resynthesis.main([*words, "--each", "50"]) == 1
    assert "give fewer with --each" in capsys.readouterr().err
    # None of these notes is off by octaves.
    assert resynthesis.main([*words, "--each", "1", "--octaves"]) == 1
    assert "got 0" in capsys.readouterr().err
