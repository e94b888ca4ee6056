"""`darkrack bundle show|verify FILE`: what is in a bundle, and whether it is whole."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from device.bundle import CARD, MANIFEST, Bundle, golden_frames, read, replay_golden
from device.files import write_json
from device.generator import OUTPUT, snr_db
from device.partials import Partials


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two actions, each on one file."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="show|verify")
    for action, line in (
        ("show", "print what a bundle holds: knobs, presets, variants, licences, measurements, card"),
        ("verify", "check a bundle from end to end and run its golden notes through every variant"),
    ):
        command = actions.add_parser(action, help=line, description=line)
        command.add_argument("file", type=Path, metavar="FILE", help="the bundle, *.rack")
        command.add_argument("--json", type=Path, metavar="F", help="also write it to F as JSON")


def run(args: argparse.Namespace) -> None:
    """Print for people; with --json write for programs. Any fault of the bundle is a DarkrackError."""
    if args.action == "show":
        bundle = read(args.file, replay=False)
        print(_summary(bundle))
        result = {"file": str(args.file), "manifest": json.loads(bundle.files[MANIFEST])}
    else:
        result = _verify(args.file)
    if args.json is not None:
        write_json(args.json, result)


def _summary(bundle: Bundle) -> str:
    manifest, grid = bundle.manifest, bundle.manifest.representation
    low_midi, high_midi = manifest.pitch_range_midi
    if isinstance(grid, Partials):
        halves = ", halves of f0 too," if grid.rows_a_partial > 1 else ""
        drawn = f"{grid.rows} rows{halves} x {grid.frames} frames at {grid.frame_rate_hz:g} Hz"
    else:
        drawn = f"{grid.bins} bins x {grid.frames} frames of {grid.hop_samples} at {grid.sample_rate_hz} Hz"
    sliced = f", {manifest.slice.macs:,} for {manifest.slice.frames} of its frames" if manifest.slice else ""
    lines = [
        f"{manifest.name}  ({bundle.path}, {_kb(sum(len(content) for content in bundle.files.values()))})",
        f"made       {manifest.created}, commit {manifest.commit[:12]}, recipe {manifest.recipe_sha256[:12]}",
        f"grid       {drawn}",
        f"network    {manifest.parameters:,} parameters, {manifest.macs:,} MACs a note{sliced}, "
        f"latent {manifest.latent_size}, MIDI {low_midi:g} to {high_midi:g}",
    ]
    for name, variant in manifest.variants.items():
        default = "  (default)" if name == manifest.default_variant else ""
        lines.append(f"variant    {name}  {_kb(variant.size_bytes)}{default}")
    lines += [f"data       {data.name}: {data.licence}; {data.source}" for data in manifest.data]
    lines += [f"preset     {preset.name}" for preset in manifest.presets]
    lines.append("knob       correlation  soft labels at 0, .5, 1")
    for attribute in manifest.attributes:
        correlation = "-" if attribute.correlation is None else f"{attribute.correlation:.2f}"
        low, middle, high = attribute.quantiles[[0, len(attribute.quantiles) // 2, -1]]
        lines.append(f"  {attribute.name:<30} {correlation:>5}  {low:.3f} {middle:.3f} {high:.3f}")
    lines += [f"parity     {hop}: {value:.1f} dB" for hop, value in manifest.parity_db.items()]
    lines += [f"quality    {key}: {json.dumps(value)}" for key, value in manifest.quality.items()]
    # The card is free text: a control character in it would be a command to the terminal.
    card = ["".join(c if c.isprintable() else "\ufffd" for c in line) for line in bundle.card.splitlines()]
    return "\n".join([*lines, "", f"{CARD}:", "", *card])


def _verify(path: Path) -> dict[str, Any]:
    """Read and check everything, replay golden, and run every other variant on the golden notes too."""
    began_s = time.perf_counter()
    bundle = read(path, replay=False)
    read_s = time.perf_counter() - began_s
    difference = replay_golden(bundle)
    manifest = bundle.manifest
    print(f"whole      {len(bundle.files)} members, sha256 right; read in {1000 * read_s:.1f} ms")
    print(f"golden     {manifest.default_variant} differs by at most {difference:.2g}")
    # As it will be played: with the delegate, which is allowed to differ.
    golden = bundle.golden()
    from_golden_db = {
        name: snr_db(golden[OUTPUT], golden_frames(bundle, name, golden, reference=False))
        for name in manifest.variants
    }
    for name, value in from_golden_db.items():
        print(f"variant    {name}: {value:.1f} dB from golden as it is played")
    return {
        "file": str(path),
        "sha256": dict(manifest.sha256),
        "read_ms": 1000 * read_s,
        "golden_largest_difference": difference,
        "variants_snr_db": from_golden_db,
    }


def _kb(size_bytes: int) -> str:
    return f"{size_bytes / 1000:,.0f} kB"
