"""What the parts do and what they stand: behaviour for SPICE, and absolute maxima, from figures of data sheets.

The models are ours, none is a maker's. An amplifier has its gain-bandwidth, slew rate, offset, bias current, noise,
swing and short-circuit current, clamps to its supplies at both inputs, and goes dead without a supply. What a data
sheet only shows as a curve, or not at all, is said to be assumed. Limits are those at 25 C.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BOLTZMANN_J_K, ROOM_K = 1.380649e-23, 300.15


@dataclass(frozen=True)
class Amplifier:
    """Figures of one amplifier of a package; ``source`` is the data sheet."""

    gain_bandwidth_hz: float
    slew_v_s: float
    open_loop_db: float
    offset_max_v: float
    offset_drift_max_v_k: float
    bias_max_a: float
    noise_v: float  # per root hertz, at 1 kHz
    swing_v: float  # from either supply, lightly loaded
    short_a: float
    supply_a: float  # of each amplifier
    awake_v: float  # the least supply
    input_max_a: float
    supply_max_v: float
    source: str


AMPLIFIERS: Mapping[str, Amplifier] = {
    "OPA388": Amplifier(
        10e6, 5e6, 148, 5e-6, 0.05e-6, 350e-12, 7e-9, 0.005, 0.060, 1.7e-3, 2.5, 10e-3, 6.0,
        "SBOS777, 6.1 and 6.5; bias: 350 pA at 25 C, so much at every temperature assumed",
    ),
    "TL074": Amplifier(
        5.25e6, 20e6, 118, 4e-3, 2e-6, 120e-12, 37e-9, 0.12, 0.026, 0.94e-3, 4.5, 10e-3, 42.0,
        "SLOS080, TL074H; drift is typical",
    ),
    "MCP6004": Amplifier(
        1e6, 0.6e6, 112, 4.5e-3, 2e-6, 1e-12, 28e-9, 0.025, 0.015, 0.1e-3, 1.8, 2e-3, 7.0,
        "DS21733; drift is typical; short-circuit current between that at 1.8 V (6 mA) and at 5.5 V (23 mA)",
    ),
    "OPA1679": Amplifier(
        16e6, 9e6, 114, 2e-3, 2e-6, 10e-12, 4.5e-9, 0.8, 0.050, 2.0e-3, 4.5, 10e-3, 40.0,
        "SBOS855; swing into 2 kOhm",
    ),
}  # fmt: skip
AMPLIFIER_SUPPLIES = {
    "OPA388": ("5", "2"),
    "TL074": ("4", "11"),
    "MCP6004": ("4", "11"),
    "OPA1679": ("4", "11"),
}


@dataclass(frozen=True)
class Reference:
    """REF3433. SBAS804, 6.5; the course of the rejection between its ends is assumed."""

    volts: float = 3.3
    initial: float = 0.0005
    drift_k: float = 6e-6  # -40 to 125 C, as a box
    short_a: float = 18e-3
    line_v_v: float = 15e-6 * 3.3  # 15 ppm/V at most
    corner_hz: float = 100.0  # assumed: above it the rejection is lost by 20 dB a decade
    output_ohm: float = 30e-6 * 3.3 / 1e-3  # 30 ppm/mA at most
    dropout_v: float = 0.1
    slow_noise_v: float = 5e-6 * 3.3 / 6.6  # rms of 5 uV/V from peak to peak, 0.1 to 10 Hz
    wide_noise_v: float = 24e-6 * 3.3 / 2.5  # 10 Hz to 10 kHz, of the 2.5 V type, scaled
    hysteresis: float = 30e-6  # thermal, first cycle: a share; typical


REFERENCE = Reference()


@dataclass(frozen=True)
class PitchConverter:
    """ADS8325IB. SBAS226, electrical characteristics; drifts are typical."""

    bits: int = 16
    inl_lsb: float = 4.0
    dnl_lsb: float = 2.0
    offset_v: float = 1e-3
    offset_drift_v_k: float = 0.2e-6
    gain: float = 12 / 65536
    gain_drift_k: float = 0.3e-6
    noise_lsb: float = 3.0 / 6.6  # rms of 3 LSB from peak to peak
    sample_f: float = 40e-12
    sample_ohm: float = 50.0  # assumed: the data sheet's circuit shows 50 Ohm before it
    sample_clocks: float = 4.5


PITCH_CONVERTER = PitchConverter()


@dataclass(frozen=True)
class CvConverter:
    """MCP3208-B. DS21298, table "electrical specifications"."""

    bits: int = 12
    inl_lsb: float = 1.0
    offset_lsb: float = 3.0
    gain_lsb: float = 5.0


CV_CONVERTER = CvConverter()

# SCES381 and SCES380, thresholds at a supply of 3 V: (least, most) rising, (least, most) falling.
SCHMITT_RISING_V, SCHMITT_FALLING_V = (1.3, 2.2), (0.6, 1.5)
DAC_PEAK_V = 2.1 * 2**0.5  # PCM5102A, full scale, SLAS859
DAC_NOISE_V = 2.1 / 10 ** (112 / 20)  # 112 dB below full scale, A-weighted


@dataclass(frozen=True)
class Buck:
    """TPS54302, averaged over its switching. SLVSDG6; efficiency from its curve, the loop's crossover assumed."""

    reference_v: float = 0.596
    switching_hz: float = 400e3
    soft_start_s: float = 5e-3
    limit_a: float = 4.0  # of the inductor, valley; the least
    efficiency: float = 0.90
    crossover_hz: float = 40e3  # assumed: a tenth of the switching frequency


BUCK = Buck()

# ---- limits ----

# Watts that a resistor stands, by its package: Yageo RC series, 70 C. A note "... W: " in the parts' list goes before.
PACKAGE_W = {"0805": 0.125, "1206": 0.25, "2512": 1.0}


@dataclass(frozen=True)
class DiodeLimits:
    """Forward current, reverse voltage; the model's saturation current (A), resistance (Ohm), emission."""

    forward_a: float
    reverse_v: float
    saturation_a: float
    ohm: float
    emission: float
    source: str


# Saturation currents are chosen for the forward voltages of the sheets, leakage is added where it matters.
DIODES: Mapping[str, DiodeLimits] = {
    "BAT54S": DiodeLimits(0.2, 30.0, 1.2e-7, 2.0, 1.05, "Nexperia BAT54: 0.24 V at 0.1 mA, 0.4 V at 10 mA"),
    "BAV99": DiodeLimits(
        0.125, 100.0, 2.5e-9, 0.6, 1.75, "Nexperia BAV99, both diodes loaded: 0.715 V at 1 mA"
    ),
    "1N5819HW": DiodeLimits(1.0, 40.0, 2.0e-6, 0.06, 1.05, "Diodes Inc. DS30217: 0.45 V at 1 A"),
    "1N4148W": DiodeLimits(0.3, 75.0, 2.5e-9, 0.6, 1.75, "Diodes Inc. DS30086: 0.715 V at 1 mA"),
    "green": DiodeLimits(0.025, 5.0, 1e-18, 5.0, 2.2, "Kingbright WP710A10LGD; forward voltage about 2 V"),
    "H11L1": DiodeLimits(0.030, 6.0, 1e-14, 3.0, 1.7, "onsemi H11L1M: 1.2 V at 10 mA"),
}


@dataclass(frozen=True)
class TransistorLimits:
    """Drain to source, gate to source, drain current, watts; threshold and transconductance of the model."""

    drain_v: float
    gate_v: float
    drain_a: float
    watts: float
    threshold_v: float
    kp: float
    source: str


TRANSISTORS: Mapping[str, TransistorLimits] = {
    "BSS138": TransistorLimits(50.0, 20.0, 0.22, 0.36, 1.3, 0.25, "onsemi BSS138"),
    "2N7002": TransistorLimits(60.0, 30.0, 0.30, 0.83, 1.6, 0.25, "Nexperia 2N7002"),
    "SI2318CDS": TransistorLimits(40.0, 20.0, 3.9, 1.25, 1.8, 15.0, "Vishay 68643: 42 mOhm at 10 V"),
    "DMP3056L": TransistorLimits(30.0, 25.0, 3.5, 1.38, -1.6, 8.0, "Diodes Inc. DS36812: 45 mOhm at 10 V"),
}


@dataclass(frozen=True)
class ChipLimits:
    """Supply (its pins, volts), and pins with the most current into a clamp (A), or the most volts beyond a supply."""

    supply: tuple[str, str]
    supply_v: float
    pins_a: Mapping[str, float]
    pins_v: Mapping[str, float]
    source: str


_CHANNELS = tuple(str(number) for number in range(1, 9))
CHIPS: Mapping[str, ChipLimits] = {
    "OPA388": ChipLimits(("5", "2"), 6.0, {"3": 10e-3, "4": 10e-3, "1": 60e-3}, {}, AMPLIFIERS["OPA388"].source),
    "TL074": ChipLimits(
        ("4", "11"), 42.0, dict.fromkeys(("2", "3", "5", "6", "9", "10", "12", "13"), 10e-3), {}, "SLOS080"
    ),
    "MCP6004": ChipLimits(
        ("4", "11"), 7.0, {**dict.fromkeys(("2", "3", "5", "6", "9", "10", "12", "13"), 2e-3),
                           **dict.fromkeys(("1", "7", "8", "14"), 30e-3)}, {}, "DS21733"
    ),
    "OPA1679": ChipLimits(
        ("4", "11"), 40.0, {**dict.fromkeys(("2", "3", "5", "6", "9", "10", "12", "13"), 10e-3),
                            **dict.fromkeys(("1", "7", "8", "14"), 50e-3)}, {},
        "SBOS855; an output may be shorted, 50 mA is what it gives then"
    ),
    "ADS8325": ChipLimits(("8", "4"), 6.0, {"2": 20e-3}, {}, "SBAS226; 0.3 V beyond a supply, or 20 mA"),
    "MCP3208": ChipLimits(("16", "9"), 7.0, {}, dict.fromkeys(_CHANNELS, 0.6), "DS21298"),
    "MCP3008": ChipLimits(("15", "9"), 7.0, {}, dict.fromkeys(_CHANNELS, 0.6), "DS21295"),
    "REF3433": ChipLimits(("4", "2"), 13.0, {"6": 18e-3}, {}, "SBAS804"),
    "74LVC2G17": ChipLimits(
        ("5", "2"), 6.5, {"1": 50e-3, "3": 50e-3, "6": 50e-3, "4": 50e-3}, {}, "SCES381; inputs to 6.5 V"
    ),
    "74LVC1G17": ChipLimits(("5", "3"), 6.5, {"2": 50e-3, "4": 50e-3}, {}, "SCES380"),
}  # fmt: skip
# Inputs that may lie above their supply, up to so many volts over ground.
TOLERANT_V = {"74LVC2G17": (("1", "3"), 6.5), "74LVC1G17": (("2",), 6.5)}


# ---- text for SPICE ----

COMMON = (
    ".model CLAMP D(IS=1e-15 N=1 RS=5)",  # of a chip's inputs: 0.6 V at 0.1 mA
    ".model RAIL D(IS=1e-12 N=0.1)",  # brings an amplifier's inner node back from a supply, at 0.05 V
)


def amplifier_text(name: str, figures: Amplifier) -> list[str]:
    """One amplifier as a subcircuit: plus, minus, supplies, output."""
    inner_f = 100e-12  # any: slew and transconductance follow from it
    most_a = figures.slew_v_s * inner_f
    transconductance = 2 * 3.141592653589793 * figures.gain_bandwidth_hz * inner_f
    inner_ohm = 10 ** (figures.open_loop_db / 20) / transconductance
    noise_ohm = figures.noise_v**2 / (4 * BOLTZMANN_J_K * ROOM_K)
    output_ohm = 100.0  # of an open loop, assumed; the loop divides it
    awake_v = 0.6 * figures.awake_v
    return [
        f".subckt {name} plus minus vcc vee out",
        "Dp1 plus vcc CLAMP", "Dp2 vee plus CLAMP", "Dm1 minus vcc CLAMP", "Dm2 vee minus CLAMP",
        f"Bon on 0 V=0.5+0.5*tanh(5*(V(vcc,vee)-{awake_v:g}))",
        f"Rn plus np {noise_ohm:.6g}",
        "Vos np nq 0", "Ibias plus vee 0",
        f"Bgm 0 x I=V(on)*{most_a:.6g}*tanh(V(nq,minus)*{transconductance / most_a:.9g})",
        f"Rx x 0 {inner_ohm:.6g}", f"Cx x 0 {inner_f:g}",
        f"Bhalf half 0 V=max(0.5*V(vcc,vee)-{figures.swing_v:g},0.05)-0.05",
        "Bhigh high 0 V=0.5*(V(vcc)+V(vee))+V(half)", "Blow low 0 V=0.5*(V(vcc)+V(vee))-V(half)",
        "Dhigh x high RAIL", "Dlow low x RAIL",
        f"Bio io 0 V=V(on)*{figures.short_a:g}*tanh((V(x)-V(out))/{output_ohm * figures.short_a:g})",
        "Bsource vcc out I=0.5*(V(io)+sqrt(V(io)*V(io)+1e-12*V(on)*V(on)+1e-20))",
        "Bsink out vee I=0.5*(sqrt(V(io)*V(io)+1e-12*V(on)*V(on)+1e-20)-V(io))",
        "Do1 out vcc CLAMP", "Do2 vee out CLAMP",
        f"Bq vcc vee I=V(on)*{figures.supply_a:g}",
        ".ends",
    ]  # fmt: skip


def reference_text(figures: Reference = REFERENCE) -> list[str]:
    """REF3433 as a subcircuit: input, output, ground; its output neither sinks nor clamps without an input."""
    seconds = 1 / (2 * 3.141592653589793 * figures.corner_hz)
    # What comes through: line * (1 + s * seconds), by a capacitor of 1 nF into a resistor; never more than all of it.
    return [
        ".subckt REF3433 vin out gnd",
        f"Bon on 0 V=0.5+0.5*tanh(8*(V(vin,gnd)-{figures.volts / 2:g}))",
        f"Cslope vin slope {seconds * figures.line_v_v / 1e3:.6g}", "Rslope slope gnd 1k",
        "Vset set 0 " + f"{figures.volts:g}",
        f"Bwant want 0 V=min(V(set)+{figures.line_v_v:.6g}*(V(vin,gnd)-5)+V(slope,gnd),"
        f"V(vin,gnd)-{figures.dropout_v:g})",
        f"Bio io 0 V=V(on)*{figures.short_a:g}*tanh((V(want)-V(out,gnd))/"
        f"{figures.output_ohm * figures.short_a:.6g})",
        "Bsource vin out I=0.5*(V(io)+sqrt(V(io)*V(io)+1e-14*V(on)*V(on)+1e-20))",
        "Bsink out gnd I=0.5*(sqrt(V(io)*V(io)+1e-14*V(on)*V(on)+1e-20)-V(io))",
        "Rq vin gnd 50k",
        ".ends",
    ]  # fmt: skip


def schmitt_text(name: str, rising_v: float, falling_v: float) -> list[str]:
    """One Schmitt trigger: input, supply, ground, output. Its input is clamped below only, and its output lets go."""
    middle, half = (rising_v + falling_v) / 2, (rising_v - falling_v) / 2
    return [
        f".subckt {name} in vcc gnd out",
        "Dlow gnd in CLAMP",
        f"Sup one level in gnd {name}_S", "Rup level 0 1k", "Vone one 0 1",
        f".model {name}_S SW(VT={middle:g} VH={half:g} RON=1 ROFF=1e9)",
        "Bon on 0 V=0.5+0.5*tanh(5*(V(vcc,gnd)-1.2))",
        "Bio io 0 V=V(on)*0.05*tanh((V(vcc,gnd)*V(level)-V(out,gnd))/(20*0.05))",  # 20 Ohm, 50 mA
        "Bsource vcc out I=0.5*(V(io)+sqrt(V(io)*V(io)+1e-12*V(on)*V(on)+1e-20))",
        "Bsink out gnd I=0.5*(sqrt(V(io)*V(io)+1e-12*V(on)*V(on)+1e-20)-V(io))",
        ".ends",
    ]  # fmt: skip


def diode_text(name: str, figures: DiodeLimits) -> str:
    """A model line for a diode; the breakdown is at its limit."""
    return (
        f".model {name} D(IS={figures.saturation_a:g} N={figures.emission:g} RS={figures.ohm:g} "
        f"BV={figures.reverse_v:g} IBV=1e-5 CJO=4p)"
    )


def transistor_text(name: str, figures: TransistorLimits) -> list[str]:
    """A field-effect transistor with its body's diode: drain, gate, source."""
    kind = "PMOS" if figures.threshold_v < 0 else "NMOS"
    body = "Dbody drain source BODY" if kind == "PMOS" else "Dbody source drain BODY"
    return [
        f".subckt {name} drain gate source",
        f"M1 drain gate source source {name}_M",
        f".model {name}_M {kind}(LEVEL=1 VTO={figures.threshold_v:g} KP={figures.kp:g} RD=0.02 RS=0.005)",
        body, ".model BODY D(IS=1e-9 N=1.1 RS=0.03)",
        ".ends",
    ]  # fmt: skip
