"""What a meter has to show at the module's test points when it gets power for the first time, for docs/build.md.

Voltages come from the pin table and the profile, which the netlist is compared with; tolerances are worked out here.
"""

from __future__ import annotations

from dataclasses import dataclass

from device.profile import Profile
from hw_schematics.netlist import Intended

# Of the rack's 12 V, Doepfer allows none; supplies hold 2 %. Fuse, ferrite and transistor take at most 0.2 V, the
# Schottky diode of the negative side 0.2 to 0.5 V.
RACK_V, RACK_WITHIN_V, DROP_V, DIODE_V = 12.0, 0.24, 0.2, 0.5
USB_V, USB_WITHIN_V = 5.0, 0.25  # USB: 4.75 to 5.25 V
COMPUTER_WITHIN_V = 0.1  # its own 3.3 V: 3 %
REFERENCE_WITHIN_V = 0.005  # 0.05 % are 1.7 mV; load and a meter of 0.1 % the rest
PITCH_WITHIN_V = 0.003  # 0.1 % of 1 MOhm and of the others: 0.3 mV; U302 5 uV; a meter's last digit
# 1 % in each of three resistors moves 1.65 V by 16 mV at most, U401 and U402 by 3 and 5 mV.
CV_WITHIN_V = 0.03


@dataclass(frozen=True)
class Reading:
    """One measurement: at ``point``, against ground; ``low_v`` to ``high_v`` is right."""

    step: str
    point: str
    net: str
    low_v: float
    high_v: float
    otherwise: str


def readings(intended: Intended, profile: Profile) -> list[Reading]:
    """All measurements in the order in which they are made."""
    buck_v, buck_within_v = intended.figures["buck_v"]
    reference_v = intended.chips["pitch"].reference_v
    found = [
        Reading(
            "rack alone",
            "TP201",
            "+12VA",
            RACK_V - RACK_WITHIN_V - DROP_V,
            RACK_V + RACK_WITHIN_V,
            "F201, FB201, Q201, F202",
        ),
        Reading(
            "rack alone",
            "TP202",
            "-12VA",
            -RACK_V - RACK_WITHIN_V,
            -RACK_V + RACK_WITHIN_V + DROP_V + DIODE_V,
            "F203, FB203, D201",
        ),
        Reading("rack alone", "TP203", "+5V", 0.0, 0.1, "JP201 is closed, or Q202 leads"),
        Reading(
            "JP201 closed, no computer",
            "TP203",
            "+5V",
            buck_v - buck_within_v - 0.1,
            buck_v + buck_within_v,
            "U201, L201, R204, R205; Q202 and U202",
        ),
        Reading(
            "the same",
            "TP301",
            "VREF",
            reference_v - REFERENCE_WITHIN_V,
            reference_v + REFERENCE_WITHIN_V,
            "U301, R301; a short on VREF warms U301",
        ),
        Reading(
            "the same, nothing in the jacks",
            "TP302",
            "pitch: converter",
            profile.pitch.offset_v - PITCH_WITHIN_V,
            profile.pitch.offset_v + PITCH_WITHIN_V,
            "R302, R303, R304, U302",
        ),
    ]
    for number in sorted(intended.cvs):
        offset_v = profile.cvs[number].offset_v
        found.append(
            Reading(
                "the same, nothing in the jacks",
                f"TP40{number}",
                f"cv: converter_{number}",
                offset_v - CV_WITHIN_V,
                offset_v + CV_WITHIN_V,
                f"U401, U402, R4{number}4 to R4{number}6",
            )
        )
    supply_v = intended.chips["knobs"].reference_v
    found += [
        Reading(
            "JP201 open, computer on by USB-C",
            "TP203",
            "+5V",
            USB_V - USB_WITHIN_V,
            USB_V + USB_WITHIN_V,
            "the computer's supply",
        ),
        Reading(
            "the same",
            "TP901",
            "+3V3",
            supply_v - COMPUTER_WITHIN_V,
            supply_v + COMPUTER_WITHIN_V,
            "J901: is it seated, is pin 1 at pin 1?",
        ),
    ]
    return found


def table(intended: Intended, profile: Profile) -> str:
    """The measurements as Markdown."""
    rows = ["| when | where | right is | if not, look at |", "|---|---|---|---|"]
    for one in readings(intended, profile):
        volts = f"{_volts(one.low_v)} to {_volts(one.high_v)} V"
        rows.append(f"| {one.step} | {one.point} | {volts} | {one.otherwise} |")
    return "\n".join(rows)


def _volts(value: float) -> str:
    """As a meter shows it: two digits after the point, three where millivolts count."""
    return f"{value:.3f}" if round(value * 1000) % 10 else f"{value:.2f}"
