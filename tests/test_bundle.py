"""The bundle: what is written is what is read, and each way to be malformed has its own error."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import ATTRIBUTES, INPUTS, LATENT_SIZE, tiny_files, tiny_manifest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darkrack import main
from device import bundle
from device.bundle import Bundle
from device.errors import DarkrackError
from device.partials import Partials
from device.stft import Stft

MODEL = "generator.float32.tflite"
Manifest = dict[str, Any]


def refused(path: Path, where: str, *words: str, replay: bool = False) -> None:
    """Reading fails with a whole error: it names the file and the place, says all of it, and gives a hint."""
    with pytest.raises(DarkrackError) as caught:
        bundle.read(path, replay=replay)
    error = caught.value
    assert error.where.startswith(str(path))
    assert where in error.where
    assert error.expected
    assert error.got
    assert error.hint
    for word in words:
        assert word in str(error)


def zipped(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """A zip by somebody else's hand: nothing in it was checked."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def manifest_of(tiny: Bundle) -> Manifest:
    manifest: Manifest = json.loads(tiny.files[bundle.MANIFEST])
    return manifest


def with_manifest(tiny: Bundle, path: Path, manifest: object) -> Path:
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    return zipped(path, {**tiny.files, bundle.MANIFEST: text})


def with_golden(tiny: Bundle, path: Path, golden: bytes) -> Path:
    """The golden member replaced, and its sum in the manifest with it."""
    manifest = manifest_of(tiny)
    manifest["sha256"][bundle.GOLDEN] = bundle.hashlib.sha256(golden).hexdigest()
    return zipped(path, {**tiny.files, bundle.GOLDEN: golden, bundle.MANIFEST: json.dumps(manifest).encode()})


def directory_of(data: bytes | bytearray) -> int:
    """Where the zip's directory begins: its end record says it (golden.npz, inside, has a directory too)."""
    (offset,) = struct.unpack("<L", data[-6:-2])
    return int(offset)


def error_of(path: Path) -> DarkrackError | None:
    """Our error, if reading fails with one; any other goes through."""
    try:
        bundle.read(path, replay=False)
    except DarkrackError as error:
        return error
    return None


def npz(**arrays: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.savez(target, **arrays)
    return target.getvalue()


# What is written is what is read


def test_read_gives_back_what_was_written(tiny_bundle: Bundle) -> None:
    read, wanted = bundle.read(tiny_bundle.path), tiny_manifest()
    manifest = read.manifest
    assert manifest.name == wanted["name"]
    assert manifest.representation == Partials(80, 128, 125.0, -100.0, 16_000.0)
    assert manifest.inputs == INPUTS
    assert manifest.output == (1, 2, 80, 128)
    assert manifest.pitch_range_midi == (36.0, 84.0)
    assert [attribute.name for attribute in manifest.attributes] == list(ATTRIBUTES)
    assert manifest.attributes[0].correlation == 0.5
    assert manifest.attributes[-1].correlation is None
    np.testing.assert_array_equal(manifest.copula, wanted["copula"])
    np.testing.assert_array_equal(manifest.attributes[1].quantiles, wanted["attributes"][1]["quantiles"])
    np.testing.assert_array_equal(manifest.presets[1].z, wanted["presets"][1]["z"])
    assert manifest.data[0].licence == "Apache-2.0"
    assert manifest.quality == wanted["quality"]
    assert manifest.parity_db == {"torch_litert": 120.0}
    assert manifest.slice is None
    assert manifest.variants["float32"].size_bytes == len(read.model())
    assert read.model("float32") == read.model() == tiny_bundle.files[MODEL]
    assert read.card.startswith("# Tiny\n")


def test_a_bundle_of_samples_may_lack_velocity_and_noise(
    tiny_bundle: Bundle, tiny_samples_bundle: Bundle, tmp_path: Path
) -> None:
    manifest = bundle.read(tiny_samples_bundle.path).manifest
    assert manifest.representation == Stft()
    assert set(manifest.inputs) == {"z", "attributes", "pitch"}
    # One of partials may not.
    raw = manifest_of(tiny_bundle)
    del raw["signature"]["inputs"]["noise"]
    refused(with_manifest(tiny_bundle, tmp_path / "a.rack", raw), "signature: inputs", "noise")
    raw = manifest_of(tiny_samples_bundle)
    del raw["signature"]["inputs"]["pitch"]
    refused(with_manifest(tiny_samples_bundle, tmp_path / "b.rack", raw), "signature: inputs", "pitch")


@pytest.mark.parametrize(
    ("edit", "where", "word"),
    [
        ({"hop_samples": 500}, "hop_samples", "a part of 2048"),
        ({"hop_samples": 4096}, "hop_samples", "1 to 2048"),
        ({"fft_samples": 2050}, "hop_samples", "2050"),
        ({"fft_samples": 4096}, "output: frames", "2048, 32"),
        ({"frames": 10_000}, "frames", "2 to 2048"),
        ({"sample_rate_hz": 0}, "sample_rate_hz", "1000 to"),
    ],
)
def test_a_grid_of_samples_is_checked(
    tiny_samples_bundle: Bundle, tmp_path: Path, edit: dict[str, int], where: str, word: str
) -> None:
    raw = manifest_of(tiny_samples_bundle)
    raw["representation"].update(edit)
    refused(with_manifest(tiny_samples_bundle, tmp_path / "a.rack", raw), where, word)


def test_an_attribute_may_say_whose_class_it_is(tiny_bundle: Bundle, tmp_path: Path) -> None:
    assert [one.teacher for one in tiny_bundle.manifest.attributes] == [None] * 4  # as the first bundles
    manifest = manifest_of(tiny_bundle)
    manifest["attributes"][0]["teacher"] = "mn04"
    manifest["attributes"][3]["teacher"] = "descriptors"
    manifest["attributes"][2]["teacher"] = None
    read = bundle.read(with_manifest(tiny_bundle, tmp_path / "a.rack", manifest)).manifest
    assert [one.teacher for one in read.attributes] == ["mn04", None, None, "descriptors"]


def test_checked_arrays_cannot_be_changed(tiny_bundle: Bundle) -> None:
    for array in (tiny_bundle.manifest.copula, tiny_bundle.manifest.attributes[0].quantiles):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.5


def test_equal_content_makes_equal_bytes_laid_out_as_documented(tiny_bundle: Bundle, tmp_path: Path) -> None:
    files = {name: content for name, content in tiny_bundle.files.items() if name != bundle.MANIFEST}
    backwards = dict(reversed(files.items()))
    bundle.write(tmp_path / "again.rack", tiny_manifest(), backwards)
    data = (tmp_path / "again.rack").read_bytes()
    assert data == tiny_bundle.path.read_bytes()

    # the first local header, field by field, by hand
    signature, version, flags, method, time, date = struct.unpack("<4s5H", data[:14])
    crc, stored_bytes, size_bytes, name_bytes, extra_bytes = struct.unpack("<3L2H", data[14:30])
    manifest = data[30 + name_bytes :][:size_bytes]
    assert (signature, version, flags, method, time, date) == (b"PK\3\4", 20, 0, 0, 0, 1 << 5 | 1)
    assert (stored_bytes, extra_bytes) == (size_bytes, 0)
    assert data[30 : 30 + name_bytes] == b"manifest.json"
    assert crc == bundle.zipfile.crc32(manifest)
    assert json.loads(manifest)["format"] == 1
    with zipfile.ZipFile(tiny_bundle.path) as archive:
        assert archive.namelist() == ["manifest.json", "CARD.md", "golden.npz", MODEL]


def test_unknown_variant_lists_what_there_is(tiny_bundle: Bundle) -> None:
    with pytest.raises(DarkrackError, match=r"one of float32, got int4"):
        tiny_bundle.model("int4")


def test_keys_that_this_reader_does_not_know_are_ignored(tiny_bundle: Bundle, tmp_path: Path) -> None:
    manifest = {**manifest_of(tiny_bundle), "mood": "blue"}
    assert bundle.read(with_manifest(tiny_bundle, tmp_path / "a.rack", manifest)).manifest.name == "Tiny"


# Ways to be no bundle


@pytest.mark.parametrize("content", [b"", b"PK", b"hello" * 1000, b"PK\5\6" + bytes(18)])
def test_not_a_zip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.rack"
    path.write_bytes(content)
    refused(path, "", "a bundle", "begins with")


def test_no_such_file_and_no_plain_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.rack", "", "No such file")
    refused(tmp_path, "", "a folder or a device")
    os.mkfifo(tmp_path / "pipe.rack")
    refused(tmp_path / "pipe.rack", "", "a folder or a device")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_truncated(tiny_bundle: Bundle, tmp_path: Path, kept: float) -> None:
    data = tiny_bundle.path.read_bytes()
    path = tmp_path / "a.rack"
    path.write_bytes(data[: int(kept * len(data))])
    refused(path, "", "cut off", "copy or download")


@pytest.mark.parametrize("resume", [999, 1001, 5000])
def test_bytes_lost_or_doubled_on_the_way(tiny_bundle: Bundle, tmp_path: Path, resume: int) -> None:
    """An end record is there, but what it points to has moved."""
    data = tiny_bundle.path.read_bytes()
    path = tmp_path / "a.rack"
    path.write_bytes(data[:1000] + data[resume:])
    refused(path, "", f"expected {len(data)} bytes, by its end record, got {len(data) - resume + 1000}")


def test_flipped_bit(tiny_bundle: Bundle, tmp_path: Path) -> None:
    data = bytearray(tiny_bundle.path.read_bytes())
    data[len(data) // 2] ^= 4
    path = tmp_path / "a.rack"
    path.write_bytes(data)
    refused(path, "", "undamaged zip", "CRC")


def test_whole_file_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.rack"
    with path.open("wb") as sparse:  # takes no room on the disk
        sparse.truncate(bundle.LIMIT_BUNDLE_BYTES + 1)
    refused(path, "", "at most 268435456 bytes")


def test_too_many_members(tiny_bundle: Bundle, tmp_path: Path) -> None:
    extra = {f"extra{index}": b"" for index in range(bundle.LIMIT_MEMBERS)}
    refused(zipped(tmp_path / "a.rack", {**tiny_bundle.files, **extra}), "", "at most 32 members", "36")


def test_member_declared_too_large(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A directory that claims 3 GB for a member; nothing of that size may be read or allocated."""
    data = bytearray(tiny_bundle.path.read_bytes())
    entry = directory_of(data)
    data[entry + 20 : entry + 28] = struct.pack("<2L", 3 << 30, 3 << 30)
    path = tmp_path / "a.rack"
    path.write_bytes(data)
    refused(path, "manifest.json", "at most 16777216 bytes", "3221225472 declared")


def test_member_that_would_unfold(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The classic bomb: a few bytes that declare many."""
    data = bytearray(tiny_bundle.path.read_bytes())
    entry = directory_of(data)
    data[entry + 24 : entry + 28] = struct.pack("<L", 1 << 20)
    path = tmp_path / "a.rack"
    path.write_bytes(data)
    refused(path, "manifest.json", "one size", "1048576 declared")


def test_member_really_too_large(tiny_bundle: Bundle, tmp_path: Path) -> None:
    card = b" " * (bundle.LIMIT_CARD_BYTES + 1)
    refused(
        zipped(tmp_path / "a.rack", {**tiny_bundle.files, bundle.CARD: card}), "CARD.md", "at most 1048576"
    )


def test_members_on_top_of_each_other(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Two entries that share their bytes add up to more than the file."""
    data = tiny_bundle.path.read_bytes()
    start = directory_of(data)
    directory, end = data[start:-22], data[-22:]
    golden = directory.index(b"golden.npz") - 46
    entry = directory[golden : golden + 56]
    twins = [entry[:46] + name for name in (b"golden.npy", b"golden.npx")]
    count, size_bytes = 6, len(directory) + sum(map(len, twins))
    end = end[:8] + struct.pack("<2HL", count, count, size_bytes) + end[16:]
    path = tmp_path / "a.rack"
    path.write_bytes(data[:start] + directory + b"".join(twins) + end)
    refused(path, "", "members within")


def test_compressed_member(tiny_bundle: Bundle, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.rack", dict(tiny_bundle.files), zipfile.ZIP_DEFLATED)
    refused(path, "manifest.json", "a stored member", "compression method 8", "zip -0")


def test_encrypted_member(tiny_bundle: Bundle, tmp_path: Path) -> None:
    data = bytearray(tiny_bundle.path.read_bytes())
    data[directory_of(data) + 8] |= 1
    path = tmp_path / "a.rack"
    path.write_bytes(data)
    refused(path, "manifest.json", "zip flags")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tiny_bundle: Bundle, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.rack", dict(tiny_bundle.files))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(MODEL, b"another")
    refused(path, MODEL, "one member of this name", "two")


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "models/generator.tflite",
        "..",
        ".hidden",
        "C:\\x",
        "a b",
        "\x1b[2J",
        "n\u00efce",
    ],
)
def test_names_that_lead_elsewhere(tiny_bundle: Bundle, tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "a.rack", {**tiny_bundle.files, name: b"x"})
    refused(path, "", "without folders or signs")
    with pytest.raises(DarkrackError) as caught:
        bundle.read(path)
    assert str(caught.value).isascii()
    assert "\x1b" not in str(caught.value)


def test_stranger_among_the_members(tiny_bundle: Bundle, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.rack", {**tiny_bundle.files, "install.sh": b"x"})
    refused(path, "install.sh", "a stranger")


@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.CARD, bundle.GOLDEN, MODEL])
def test_missing_member(tiny_bundle: Bundle, tmp_path: Path, name: str) -> None:
    files = {key: content for key, content in tiny_bundle.files.items() if key != name}
    refused(zipped(tmp_path / "a.rack", files), "", name)


@pytest.mark.parametrize("name", [bundle.CARD, bundle.GOLDEN, MODEL])
def test_tampered_member(tiny_bundle: Bundle, tmp_path: Path, name: str) -> None:
    """Zipped anew after a change, so that every checksum of the zip is right."""
    changed = bytearray(tiny_bundle.files[name])
    changed[-1] ^= 1
    path = zipped(tmp_path / "a.rack", {**tiny_bundle.files, name: bytes(changed)})
    refused(path, name, "sha256", "changed after export")


def test_card_that_is_no_text(tiny_bundle: Bundle, tmp_path: Path) -> None:
    manifest, card = manifest_of(tiny_bundle), b"\xff\xfe"
    manifest["sha256"][bundle.CARD] = bundle.hashlib.sha256(card).hexdigest()
    files = {**tiny_bundle.files, bundle.CARD: card, bundle.MANIFEST: json.dumps(manifest).encode()}
    refused(zipped(tmp_path / "a.rack", files), "CARD.md", "UTF-8")


# Ways for a manifest to be wrong


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe{}", "utf-8"),
        (b"{'format': 1}", "Expecting property name"),
        (b'{"format": NaN}', "no finite number"),
        (b'{"format": -Infinity}', "no finite number"),
        (b'{"format": 1e999}', "no finite number"),
        (b'{"format": ' + b"9" * 4000 + b"}", "no finite number"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_manifest_that_is_no_json(tiny_bundle: Bundle, tmp_path: Path, text: bytes, word: str) -> None:
    refused(with_manifest(tiny_bundle, tmp_path / "a.rack", text), "manifest.json", "JSON in UTF-8", word)


@pytest.mark.parametrize("written", [0, 3, 999])
def test_other_formats(tiny_bundle: Bundle, tmp_path: Path, written: int) -> None:
    manifest = {**manifest_of(tiny_bundle), "format": written}
    hint = "upgrade darkrack" if written > 1 else "export it again"
    path = with_manifest(tiny_bundle, tmp_path / "a.rack", manifest)
    refused(path, "manifest.json: format", f"expected format 1 to 2, got format {written}", hint)


def test_future_format_is_told_before_what_it_changed(tiny_bundle: Bundle, tmp_path: Path) -> None:
    path = with_manifest(tiny_bundle, tmp_path / "a.rack", {"format": 3, "all": "new"})
    refused(path, "manifest.json: format", "upgrade darkrack")


def test_rows_at_halves_are_of_a_newer_format(tiny_bundle: Bundle, tmp_path: Path) -> None:
    manifest = manifest_of(tiny_bundle)
    assert manifest["format"] == 1
    half = {**manifest["representation"], "rows_a_partial": 2}
    files = {name: content for name, content in tiny_bundle.files.items() if name != bundle.MANIFEST}
    made = bundle.write(tmp_path / "half.rack", {**tiny_manifest(), "representation": half}, files)
    assert manifest_of(made)["format"] == 2
    grid = made.manifest.representation
    assert isinstance(grid, Partials)
    assert grid.rows_a_partial == 2
    third = {**manifest, "representation": {**half, "rows_a_partial": 3}}
    path = with_manifest(tiny_bundle, tmp_path / "third.rack", third)
    refused(path, "rows_a_partial", "expected 1 to 2, got 3")


@pytest.mark.parametrize("key", sorted({*tiny_manifest(), "format", "sha256"}))
def test_missing_key(tiny_bundle: Bundle, tmp_path: Path, key: str) -> None:
    manifest = manifest_of(tiny_bundle)
    del manifest[key]
    refused(with_manifest(tiny_bundle, tmp_path / "a.rack", manifest), "manifest.json", f"a key '{key}'")


@pytest.mark.parametrize("key", sorted({*tiny_manifest(), "format", "sha256"}))
def test_wrong_type(tiny_bundle: Bundle, tmp_path: Path, key: str) -> None:
    for wrong in (None, True, [[]]):
        manifest = {**manifest_of(tiny_bundle), key: wrong}
        refused(with_manifest(tiny_bundle, tmp_path / "a.rack", manifest), key)


def change(*keys: str | int, to: object) -> Callable[[Manifest], None]:
    def edit(manifest: Any) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = to

    return edit


FALLING = [0.1, 0.2, 0.15] + [0.3] * 30
SKEWED = [[1.0, 0.5, 0.0, 0.0], [0.4, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
IMPOSSIBLE = [[1.0, 0.9, 0.9, 0.0], [0.9, 1.0, -0.9, 0.0], [0.9, -0.9, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("edit", "where", "words"),
    [
        (change("name", to=""), "name", ["1 to 200"]),
        (change("name", to="\x1b[2Jhello"), "name", ["printable", "x1b"]),
        (change("quality", to={"\x1b]0;x": 1}), "quality", ["printable keys"]),
        (change("recipe_sha256", to="F" * 64), "recipe_sha256", ["64 hex digits"]),
        (change("macs", to=-1), "macs", ["0 to"]),
        (change("macs", to=1.5), "macs", ["an integer", "a number"]),
        (change("slice", to={"frames": 129, "macs": 1}), "slice: frames", ["1 to 128"]),
        (change("slice", to={"frames": 16}), "slice", ["macs"]),
        (change("slice", to=16), "slice", ["a JSON object", "an integer"]),
        (change("temperature", to=0), "temperature", ["0.001 to 1000"]),
        (change("latent_size", to=LATENT_SIZE + 1), "signature: inputs: z", ["[1, 5]", "[1, 4]"]),
        (change("pitch_range_midi", to=[84, 36]), "pitch_range_midi", ["lowest pitch first"]),
        (change("pitch_range_midi", to=[0, 128]), "pitch_range_midi", ["0 to 127"]),
        (
            change("representation", "name", to="mel"),
            "representation: name",
            ["'partials' or 'stft'", "upgrade"],
        ),
        (change("representation", "name", to="stft"), "representation", ["a key 'fft_samples'"]),
        (change("representation", "rows", to=81), "output: frames", ["[1, 2, 81, 128]"]),
        (change("representation", "rows", to=10**6), "representation: rows", ["1 to 1024"]),
        (change("representation", "frame_rate_hz", to=0), "frame_rate_hz", ["1 to 10000"]),
        (change("signature", "inputs", "attributes", to=[1, 9]), "inputs: attributes", ["[1, 4]", "[1, 9]"]),
        (change("signature", "inputs", "noise", to=[1, 128]), "inputs: noise", ["shape [3]"]),
        (change("signature", "inputs", "noise", to=[1, 2, 0]), "inputs: noise", ["from 1 to"]),
        (change("signature", "inputs", "noise", to=[1, 2.5, 1]), "inputs: noise", ["whole numbers"]),
        (change("signature", "inputs", "noise", to=[1, 60000, 60000]), "inputs: noise", ["64 MiB"]),
        (change("signature", "inputs", "mood", to=[1, 1]), "signature: inputs", ["mood"]),
        (change("signature", "output", "frames", to=[1, 2, 80]), "output: frames", ["shape [4]"]),
        (change("variants", "float32", "file", to="../x"), "variants: float32", ["generator.<name>.tflite"]),
        (change("variants", "float32", "bytes", to=7), MODEL, ["7 bytes"]),
        (change("variants", to={}), "default_variant", ["one of"]),
        (change("default_variant", to="int8"), "default_variant", ["one of float32", "int8"]),
        (change("attributes", to=[]), "attributes", ["one attribute at least"]),
        (change("attributes", to=[{}] * 1001), "attributes", ["at most 1000"]),
        (change("attributes", 0, to=1), "attributes[0]", ["a JSON object"]),
        (change("attributes", 1, "name", to="TRUMPET"), "attributes", ["'TRUMPET' twice"]),
        (change("attributes", 2, "correlation", to=2), "attributes[2]: correlation", ["-1 to 1"]),
        (change("attributes", 2, "teacher", to=3), "attributes[2]: teacher", ["a string"]),
        (change("attributes", 2, "teacher", to=""), "attributes[2]: teacher", ["1 to 200"]),
        (change("attributes", 2, "teacher", to="\x1b[2J"), "attributes[2]: teacher", ["printable"]),
        (
            change("attributes", 2, "quantiles", to=FALLING),
            "attributes[2]: quantiles",
            ["a fall after index 1"],
        ),
        (change("attributes", 2, "quantiles", to=[0.5] * 33), "attributes[2]: quantiles", ["the same"]),
        (change("attributes", 2, "quantiles", to=[0.5] * 32), "attributes[2]: quantiles", ["[33]", "of 32"]),
        (change("attributes", 2, "quantiles", 32, to=1.5), "attributes[2]: quantiles", ["0 to 1"]),
        (change("attributes", 2, "quantiles", 32, to="1"), "attributes[2]: quantiles", ["a string"]),
        (change("attributes", 2, "quantiles", 32, to=True), "attributes[2]: quantiles", ["true or false"]),
        (change("copula", to=[[1.0]]), "copula", ["shape [4, 4]", "a list of 1: lists of 1"]),
        (change("copula", 3, to=[0.0] * 3), "copula", ["lists of 3"]),
        (change("copula", 0, 0, to=1.5), "copula", ["from -1 to 1"]),
        (change("copula", 0, 0, to=0.5), "copula", ["not 1 on the diagonal"]),
        (change("copula", to=SKEWED), "copula", ["not symmetric"]),
        (change("copula", to=IMPOSSIBLE), "copula", ["not positive definite"]),
        (change("presets", 0, "attributes", to=[0.5]), "presets[0]: attributes", ["shape [4]"]),
        (change("presets", 0, "z", to=[0.5]), "presets[0]: z", ["shape [4]"]),
        (change("presets", 1, "name", to="reed"), "presets", ["'reed' twice"]),
        (change("data", 0, "licence", to=None), "data[0]: licence", ["a string", "null"]),
        (change("parity", "torch_litert", to={}), "parity: torch_litert", ["snr_db"]),
        (change("sha256", "CARD.md", to="0" * 64), "CARD.md", ["sha256 0000"]),
        (change("sha256", "ghost", to="0" * 64), "ghost", ["only the other"]),
        (change("sha256", to={}), "CARD.md", ["only the one"]),
    ],
)
def test_manifest_that_contradicts(
    tiny_bundle: Bundle, tmp_path: Path, edit: Callable[[Manifest], None], where: str, words: list[str]
) -> None:
    manifest = manifest_of(tiny_bundle)
    edit(manifest)
    refused(with_manifest(tiny_bundle, tmp_path / "a.rack", manifest), where, *words)


# Ways for golden.npz to be wrong


def test_golden_that_is_pickled_is_never_unpickled(tiny_bundle: Bundle, tmp_path: Path) -> None:
    trap = tmp_path / "unpickled"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (trap,))

    golden = npz(**{**tiny_bundle.golden(), "z": np.array([Trap()], dtype=object)})
    assert pickle.dumps(Trap())  # armed
    refused(with_golden(tiny_bundle, tmp_path / "a.rack", golden), "golden.npz: z", "pickled Python objects")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("name", "array", "word"),
    [
        ("z", np.zeros((4, LATENT_SIZE), np.float64), "float64"),
        ("z", np.zeros((4, LATENT_SIZE + 1), np.float32), "(4, 5)"),
        ("z", np.zeros((0, LATENT_SIZE), np.float32), "notes >= 1"),
        ("z", np.float32(0), "()"),
        ("pitch", np.zeros((3, 1), np.float32), "the same notes"),
        ("frames", np.zeros((4, 2, 80, 127), np.float32), "(4, 2, 80, 127)"),
        ("noise", np.asfortranarray(np.zeros((4, 2, 128), np.float32)), "fortran_order True"),
        ("velocity", np.full((4, 1), np.nan, np.float32), "NaN"),
    ],
)
def test_golden_of_another_shape_or_kind(
    tiny_bundle: Bundle, tmp_path: Path, name: str, array: np.ndarray, word: str
) -> None:
    golden = npz(**{**tiny_bundle.golden(), name: array})
    refused(with_golden(tiny_bundle, tmp_path / "a.rack", golden), f"golden.npz: {name}", word)


def test_golden_header_that_declares_more_than_there_is(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """np.load would allocate what the header asks for."""
    npy = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**12, LATENT_SIZE)}
    np.lib.format.write_array_header_1_0(npy, header)
    files = {f"{name}.npy": b"" for name in (*INPUTS, "frames")}
    path = zipped(tmp_path / "a.npz", {**files, "z.npy": npy.getvalue()})
    refused(
        with_golden(tiny_bundle, tmp_path / "a.rack", path.read_bytes()), "golden.npz: z", "bytes of numbers"
    )


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x03\x00" + bytes(100), b"x" * 100]
)
def test_golden_with_a_broken_array(tiny_bundle: Bundle, tmp_path: Path, content: bytes) -> None:
    files = {f"{name}.npy": content for name in (*INPUTS, "frames")}
    golden = zipped(tmp_path / "a.npz", files).read_bytes()
    refused(with_golden(tiny_bundle, tmp_path / "a.rack", golden), "golden.npz: z", "a .npy of version 1.0")


def test_golden_that_is_no_zip_or_compressed_or_incomplete(tiny_bundle: Bundle, tmp_path: Path) -> None:
    arrays = tiny_bundle.golden()
    refused(with_golden(tiny_bundle, tmp_path / "a.rack", b"x"), "golden.npz", "an .npz")
    target = io.BytesIO()
    np.savez_compressed(target, **arrays)
    refused(with_golden(tiny_bundle, tmp_path / "b.rack", target.getvalue()), "golden.npz", "stored")
    del arrays["noise"]
    refused(with_golden(tiny_bundle, tmp_path / "c.rack", npz(**arrays)), "golden.npz", "noise")


def test_golden_mismatch_is_found_by_replay_alone(tiny_bundle: Bundle, tmp_path: Path) -> None:
    arrays = {name: array.copy() for name, array in tiny_bundle.golden().items()}
    arrays["frames"][2, 0, 40, 64] += 2e-4
    path = with_golden(tiny_bundle, tmp_path / "a.rack", bundle.golden_npz(arrays))
    bundle.read(path, replay=False)
    refused(path, "variant float32: golden", "within 0.0001", "0.0002 off", replay=True)


def test_an_eight_bit_variant_may_round_to_the_other_side(tiny_bundle: Bundle, tmp_path: Path) -> None:
    arrays = {name: array.copy() for name, array in tiny_bundle.golden().items()}
    renamed = {
        "default_variant": "dynamic_int8",
        "variants": {"dynamic_int8": {"file": "generator.dynamic_int8.tflite"}},
    }
    files = {
        bundle.CARD: tiny_bundle.files[bundle.CARD],
        "generator.dynamic_int8.tflite": tiny_bundle.model(),
    }
    noise = np.random.default_rng(0).standard_normal(arrays["frames"].shape).astype(np.float32)
    noise *= np.sqrt((arrays["frames"] ** 2).sum() / (noise**2).sum())
    for db in (65, 55):
        near = {**arrays, "frames": arrays["frames"] + 10 ** (-db / 20) * noise}
        files[bundle.GOLDEN] = bundle.golden_npz(near)
        if db > bundle.GOLDEN_ROUNDED_DB:
            made = bundle.write(tmp_path / "a.rack", {**tiny_manifest(), **renamed}, files)
            assert bundle.replay_golden(made) > bundle.GOLDEN_TOLERANCE
        else:
            with pytest.raises(DarkrackError, match=r"or 60 dB above what differs, got .* off, 55 dB"):
                bundle.write(tmp_path / "b.rack", {**tiny_manifest(), **renamed}, files)


def test_golden_npz_is_what_numpy_reads_too(tiny_bundle: Bundle) -> None:
    with np.load(io.BytesIO(tiny_bundle.files[bundle.GOLDEN]), allow_pickle=False) as loaded:
        for name, array in tiny_bundle.golden().items():
            np.testing.assert_array_equal(loaded[name], array)


# Writing


def test_write_keeps_the_old_file_where_the_new_one_does_not_hold(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "a.rack"
    path.write_bytes(b"old")
    arrays = {name: array.copy() for name, array in tiny_bundle.golden().items()}
    arrays["frames"] += 0.01
    files = {**tiny_files(tiny_bundle.model()), bundle.GOLDEN: bundle.golden_npz(arrays)}
    with pytest.raises(DarkrackError, match="golden"):
        bundle.write(path, tiny_manifest(), files)
    for wrong, word in (({"quality": {"fad": float("nan")}}, "NaN in quality"), ({"macs": "?"}, "macs")):
        with pytest.raises(DarkrackError, match=word) as caught:
            bundle.write(path, {**tiny_manifest(), **wrong}, tiny_files(tiny_bundle.model()))
        assert caught.value.where.startswith(f"{path}: manifest.json")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_of_several_variants(tiny_bundle: Bundle, tmp_path: Path) -> None:
    manifest, files = tiny_manifest(), tiny_files(tiny_bundle.model())
    manifest["variants"]["again"] = {"file": "generator.again.tflite"}
    files |= {"generator.again.tflite": tiny_bundle.model(), bundle.ONNX: b"any bytes"}
    written = bundle.write(tmp_path / "a.rack", manifest, files)
    assert list(written.manifest.variants) == ["again", "float32"]
    assert written.manifest.default_variant == "float32"
    assert written.path == tmp_path / "a.rack"


# Anything at all


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_our_error(tiny_bundle: Bundle, tmp_path: Path, data: st.DataObject) -> None:
    """Bytes overwritten anywhere, mostly where the headers are: an error of ours, or nothing that matters."""
    content = bytearray(tiny_bundle.path.read_bytes())
    size_bytes = len(content)
    places = st.one_of(st.integers(0, size_bytes - 1), st.integers(size_bytes - 330, size_bytes - 1))
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.rack"
    path.write_bytes(content)
    error = error_of(path)
    if error is None:
        assert bundle.read(path).files == tiny_bundle.files
    else:
        assert error.where.startswith(str(path))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_json_anywhere_in_the_manifest_is_our_error(
    tiny_bundle: Bundle, tmp_path: Path, data: st.DataObject
) -> None:
    manifest = manifest_of(tiny_bundle)
    node: Any = manifest
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = data.draw(JSON)
    path = with_manifest(tiny_bundle, tmp_path / "odd.rack", manifest)
    error = error_of(path)
    assert error is None or error.where.startswith(str(path))
    assert error is None or str(error).replace("\n", "").isprintable()


# The command


def test_show_and_verify(tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.json"
    assert main(["bundle", "show", str(tiny_bundle.path), "--json", str(target)]) == 0
    shown = capsys.readouterr().out
    for word in (
        "Tiny",
        *ATTRIBUTES,
        "Reed",
        "Harp",
        "float32",
        "Apache-2.0",
        "MIDI 36 to 84",
        "fad",
        "# Tiny",
    ):
        assert word in shown
    assert json.loads(target.read_text())["manifest"] == manifest_of(tiny_bundle)

    assert main(["bundle", "verify", str(tiny_bundle.path), "--json", str(target)]) == 0
    assert "sha256 right" in capsys.readouterr().out
    result = json.loads(target.read_text())
    assert result["golden_largest_difference"] <= bundle.GOLDEN_TOLERANCE
    assert result["variants_snr_db"]["float32"] > 80.0


def test_verify_fails_with_one_line_and_a_hint(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.rack"
    path.write_bytes(tiny_bundle.path.read_bytes()[:-500])
    assert main(["bundle", "verify", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: expected")
    assert "\nhint: " in error


def test_verify_tries_every_variant(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, files = tiny_manifest(), tiny_files(tiny_bundle.model())
    manifest["variants"]["broken"] = {"file": "generator.broken.tflite"}
    files["generator.broken.tflite"] = b"no model"
    bundle.write(tmp_path / "a.rack", manifest, files)
    assert main(["bundle", "verify", str(tmp_path / "a.rack")]) == 1
    assert "variant broken: expected a TFLite model" in capsys.readouterr().err


def test_show_gives_the_terminal_no_commands(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = {**tiny_manifest(), "quality": {"note": "\x1b[31mred"}}
    files = {**tiny_files(tiny_bundle.model()), bundle.CARD: b"# Card\n\x1b]0;title\x07\n"}
    bundle.write(tmp_path / "a.rack", manifest, files)
    assert main(["bundle", "show", str(tmp_path / "a.rack")]) == 0
    shown = capsys.readouterr().out
    assert "# Card" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown
