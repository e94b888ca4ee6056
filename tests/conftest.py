"""Fixtures that several test modules share, and the list of tests that were not run for want of data."""

from __future__ import annotations

import ctypes.util
import functools
import os
import shutil
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from bundles import write_tiny, write_tiny_samples

from device.bundle import Bundle
from hw_schematics import kicad

WHERE_TO_GET = (
    "set DARKRACK_DATA to a folder with teachers/ and nsynth60/; "
    "README, section 'Tests', says where the files come from, and which programs are needed; "
    "`make hardware` brings KiCad"
)
_not_run: list[str] = []

# A shared machine may hold up any example for seconds; how long one takes is never what is tested. CI draws the same
# examples every time (hypothesis' own advice), so that a change lands or not for what it is; everybody else draws new
# ones with every run, and that is where they find something.
hypothesis.settings.register_profile(
    "shared machine",
    deadline=None,
    derandomize=bool(os.environ.get("DARKRACK_REQUIRE_ALL")),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("shared machine")


def _data_folder() -> Path | None:
    folder = Path(os.environ.get("DARKRACK_DATA", ""))
    return folder.resolve() if folder.name and (folder / "teachers").is_dir() else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs data, programs or rights that are not there, and remember it by name: it is not a pass."""
    data = _data_folder() is not None
    without = [
        item
        for item in items
        if (item.get_closest_marker("data") and not data)
        or (item.get_closest_marker("root") and os.geteuid() != 0)
        or not all(_is_there(name) for marker in item.iter_markers("program") for name in marker.args)
    ]
    if without:
        _not_run.extend(item.nodeid for item in without)
        left_out = set(without)
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=without)


@functools.cache
def _is_there(name: str) -> bool:
    if name == "kicad-cli":  # in the path, or in the Debian that `make hardware` makes for it
        return kicad.is_there()
    return bool(shutil.which(name) or ctypes.util.find_library(name))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was not run; with DARKRACK_REQUIRE_ALL=1 (CI) that is a failure."""
    if _not_run:
        terminalreporter.section("NOT RUN: data or programs are missing")
        for name in _not_run:
            terminalreporter.line(name)
        terminalreporter.line(WHERE_TO_GET)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """CI must run everything: DARKRACK_REQUIRE_ALL=1 turns a test that was not run into a failure."""
    if hasattr(session.config, "workeroutput"):  # pytest-xdist: workers collect, the controller reports
        session.config.workeroutput["not_run"] = _not_run
    elif _not_run and os.environ.get("DARKRACK_REQUIRE_ALL") == "1":
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker of pytest-xdist did not run; every worker collects the same."""
    _not_run[:] = sorted({*_not_run, *getattr(node, "workeroutput", {}).get("not_run", [])})


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes what the person at this machine keeps."""
    monkeypatch.setenv("DARKRACK_STATE", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def darkrack_data() -> Path:
    """The folder with the teachers' weights and the NSynth notes."""
    folder = _data_folder()
    assert folder is not None, "a test that uses darkrack_data carries @pytest.mark.data"
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A real bundle that synthesises plausible notes (tests/bundles.py); `tiny_bundle.path` is its file."""
    return write_tiny(tmp_path_factory.mktemp("bundle") / "tiny.rack")


@pytest.fixture(scope="session")
def tiny_samples_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A real bundle of samples (`stft`), as DarkGAN's own would be."""
    return write_tiny_samples(tmp_path_factory.mktemp("bundle") / "tiny-samples.rack")
