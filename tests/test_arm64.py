"""Darkrack on emulated boards: what is counted, what the model makes of it, and the boards themselves."""

from __future__ import annotations

import copy
import ctypes
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.arm64 import __main__ as command
from benchmarks.arm64 import agree, counts, known, page, root
from benchmarks.arm64.cost import CORES, MACHINES, Core, Estimate, estimate
from benchmarks.arm64.counts import COUNTS, KINDS, Counts, Piece
from device.errors import DarkrackError
from device.files import read_toml

HERE = Path(command.__file__).parent
SHIPPED = sorted((root.CLONE / "models").glob("*.rack"))
SCHEMA = json.loads((HERE / "report.schema.json").read_text(encoding="utf-8"))

WORDS = {  # what an assembler makes of them
    0x91000420: "integer",  # add x0, x1, #1
    0x8B020020: "integer",  # add x0, x1, x2
    0x9B020C20: "integer",  # madd x0, x1, x2, x3
    0x14000000: "branch",  # b .
    0xD65F03C0: "branch",  # ret
    0xD4000001: "branch",  # svc #0
    0xF9400020: "load_store",  # ldr x0, [x1]
    0xA9BF7BFD: "load_store",  # stp x29, x30, [sp, #-16]!
    0x3DC00020: "load_store_vector",  # ldr q0, [x1]
    0xAD400400: "load_store_vector",  # ldp q0, q1, [x0]
    0x4C407800: "load_store_vector",  # ld1 {v0.4s}, [x0]
    0x4E22CC20: "vector_multiply",  # fmla v0.4s, v1.4s, v2.4s
    0x4F821020: "vector_multiply",  # fmla v0.4s, v1.4s, v2.s[0]
    0x6E22DC20: "vector_multiply",  # fmul v0.4s, v1.4s, v2.4s
    0x1F020C20: "vector_multiply",  # fmadd s0, s1, s2, s3
    0x4EA29420: "vector_multiply",  # mla v0.4s, v1.4s, v2.4s
    0x0E628020: "vector_multiply",  # smlal v0.4s, v1.4h, v2.4h
    0x0E22C020: "vector_multiply",  # smull v0.8h, v1.8b, v2.8b
    0x4E829420: "vector_multiply",  # sdot v0.4s, v1.16b, v2.16b
    0x4F82E020: "vector_multiply",  # sdot v0.4s, v1.16b, v2.4b[0]
    0x4E22D420: "vector",  # fadd v0.4s, v1.4s, v2.4s
    0x4EA28420: "vector",  # add v0.4s, v1.4s, v2.4s
    0x4EA1B820: "vector",  # fcvtzs v0.4s, v1.4s
    0x4F000400: "vector",  # movi v0.4s, #0
    0x4E040C20: "vector",  # dup v0.4s, w1
    0x00000000: "other",  # udf #0
}

some_counts = st.builds(Counts, *[st.integers(0, 10**9) for _ in COUNTS])


def executed(**parts: int) -> Counts:
    return Counts(**{**dict.fromkeys(COUNTS, 0), **parts})


# ---- what is counted ----


@pytest.mark.parametrize(("word", "kind"), WORDS.items(), ids=[f"{word:#010x}" for word in WORDS])
def test_the_kind_of_an_instruction(word: int, kind: str) -> None:
    assert counts.kind(word) == kind


@pytest.fixture(scope="module")
def kind_in_c(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The plugin's own function; what it calls in qemu is never called here, so it need not be there."""
    library = tmp_path_factory.mktemp("count") / "count.so"
    source = HERE / "count.c"
    called = {*re.findall(r"\b(qemu_plugin_\w+)\(", source.read_text(encoding="utf-8"))} - {
        "qemu_plugin_install"
    }
    nowhere = [f"-Wl,--defsym={name}=0" for name in sorted(called)]
    words = ["gcc", "-shared", "-fPIC", "-Dstatic=", *nowhere, "-o", str(library), str(source)]
    subprocess.run(words, check=True, capture_output=True)
    return ctypes.CDLL(str(library)).kind


@pytest.mark.program("gcc")
def test_the_plugin_sorts_as_python_does(kind_in_c: Any) -> None:
    @given(st.integers(0, 2**32 - 1))
    def of_any(word: int) -> None:
        assert KINDS[kind_in_c(ctypes.c_uint32(word))] == counts.kind(word)

    @given(st.integers(0, 2**22 - 1), st.sampled_from([0x0E, 0x0F, 0x1E, 0x1F]), st.integers(0, 7))
    def of_simd(low: int, shape: int, top: int) -> None:
        of_any.hypothesis.inner_test(top << 29 | shape << 24 | low)  # type: ignore[attr-defined]

    of_any()
    of_simd()


def line(number: int, value: Counts) -> str:
    return " ".join(map(str, [number, *(getattr(value, name) for name in COUNTS)]))


@given(st.lists(st.tuples(st.integers(0, 999), some_counts), max_size=5))
def test_the_plugins_lines_are_read(marks: list[tuple[int, Counts]]) -> None:
    assert counts.parse("\n".join(line(*one) for one in marks)) == marks


@pytest.mark.parametrize("text", ["1 2 3", "a b", line(1, executed()) + " 7"])
def test_a_line_that_is_not_one_is_an_error(text: str) -> None:
    with pytest.raises(DarkrackError, match="a mark and 12 counts"):
        counts.parse(text)


@given(some_counts, some_counts, st.integers(1, 20))
def test_what_a_mark_costs_is_taken_off(empty: Counts, work: Counts, each: int) -> None:
    def after(*parts: tuple[Counts, int]) -> Counts:
        return Counts(*(sum(getattr(one, name) * n for one, n in parts) for name in COUNTS))

    marks = [(n, after((empty, n))) for n in range(3)]
    marks += [(100 + n, after((empty, 2 + n), (work, each * n))) for n in range(3)]
    found = counts.pieces(marks, [("mark", 1), ("work", each)])
    assert found == {"work": Piece(work, 0.0)}


def test_no_piece_misses_fewer_lines_than_none() -> None:
    """The marks alone missed two lines by chance, the work between its marks none."""
    marks = [(0, executed()), (1, executed(missed_l3=2)), (100, executed()), (101, executed(integer=8))]
    found = counts.pieces(marks, [("mark", 1), ("work", 1)])
    assert found["work"].counts == executed(integer=8)


def test_a_piece_without_marks_is_an_error() -> None:
    with pytest.raises(DarkrackError, match="marks of 'work'"):
        counts.pieces([(0, executed()), (1, executed(integer=1))], [("mark", 1), ("work", 1)])


def test_a_count_may_rise_by_a_twentieth_and_no_piece_may_go() -> None:
    before = {"note": {"instructions": 1000}, "slice": {"instructions": 1000}}
    assert counts.risen(before, {"note": {"instructions": 1050}, "slice": {"instructions": 10}}) == []
    assert counts.risen(before, {"note": {"instructions": 1051}, "new": {"instructions": 1}}) == [
        "note: 1,051 instructions, +5.1% over the 1,000 that are kept",
        "slice: not counted any more",
    ]


def test_a_piece_is_kept_and_read_again() -> None:
    piece = Piece(executed(integer=5, vector=7, loaded_bytes=9), 0.01)
    assert piece.as_json()["instructions"] == 12
    assert Piece.of(json.loads(json.dumps(piece.as_json()))) == piece


# ---- the model ----


@given(some_counts, st.sampled_from(list(MACHINES.values())))
def test_the_range_has_two_ends_and_grows_with_the_work(work: Counts, machine: Any) -> None:
    once, twice = (estimate(Counts(*(n * getattr(work, name) for name in COUNTS)), machine) for n in (1, 2))
    assert 0 <= once.low_ms <= once.high_ms
    assert twice.low_ms == pytest.approx(2 * once.low_ms)
    assert twice.high_ms == pytest.approx(2 * once.high_ms)


def test_work_of_one_kind_takes_as_long_as_its_pipe() -> None:
    # A million multiply-adds of 128 bits, one a cycle at 1.8 GHz, and two a cycle at 2.4 GHz.
    work = executed(vector_multiply=1_000_000)
    pi4, pi5 = (estimate(work, MACHINES[name]) for name in ("pi4", "pi5"))
    assert (pi4.low_ms, pi4.high_ms) == (pytest.approx(1 / 1.8), pytest.approx(1 / 1.8))
    assert (pi5.low_ms, pi5.high_ms) == (pytest.approx(0.5 / 2.4), pytest.approx(0.5 / 2.4))
    # A million lines from memory: 64 MB at 12.8 GB/s at best, at 2.78 when copying.
    lines = estimate(executed(missed_l1=1_000_000, missed_l2=1_000_000), MACHINES["pi4"])
    assert (lines.low_ms, lines.high_ms) == (pytest.approx(64 / 12.8), pytest.approx(64 / 2.78))
    assert (pi4.bound, lines.bound) == ("multiplications", "memory")


def test_lines_that_l3_holds_do_not_come_from_memory() -> None:
    work = executed(missed_l1=1000, missed_l2=1000)
    core = CORES["cortex-a76"]
    assert isinstance(core, Core)
    assert core.l3_cycles is not None
    assert estimate(work, MACHINES["pi5"]).high_ms == pytest.approx(1000 * core.l3_cycles / 2.4e6)


def test_a_measurement_lies_in_the_range_or_not() -> None:
    made = Estimate(1.0, 4.0, "")
    assert made.middle_ms == 2.0
    assert [made.holds(ms) for ms in (0.9, 1.0, 4.0, 4.1)] == [False, True, True, False]


def test_the_model_holds_for_published_measurements_of_one_runtime() -> None:
    kept = json.loads(page.KNOWN.read_text(encoding="utf-8"))
    held = []
    for measured in read_toml(page.PUBLISHED, "measurements")["measured"]:
        if measured["engine"] in {known.NCNN, known.NCNN_INT8}:
            machine = MACHINES[measured["machine"]]
            piece = Piece.of(kept[measured["engine"]][machine.core][measured["network"]])
            held.append(estimate(piece.counts, machine).holds(measured["ms"]))
    assert held == [True] * 6


# ---- known networks ----


def test_the_known_networks_are_as_large_as_published() -> None:
    assert known.macs("MobileNet v1") / 1e6 == pytest.approx(569, abs=0.5)
    assert known.macs("MobileNet v2") / 1e6 == pytest.approx(300, abs=1)


@pytest.mark.parametrize("name", known.NETWORKS)
@pytest.mark.parametrize("eight_bits", [False, True])
def test_every_blob_of_ncnns_text_is_made_once_and_taken_once(name: str, eight_bits: bool) -> None:
    magic, sizes, *lines = known.ncnn_param(name, eight_bits).splitlines()
    taken, made = [], []
    for one in lines:
        _, _, inputs, outputs, *words = one.split()
        taken += words[: int(inputs)]
        made += words[int(inputs) : int(inputs) + int(outputs)]
    assert (magic, sizes) == ("7767517", f"{len(lines)} {len(made)}")
    assert sorted(made) == sorted({*made})
    assert sorted([*taken, "output"]) == sorted(made)


# ---- the Debian ----


def test_a_board_shows_its_cores() -> None:
    files = root.board_files(root.PI5)
    assert files["proc/cpuinfo"].count("CPU part\t: 0xd0b\n") == 4
    assert "asimddp" in files["proc/cpuinfo"]
    assert "asimddp" not in root.board_files(root.PI4)["proc/cpuinfo"]
    assert {cpu for cpu in counts.CACHES} == {board.cpu for board in root.BOARDS} == {*CORES}


def test_what_is_made_is_made_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def make(place: Path) -> None:
        calls.append(place)
        place.mkdir()
        (place / "file").write_text("whole")

    def fail(place: Path) -> None:
        make(place)
        raise DarkrackError("the network", "packages", "nothing")

    with pytest.raises(DarkrackError):
        root.kept("part", "a", fail)
    assert list(root.cache().iterdir()) == []
    first = root.kept("part", "a", make)
    assert first == root.kept("part", "a", make) != root.kept("part", "b", make)
    assert (first / "file").read_text() == "whole"
    assert len(calls) == 3


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DarkrackError, match="hint: sudo apt-get install debootstrap dpkg gcc qemu-user"):
        root.install()


def test_a_debian_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(DarkrackError, match="run this once as root"):
        root._debian(tmp_path / "new")


def test_both_machines_run_the_same_versions() -> None:
    found = dict(one.split("==") for one in root._constraints())
    assert {"numpy", "ai-edge-litert", "numba", "llvmlite", "soundfile", "cffi"} <= {*found}
    assert found["numpy"] == np.__version__
    assert "torch" not in found


# ---- agreement ----


@given(st.floats(-120, 20), st.integers(0, 9))
def test_the_difference_is_relative_to_the_sound(db: float, seed: int) -> None:
    sound = np.random.default_rng(seed).normal(size=(500, 2))
    assert agree.difference_db(sound, sound * (1 + 10 ** (db / 20))) == pytest.approx(db, abs=1e-3)


def test_equal_sounds_and_sounds_that_cannot_be_compared() -> None:
    sound = np.ones((10, 2))
    assert agree.difference_db(sound, sound) == agree.SILENT_DB
    with pytest.raises(DarkrackError, match="as here"):
        agree.difference_db(sound, sound[:9])
    with pytest.raises(DarkrackError, match="silence"):
        agree.difference_db(0 * sound, sound)


# ---- what is kept ----


def test_what_is_kept_has_the_form_that_is_promised() -> None:
    jsonschema.validate(page.kept(), SCHEMA)
    for one in page.kept()["bundles"].values():
        for figures in one["boards"].values():
            for piece in figures["counts"].values():
                assert piece["instructions"] == sum(piece[kind] for kind in KINDS)


def test_the_document_has_the_tables_of_what_is_kept() -> None:
    text = page.DOCUMENT.read_text(encoding="utf-8")
    assert page.document(text) == text, "python -m benchmarks.arm64 page"
    assert all(
        mark.format(name) in text
        for name in ("agreement", "counts", "check", "estimates")
        for mark in (page.BEGIN, page.END)
    )


def test_faults_are_found() -> None:
    kept = page.kept()
    assert command.faults(kept, kept) == []
    name, one = next(iter(kept["bundles"].items()))
    planted = copy.deepcopy(kept)
    board = planted["bundles"][name]["boards"]["pi4"]
    work = next(iter(board["counts"]))
    board["counts"][work]["instructions"] *= 1.06
    board["render_db"] = -39.0
    board["here_snr_db"] = {variant: value + 2 for variant, value in board["here_snr_db"].items()}
    found = command.faults(planted, kept)
    assert len(found) == 2 + len(board["here_snr_db"])
    assert f"{name}, pi4, {work}" in found[-1]
    planted["bundles"][name]["model_sha256"] = "0" * 64
    assert "RECORD=1" in command.faults(planted, kept)[0]
    assert one["model_sha256"] != "0" * 64


# ---- the boards ----


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.program("debootstrap", "dpkg-deb", "qemu-aarch64", "gcc", "setarch")
def test_emulated_boards_agree_with_this_machine_and_take_no_more_instructions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Golden outputs, and instructions a note and slice; what numba has to compile there is left to `make arm64`."""
    out = tmp_path / "report.json"
    status = command.main(["run", "--quick", "--json", str(out), *map(str, SHIPPED)])
    said = capsys.readouterr()
    assert (status, "error" in said.err) == (0, False), said.err
    report = json.loads(out.read_text(encoding="utf-8"))
    jsonschema.validate(report, SCHEMA)
    assert {*report["bundles"]} == {path.name for path in SHIPPED}
    for one in report["bundles"].values():
        # Without dot products an eight-bit note takes more.
        notes = [
            next(
                piece["instructions"] for name, piece in figures["counts"].items() if name.startswith("note")
            )
            for figures in (one["boards"]["pi4"], one["boards"]["pi5"])
        ]
        assert notes[0] > notes[1] > one["macs"] / 32
