"""`darkrack tell`: a word to the instrument that plays on this machine: keep this sound, recall that one, learn a knob.

Sent by OSC to `darkrack play`, which answers what it did, or why it did not.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Sequence

from device.errors import DarkrackError
from device.osc import LONGEST_MORPH_S, OSC_PORT, REPLY_BYTES, answered

VALUE = "VALUE"
WAIT_S = 2.0  # for the answer
# verb -> (OSC address, what it takes, line of help)
VERBS = {
    "keep": ("keep", ("NAME",), "keep this sound under a name; it is there after a restart"),
    "drop": ("drop", ("NAME",), "forget a kept sound"),
    "recall": ("preset", ("NAME",), "go over to a kept sound, or to one of the bundle's presets"),
    "sounds": ("sounds", (), "list kept sounds and presets, with their MIDI programs"),
    "undo": ("undo", (), "back to the sound before the last recall or choice"),
    "new": ("new", (), "another specimen of the same instrument"),
    "knob": ("knob", ("ATTRIBUTE", VALUE), "put an attribute somewhere, 0 to 1, up to 2 beyond"),
    "learn": (
        "learn",
        ("ATTRIBUTE",),
        "the next MIDI controller that moves turns this attribute from now on",
    ),
    "forget": ("forget", (), "forget what controllers have learned"),
    "bundle": ("bundle", ("NAME",), "go over to another of the bundles that play was given"),
    "panic": ("panic", (), "stop everything that sounds"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A verb and what it takes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    width = max(len(" ".join((verb, *takes))) for verb, (_, takes, _) in VERBS.items())
    parser.epilog = "verbs:\n" + "\n".join(
        f"  {' '.join((verb, *takes)):<{width}}  {line}" for verb, (_, takes, line) in VERBS.items()
    )
    parser.add_argument("verb", choices=list(VERBS), metavar="VERB", help="what to do, see below")
    parser.add_argument("words", nargs="*", metavar="WORD", help="what it takes")
    parser.add_argument(
        "--morph", type=float, default=0.0, metavar="S", help="recall: take so many seconds for it"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="new: the one of this number (default: any)")
    parser.add_argument(
        "--port", type=int, default=OSC_PORT, metavar="PORT", help=f"where it listens (default: {OSC_PORT})"
    )


def run(args: argparse.Namespace) -> None:
    """Say it, print the answer; DarkrackError where nobody answers, or where it cannot be done."""
    done, said = ask(*message(args.verb, args.words, args.morph, args.seed), args.port)
    if not done:
        words, _, hint = said.partition("; ")
        raise DarkrackError(f"tell {args.verb}", "something that can be done", words, hint)
    print(said)


def message(
    verb: str, words: Sequence[str], morph_s: float = 0.0, seed: int | None = None
) -> tuple[str, list[object]]:
    """The OSC address and arguments of a verb; DarkrackError for other words than it takes.

    A name of several words needs no quotes: ``tell keep Early in the morning``.
    """
    address, takes, _ = VERBS[verb]
    where = " ".join(("tell", verb, *words))
    given = list(words)
    said: list[object] = []
    if VALUE in takes and given:
        try:
            said.append(float(given.pop()))
        except ValueError:
            raise DarkrackError(where, f"{' '.join(takes)}, a number at the end", repr(words[-1])) from None
    name = " ".join(given)
    if bool(name) != bool(takes):
        raise DarkrackError(
            where, " ".join(takes) or "nothing more", name or "nothing", "darkrack tell --help"
        )
    said[:0] = [name] if takes else []
    if verb == "recall":
        if not 0.0 <= morph_s <= LONGEST_MORPH_S:
            raise DarkrackError("--morph", f"0 to {LONGEST_MORPH_S:g} seconds", f"{morph_s:g}")
        said.append(morph_s)
    if verb == "new" and seed is not None:
        if not 0 <= seed < 2**31:
            raise DarkrackError("--seed", f"0 to {2**31 - 1}", str(seed))
        said.append(seed)
    return address, said


def ask(address: str, words: list[object], port: int = OSC_PORT) -> tuple[bool, str]:
    """Send one message and wait for its answer: (whether it was done, words); DarkrackError where none comes."""
    from pythonosc.osc_message_builder import OscMessageBuilder

    builder = OscMessageBuilder(f"/darkrack/{address}")
    for word in words:
        builder.add_arg(word)  # type: ignore[arg-type]
    where, hint = f"an instrument at port {port}", "start it: darkrack play X.rack"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.settimeout(WAIT_S)
        try:
            end.connect(("127.0.0.1", port))
            end.send(builder.build().dgram)
            return answered(end.recv(REPLY_BYTES))
        except TimeoutError:
            raise DarkrackError(where, "an answer", "none", hint) from None
        except OSError as error:  # nobody has this port
            raise DarkrackError(where, "it to listen", error.strerror or str(error), hint) from error
