"""The rules of the house that no single module holds: who imports whom, what README tells, what git has."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import darkrack

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("device", "train", "compress", "hw_schematics", "benchmarks")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

# Who may not import what, anywhere in a module, functions included.
FORBIDDEN = {
    "device": {
        "torch",
        "train",
        "compress",
        "scipy",
        "librosa",
        "soxr",
        "darkrack",
        "hw_schematics",
        "benchmarks",
    },
    "train": {"compress", "darkrack", "hw_schematics", "benchmarks"},
    "compress": {"darkrack", "hw_schematics", "benchmarks"},
    "hw_schematics": {"torch", "train", "compress", "darkrack", "benchmarks"},
    "benchmarks": {"hw_schematics"},  # may use all that makes or plays a bundle; only tests use it
}
# Heavy or bound to hardware: inside the function that needs it, never at the top of a module.
LATE = {
    "sounddevice", "rtmidi", "board", "busio", "digitalio", "matplotlib", "librosa", "onnxruntime", "onnx",
    "ai_edge_litert", "ai_edge_quantizer", "litert_torch", "serial", "pythonosc",
}  # fmt: skip


def _imports(tree: ast.AST, *, into_functions: bool) -> Iterator[tuple[str, int]]:
    """(top-level package, line) of every import below ``tree``; annotations-only imports count too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the room that is imported"
            yield (node.module or "").split(".")[0], node.lineno
        elif into_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imports(node, into_functions=into_functions)


def _found(path: Path, packages: set[str], *, into_functions: bool) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        f"{path.relative_to(ROOT)}:{line} imports {package}"
        for package, line in _imports(tree, into_functions=into_functions)
        if package in packages
    ]


def test_imports_go_one_way() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(ROOMS)
    found = [
        line
        for path in MODULES
        for line in _found(path, FORBIDDEN[path.relative_to(ROOT).parts[0]], into_functions=True)
    ]
    assert found == []


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    found = [line for path in MODULES for line in _found(path, LATE, into_functions=False)]
    found += _found(ROOT / "darkrack.py", LATE | {"torch", *ROOMS}, into_functions=False)
    assert found == []


def test_onnx_runtime_is_measured_by_the_device_and_needed_by_nothing() -> None:
    device = [path for path in MODULES if path.is_relative_to(ROOT / "device")]
    found = [line for path in device for line in _found(path, {"onnxruntime"}, into_functions=True)]
    assert {line.split(":")[0] for line in found} == {"device/inference.py"}


def test_a_planted_import_is_found(tmp_path: Path) -> None:
    tree = ast.parse(
        "import numpy\nif True:\n    import torch.nn\nclass A:\n    from train.notes import Note\n"
        "def f():\n    import librosa\n"
    )
    assert [name for name, _ in _imports(tree, into_functions=False)] == ["numpy", "torch", "train"]
    assert [name for name, _ in _imports(tree, into_functions=True)] == ["numpy", "torch", "train", "librosa"]


def _python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )


BLOCK = """
import importlib, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        if name in {"rtmidi", "serial", "board", "busio", "digitalio", "RPi", "Jetson", "torch", "scipy", "onnxruntime",
                    "librosa", "soxr", "matplotlib"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def test_every_module_of_device_imports_without_hardware_audio_or_torch() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in MODULES
        if path.parent.name == "device"
    ]
    done = _python(BLOCK + "for name in sys.argv[1:]: importlib.import_module(name)", *names)
    assert done.returncode == 0, done.stderr
    assert _python(BLOCK + "import sounddevice").returncode == 1, "the block itself must hold"


def test_no_test_leaves_itself_out() -> None:
    """What cannot run for want of data is deselected and named by conftest.py; nothing else is left out."""
    ways = re.compile(r"pytest\.(?:mark\.)?(?:skip|skipif|xfail|importorskip)\(")
    tests = sorted((ROOT / "tests").glob("*.py"))
    assert ROOT / "tests" / "test_house.py" in tests
    assert [path.name for path in tests if ways.search(path.read_text(encoding="utf-8"))] == []


# ---- README against the parsers ----


def _parsers(command: str) -> list[argparse.ArgumentParser]:
    """The parser of a command, as the front door makes it, and every subparser below it."""
    module, line = darkrack.COMMANDS[command]
    parsers = [argparse.ArgumentParser(prog=f"darkrack {command}", description=line)]
    importlib.import_module(module).add_arguments(parsers[0])
    for parser in parsers:  # grows while it is walked
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers.extend(action.choices.values())
    return parsers


def _entries() -> dict[str, str]:
    """README's reference: the words after '### ' -> the text below them, up to the next heading."""
    pieces = re.split(r"^(#{1,6} .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        heading.removeprefix("### ").strip("` "): text
        for heading, text in zip(pieces[1::2], pieces[2::2], strict=True)
        if heading.startswith("### ")
    }


def _words(parser: argparse.ArgumentParser) -> dict[str, str | None]:
    """What README has to name -> its help: long options, and arguments as the usage line shows them."""
    return {
        max(action.option_strings, key=len, default=str(action.metavar or action.dest)): action.help
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    }


@pytest.mark.parametrize("command", darkrack.COMMANDS)
def test_readme_has_the_command_and_every_option_of_it(command: str) -> None:
    entries = _entries()
    missing = [
        f"{parser.prog}: {word}"
        for parser in _parsers(command)
        for word in ("", *_words(parser))
        if not re.search(rf"`[^`\n]*{re.escape(word)}", entries.get(parser.prog, ""))
    ]
    assert missing == []


def test_readme_names_no_command_or_option_that_is_gone() -> None:
    words = {
        parser.prog: set(_words(parser)) for command in darkrack.COMMANDS for parser in _parsers(command)
    }
    for prog, text in _entries().items():
        if prog.startswith("darkrack "):
            assert prog in words, f"README tells of '{prog}'"
            told = set(re.findall(r"^- `(--[a-z0-9-]+)", text, flags=re.MULTILINE))
            assert told <= words[prog], f"{prog}: README tells of {told - words[prog]}"


@pytest.mark.parametrize("command", darkrack.COMMANDS)
def test_every_option_says_what_it_does(command: str) -> None:
    silent = [
        f"{parser.prog} {word}"
        for parser in _parsers(command)
        for word, told in _words(parser).items()
        if not told
    ]
    assert silent == []


@pytest.mark.parametrize("words", [[], *([command] for command in darkrack.COMMANDS)], ids=" ".join)
def test_help_starts_without_torch(words: list[str]) -> None:
    script = (
        "import sys, darkrack\n"
        "try: darkrack.main([*sys.argv[1:], '--help'])\n"
        "finally: print(sorted({'torch', 'onnxruntime', 'matplotlib', 'librosa'} & {*sys.modules}))"
    )
    done = _python(script, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: darkrack")
    assert done.stdout.endswith("\n[]\n")


# ---- what git has ----


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=60
    ).stdout
    paths = [ROOT / name for name in listed.decode("utf-8").split("\0") if name]
    assert ROOT / "darkrack.py" in paths
    return [path for path in paths if path.is_file()]


def test_no_large_file() -> None:
    assert [path.name for path in _tracked() if path.stat().st_size > 5_000_000] == []


# Folders of somebody's machine, home folders first; the brackets keep this line from finding itself.
MACHINE_PATH = re.compile(
    rb"(?<![\w.:/])/(?:[h]ome/\w|[U]sers/\w|[r]oot/|[w]ork/|[t]mp/\w)|[A-Z]:\\[U]sers\\"
)


def test_no_path_of_a_machine() -> None:
    assert MACHINE_PATH.search(b"open('/" + b"home/ann/notes.csv')")
    found = [
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in _tracked()
        if (match := MACHINE_PATH.search(path.read_bytes()))
    ]
    assert found == []
