"""``python -m hw_schematics``: install KiCad, write what is committed, or check it."""

from __future__ import annotations

import argparse
import sys

from device.errors import DarkrackError


def main() -> int:
    """Run one action; the exit status is 0, or 1 for what a person can put right."""
    parser = argparse.ArgumentParser(prog="python -m hw_schematics", description="The module's schematic.")
    parser.add_argument(
        "action",
        choices=("install", "write", "check", "budget"),
        help="install: KiCad 9, where it is not; write: KiCad's files, pictures, parts; check: whether all holds; "
        "budget: simulate it, and write docs/error_budget.md (some ten minutes)",
    )
    action = parser.parse_args().action
    try:
        if action == "install":
            from hw_schematics.kicad import install

            install()
        elif action == "write":
            from hw_schematics import build_page, desk_drawing, panel_files, schematic

            made = (panel_files, desk_drawing, build_page, schematic)
            for path in (path for module in made for path in module.write()):
                print(path)
        elif action == "budget":
            from hw_schematics import budget, draw
            from hw_schematics.netlist import read_intended
            from hw_schematics.schematic import exported

            for path in budget.write(exported(draw.module())[0], read_intended()):
                print(path)
        else:
            from hw_schematics.check import report

            print(report())
    except DarkrackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
