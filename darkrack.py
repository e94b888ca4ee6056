"""The front door: one table of commands; imports only the one that was asked for, prints the errors."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

# command -> (module with add_arguments(parser) and run(args), one line)
COMMANDS: dict[str, tuple[str, str]] = {
    "render": ("device.render", "play a MIDI file through a bundle into a WAV"),
    "play": ("device.play", "play live: jacks and keys in, sound out; or on a clock of its own"),
    "calibrate": ("device.calibrate", "learn which code is which voltage, and where the knobs end"),
    "tell": ("device.tell", "tell the instrument that plays: keep this sound, recall that one, learn a knob"),
    "patch": ("device.patch_command", "check a patch, or export it as WAV and SFZ"),
    "demo": ("device.demo", "play a phrase with four simulated pots and a gate, and draw it"),
    "bench": (
        "device.bench",
        "measure what this machine takes: notes, blocks, answers, a start; compare two runs",
    ),
    "realtime": ("device.realtime", "measure how soon and how steadily `play` answers on this machine"),
    "doctor": ("device.doctor", "look whether this machine has what an instrument needs"),
    "bundle": ("device.bundle_command", "show or verify a bundle"),
    "data": ("train.data", "make a data set of notes from a SoundFont, a folder of samples or NSynth"),
    "label": ("train.label", "let a teacher hear the notes: soft labels, attributes, quantiles"),
    "train": ("train.train", "train a generator by a recipe; resumes where it stopped"),
    "warm-start": ("train.warm_start", "leave the weights of a run for another to begin with, small"),
    "evaluate": ("train.evaluate", "judge bundles and runs beside real notes that they never saw"),
    "trim": ("compress.trim", "trim a trained generator to a budget: fewer channels, the same sound"),
    "export": ("compress.export", "turn a run into a bundle, proved hop by hop"),
}

# What a user installs for the rooms that the base leaves out.
EXTRAS = {"train": "train", "compress": "compress"}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for our errors, 2 for usage, 130 for Ctrl-C."""
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()  # here, where it can fail quietly; --help leaves _run by SystemExit
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (head, less) has gone; give the interpreter nothing left to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(words: list[str]) -> int:
    """Run one command; our errors are printed, what else is raised goes on to main."""
    parser = argparse.ArgumentParser(
        prog="darkrack",
        description="Notes in, neural instrument out.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n" + "\n".join(f"  {name:<10}{line}" for name, (_, line) in COMMANDS.items()),
    )
    parser.add_argument(
        "command", choices=list(COMMANDS), metavar="command", help="one of the commands below"
    )
    if not words:
        parser.print_help()
        return 2
    command = parser.parse_args(words[:1]).command
    module_name, line = COMMANDS[command]

    from device.errors import DarkrackError

    try:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise _missing(error, module_name) from error
        command_parser = argparse.ArgumentParser(prog=f"darkrack {command}", description=line)
        module.add_arguments(command_parser)
        options = command_parser.parse_args(words[1:])
        try:
            module.run(options)
        except ModuleNotFoundError as error:
            raise _missing(error, module_name) from error
    except DarkrackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _missing(error: ModuleNotFoundError, module_name: str) -> Exception:
    """The error for a package of an extra that is not installed; anything of ours is a bug and stays one."""
    from device.errors import DarkrackError

    package = (error.name or "").split(".")[0]
    room = module_name.split(".", maxsplit=1)[0]
    if package in {"", "device", "train", "compress"}:
        return error
    extra = f"[{EXTRAS[room]}]" if room in EXTRAS else ""
    hint = f"pip install '.{extra}'" if extra else "pip install ."
    return DarkrackError(
        f"darkrack {room}", f"the Python package {package}", "none installed", f"{hint} in the clone"
    )


if __name__ == "__main__":
    sys.exit(main())
