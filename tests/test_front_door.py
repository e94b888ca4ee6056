"""The front door: exit codes, errors in two lines, hints for missing extras, Ctrl-C, closed pipes."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import darkrack

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def extra_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command 'extra' whose module the test writes to the path that it gets."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "extra_room", raising=False)
    monkeypatch.setitem(darkrack.COMMANDS, "extra", ("extra_room", "for a test"))
    return tmp_path / "extra_room.py"


def _extra(folder: Path, *words: str, stdout: int) -> subprocess.Popen[str]:
    """`darkrack extra` in a process of its own, with the module that the test wrote; output is buffered."""
    script = (
        # A shell starts what it runs in the background with SIGINT ignored, and children inherit that.
        "import signal, sys, darkrack\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "darkrack.COMMANDS['extra'] = ('extra_room', '')\nsys.exit(darkrack.main(['extra', *sys.argv[2:]]))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder), *words],
        stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip


def test_without_words_it_shows_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert darkrack.main([]) == 2
    shown = capsys.readouterr().out
    for command, (_, line) in darkrack.COMMANDS.items():
        assert f"  {command:<10}{line}" in shown


@pytest.mark.parametrize(
    "words",
    [["sing"], ["--loud"], ["bench", "x.rack", "--loud"], ["bench", "x.rack", "--threads", "0"],
     ["bundle"], ["bundle", "polish"], ["data"], ["data", "soundfont"], ["render"], ["train"], ["export"]],
    ids=" ".join,
)  # fmt: skip
def test_usage_errors_exit_2_and_show_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        darkrack.main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: darkrack")


def test_our_errors_are_two_lines_and_exit_1(tmp_path: Path) -> None:
    words = ["-m", "darkrack", "bundle", "show", str(tmp_path / "none.rack")]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"error: {tmp_path / 'none.rack'}: expected ")
    assert ", got " in error
    assert hint.startswith("hint: ")


def test_a_bug_keeps_its_traceback(extra_command: Path) -> None:
    extra_command.write_text("def add_arguments(parser): pass\ndef run(args): return {}['key']\n")
    with pytest.raises(KeyError):
        darkrack.main(["extra"])


@pytest.mark.parametrize(
    "place", ["def add_arguments(parser): pass\ndef run(args): ", ""], ids=["in run", "at import"]
)
@pytest.mark.parametrize(
    ("room", "extra"), [("train", "[train]"), ("compress", "[compress]"), ("device", "pip install")]
)
def test_a_package_that_an_extra_brings_is_named_with_the_way_to_get_it(
    *,
    room: str,
    extra: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "extra_room.py").write_text(place + "import not_on_this_machine.inner")
    package = importlib.import_module(room)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, f"{room}.extra_room", raising=False)
    monkeypatch.setitem(darkrack.COMMANDS, "extra", (f"{room}.extra_room", "for a test"))
    assert darkrack.main(["extra"]) == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert (
        error
        == f"error: darkrack {room}: expected the Python package not_on_this_machine, got none installed"
    )
    assert hint.startswith("hint: pip install ")
    assert extra in hint


def test_a_missing_package_of_ours_is_a_bug(extra_command: Path) -> None:
    extra_command.write_text("import device.nowhere\n")
    with pytest.raises(ModuleNotFoundError, match=r"device\.nowhere"):
        darkrack.main(["extra"])


def test_ctrl_c_exits_130_with_one_word(tmp_path: Path) -> None:
    """A real SIGINT to a command that is running."""
    (tmp_path / "extra_room.py").write_text(
        "import time\ndef add_arguments(parser): pass\n"
        "def run(args):\n    print('running', flush=True)\n    time.sleep(60)\n"
    )
    with _extra(tmp_path, stdout=subprocess.PIPE) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "running\n"
        command.send_signal(signal.SIGINT)
        _, error = command.communicate(timeout=60)
    assert (command.returncode, error) == (130, "interrupted\n")


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    """`darkrack ... | head`: while the command still prints, and when the rest is flushed at the end."""
    (tmp_path / "extra_room.py").write_text(
        "def add_arguments(parser): parser.add_argument('lines', type=int)\n"
        "def run(args):\n    for line in range(args.lines): print(line)\n"
    )
    for lines in (1, 100_000):
        reading, writing = os.pipe()
        os.close(reading)
        done = _extra(tmp_path, str(lines), stdout=writing)
        os.close(writing)
        assert done.communicate(timeout=60)[1] == ""
        assert done.returncode == 0


def test_the_installed_command_is_the_front_door() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("darkrack"), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("usage: darkrack")
