"""Every benchmark of a kernel runs once, so that none rots; how long they take is no test's affair."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_kernel_runs() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "benchmarks/kernels.py",
            "--benchmark-disable",
            "-q",
            "-p",
            "no:xdist",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) passed", done.stdout)
    assert found
    functions = [
        node.name
        for node in ast.parse((ROOT / "benchmarks" / "kernels.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert int(found[1]) >= len(functions) > 10
    assert "skipped" not in done.stdout


def test_timings_are_not_among_the_tests() -> None:
    """pytest collects tests/ and files named test_*: kernels.py is neither."""
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "benchmarks", "-p", "no:xdist"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "kernels.py" not in listed.stdout
