"""A patch looked at, and a patch as samples: every key and velocity once, in tune, as loud as it was played."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from darkrack import main
from device.bundle import Bundle
from device.partials import nominal_hz
from device.patch_command import layout
from device.recording import level, pitch_cents

PATCH = """
[voice]
preset = "Harp"
release_ms = 80
mono = true
[pitch]
transpose = 12
quantize = "major"
[attributes]
Trumpet = 0.8
[knob]
2 = "Clarinet"
[cc]
1 = { attribute = "Trumpet", range = [0.2, 0.9] }
[[route]]
from = "cv.1"
to = "level"
depth = -6
"""


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    status = main(["patch", *map(str, words)])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_check_says_what_it_does(
    tmp_path: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(PATCH)
    status, told, _ = said(capsys, "check", path, "--bundle", tiny_bundle.path, "--json", tmp_path / "p.json")
    assert status == 0
    assert told.splitlines() == [
        "starts from Harp; mono",
        "tuned by +12.000 semitones",
        "V/oct plays major, 7 notes",
        "Trumpet stands at 0.8",
        "knob 2 turns Clarinet from 0 to 1",
        "CC 1 turns Trumpet from 0.2 to 0.9",
        "cv.1 adds -6 to level",
    ]
    assert json.loads((tmp_path / "p.json").read_text())["summary"] == told.splitlines()


def test_check_says_the_line_of_what_is_wrong(
    tmp_path: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(PATCH.replace("depth = -6", "depth = -6\ncurv = 2"))
    status, _, told = said(capsys, "check", path, "--bundle", tiny_bundle.path)
    assert status == 1
    line = path.read_text().splitlines().index("curv = 2") + 1
    assert told.startswith(
        f"error: {path}:{line}: route[1].curv: expected a key of [route[1]], got unknown key 'curv'"
    )
    assert "hint: did you mean 'curve'?" in told


def test_an_export_is_in_tune_and_as_loud_as_it_was_played(
    tmp_path: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "soft.toml", tmp_path / "samples"
    path.write_text("[voice]\nrelease_ms = 50\n")
    words = ("--out", out, "--seconds", "0.6", "--velocities", "127,40", "--step", "12")
    status, told, _ = said(capsys, "export", path, "--bundle", tiny_bundle.path, *words)
    assert (status, told.strip()) == (0, str(out / "soft.sfz"))
    text = (out / "soft.sfz").read_text()
    assert "ampeg_release=0.05" in text
    assert "bend_up=200 bend_down=-200" in text
    regions = [
        dict(re.findall(r"(\w+)=(\S+)", line)) for line in text.splitlines() if line.startswith("<region>")
    ]
    assert {region["sample"] for region in regions} == {file.name for file in out.glob("*.wav")}
    for key in range(128):
        for velocity in range(1, 128):
            assert (
                sum(
                    int(one["lokey"]) <= key <= int(one["hikey"])
                    and int(one["lovel"]) <= velocity <= int(one["hivel"])
                    for one in regions
                )
                == 1
            )
    peaks = {}
    for one in regions:
        sound, rate_hz = soundfile.read(out / one["sample"])
        assert (rate_hz, sound.shape[1]) == (48_000, 2)
        key = int(one["pitch_keycenter"])
        assert abs(pitch_cents(sound[: round(0.5 * rate_hz)], rate_hz, nominal_hz(key))) < 5
        peaks[key, int(one["hivel"])] = np.abs(sound).max()
        assert level(sound[-1000:]).peak_dbfs < -80, "its tail is all there"
        assert 0.6 * rate_hz < len(sound) < 2 * rate_hz
    assert max(peaks.values()) == pytest.approx(10 ** (-1 / 20), abs=1e-3)
    for key in {key for key, _ in peaks}:
        # The patch's curve: (40 / 127) ** 2; the network may make a soft note's spectrum another one.
        assert peaks[key, 40] / peaks[key, 127] == pytest.approx((40 / 127) ** 2, rel=0.5)


@given(
    st.integers(20, 60),
    st.integers(0, 60),
    st.integers(1, 24),
    st.sets(st.integers(1, 127), min_size=1, max_size=6),
)
def test_every_key_and_velocity_has_one_sample(low: int, span: int, step: int, velocities: set[int]) -> None:
    samples = layout(low, low + span, step, sorted(velocities), "x")
    for key in (0, low, low + span // 2, low + span, 127):
        for velocity in (1, 64, 127):
            found = [
                one
                for one in samples
                if one.low_key <= key <= one.high_key and one.low_velocity <= velocity <= one.high_velocity
            ]
            assert len(found) == 1
            if low <= key <= low + span - step:
                assert abs(found[0].key - key) <= (step + 1) // 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--velocities", "x"), "--velocities: expected whole numbers with commas between, got 'x'"),
        (("--velocities", "0,127"), "--velocities: expected 1 to 127"),
        (("--seconds", "0"), "--seconds: expected 0.1 to 60"),
        (("--step", "0"), "--step: expected 1 to 24 semitones"),
    ],
)
def test_options_that_make_no_sense(
    tmp_path: Path,
    tiny_bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    expected: str,
) -> None:
    path = tmp_path / "p.toml"
    path.write_text("")
    status, _, told = said(
        capsys, "export", path, "--bundle", tiny_bundle.path, "--out", tmp_path / "out", *words
    )
    assert status == 1
    assert expected in told
    assert not (tmp_path / "out").exists()
