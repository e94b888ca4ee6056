"""The bundle, `*.rack`: everything an instrument needs to play, in one zip that is stored, not compressed.

Members, in this order: `manifest.json`, `CARD.md`, `golden.npz`, then by name `generator.<variant>.tflite`
(one at least) and perhaps `generator.onnx` and `generator.int8.onnx`. Nothing else. A model's signature `note` makes
a whole note; where the manifest has the key `slice`, the signature of this name makes some frames of it. Nothing is
compressed, so a size that is declared is the size that is there, and no member can unfold into memory. Little-endian,
as PKWARE's APPNOTE 6.3 has it:

    offset      size    content
    0           30      "PK\\3\\4", version 20, flags 0, method 0 (stored), date, CRC-32, size twice,
                        length n of the name, 0
    30          n       name: ASCII letters, digits, `.`, `_`, `-`; no folders
    30 + n      size    the bytes of the member; the next member's header follows
    ...         46 + n  for each member: "PK\\1\\2", the same fields, offset of its header
    end - 22    22      "PK\\5\\6", number of members, size and offset of that directory, no comment

The date is always 1980-01-01, so equal content makes equal bytes. No zip64, no encryption, no data
descriptors. `golden.npz` is the same kind of zip, and holds one `.npy` for each tensor of the signature:
float32, the shape of the manifest with the batch of 1 replaced by the number of notes (export writes 4).
`frames` is what the default variant gave for the other tensors, without LiteRT's default delegates; reading
replays them.

The manifest is JSON without NaN. Its integer `format` is raised when an old reader would misunderstand a new
bundle, and a reader refuses any but its own; keys that a reader does not know it ignores. Its `sha256` covers
every other member: it finds damage, not malice. A signature is no part of the format, so take bundles, like
any program, from people you trust.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import re
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from device.files import atomic_path
from device.generator import OUTPUT, Network, Shape, snr_db
from device.partials import MOST_ROWS_A_PARTIAL, Partials
from device.stft import Stft

# The newest that is read. 2: rows at halves of f0, which an older reader would play an octave too high.
FORMAT = 2
QUANTILES = 33  # soft labels of an attribute at probabilities 0, 1/32 ... 1

# Caps, far above any instrument that was made and far below what would hurt a board with 1 GB.
LIMIT_FILE_BYTES = 64 << 20
LIMIT_BUNDLE_BYTES = 256 << 20
LIMIT_MANIFEST_BYTES = 16 << 20  # 1000 attributes: a copula of 10^6 numbers, 7 bytes each
LIMIT_CARD_BYTES = 1 << 20
LIMIT_MEMBERS = 32
LIMIT_DIRECTORY_BYTES = 64 << 10  # 32 members, 46 bytes and a name each
LIMIT_ATTRIBUTES = 1000
LIMIT_PRESETS = 1000
LIMIT_ROWS = 1024
LIMIT_FRAMES = 8192
LIMIT_SAMPLES = 1 << 20  # of a note on the `stft` grid: a minute at 16 kHz
LIMIT_TEXT = 200  # characters of a name or another line
LIMIT_SIZE = 65536  # of a latent, or of one axis of the noise

# x86 and aarch64 agree to 1e-7 without delegates, where every step is in floating point; a wrong model is off by 1e-2
# or more. Eight-bit variants round activations, and one that lies between two steps falls to the other side on another
# machine: the flagship's golden note came out at 76 dB on an emulated Raspberry Pi, off by .004 in .5 % of its cells.
# The delegate's kernels, with sums of another order throughout, are at 38 dB.
GOLDEN_TOLERANCE = 1e-4
GOLDEN_ROUNDED_DB = 60.0
ROUNDED = ("dynamic_int8", "static_int8", "mixed")

MANIFEST, CARD, GOLDEN = "manifest.json", "CARD.md", "golden.npz"
ONNX, ONNX_INT8 = "generator.onnx", "generator.int8.onnx"
BUNDLE = "a bundle (*.rack)"
AGAIN = "copy or download the file again"
EXPORT = "export it again with `darkrack export`"
NO_BUNDLE = "this is no Darkrack bundle; name another file"

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Attribute:
    """One knob: its name, its soft labels at probabilities linspace(0, 1, 33), how well it was learned."""

    name: str
    quantiles: (
        DoubleArray  # not falling, 0..1; the ends are the .005 and .995 quantiles of the training notes
    )
    correlation: float | None  # between the label asked for and the teacher's, on held-out labels
    teacher: str | None = None  # whose class it is; the first bundles do not say


@dataclasses.dataclass(frozen=True, eq=False)
class Preset:
    """A real note to start from: soft labels (A,) and latent (Z,)."""

    name: str
    attributes: DoubleArray
    z: DoubleArray


@dataclasses.dataclass(frozen=True)
class Variant:
    """One precision of the network: the member that holds it and its size."""

    file: str
    size_bytes: int


@dataclasses.dataclass(frozen=True)
class Slice:
    """What the models' signature `slice` makes: how many frames at a time, and their multiply-accumulates."""

    frames: int
    macs: int


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the training notes came from."""

    name: str
    licence: str
    source: str


@dataclasses.dataclass(frozen=True, eq=False)
class Manifest:
    """What `manifest.json` says, checked. Arrays are read-only."""

    name: str
    created: str
    default_variant: str
    variants: Mapping[str, Variant]
    representation: Partials | Stft
    # z, attributes, pitch, velocity, noise (the last two not in every `stft`); float32, batch of 1 included
    inputs: Mapping[str, Shape]
    output: Shape  # of `frames`: (1, 2, rows, frames), or bins in place of rows
    pitch_range_midi: tuple[float, float]
    latent_size: int
    temperature: float  # soft label = sigmoid(teacher's logit / temperature)
    attributes: tuple[Attribute, ...]
    copula: DoubleArray  # (A, A) correlation of normal scores, positive definite
    presets: tuple[Preset, ...]
    data: tuple[Source, ...]
    commit: str
    recipe_sha256: str
    sha256: Mapping[str, str]
    quality: Mapping[str, Any]  # what export and evaluate measured; free keys
    macs: int
    parameters: int
    parity_db: Mapping[str, float]  # signal-to-noise of each hop of the export
    slice: Slice | None = (
        None  # None where the models make whole notes only, as those of the first bundles do
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle in memory, checked: every member is what the manifest promises."""

    path: Path
    manifest: Manifest
    files: Mapping[str, bytes]  # every member by name

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return self.files[CARD].decode("utf-8")

    def model(self, variant: str | None = None) -> bytes:
        """The TFLite bytes of a variant, by default the default one; DarkrackError lists what there is."""
        name = self.manifest.default_variant if variant is None else variant
        if name not in self.manifest.variants:
            there = ", ".join(self.manifest.variants)
            raise DarkrackError(
                f"{self.path}: variant", f"one of {there}", name, "export more with --variants"
            )
        return self.files[self.manifest.variants[name].file]

    def golden(self) -> dict[str, FloatArray]:
        """The golden notes: each input and `frames`, with the number of notes as first axis; read-only."""
        return _golden_arrays(self.files[GOLDEN], f"{self.path}: {GOLDEN}", self.manifest)


def read(path: Path, replay: bool = True) -> Bundle:
    """Read a bundle and check all of it; ``replay`` also runs its golden notes, see `replay_golden`.

    Raises DarkrackError naming the file, and the key or member, for anything that is not as the module's
    docstring and the manifest say: not a zip, truncated, compressed, oversized, tampered with, of another
    format, malformed.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a device has neither size nor end
            raise DarkrackError(str(path), BUNDLE, "a folder or a device", "name the file")
        if about.st_size > LIMIT_BUNDLE_BYTES:
            expected = f"at most {LIMIT_BUNDLE_BYTES} bytes"
            raise DarkrackError(str(path), expected, f"{about.st_size}", NO_BUNDLE)
        data = path.read_bytes()
    except OSError as error:
        hint = "models/ holds one; darkrack export makes one"
        raise DarkrackError(str(path), BUNDLE, error.strerror or str(error), hint) from error
    bundle = _parse(path, data)
    if replay:
        replay_golden(bundle)
    return bundle


def write(path: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle atomically, and return it as read back; it is only put there if it reads and replays.

    ``manifest`` is the content of manifest.json without `format`, `sha256` and the variants' `bytes`, which
    are filled in here; ``files`` maps every other member's name to its bytes. Equal content makes equal
    files. Raises DarkrackError for content that `read` would refuse, or that cannot be written.
    """
    variants = {
        name: {**variant, "bytes": len(files.get(variant["file"], b""))}
        for name, variant in manifest["variants"].items()
    }
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    halves = manifest["representation"].get("rows_a_partial", 1) > 1
    whole = {**manifest, "format": FORMAT if halves else 1, "variants": variants, "sha256": sha256}
    try:
        text = json.dumps(whole, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    except ValueError as error:
        raise DarkrackError(
            f"{path}: {MANIFEST}", "finite numbers", str(error), "look for NaN in quality"
        ) from error
    first = [name for name in (CARD, GOLDEN) if name in files]
    order = first + sorted(files.keys() - set(first))
    data = _archive({MANIFEST: text.encode("utf-8"), **{name: files[name] for name in order}})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
        bundle = _parse(path, temporary.read_bytes())
        replay_golden(bundle)
    return bundle


def golden_npz(tensors: Mapping[str, FloatArray]) -> bytes:
    """The bytes of `golden.npz`: the inputs and `frames` of some notes, each (notes, ...) float32."""
    files = {}
    for name in sorted(tensors):
        npy = io.BytesIO()
        array = np.ascontiguousarray(tensors[name], np.float32)
        np.lib.format.write_array(npy, array, version=(1, 0), allow_pickle=False)
        files[f"{name}.npy"] = npy.getvalue()
    return _archive(files)


def golden_frames(
    bundle: Bundle, variant: str, golden: Mapping[str, FloatArray], *, reference: bool
) -> FloatArray:
    """What a variant makes of the ``golden`` inputs, (notes, ...) float32; ``reference``: see `Network`."""
    manifest, where = bundle.manifest, f"{bundle.path}: variant {variant}"
    network = Network(bundle.model(variant), where, manifest.inputs, manifest.output, reference=reference)
    notes = range(len(golden[OUTPUT]))
    return np.stack([network({name: golden[name][n : n + 1] for name in manifest.inputs})[0] for n in notes])


def replay_golden(bundle: Bundle) -> float:
    """Run the golden notes through the default variant, without delegates: the largest difference.

    DarkrackError where that is over GOLDEN_TOLERANCE, and of an eight-bit variant where the noise is over
    GOLDEN_ROUNDED_DB too.
    """
    variant, golden = bundle.manifest.default_variant, bundle.golden()
    frames = golden_frames(bundle, variant, golden, reference=True)
    largest, db = float(np.abs(frames - golden[OUTPUT]).max()), snr_db(golden[OUTPUT], frames)
    rounded = variant in ROUNDED
    if not (largest <= GOLDEN_TOLERANCE or (rounded and db >= GOLDEN_ROUNDED_DB)):
        hint = (
            "this machine's LiteRT computes something else than the one that exported; compare their versions"
        )
        raise DarkrackError(
            f"{bundle.path}: variant {variant}: golden",
            f"frames within {GOLDEN_TOLERANCE:g} of the golden ones"
            + (f", or {GOLDEN_ROUNDED_DB:g} dB above what differs" if rounded else ""),
            f"{largest:.2g} off" + (f", {db:.0f} dB" if rounded else ""),
            hint,
        )
    return largest


# The archive


def _archive(files: Mapping[str, bytes]) -> bytes:
    """A stored zip with fixed dates, in the order of ``files``."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix, wherever it is written
            member.external_attr = 0o644 << 16
            archive.writestr(member, content)
    return target.getvalue()


def _members(data: bytes, where: str, what: str, limits: Mapping[str, int]) -> dict[str, bytes]:
    """Every member of a stored zip by name; ``limits`` caps the bytes of some, LIMIT_FILE_BYTES the rest."""
    # The end record is judged before zipfile sees it: zipfile would make an object for each of the entries
    # that a directory of any size claims to have.
    if not data.startswith(b"PK\3\4"):
        raise DarkrackError(where, what, f"a file that begins with {data[:4]!r}", NO_BUNDLE)
    if data[-22:-18] != b"PK\5\6":
        raise DarkrackError(where, "a whole zip, with its end record", "one that was cut off", AGAIN)
    count, directory_bytes, directory_offset = struct.unpack("<6xHLL2x", data[-18:])
    declared_bytes = directory_offset + directory_bytes + 22
    if declared_bytes != len(data):
        raise DarkrackError(where, f"{declared_bytes} bytes, by its end record", f"{len(data)}", AGAIN)
    if count > LIMIT_MEMBERS or directory_bytes > LIMIT_DIRECTORY_BYTES or data[-42:-38] == b"PK\6\7":
        got = f"{count} and a directory of {directory_bytes} bytes"
        raise DarkrackError(where, f"at most {LIMIT_MEMBERS} members, no zip64", got, NO_BUNDLE)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries, where, len(data), limits)
            return {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DarkrackError(where, "an undamaged zip", str(error) or type(error).__name__, AGAIN) from error


def _check_entries(
    entries: Sequence[zipfile.ZipInfo], where: str, size_bytes: int, limits: Mapping[str, int]
) -> None:
    """Judge what the directory declares, before a member is read."""
    seen: set[str] = set()
    for entry in entries:
        name, declared_bytes = entry.filename, max(entry.file_size, entry.compress_size)
        place, limit_bytes = f"{where}: {name}", limits.get(name, LIMIT_FILE_BYTES)
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", name):
            hint = "do not unpack it; get the file from its maker"
            raise DarkrackError(where, "member names without folders or signs", ascii(name[:80]), hint)
        if name in seen:
            raise DarkrackError(place, "one member of this name", "two", EXPORT)
        seen.add(name)
        if entry.flag_bits & ~0x800:  # bit 11 only says that the name is UTF-8
            raise DarkrackError(place, "zip flags 0 (nothing encrypted)", f"{entry.flag_bits:#x}", EXPORT)
        if entry.compress_type != zipfile.ZIP_STORED:
            got = f"compression method {entry.compress_type}"
            raise DarkrackError(place, "a stored member", got, "zip it with `zip -0`, or export it again")
        if declared_bytes > limit_bytes:
            raise DarkrackError(
                place, f"at most {limit_bytes} bytes", f"{declared_bytes} declared", NO_BUNDLE
            )
        if entry.file_size != entry.compress_size:
            got = f"{entry.compress_size} stored, {entry.file_size} declared"
            raise DarkrackError(place, "one size", got, NO_BUNDLE)
    # Members that lie on top of each other could add up to far more than the file.
    total_bytes = sum(entry.file_size for entry in entries)
    if total_bytes > size_bytes:
        raise DarkrackError(where, f"members within {size_bytes} bytes", f"{total_bytes} declared", AGAIN)


def _parse(path: Path, data: bytes) -> Bundle:
    """Check the bytes of a bundle against themselves; runs nothing."""
    files = _members(data, str(path), BUNDLE, {MANIFEST: LIMIT_MANIFEST_BYTES, CARD: LIMIT_CARD_BYTES})
    if MANIFEST not in files:
        raise DarkrackError(str(path), f"a member {MANIFEST}", "none", NO_BUNDLE)
    where = f"{path}: {MANIFEST}"
    root = _Object(_json(files[MANIFEST], where), where)
    written = root.integer("format", 0, 2**31)
    if not 1 <= written <= FORMAT:
        hint = "upgrade darkrack" if written > FORMAT else EXPORT
        raise DarkrackError(f"{where}: format", f"format 1 to {FORMAT}", f"format {written}", hint)
    manifest = _manifest(root)

    for name in (CARD, GOLDEN):
        if name not in files:
            raise DarkrackError(str(path), f"a member {name}", "none", EXPORT)
    models = {variant.file for variant in manifest.variants.values()}
    for name in files.keys() - {MANIFEST, CARD, GOLDEN, ONNX, ONNX_INT8} - models:
        raise DarkrackError(f"{path}: {name}", "only members that the format knows", "a stranger", EXPORT)
    for name in sorted((files.keys() | manifest.sha256.keys()) - {MANIFEST}):
        if name not in manifest.sha256 or name not in files:
            got = "only the one" if name in files else "only the other"
            raise DarkrackError(f"{path}: {name}", "a member and its sha256 in the manifest", got, EXPORT)
        digest = hashlib.sha256(files[name]).hexdigest()
        if digest != manifest.sha256[name]:
            hint = f"the member was changed after export; {AGAIN}"
            raise DarkrackError(f"{path}: {name}", f"sha256 {manifest.sha256[name]}", digest, hint)
    for variant in manifest.variants.values():
        if variant.file not in files:
            raise DarkrackError(str(path), f"a member {variant.file}", "none", EXPORT)
        if len(files[variant.file]) != variant.size_bytes:
            got = f"{len(files[variant.file])}"
            raise DarkrackError(f"{path}: {variant.file}", f"{variant.size_bytes} bytes", got, EXPORT)
    try:
        files[CARD].decode("utf-8")
    except UnicodeDecodeError as error:
        raise DarkrackError(f"{path}: {CARD}", "text in UTF-8", str(error), EXPORT) from error
    bundle = Bundle(path, manifest, files)
    bundle.golden()
    return bundle


def _golden_arrays(data: bytes, where: str, manifest: Manifest) -> dict[str, FloatArray]:
    """Golden tensors; each header is judged before memory is taken, and none is ever unpickled."""
    members = _members(data, where, "an .npz (a zip)", {})
    shapes = {**manifest.inputs, OUTPUT: manifest.output}
    if members.keys() != {f"{name}.npy" for name in shapes}:
        raise DarkrackError(where, f"arrays {', '.join(sorted(shapes))}", ", ".join(sorted(members)), EXPORT)
    arrays: dict[str, FloatArray] = {}
    notes: int | None = None
    for name, shape in shapes.items():
        place, source = f"{where}: {name}", io.BytesIO(members[f"{name}.npy"])
        try:
            if np.lib.format.read_magic(source) != (1, 0):
                raise ValueError("not version 1.0")
            found, fortran, dtype = np.lib.format.read_array_header_1_0(source)
        except ValueError as error:
            raise DarkrackError(place, "a .npy of version 1.0", str(error), EXPORT) from error
        if dtype.hasobject:
            hint = "a pickle can run any program: do not load it elsewhere either"
            raise DarkrackError(place, "float32 numbers", "pickled Python objects", hint)
        if dtype != np.dtype("<f4") or fortran:
            raise DarkrackError(place, "float32 in C order", f"{dtype}, fortran_order {fortran}", EXPORT)
        if notes is None:
            notes = found[0] if found else 0
        if notes < 1 or found != (notes, *shape[1:]):
            wanted = f"shape (notes, {str(shape[1:])[1:-1]}), the same notes >= 1 in all"
            raise DarkrackError(place, wanted, str(found), EXPORT)
        rest = source.read()
        if len(rest) != 4 * math.prod(found):
            raise DarkrackError(place, f"{4 * math.prod(found)} bytes of numbers", f"{len(rest)}", EXPORT)
        arrays[name] = np.frombuffer(rest, "<f4").reshape(found)
        if not np.isfinite(arrays[name]).all():
            raise DarkrackError(place, "finite numbers", "NaN or infinity", EXPORT)
    return arrays


# The manifest


def _json(data: bytes, where: str) -> object:
    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text[:40]} is no finite number")
        return number

    def whole(text: str) -> int | float:
        return int(text) if len(text) < 20 else finite(text)  # no integer here needs more than 64 bits

    try:
        return json.loads(data.decode("utf-8"), parse_float=finite, parse_constant=finite, parse_int=whole)
    except (ValueError, RecursionError) as error:  # bad UTF-8 and bad JSON are ValueErrors
        raise DarkrackError(where, "JSON in UTF-8 without NaN", str(error), EXPORT) from error


class _Object:
    """A JSON object that hands out checked values; every error names the path of keys that led there."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise DarkrackError(where, "a JSON object", _kind(value), EXPORT)
        self.plain: dict[str, Any] = value
        self._where = where
        for key in value:  # keys and texts reach a terminal, where a control character is a command
            if not key.isprintable() or len(key) > LIMIT_TEXT:
                raise DarkrackError(where, "printable keys", ascii(key[:80]), EXPORT)

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain)

    def fail(self, key: str, expected: str, got: str, hint: str = EXPORT) -> DarkrackError:
        return DarkrackError(f"{self._where}: {key}", expected, got, hint)

    def text(self, key: str, least: int = 0) -> str:
        value = self._get(key)
        if not isinstance(value, str):
            raise self.fail(key, "a string", _kind(value))
        if not least <= len(value) <= LIMIT_TEXT or not value.isprintable():
            raise self.fail(key, f"a line of {least} to {LIMIT_TEXT} printable characters", ascii(value[:80]))
        return value

    def sha256(self, key: str) -> str:
        value = self.text(key)
        if not re.fullmatch(r"[0-9a-f]{64}", value):
            raise self.fail(key, "64 hex digits", ascii(value[:80]))
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        value = self._get(key)
        if type(value) is not int:  # true is an int to isinstance
            raise self.fail(key, "an integer", _kind(value))
        if not low <= value <= high:
            raise self.fail(key, f"{low} to {high}", str(value))
        return value

    def number(self, key: str, low: float, high: float) -> float:
        value = self._get(key)
        if type(value) is not int and type(value) is not float:
            raise self.fail(key, "a number", _kind(value))
        if not low <= value <= high:
            raise self.fail(key, f"{low:g} to {high:g}", f"{value:g}")
        return float(value)

    def numbers(self, key: str, shape: Shape, low: float, high: float) -> DoubleArray:
        """An array of this shape from nested lists; read-only."""
        value = self._get(key)
        if not _fits(value, shape):
            raise self.fail(key, f"numbers of shape {list(shape)}", _outline(value))
        array = np.array(value, np.float64)
        if not ((array >= low) & (array <= high)).all():
            raise self.fail(key, f"numbers from {low:g} to {high:g}", f"{array.min():g} to {array.max():g}")
        array.setflags(write=False)
        return array

    def sizes(self, key: str, length: int) -> Shape:
        array = self.numbers(key, (length,), 1, LIMIT_SIZE)
        if (array != np.rint(array)).any():
            raise self.fail(key, "whole numbers", str(array.tolist()))
        return tuple(int(size) for size in array)

    def object(self, key: str) -> _Object:
        return _Object(self._get(key), f"{self._where}: {key}")

    def objects(self, key: str, limit: int) -> list[_Object]:
        value = self._get(key)
        if not isinstance(value, list):
            raise self.fail(key, "a list", _kind(value))
        if len(value) > limit:
            raise self.fail(key, f"at most {limit} entries", f"{len(value)}")
        return [_Object(entry, f"{self._where}: {key}[{index}]") for index, entry in enumerate(value)]

    def _get(self, key: str) -> Any:
        if key not in self.plain:
            raise DarkrackError(self._where, f"a key '{key}'", "none", EXPORT)
        return self.plain[key]


def _kind(value: object) -> str:
    """What JSON calls it."""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "an integer"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _fits(value: object, shape: Shape) -> bool:
    """Whether nested lists of numbers have this shape."""
    if not isinstance(value, list) or len(value) != shape[0]:
        return False
    if len(shape) == 1:
        return all(type(item) is int or type(item) is float for item in value)
    return all(_fits(item, shape[1:]) for item in value)


def _outline(value: object) -> str:
    """How far a value is from the lists of numbers that were expected."""
    if not isinstance(value, list):
        return _kind(value)
    kinds = {f"lists of {len(item)}" if isinstance(item, list) else _kind(item) for item in value}
    return f"a list of {len(value)}: {', '.join(sorted(kinds))}"


def _manifest(root: _Object) -> Manifest:
    representation = _representation(root.object("representation"))
    latent_size = root.integer("latent_size", 1, LIMIT_SIZE)
    attributes = _attributes(root)
    count = len(attributes)
    inputs, output = _signature(root.object("signature"), latent_size, count, representation)

    variants = {}
    listed = root.object("variants")
    for name in listed:
        entry = listed.object(name)
        file = entry.text("file")
        if not re.fullmatch(r"[a-z0-9_]+", name) or file != f"generator.{name}.tflite":
            raise listed.fail(
                name, "a lower-case name whose file is generator.<name>.tflite", repr(file[:80])
            )
        variants[name] = Variant(file, entry.integer("bytes", 1, LIMIT_FILE_BYTES))
    default_variant = root.text("default_variant")
    if default_variant not in variants:
        raise root.fail(
            "default_variant", f"one of {', '.join(variants) or 'the variants'}", repr(default_variant)
        )

    pitch_range_midi = root.numbers("pitch_range_midi", (2,), 0.0, 127.0)
    if not pitch_range_midi[0] < pitch_range_midi[1]:
        raise root.fail("pitch_range_midi", "the lowest pitch first", str(pitch_range_midi.tolist()))
    presets = tuple(
        Preset(
            entry.text("name", least=1),
            entry.numbers("attributes", (count,), 0.0, 1.0),
            entry.numbers("z", (latent_size,), -100.0, 100.0),
        )
        for entry in root.objects("presets", LIMIT_PRESETS)
    )
    _distinct(root, "presets", [preset.name for preset in presets])
    sources = tuple(
        Source(entry.text("name"), entry.text("licence"), entry.text("source"))
        for entry in root.objects("data", 1000)
    )
    parity, digests = root.object("parity"), root.object("sha256")
    slices = None
    if root.plain.get("slice") is not None:
        entry = root.object("slice")
        slices = Slice(entry.integer("frames", 1, representation.frames), entry.integer("macs", 0, 10**15))
    return Manifest(
        name=root.text("name", least=1),
        created=root.text("created"),
        default_variant=default_variant,
        variants=variants,
        representation=representation,
        inputs=inputs,
        output=output,
        pitch_range_midi=(float(pitch_range_midi[0]), float(pitch_range_midi[1])),
        latent_size=latent_size,
        temperature=root.number("temperature", 1e-3, 1e3),
        attributes=attributes,
        copula=_copula(root, count),
        presets=presets,
        data=sources,
        commit=root.text("commit"),
        recipe_sha256=root.sha256("recipe_sha256"),
        sha256={name: digests.sha256(name) for name in digests},
        quality=root.object("quality").plain,
        macs=root.integer("macs", 0, 10**15),
        parameters=root.integer("parameters", 0, 10**12),
        parity_db={hop: parity.object(hop).number("snr_db", -1000.0, 1000.0) for hop in parity},
        slice=slices,
    )


def _representation(entry: _Object) -> Partials | Stft:
    name = entry.text("name")
    if name == "partials":
        return Partials(
            rows=entry.integer("rows", 1, LIMIT_ROWS),
            frames=entry.integer("frames", 2, LIMIT_FRAMES),
            frame_rate_hz=entry.number("frame_rate_hz", 1.0, 10_000.0),
            floor_db=entry.number("floor_db", -300.0, -1.0),
            limit_hz=entry.number("limit_hz", 20.0, 1e6),
            rows_a_partial=entry.integer("rows_a_partial", 1, MOST_ROWS_A_PARTIAL)
            if "rows_a_partial" in entry
            else 1,  # as in bundles from before there were two
        )
    if name == "stft":
        fft_samples = entry.integer("fft_samples", 16, LIMIT_SIZE)
        hop_samples = entry.integer("hop_samples", 1, fft_samples)
        if fft_samples % 2 or fft_samples % hop_samples:
            raise entry.fail("hop_samples", f"a part of {fft_samples}, an even number", str(hop_samples))
        return Stft(
            fft_samples=fft_samples,
            hop_samples=hop_samples,
            frames=entry.integer("frames", 2, min(LIMIT_FRAMES, LIMIT_SAMPLES // hop_samples)),
            sample_rate_hz=entry.integer("sample_rate_hz", 1000, 192_000),
        )
    raise entry.fail("name", "the representation 'partials' or 'stft'", repr(name), "upgrade darkrack")


def _signature(
    entry: _Object, latent_size: int, count: int, representation: Partials | Stft
) -> tuple[dict[str, Shape], Shape]:
    listed, output = entry.object("inputs"), entry.object("output")
    wanted = {"z": (1, latent_size), "attributes": (1, count), "pitch": (1, 1), "velocity": (1, 1)}
    lengths = {**{name: len(shape) for name, shape in wanted.items()}, "noise": 3}
    rows = representation.rows if isinstance(representation, Partials) else representation.bins
    # DarkGAN as published has neither.
    may_lack = set() if isinstance(representation, Partials) else {"velocity", "noise"}
    if not set(lengths) - may_lack <= set(listed) <= set(lengths):
        raise entry.fail("inputs", ", ".join(sorted(lengths)), ", ".join(sorted(listed)) or "none")
    inputs = {name: listed.sizes(name, length) for name, length in lengths.items() if name in set(listed)}
    for name in wanted.keys() & inputs.keys():
        if inputs[name] != wanted[name]:
            raise listed.fail(name, f"shape {list(wanted[name])}", str(list(inputs[name])))
    noise = inputs.get("noise", (1,))
    if noise[0] != 1 or math.prod(noise) > LIMIT_FILE_BYTES // 4:
        raise listed.fail("noise", "one batch, as float32 within 64 MiB", str(list(noise)))
    frames = output.sizes(OUTPUT, 4)
    if frames != (1, 2, rows, representation.frames):
        expected = f"[1, 2, {rows}, {representation.frames}], as the representation has it"
        raise output.fail(OUTPUT, expected, str(list(frames)))
    return inputs, frames


def _attributes(root: _Object) -> tuple[Attribute, ...]:
    attributes = []
    for entry in root.objects("attributes", LIMIT_ATTRIBUTES):
        quantiles = entry.numbers("quantiles", (QUANTILES,), 0.0, 1.0)
        fall = np.flatnonzero(np.diff(quantiles) < 0)
        if fall.size or quantiles[0] == quantiles[-1]:
            got = f"a fall after index {fall[0]}" if fall.size else "33 times the same"
            raise entry.fail("quantiles", "soft labels that rise", got)
        correlation = (
            None if entry.plain.get("correlation") is None else entry.number("correlation", -1.0, 1.0)
        )
        teacher = None if entry.plain.get("teacher") is None else entry.text("teacher", least=1)
        attributes.append(Attribute(entry.text("name", least=1), quantiles, correlation, teacher))
    if not attributes:
        raise root.fail("attributes", "one attribute at least", "none")
    _distinct(root, "attributes", [attribute.name for attribute in attributes])
    return tuple(attributes)


def _distinct(root: _Object, key: str, names: list[str]) -> None:
    """Names are found without regard to case, so they must differ without it."""
    folded = [name.casefold() for name in names]
    for index, name in enumerate(folded):
        if name in folded[:index]:
            raise root.fail(key, "names that differ (whatever their case)", f"{names[index]!r} twice")


def _copula(root: _Object, count: int) -> DoubleArray:
    copula = root.numbers("copula", (count, count), -1.0, 1.0)
    near = 1e-3  # what rounding to three digits may do; knobs adds a ridge of the same size
    if np.abs(np.diag(copula) - 1).max() > near or np.abs(copula - copula.T).max() > near:
        raise root.fail("copula", "a correlation matrix", "not symmetric, or not 1 on the diagonal")
    try:
        np.linalg.cholesky(copula + near * np.eye(count))
    except np.linalg.LinAlgError as error:
        raise root.fail("copula", "a correlation matrix", "one that is not positive definite") from error
    return copula
