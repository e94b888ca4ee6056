"""State that survives: power cut at every call that writes, a full disk, a damaged file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device import state
from device.errors import DarkrackError

FIRST, SECOND, THIRD = {"turn": 1}, {"turn": 2, "knobs": [0.25] * 40}, {"turn": 3}
# Every call that changes what is on the disk; `openat` is left out, for Python opens hundreds of files before.
CALLS = ("write", "fsync", "rename", "fchmod", "unlink")


def test_what_was_kept_is_read_and_the_one_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "presets.json"
    assert state.read(path) is None
    state.keep(path, FIRST)
    state.keep(path, SECOND)
    assert state.read(path) == SECOND
    assert state.read(state.before_of(path)) == FIRST
    assert sorted(file.name for file in path.parent.iterdir()) == ["presets.json", "presets.json.old"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_is_the_same_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "presets.json"
    state.keep(path, FIRST)
    state.keep(path, SECOND)
    written = path.stat().st_mtime_ns
    state.keep(path, SECOND)
    assert path.stat().st_mtime_ns == written
    assert state.read(state.before_of(path)) == FIRST, "what was before is not lost either"


def test_going_back(tmp_path: Path) -> None:
    path = tmp_path / "presets.json"
    state.keep(path, FIRST)
    with pytest.raises(DarkrackError, match="what was kept before, got nothing"):
        state.take_back(path)
    state.keep(path, SECOND)
    state.take_back(path)
    assert state.read(path) == FIRST
    state.take_back(path)
    assert state.read(path) == SECOND, "and forth again"


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"format": 1}',
        b"\xff\xfe",
        b'{"content": 1, "format": 2, "sha256": ""}',
        b"[" * 5000,
    ],
)
def test_a_damaged_file_gives_way_to_the_one_before(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "presets.json"
    state.keep(path, FIRST)
    state.keep(path, SECOND)
    path.write_bytes(damage)
    assert state.read(path) == FIRST
    assert "damaged" in caplog.text
    state.keep(path, THIRD)
    assert (state.read(path), state.read(state.before_of(path))) == (THIRD, FIRST), "the good one was kept"
    path.write_bytes(damage)
    state.before_of(path).write_bytes(damage)
    assert state.read(path) is None


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_any_byte_that_changes_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("state") / "presets.json"
    state.keep(path, SECOND)
    content = bytearray(path.read_bytes())
    place %= len(content)
    content[place] = byte
    path.write_bytes(content)
    assert state.read(path) in (None, SECOND)


def test_a_file_that_is_far_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "presets.json"
    path.write_bytes(b" " * (state.MOST_BYTES + 1))
    assert state.read(path) is None


def test_what_json_cannot_say_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "presets.json"
    state.keep(path, FIRST)
    with pytest.raises(ValueError, match="JSON"):
        state.keep(path, {"knob": float("nan")})
    assert state.read(path) == FIRST


def test_where_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (state.VARIABLE, "STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/somebody")
    assert state.folder() == Path("/somebody/.local/state/darkrack")
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    assert state.folder() == Path("/elsewhere/darkrack")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/darkrack:/var/lib/other")
    assert state.folder() == Path("/var/lib/darkrack")
    monkeypatch.setenv(state.VARIABLE, "/mine")
    assert state.folder() == Path("/mine")


def keeping(path: Path, call: str, number: int, what: str) -> subprocess.CompletedProcess[str]:
    """A process that keeps SECOND, with this happening at the so-manieth of these calls."""
    program = (
        "import sys; from pathlib import Path; from device import state\n"
        "from device.errors import DarkrackError\n"
        "try:\n"
        f"    state.keep(Path(sys.argv[1]), {SECOND!r})\n"
        "except DarkrackError as error:\n"
        "    print(error); sys.exit(1)\n"
    )
    words = [
        "strace",
        "-qq",
        "-o",
        os.devnull,
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:{what}:when={number}",
    ]
    return subprocess.run(
        [*words, sys.executable, "-B", "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.program("strace")
@pytest.mark.parametrize("call", CALLS)
def test_a_power_cut_at_any_call_leaves_the_old_state_or_the_new_one(tmp_path: Path, call: str) -> None:
    number, outcomes = 0, []
    while True:
        number += 1
        path = tmp_path / f"{call}{number}" / "presets.json"
        state.keep(path, {"turn": 0})
        state.keep(path, FIRST)
        ended = keeping(path, call, number, "signal=KILL")
        found = state.read(path)
        assert found in (FIRST, SECOND)
        outcomes.append(found)
        if ended.returncode == 0:
            break
        assert number < 50
        state.keep(path, THIRD)  # and goes on from there
        assert state.read(path) == THIRD
    assert outcomes[-1] == SECOND, "nothing happened any more"
    assert number > 1, "the call is made at all"
    assert FIRST in outcomes or call == "unlink"


@pytest.mark.program("strace")
@pytest.mark.parametrize(("call", "error"), [("write", "ENOSPC"), ("fsync", "EIO"), ("rename", "EROFS")])
def test_a_disk_that_is_full_or_fails_is_our_error_and_the_old_state_stays(
    tmp_path: Path, call: str, error: str
) -> None:
    path = tmp_path / "presets.json"
    state.keep(path, FIRST)
    ended = keeping(path, call, 1, f"error={error}")
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout.startswith("error: ")
    assert "hint:" in ended.stdout
    assert state.read(path) == FIRST
    assert json.loads(path.read_text())["content"] == FIRST
