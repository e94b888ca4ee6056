"""``python -m benchmarks.arm64``: Darkrack on an emulated Raspberry Pi; what it executes; what that may take."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.arm64 import agree, page
from benchmarks.arm64.counts import count, risen
from benchmarks.arm64.root import BOARDS, install
from device import bundle as bundles
from device.errors import DarkrackError
from device.files import write_json

FORMAT = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one action; the exit status is 0, or 1 for what a person can put right or must see."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arm64", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    running = actions.add_parser(
        "run", help="compare with this machine, count, hold counts to those that are kept"
    )
    running.add_argument("bundle", nargs="+", type=Path, metavar="X.rack")
    running.add_argument(
        "--quick", action="store_true", help="leave out sound and audio blocks, for which numba compiles"
    )
    running.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    running.add_argument(
        "--record", action="store_true", help="keep these counts, and write docs/arm64.md's tables"
    )
    actions.add_parser(
        "known", help="count the known networks anew (half an hour), and write docs/arm64.md's tables"
    )
    actions.add_parser("page", help="write docs/arm64.md's tables from what is kept")
    args = parser.parse_args(arguments)
    try:
        if args.action == "run":
            return _run(args)
        if args.action == "known":
            from benchmarks.arm64.known import count_all

            counted = count_all(install(), page.PUBLISHED)
            kept = {
                engine: {
                    cpu: {network: piece.as_json() for network, piece in networks.items()}
                    for cpu, networks in cpus.items()
                }
                for engine, cpus in counted.items()
            }
            write_json(page.KNOWN, kept)
        print(page.write())
    except DarkrackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run(args: argparse.Namespace) -> int:
    if args.record and args.quick:
        raise DarkrackError(
            "--record", "all counts", "--quick, which leaves some out", "leave one of them out"
        )
    report = measure(args.bundle, quick=args.quick)
    print(page.agreement(report))
    print(page.counts_table(report))
    print(page.estimates(report))
    if args.json is not None:
        write_json(args.json, report)
    if args.record:
        write_json(page.KEPT, report)
        print(page.write())
    found = faults(report, page.kept())
    for fault in found:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if found else 0


def measure(paths: Sequence[Path], *, quick: bool = False) -> dict[str, Any]:
    """All figures of some bundles, as report.schema.json has them. DarkrackError for what cannot be run."""
    from device.machine import processor

    def say(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    say("arm64: Debian and wheels, unless they are there")
    root = install()
    report: dict[str, Any] = {
        "format": FORMAT,
        "date": datetime.date.today().isoformat(),
        "machine": processor(),
        "versions": root.versions(),
        "bundles": {},
    }
    for path in paths:
        rack = bundles.read(path, replay=False)
        manifest = rack.manifest
        boards: dict[str, Any] = {}
        with tempfile.TemporaryDirectory(prefix="darkrack-arm64.") as name:
            folder = Path(name)
            say(f"{path.name}: here")
            here = agree.hear(path, folder, None, None, sound=not quick)
            for board in BOARDS:
                first = (
                    "" if quick else "; the first time ten minutes, for numba compiles on the emulated core"
                )
                say(f"{path.name}: {board.model}{first}")
                there = agree.hear(path, folder, root, board, sound=not quick)
                boards[board.name] = {
                    "golden_largest_difference": there.golden_largest_difference,
                    "played_snr_db": there.variants_snr_db,
                    "here_snr_db": here.variants_snr_db,
                }
                if here.rendered is not None and there.rendered is not None:
                    boards[board.name]["render_db"] = agree.difference_db(here.rendered, there.rendered)
                if here.played is not None and there.played is not None:
                    boards[board.name]["play_db"] = agree.difference_db(here.played, there.played)
                say(f"{path.name}: counting on a {board.cpu}")
                words = ("bundle", str(path.resolve()), *(() if quick else ("voices",)))
                pieces = count(root, board, *words)
                boards[board.name]["counts"] = {name: piece.as_json() for name, piece in pieces.items()}
        report["bundles"][path.name] = {
            "model_sha256": hashlib.sha256(rack.model()).hexdigest(),
            "macs": manifest.macs,
            "slice_frames": manifest.slice.frames if manifest.slice else None,
            "boards": boards,
        }
    return report


def faults(report: dict[str, Any], kept: dict[str, Any]) -> list[str]:
    """What breaks a tolerance, or takes more instructions than are kept for the same network; all of it at once."""
    found = []
    for name, one in report["bundles"].items():
        before = kept["bundles"].get(name)
        if before is None or before["model_sha256"] != one["model_sha256"]:
            found.append(f"{name}: no counts are kept of this network; make arm64 RECORD=1 keeps them")
        for board, figures in one["boards"].items():
            found += [f"{name}, {board}: {fault}" for fault in agree.faults(figures)]
            if before is not None and before["model_sha256"] == one["model_sha256"]:
                bound = before["boards"][board]["counts"]
                if "render_db" not in figures:  # a quick run
                    bound = {piece: value for piece, value in bound.items() if piece in figures["counts"]}
                found += [f"{name}, {board}, {rise}" for rise in risen(bound, figures["counts"])]
    return found


if __name__ == "__main__":
    sys.exit(main())
