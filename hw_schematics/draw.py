"""The sheets of the module, drawn one by one, and the one above them all.

The hundreds of a reference are its sheet's page: R302 is on page 3. Coordinates are hw_schematics.drawing's.
"""

from __future__ import annotations

from hw_schematics import symbols as look
from hw_schematics.drawing import Placed, Point, Sheet, Subsheet, SubsheetPin, Symbol, text_box
from hw_schematics.parts import read_parts

PROJECT = "darkrack"
DATE, REVISION, COMPANY = "2026-11-21", "A (not built)", "Darkrack, Apache-2.0"


# Where the words on the panel are written beside a part: from its origin; a pot's end there.
PANEL_AT = {"J": (-1.5, -4.3), "RV": (-0.7, 0.5), "D": (1.6, 1.0), "SW": (0.0, -2.9)}


Pins = tuple[tuple[float, str], ...]


class Pen:
    """Draws on one sheet: parts by their keys, and the symbols of supplies, counted."""

    def __init__(self, name: str, title: str, comment: str, page: int) -> None:
        self.sheet = Sheet(name, title, comment, page)
        self._page = page
        self._rails = 0
        self.wire, self.say, self.nothing = self.sheet.wire, self.sheet.say, self.sheet.nothing

    def part(
        self,
        symbol: Symbol,
        reference: str,
        key: str,
        at: Point,
        panel: str = "",
        *,
        unit: int = 1,
        reference_by: Point = (0.0, 0.0),
        value_by: Point = (0.0, 0.0),
    ) -> Placed:
        """A part; ``panel``: what is written beside it on the module's face; the rest as for Sheet.place."""
        part = read_parts()[key]
        fields = {**part.fields(), **({"Panel": panel} if panel else {})}
        placed = self.sheet.place(
            symbol,
            reference,
            part.value,
            at,
            unit=unit,
            fields=fields,
            reference_by=reference_by,
            value_by=value_by,
        )
        if panel:
            left, lift = PANEL_AT[symbol.prefix]
            words = text_box(panel, (0.0, 0.0), "left")
            x = at[0] + left - (words[2] if symbol.prefix == "RV" else 0.0)
            self.say(panel, (x, at[1] + lift), bold=True)
        return placed

    def note(self, title: str, words: str, at: Point) -> None:
        """What a reader should know, under a heading."""
        self.say(title, at, 1.6, bold=True)
        self.say(words, (at[0], at[1] + 1.5))

    def rail(self, name: str, at: Point) -> Point:
        """The symbol of a supply, or of ground, at the end of a wire; "-12VA up" where the wire comes from below."""
        self._rails += 1
        reference = f"#PWR{self._page}{self._rails:02d}"
        self.sheet.place(look.RAILS[name], reference, name.partition(" ")[0], at, show_value=name != "GND")
        return at

    def ground(self, at: Point, down: float = 0.0) -> Point:
        """Ground, ``down`` below a pin."""
        end = (at[0], at[1] + down)
        self.wire(at, end)
        self.rail("GND", end)
        return at

    def driven(self, at: Point) -> None:
        """Say to KiCad's check that this net is a supply, though it comes from a connector or through a ferrite."""
        self._rails += 1
        self.sheet.place(look.FLAG, f"#FLG{self._page}{self._rails:02d}", "PWR_FLAG", at, show_value=False)

    def capacitor(self, reference: str, key: str, top: Point, down: float = 1.0, rail: str = "") -> None:
        """A capacitor to ground, ``down`` below a point of a wire, or under a supply of its own."""
        symbol = look.CAPACITOR_POLAR if key.endswith("bulk") else look.CAPACITOR
        if rail:
            self.rail(rail, top)
        placed = self.part(symbol, reference, key, (top[0], top[1] + down + 1))
        self.wire(top, placed.pin("1"))
        self.ground(placed.pin("2"))

    def lying(
        self, reference: str, key: str, begin: Point, end: Point, symbol: Symbol = look.RESISTOR_LYING
    ) -> Placed:
        """A resistor, or what lies like one, in the middle of a wire along x."""
        middle = int(begin[0] + end[0]) / 2  # on the grid of connections
        placed = self.part(symbol, reference, key, (middle, begin[1]))
        left, right = (pin.number for pin in sorted(placed.symbol.units[1].pins, key=lambda pin: pin.x))
        self.wire(begin, placed.pin(left))
        self.wire(placed.pin(right), end)
        return placed

    def down(
        self, reference: str, key: str, top: Point, length: float = 0.5, *, ground: bool = True
    ) -> Placed:
        """A resistor standing ``length`` below a point of a wire, to ground if wanted."""
        placed = self.part(look.RESISTOR, reference, key, (top[0], top[1] + length + 1.5))
        self.wire(top, placed.pin("1"))
        if ground:
            self.ground(placed.pin("2"))
        return placed

    def pull_up(self, reference: str, key: str, bottom: Point, length: float, rail: str) -> Placed:
        """A resistor standing ``length`` above a point of a wire, to a supply."""
        placed = self.part(look.RESISTOR, reference, key, (bottom[0], bottom[1] - length - 1.5))
        self.wire(bottom, placed.pin("2"))
        self.rail(rail, placed.pin("1"))
        return placed

    def test_point(self, reference: str, name: str, at: Point) -> None:
        """A pad for a probe, on a wire; ``name`` is written beside it."""
        part = read_parts()["Test_point"]
        self.sheet.place(look.TEST_POINT, reference, name, at, fields=part.fields())

    def jack_ground(self, jack: Placed, *pins: str) -> None:
        """These pins of an input jack to ground, by a wire to the right of it."""
        x = jack.pin(pins[0])[0] + 1.5
        for pin in pins:
            self.wire(jack.pin(pin), (x, jack.pin(pin)[1]))
        low = max(jack.pin(pin)[1] for pin in pins)
        high = min(jack.pin(pin)[1] for pin in pins)
        self.wire((x, high), (x, low))
        self.ground((x, low), 0.5)

    def bus(self, chip: Placed, names: dict[str, tuple[str, str, str]], x: float) -> None:
        """Wires from pins of a converter to labels at ``x``: pin -> (label, its shape, the resistor in the way)."""
        for pin, (name, shape, resistor) in names.items():
            begin = chip.pin(pin)
            end = (x, begin[1])
            if resistor:
                self.lying(resistor, "R_470", (begin[0] + 2, begin[1]), end)
                self.wire(begin, (begin[0] + 2, begin[1]))
            else:
                self.wire(begin, end)
            self.sheet.label(name, shape, end, "right")


def power() -> Sheet:
    """From the rack's ribbon to the rails, and 5 V for a Pi 4."""
    pen = Pen("power", "Power", "Rack ±12 V in; analogue rails; 5 V for a Pi 4 where JP201 is closed", 2)
    ribbon = pen.part(look.EURORACK, "J201", "Header_eurorack", (7, 14))
    # +12 V: fuse, ferrite, and a transistor that stays off while the ribbon is the wrong way round
    pen.wire(ribbon.pin("10"), (15, 16), (15, 15))
    pen.wire(ribbon.pin("9"), (15, 15), (16, 15))
    pen.lying("F201", "F_1A5", (16, 15), (21, 15), look.FUSE_LYING)
    pen.lying("FB201", "FB_power", (21, 15), (27, 15), look.FERRITE_LYING)
    switch = pen.part(look.PMOS_LYING, "Q201", "Q_PMOS", (31, 15))
    pen.wire((27, 15), switch.pin("3"))
    pen.down("R201", "R_10k", switch.pin("1"))
    pen.wire(switch.pin("2"), (51, 15))
    pen.wire((36, 15), pen.rail("+12V", (36, 13)))
    pen.driven((34, 15))
    pen.capacitor("C201", "C_47u_bulk", (38, 15))
    pen.capacitor("C202", "C_10u", (42, 15))
    pen.capacitor("C203", "C_100n", (46, 15))
    # one ground wire carries no current: it brings the rack's ground to the pitch input
    pen.wire(ribbon.pin("3"), (22, 18))
    pen.driven((18, 18))
    pen.rail("GNDS", (22, 18))
    x = 14.5
    for number in range(4, 9):
        pen.wire(ribbon.pin(str(number)), (x, ribbon.pin(str(number))[1]))
    pen.wire((x, 19), (x, 23))
    pen.ground((x, 23), 0.5)
    # 5 V: the converter runs only while JP201 is closed
    buck = pen.part(look.BUCK, "U201", "TPS54302", (52, 14))
    pen.ground(buck.pin("1"), 0.5)
    pen.wire(buck.pin("5"), (50, 17), (50, 26))
    pen.wire(pen.rail("+12V", (32, 26)), (34, 26))
    pen.lying("JP201", "Jumper", (34, 26), (39, 26), look.JUMPER_LYING)
    pen.lying("R202", "R_100k", (39, 26), (46, 26))
    pen.wire((46, 26), (50, 26))
    pen.down("R203", "R_15k", (47, 26))
    boot = pen.part(look.CAPACITOR, "C204", "C_100n", (65, 16))
    pen.wire(buck.pin("6"), boot.pin("1"))
    pen.wire(buck.pin("2"), boot.pin("2"))
    pen.lying("L201", "L_10u", boot.pin("2"), (74, 17), look.INDUCTOR_LYING)
    top = pen.down("R204", "R_100k", (74, 17), 0.5, ground=False)
    pen.wire(top.pin("2"), (74, 22))
    pen.wire(buck.pin("4"), (63, 19), (63, 22), (74, 22))
    pen.down("R205", "R_13k7", (74, 22))
    lead = pen.part(look.CAPACITOR, "C207", "C_75p", (79, 19.5))
    pen.wire((79, 17), lead.pin("1"))
    pen.wire(lead.pin("2"), (79, 22), (74, 22))
    pen.wire((74, 17), (95, 17))
    pen.capacitor("C205", "C_22u", (83, 17))
    pen.capacitor("C206", "C_22u", (87, 17))
    # what keeps current from a USB supply out of it
    diode = pen.part(look.NMOS_LYING, "Q202", "Q_NMOS_power", (97, 17))
    control = pen.part(look.IDEAL_DIODE, "U202", "LM74700", (93, 25))
    pen.wire(control.pin("5"), diode.pin("1"))
    pen.wire((90.5, 17), (90.5, 26))
    pen.wire(control.pin("6"), (90.5, 26), (90.5, 30), control.pin("3"))
    pump = pen.part(look.CAPACITOR, "C208", "C_100n", (88, 27), reference_by=(-4.2, 0), value_by=(-4.2, 0))
    pen.wire((90.5, 26), pump.pin("1"))
    pen.wire(control.pin("1"), pump.pin("2"))
    pen.wire(control.pin("4"), (105.5, 26), (105.5, 17))
    pen.ground(control.pin("2"), 0.5)
    pen.wire(diode.pin("3"), (111, 17))
    pen.rail("+5V", (111, 17))
    pen.driven((101.5, 17))
    pen.capacitor("C209", "C_22u", (108.5, 17))
    # the analogue rails
    pen.wire(pen.rail("+12V", (20, 40)), (21, 40))
    pen.lying("F202", "F_0A2", (21, 40), (26, 40), look.FUSE_LYING)
    pen.lying("FB202", "FB_small", (26, 40), (33, 40), look.FERRITE_LYING)
    pen.wire((33, 40), (56, 40))
    pen.capacitor("C210", "C_10u", (42, 40))
    pen.capacitor("C211", "C_100n", (46.5, 40))
    pen.rail("+12VA", (51, 40))
    pen.driven((53.5, 40))
    pen.test_point("TP201", "+12VA", (56, 40))
    pen.wire(ribbon.pin("1"), (16, 26), (16, 27))
    pen.wire(ribbon.pin("2"), (16, 27), (16, 50), (21, 50))
    pen.lying("F203", "F_0A2", (21, 50), (26, 50), look.FUSE_LYING)
    pen.lying("FB203", "FB_small", (26, 50), (33, 50), look.FERRITE_LYING)
    pen.lying("D201", "D_1N5819", (33, 50), (40, 50), look.SCHOTTKY_LEFT)
    pen.wire((40, 50), (56, 50))
    pen.capacitor("C212", "C_10u", (42, 50))
    pen.capacitor("C213", "C_100n", (46.5, 50))
    pen.rail("-12VA", (51, 50))
    pen.driven((53.5, 50))
    pen.test_point("TP202", "-12VA", (56, 50))
    # what a probe and an eye find
    pen.wire(pen.rail("+5V", (64, 40)), (76, 40))
    pen.test_point("TP203", "+5V", (67.5, 40))
    # MIDI OUT's ring at -12 V would pull a +5 V that nobody feeds below ground
    clamp = pen.part(look.SCHOTTKY_UP, "D203", "D_1N5819", (76, 42.5))
    pen.wire((76, 40), clamp.pin("1"))
    pen.ground(clamp.pin("2"), 0.5)
    lamp = pen.down("R206", "R_2k2", (64, 40), ground=False)
    light = pen.part(look.LED_DOWN, "D202", "LED_board", (64, 46.5))
    pen.wire(lamp.pin("2"), light.pin("2"))
    pen.ground(light.pin("1"))
    pen.wire((70, 46), (75, 46))
    pen.test_point("TP204", "GND", (70, 46))
    pen.ground((70, 46), 0.5)
    pen.driven((75, 46))
    pen.note(
        "5 V comes from one place",
        "JP201 open, as delivered: U201 is off (R203 holds EN down). The computer has a\n"
        "USB-C supply of its own: Pi 5 always, Jetson from its own jack.\n"
        "JP201 closed: 5 V from +12 V, for a Pi 4 without USB-C supply. Should both be there,\n"
        "Q202 lets no current back into U201, whose 4.95 V are below a USB supply's 5.1 V.\n"
        "5 V x 2 A at 90 % take 0.93 A from +12 V. U201 starts at 9.4 V (9.8 at most), within\n"
        "5 ms, and stops at 8.9 V: it never takes 5 V x 2 A from a rail that is still rising.\n"
        "67 uF charge through F201: 0.16 A while a rack rises in 5 ms; there is no limiter.",
        (72, 48.5),
    )
    return pen.sheet


def pitch() -> Sheet:
    """The reference, and the one input that is counted in cents."""
    pen = Pen(
        "pitch", "Pitch and reference", "V/oct: 0.15 V + 0.5 x jack at a 16-bit converter of its own", 3
    )
    # reference
    pen.wire(pen.rail("+5V", (9, 14)), (10, 14))
    pen.lying("R301", "R_22", (10, 14), (16, 14))
    reference = pen.part(look.REFERENCE, "U301", "REF3433", (26, 13))
    pen.wire((16, 14), reference.pin("4"))
    pen.wire((23.5, 14), (23.5, 15), reference.pin("3"))
    pen.driven((21.5, 14))
    pen.capacitor("C301", "C_10u", (14.5, 14))
    pen.capacitor("C302", "C_100n", (19, 14))
    pen.ground(reference.pin("1"), 0.5)
    pen.ground(reference.pin("2"), 0.5)
    pen.wire(reference.pin("6"), (46, 14))
    pen.wire(reference.pin("5"), (36, 15), (36, 14))
    pen.capacitor("C303", "C_4u7", (38.5, 14))
    pen.rail("VREF", (43, 14))
    pen.test_point("TP301", "VREF 3.300 V", (46, 14))
    pen.note(
        "One part is reference and supply",
        "U301 gives 3.3 V at up to 10 mA and feeds U302, U303 and the\n"
        "CV sheet's U402 and U403 (5 mA at most), whose converters also\n"
        "measure against it: a reference never above a supply, and no\n"
        "order in which they have to come up. All capacitors on VREF\n"
        "together stay under the 10 uF that U301 is stable with.",
        (58, 10),
    )
    # V/oct
    jack = pen.part(look.JACK_IN, "J301", "Jack_mono", (10, 39), "V/OCT")
    pen.jack_ground(jack, "TN", "S")
    pen.lying("R302", "R_90k9_precise", jack.pin("T"), (26, 38))
    summing = (26, 38)
    pen.pull_up("R303", "R_1M_precise", summing, 0.5, "VREF")
    lower = pen.down("R304", "R_100k_precise", summing, ground=False)
    pen.rail("GNDS", lower.pin("2"))
    pen.capacitor("C304", "C_1n", (32.5, 38))
    amplifier = pen.part(look.AMPLIFIER, "U302", "OPA388", (39, 39))
    pen.wire(summing, amplifier.pin("3"))
    pen.rail("VREF", amplifier.pin("5"))
    pen.ground(amplifier.pin("2"))
    pen.wire(amplifier.pin("1"), (44, 39), (44, 44), (35.5, 44), (35.5, 40), amplifier.pin("4"))
    pen.capacitor("C305", "C_100n", (46, 31), 0.5, rail="VREF")
    pen.lying("R305", "R_100", (44, 39), (51, 39))
    pen.wire((51, 39), (59, 39))
    pen.capacitor("C306", "C_2n2", (51, 39))
    pen.test_point("TP302", "PITCH", (55, 39))
    converter = pen.part(look.ADS8325, "U303", "ADS8325", (60, 36))
    pen.wire((59, 39), converter.pin("2"))
    pen.wire(converter.pin("3"), (57.5, 41), (57.5, 45.5), (54, 45.5))
    pen.wire(pen.rail("GNDS", (43, 45.5)), (45.5, 45.5))
    pen.down("R309", "R_22", (45.5, 45.5), 0)
    pen.lying("R308", "R_470", (45.5, 45.5), (54, 45.5))
    pen.capacitor("C309", "C_100n", (54, 45.5), 0.5)
    pen.ground(converter.pin("4"), 0.5)
    pen.wire(converter.pin("1"), (62, 31), (77, 31))
    pen.wire(converter.pin("8"), (66, 31))
    pen.rail("VREF", (64, 31))
    pen.capacitor("C307", "C_1u", (72, 31))
    pen.capacitor("C308", "C_100n", (77, 31))
    pen.bus(
        converter,
        {
            "5": ("CS_PITCH", "input", ""),
            "7": ("SCLK", "input", ""),
            "6": ("MISO", "tri_state", "R306"),
        },
        94,
    )
    pen.pull_up("R307", "R_22k", (86, converter.pin("5")[1]), 1, "VREF")
    pen.note(
        "From jack to code",
        "At U302's input the conductances of R302 (jack), R303 (VREF) and R304 (GNDS) share: gain = G302 / sum\n"
        "= 0.500, offset = 3.3 V x G303 / sum = 0.150 V. 0 V at the jack is C2 and lies off the rail, where it can be\n"
        "measured; -0.3 to 6.3 V fit under the reference. Input resistance 182 kOhm. An open jack: ground, C2.\n"
        "±12 V at the jack, powered or not: 12 V / 90.9 kOhm = 0.13 mA into U302's clamps, which stand 10 mA; no\n"
        "Schottky diode here: its leakage times 45 kOhm would be heard. C304: 3.5 kHz; to a cent of 5 V in 0.4 ms.",
        (8, 50),
    )
    pen.note(
        "The rack's ground, not ours",
        "A Pi 4 fed from the rack sends 0.9 A home through the ribbon, whose 10 mOhm lift\n"
        "our ground by 9 mV: 11 cents. GNDS comes by a wire without current (J201.3), and\n"
        "pitch is measured from there: R304, and U303's minus input through R308 and C309,\n"
        "as slow as R302 and C304. 1 cent of the 11 is left. No ribbon: R309 makes it ground.",
        (62, 50),
    )
    return pen.sheet


def cv() -> Sheet:
    """Three control voltages, each with an attenuverter, on the 12-bit converter."""
    pen = Pen("cv", "Control voltages", "CV 1 to 3, -5 to 5 V times the attenuverter: 1.65 V + 0.32 x", 4)
    rows = (14.0, 31.0, 48.0)
    top = 11.0
    steps = [2.0, *(row + 2 - top for row in rows), *(42.0, 43.0, 44.0, 45.0)]
    converter = pen.part(look.mcp3x08("MCP3208", steps, 47), "U403", "MCP3208", (80, top))
    for number, y in enumerate(rows, start=1):
        jack = pen.part(look.JACK_IN, f"J40{number}", "Jack_mono", (8.5, y + 1), f"CV {number}")
        pen.jack_ground(jack, "TN", "S")
        tip = (14, y)
        pen.wire(jack.pin("T"), tip)
        pot = pen.part(look.POT, f"RV40{number}", "Pot_100k", (16, y + 5), f"CV {number} -/+")
        pen.wire(tip, (16, y), pot.pin("3"))
        pen.ground(pot.pin("1"))
        base = 10 * number
        pen.lying(f"R4{base + 1}", "R_100k", (16, y), (24.5, y))
        pen.lying(f"R4{base + 2}", "R_100k", pot.pin("2"), (23.5, y + 5))
        inverter = pen.part(look.QUAD_TL074, "U401", "TL074", (28, y + 1), unit=number)
        plus, minus, out = {1: ("3", "2", "1"), 2: ("5", "6", "7"), 3: ("10", "9", "8")}[number]
        pen.wire((24.5, y), inverter.pin(minus))
        pen.wire((23.5, y + 5), (23.5, y + 2), inverter.pin(plus))
        pen.wire((24.5, y), (24.5, y - 3.5), (25.5, y - 3.5))
        pen.lying(f"R4{base + 3}", "R_100k", (25.5, y - 3.5), (33, y - 3.5))
        pen.wire((33, y - 3.5), (33, y + 1), inverter.pin(out))
        node = (41, y + 1)
        pen.lying(f"R4{base + 4}", "R_215k", (33, y + 1), node)
        pen.pull_up(f"R4{base + 5}", "R_137k", node, 0.5, "VREF")
        pen.down(f"R4{base + 6}", "R_383k", node)
        pen.capacitor(f"C40{number}", "C_220p", (46, y + 1), 1.5)
        follower = pen.part(look.QUAD_MCP6004, "U402", "MCP6004", (54, y + 2), unit=number)
        pen.wire(node, follower.pin(plus))
        pen.wire(
            follower.pin(out), (58, y + 2), (58, y + 6.5), (49.5, y + 6.5), (49.5, y + 3), follower.pin(minus)
        )
        pen.lying(f"R4{base + 7}", "R_470", (58, y + 2), (66, y + 2))
        pen.wire((66, y + 2), converter.pin(str(number + 1)))
        pen.capacitor(f"C40{number + 3}", "C_100n", (68, y + 2))
        pen.test_point(f"TP40{number}", f"CV {number}", (72.5, y + 2))
    for channel in (0, 4, 5, 6, 7):
        pin = converter.pin(str(channel + 1))
        pen.wire(pin, (77.5, pin[1]))
    pen.ground((77.5, converter.pin("1")[1]), 0.5)
    pen.wire((77.5, converter.pin("5")[1]), (77.5, converter.pin("8")[1]))
    pen.ground((77.5, converter.pin("8")[1]), 0.5)
    pen.wire(converter.pin("15"), (82, 9), (100, 9))
    pen.wire(converter.pin("16"), (86, 9))
    pen.rail("VREF", (84, 9))
    pen.capacitor("C407", "C_1u", (95, 9))
    pen.capacitor("C408", "C_100n", (100, 9))
    pen.ground(converter.pin("14"), 0.5)
    pen.ground(converter.pin("9"), 0.5)
    pen.bus(
        converter,
        {
            "10": ("CS_CV", "input", ""),
            "13": ("SCLK", "input", ""),
            "11": ("MOSI", "input", ""),
            "12": ("MISO", "tri_state", "R401"),
        },
        106,
    )
    pen.pull_up("R402", "R_100k", (98, converter.pin("10")[1]), 1, "VREF")
    pen.note(
        "Attenuverters are analogue",
        "The pot's wiper at a (0 to 1) makes\n2a - 1 of the jack: -1 to 1. So ±10 V\n"
        "signals can be turned down before they\nclip, and all eight knobs stay free.\n"
        "The network shares as on the pitch\nsheet: 0.319 and 1.654 V. No output of\n"
        "U402 leaves the converter's range.\n±12 V: 0.12 mA into U401, 0.05 mA\ninto U402. Input 50 kOhm or more.",
        (92, 42),
    )
    # what the packages have left over, and their supplies
    spare = pen.part(look.QUAD_TL074, "U401", "TL074", (13, 67), unit=4)
    pen.wire(spare.pin("14"), (17, 67), (17, 70), (9.5, 70), (9.5, 68), spare.pin("13"))
    pen.wire(spare.pin("12"), (9, 66), (9, 71))
    pen.ground((9, 71))
    supply = pen.part(look.QUAD_TL074, "U401", "TL074", (22, 68), unit=5)
    pen.rail("+12VA", supply.pin("4"))
    pen.rail("-12VA", supply.pin("11"))
    pen.capacitor("C409", "C_100n", (30, 66), 0.5, rail="+12VA")
    pen.capacitor("C410", "C_100n", (35, 66), 0.5, rail="-12VA up")
    spare = pen.part(look.QUAD_MCP6004, "U402", "MCP6004", (45, 67), unit=4)
    pen.wire(spare.pin("14"), (49, 67), (49, 70), (41.5, 70), (41.5, 68), spare.pin("13"))
    pen.wire(spare.pin("12"), (41, 66), (41, 71))
    pen.ground((41, 71))
    supply = pen.part(look.QUAD_MCP6004, "U402", "MCP6004", (54, 68), unit=5)
    pen.rail("VREF", supply.pin("4"))
    pen.ground(supply.pin("11"))
    pen.capacitor("C411", "C_100n", (62, 66), 0.5, rail="VREF")
    return pen.sheet


def knobs() -> Sheet:
    """Eight pots on the 10-bit converter."""
    pen = Pen(
        "knobs", "Knobs", "Eight pots; converter and pots share one supply, so that only the ratio counts", 5
    )
    rows = [13.0 + 6.5 * row for row in range(8)]
    top = 10.0
    converter = pen.part(
        look.mcp3x08("MCP3008", [row - top for row in rows], 52), "U501", "MCP3008", (60, top)
    )
    pen.wire(pen.rail("+3V3", (8, 7.5)), (9, 7.5))
    pen.lying("FB501", "FB_small", (9, 7.5), (14, 7.5), look.FERRITE_LYING)
    pen.wire((14, 7.5), (80, 7.5))
    pen.driven((17, 7.5))
    pen.wire((24, 7.5), (24, rows[-1] - 1.5))
    for number, y in enumerate(rows, start=1):
        pot = pen.part(look.POT, f"RV50{number}", "Pot_10k", (29, y), f"KNOB {number}")
        pen.wire((24, y - 1.5), pot.pin("3"))
        pen.ground(pot.pin("1"))
        pen.wire(pot.pin("2"), converter.pin(str(number)))
        pen.capacitor(f"C50{number}", "C_100n", (42, y))
    pen.wire((62, 7.5), converter.pin("15"))
    pen.wire((66, 7.5), converter.pin("16"))
    pen.capacitor("C509", "C_10u", (75, 7.5))
    pen.capacitor("C510", "C_100n", (80, 7.5))
    pen.ground(converter.pin("14"), 0.5)
    pen.ground(converter.pin("9"), 0.5)
    pen.bus(
        converter,
        {
            "10": ("CS_KNOBS", "input", ""),
            "13": ("SCLK", "input", ""),
            "11": ("MOSI", "input", ""),
            "12": ("MISO", "tri_state", "R501"),
        },
        92,
    )
    pen.pull_up("R502", "R_100k", (82, converter.pin("10")[1]), 1, "+3V3")
    pen.note(
        "Why not from the reference",
        "Pots against the supply of their own\n"
        "converter read the same whatever it\n"
        "is; their 2.6 mA and what a crackling\n"
        "wiper draws stay away from VREF.",
        (86, 12),
    )
    return pen.sheet


def gates() -> Sheet:
    """Two gates or triggers."""
    pen = Pen(
        "gates",
        "Gates",
        "Gates and triggers of 5 to 12 V: on above 3.2 V, off below 0.9 V; ±12 V is no harm",
        6,
    )
    for number, y in ((1, 15.0), (2, 37.0)):
        jack = pen.part(look.JACK_IN, f"J60{number}", "Jack_mono", (12, y + 1), f"GATE {number}")
        pen.jack_ground(jack, "TN", "S")
        base = 10 * number
        pen.lying(f"R6{base + 1}", "R_47k", jack.pin("T"), (28, y))
        buffer = pen.part(look.SCHMITT_DUAL, "U601", "74LVC2G17", (58, y), unit=number)
        pen.wire((28, y), buffer.pin("1" if number == 1 else "3"))
        pen.down(f"R6{base + 2}", "R_100k", (28, y))
        pen.capacitor(f"C60{number}", "C_220p", (34, y))
        clamp = pen.part(look.CLAMP_SCHOTTKY, f"D60{number}", "D_BAT54S", (45, y + 5.5))
        pen.wire((41, y), (41, y + 5.5), clamp.pin("3"))
        pen.rail("+3V3", clamp.pin("2"))
        pen.ground(clamp.pin("1"))
        out = buffer.pin("6" if number == 1 else "4")
        node = (66, y)
        pen.wire(out, node)
        lamp = pen.down(f"R6{base + 3}", "R_1k", node, ground=False)
        light = pen.part(look.LED_DOWN, f"D61{number}", "LED_green", (66, y + 6), f"GATE {number} LED")
        pen.wire(lamp.pin("2"), light.pin("2"))
        pen.ground(light.pin("1"))
        end = (84, y)
        pen.lying(f"R6{base + 4}", "R_1k", node, end)
        pen.sheet.label(f"GATE{number}", "output", end, "right")
    supply = pen.part(look.SCHMITT_DUAL, "U601", "74LVC2G17", (16, 58), unit=3)
    pen.rail("+3V3", supply.pin("5"))
    pen.ground(supply.pin("2"))
    pen.capacitor("C603", "C_100n", (26, 56), 0.5, rail="+3V3")
    pen.note(
        "From gate to line",
        "R611 and R612 divide by 1.47. U601 steps up between 1.3 and 2.2 V, down between 0.6 and 1.5 V (data sheet,\n"
        "3 V): at the jack on between 1.9 and 3.2 V, off between 0.9 and 2.2 V. In phase: the line is high while the\n"
        "gate is. At 12 V the node would reach 8.2 V: D601 holds it 0.3 V above +3V3 with 0.2 mA, and at -12 V 0.3 V\n"
        "below ground. R614, R624: should a program make the line an output, 3.3 mA flow and nothing is hurt.",
        (9, 65),
    )
    return pen.sheet


def midi() -> Sheet:
    """DIN MIDI on 3.5 mm jacks, type A: tip is pin 5, ring is pin 4."""
    pen = Pen("midi", "MIDI", "TRS type A (tip: pin 5, ring: pin 4); isolated in, 5 V current loop out", 7)
    y = 15.0
    jack = pen.part(look.JACK_TRS_IN, "J701", "Jack_TRS", (12, y + 1), "MIDI IN")
    # ring -> anode, cathode -> tip
    coupler = pen.part(look.OPTOCOUPLER, "U701", "H11L1", (42, y))
    pen.wire(jack.pin("R"), (18, y + 1))
    pen.lying("R701", "R_560_midi", (18, y + 1), (28, y + 1))
    pen.wire((28, y + 1), coupler.pin("1"))
    pen.wire(jack.pin("T"), (16, y), (16, y + 4), coupler.pin("2"))
    across = pen.part(look.DIODE_UP, "D701", "D_1N4148", (33, y + 2.5))
    pen.wire((33, y + 1), across.pin("1"))
    pen.wire((33, y + 4), across.pin("2"))
    pen.wire(jack.pin("S"), (14.5, y + 2), (14.5, y + 6))
    pen.capacitor("C702", "C_100n", (14.5, y + 6))
    pen.nothing(coupler.pin("3"))
    pen.wire(coupler.pin("6"), (54, y + 1))
    pen.rail("+3V3", (54, y + 1))
    pen.capacitor("C701", "C_100n", (60, y - 4), 0.5, rail="+3V3")
    pen.ground(coupler.pin("5"), 1)
    pen.wire(coupler.pin("4"), (72, y + 2.5))
    pen.pull_up("R702", "R_1k", (72, y + 2.5), 1, "+3V3")
    pen.lying("R703", "R_330", (72, y + 2.5), (86, y + 2.5))
    pen.sheet.label("MIDI_RX", "output", (86, y + 2.5), "right")
    pen.note(
        "In",
        "A 5 V sender drives 3.5 mA, a 3.3 V one 3.1 mA;\nU701 is on at 1.6 mA. ±12 V from a mono plug: 20 mA\n"
        "through U701's diode or D701, 0.23 W in R701.",
        (84, 11),
    )
    # out
    y = 44.0
    pen.sheet.label("MIDI_TX", "input", (12, y), "left")
    buffer = pen.part(look.SCHMITT_SINGLE, "U702", "74LVC1G17", (28, y))
    pen.wire((12, y), buffer.pin("2"))
    pen.pull_up("R704", "R_22k", (20, y), 1, "+3V3")
    pen.rail("+3V3", buffer.pin("5"))
    pen.ground(buffer.pin("3"))
    pen.capacitor("C703", "C_100n", (38, y - 8), 0.5, rail="+3V3")
    pen.lying("R705", "R_150", buffer.pin("4"), (47, y))
    # a transistor whose gate lies at 3.3 V: it passes a low, and blocks whatever comes from the jack
    switch = pen.part(look.NMOS, "Q701", "Q_BSS138", (49.5, y - 3))
    pen.wire((47, y), (50, y), switch.pin("2"))
    pen.wire(switch.pin("1"), (45, y - 3), (45, y - 5))
    pen.rail("+3V3", (45, y - 5))
    pen.wire(switch.pin("3"), (50, y - 7), (55, y - 7))
    pen.lying("D702", "D_1N5819", (55, y - 7), (62, y - 7), look.SCHOTTKY_LEFT)
    out = pen.part(look.JACK_TRS_OUT, "J702", "Jack_TRS", (90, y - 6), "MIDI OUT")
    pen.lying("R706", "R_47", (62, y - 7), out.pin("T"))
    pen.wire(pen.rail("+5V", (54, y + 3)), (55, y + 3))
    pen.lying("D703", "D_1N5819", (55, y + 3), (63, y + 3), look.SCHOTTKY_RIGHT)
    pen.lying("R707", "R_220_midi", (63, y + 3), (74, y + 3))
    pen.wire((74, y + 3), (82, y + 3), (82, y - 6), out.pin("R"))
    pen.wire(out.pin("S"), (86, y - 5), (86, y - 3))
    pen.ground((86, y - 3))
    pen.note(
        "Out",
        "Idle is high and no current flows, also while a Pi boots (R704 holds 2.3 V against its pull-down) and\n"
        "without +3V3 (Q701 is off). A low lets 4.7 mA from +5 V through R707, the receiver, R706, Q701 and\n"
        "R705 into U702. +12 V on the tip: Q701 follows its gate then, and R705 limits it to 14 mA; -12 V:\n"
        "D702 blocks. +12 V on the ring: D703 blocks; -12 V: 76 mA through R707, which stands 2 W.",
        (12, 53),
    )
    return pen.sheet


def audio() -> Sheet:
    """I2S to line level and to the rack's 10 V from peak to peak."""
    pen = Pen("audio", "Audio", "I2S DAC; level pot; line out 2 Vrms, rack out 10 Vpp", 8)
    pen.wire(pen.rail("+5V", (7, 10)), (8, 10))
    regulator = pen.part(look.LDO, "U802", "TLV75533", (13, 9))
    pen.wire((8, 10), regulator.pin("1"))
    pen.wire((11, 10), (11, 12), regulator.pin("3"))
    pen.capacitor("C801", "C_1u", (8, 10), 4)
    pen.nothing(regulator.pin("4"))
    pen.ground(regulator.pin("2"), 0.5)
    dac = pen.part(look.DAC, "U801", "PCM5102A", (22, 22))
    pen.wire(regulator.pin("5"), (54, 10))
    for pin in ("1", "8", "20"):
        pen.wire((dac.pin(pin)[0], 10), dac.pin(pin))
        pen.ground({"1": dac.pin("3"), "8": dac.pin("9"), "20": dac.pin("19")}[pin], 0.5)
    pen.capacitor("C802", "C_10u", (39, 10))
    pen.capacitor("C803", "C_100n", (44, 10))
    pen.capacitor("C804", "C_100n", (49, 10))
    pen.capacitor("C805", "C_100n", (54, 10))
    for pin, name in (("13", "I2S_BCK"), ("15", "I2S_LRCK"), ("14", "I2S_DATA")):
        end = (14, dac.pin(pin)[1])
        pen.wire(dac.pin(pin), end)
        pen.sheet.label(name, "input", end, "left")
    pen.lying("R801", "R_10k", pen.rail("+3V3", (12, dac.pin("17")[1])), dac.pin("17"))
    x = 19.0
    for pin in ("12", "16", "11", "10"):
        pen.wire(dac.pin(pin), (x, dac.pin(pin)[1]))
    pen.wire((x, dac.pin("12")[1]), (x, dac.pin("10")[1]))
    pen.ground((x, dac.pin("10")[1]), 0.5)
    pump = pen.part(look.CAPACITOR, "C806", "C_2u2", (40, dac.pin("2")[1] + 1))
    pen.wire(dac.pin("2"), pump.pin("1"))
    pen.wire(dac.pin("4"), pump.pin("2"))
    pen.wire(dac.pin("5"), (40, dac.pin("5")[1]))
    pen.capacitor("C807", "C_2u2", (40, dac.pin("5")[1]), 0)
    pen.wire(dac.pin("18"), (38.5, dac.pin("18")[1]))
    pen.capacitor("C808", "C_1u", (38.5, dac.pin("18")[1]), 1.5)
    line = pen.part(look.JACK_TRS_OUT, "J803", "Jack_TRS", (109, 43), "LINE")
    pins = {"L": (("3", "2", "1"), ("5", "6", "7")), "R": (("10", "9", "8"), ("12", "13", "14"))}
    for side, y, base in (("L", 24.0, 10), ("R", 50.0, 20)):
        start = dac.pin("6" if side == "L" else "7")
        if side == "L":
            pen.wire(start, (44, y))
        else:
            pen.wire(start, (46, start[1]), (46, y))
        x0 = 44.0 if side == "L" else 46.0
        pen.lying(f"R8{base + 1}", "R_470", (x0, y), (49, y))
        pen.capacitor(f"C8{base + 1}", "C_2n2", (49, y))
        unit = 1 if side == "L" else 2
        pot = pen.part(
            look.POT_DUAL, "RV801", "Pot_level", (58.5, y + 3), "LEVEL" if side == "L" else "", unit=unit
        )
        cw, wiper, ccw = ("3", "2", "1") if unit == 1 else ("6", "5", "4")
        pen.wire((49, y), (58.5, y), pot.pin(cw))
        pen.ground(pot.pin(ccw))
        (plus, minus, out), (plus2, minus2, out2) = pins[side]
        follower = pen.part(look.QUAD_OPA1679, "U803", "OPA1679", (65.5, y + 4), unit=2 * unit - 1)
        pen.lying(f"R8{base + 6}", "R_2k2", pot.pin(wiper), follower.pin(plus))
        pen.wire(follower.pin(out), (71, y + 4), (71, y + 8), (62, y + 8), (62, y + 5), follower.pin(minus))
        second = pen.part(look.QUAD_OPA1679, "U803", "OPA1679", (77.5, y + 5), unit=2 * unit)
        pen.wire((71, y + 4), second.pin(plus2))
        pen.wire(second.pin(out2), (82, y + 5), (82, y + 9))
        pen.wire(second.pin(minus2), (74, y + 6), (74, y + 9))
        pen.lying(f"R8{base + 2}", "R_7k68", (74, y + 9), (82, y + 9))
        pen.down(f"R8{base + 3}", "R_10k", (74, y + 9))
        clamp = pen.part(
            look.CLAMP, f"D8{base + 1}", "D_BAV99", (88, y + 5), reference_by=(0, -1), value_by=(0, -1)
        )
        pen.wire((82, y + 5), clamp.pin("3"))
        pen.rail("+12VA", clamp.pin("2"))
        pen.rail("-12VA", clamp.pin("1"))
        jack = pen.part(look.JACK_OUT, f"J80{unit}", "Jack_mono", (109, y + 10), f"OUT {side}")
        pen.wire((84.5, y + 5), (84.5, y + 9))
        pen.lying(f"R8{base + 4}", "R_1k_output", (84.5, y + 9), (100, y + 9))
        pen.wire((100, y + 9), jack.pin("T"))
        pen.nothing(jack.pin("TN"))
        pen.wire(jack.pin("S"), (105.5, y + 11), (105.5, y + 11.5))
        pen.ground((105.5, y + 11.5))
        # line: from the follower
        up = 16.5 if side == "L" else 43.5
        tap = pen.part(
            look.CLAMP, f"D8{base + 2}", "D_BAV99", (88, up), reference_by=(0, -1), value_by=(0, -1)
        )
        pen.wire((71, y + 4), (71, up), tap.pin("3"))
        pen.rail("+12VA", tap.pin("2"))
        pen.rail("-12VA", tap.pin("1"))
        pen.wire((84.5, up), (84.5, up + 4.5 if side == "L" else up - 4.5))
        turn = up + 4.5 if side == "L" else up - 4.5
        pen.lying(f"R8{base + 5}", "R_1k_output", (84.5, turn), (100, turn))
        x1 = 102.0 if side == "L" else 100.0
        pole = line.pin("T" if side == "L" else "R")
        pen.wire((100, turn), (x1, turn), (x1, pole[1]), pole)
    pen.wire(line.pin("S"), (105.5, 44), (105.5, 44.5))
    pen.ground((105.5, 44.5))
    supply = pen.part(look.QUAD_OPA1679, "U803", "OPA1679", (11, 58), unit=5)
    pen.rail("+12VA", supply.pin("4"))
    pen.rail("-12VA", supply.pin("11"))
    pen.capacitor("C809", "C_100n", (20, 56), 0.5, rail="+12VA")
    pen.capacitor("C810", "C_100n", (26, 56), 0.5, rail="-12VA up")
    pen.note(
        "Level",
        "2.1 Vrms x 0.955 (R811 into the pot) x 1.768 = 3.55 Vrms: 10.0 V from\n"
        "peak to peak at a full-scale sine, the pot fully up. 1 kOhm and the\n"
        "BAV99: an output patched to ±12 V carries 12 mA, powered or not.\n"
        "R816, R826: U801 runs on +5 V; with the rack off it would push 5 mA\n"
        "into U803, and its outputs drive no less than 1 kOhm. Now 0.9 mA.",
        (7, 65),
    )
    return pen.sheet


HEADER = (
    ("3V3", "5V"), ("GPIO2 SDA", "5V"), ("GPIO3 SCL", "GND"), ("GPIO4", "GPIO14 TXD"), ("GND", "GPIO15 RXD"),
    ("GPIO17", "GPIO18 BCK"), ("GPIO27", "GND"), ("GPIO22", "GPIO23"), ("3V3", "GPIO24"), ("GPIO10 MOSI", "GND"),
    ("GPIO9 MISO", "GPIO25"), ("GPIO11 SCLK", "GPIO8 CE0"), ("GND", "GPIO7 CE1"), ("ID_SD", "ID_SC"), ("GPIO5", "GND"),
    ("GPIO6", "GPIO12"), ("GPIO13", "GND"), ("GPIO19 LRCK", "GPIO16"), ("GPIO26", "GPIO20"), ("GND", "GPIO21 DATA"),
)  # fmt: skip
# Pin of the header -> (label, its shape on this sheet, the resistor in its way).
LINES = {
    11: ("GATE1", "input", ""), 13: ("LED1", "output", "R901"), 15: ("GATE2", "input", ""),
    19: ("MOSI", "output", "R902"), 21: ("MISO", "input", ""), 23: ("SCLK", "output", "R903"),
    29: ("CS_KNOBS", "output", "R904"), 31: ("CS_CV", "output", "R905"), 33: ("CS_PITCH", "output", "R906"),
    35: ("I2S_LRCK", "output", "R907"), 37: ("LED2", "output", "R908"),
    8: ("MIDI_TX", "output", "R909"), 10: ("MIDI_RX", "input", ""), 12: ("I2S_BCK", "output", "R910"),
    16: ("ENC_A", "input", ""), 18: ("ENC_B", "input", ""), 22: ("ENC_SW", "input", ""),
    40: ("I2S_DATA", "output", "R911"),
}  # fmt: skip


def computer() -> Sheet:
    """The 40-pin header, and what is in the way of its outputs."""
    pen = Pen("computer", "Computer", "The 40-pin header of a Raspberry Pi 4 or 5, or of a Jetson", 9)
    step, top = 2.5, 9.0
    rows = [(str(2 * row + 1), odd, str(2 * row + 2), even) for row, (odd, even) in enumerate(HEADER)]
    header = pen.part(look.header("Header_2x20", rows, step), "J901", "Header_pi", (44, top))
    at = [top + step * row + 1.5 for row in range(20)]
    for number in range(1, 41):
        pin, left = header.pin(str(number)), number % 2 == 1
        away = -1 if left else 1
        name = HEADER[(number - 1) // 2][0 if left else 1]
        if name == "GND" and number not in (9, 34):
            end = (pin[0] + away, pin[1])
            pen.wire(pin, end)
            pen.ground(end)
        elif number in LINES:
            label, shape, resistor = LINES[number]
            end = (18.0 if left else 82.0, pin[1])
            if resistor:
                near = (pin[0] + 6 * away, pin[1])
                pen.wire(pin, near)
                begin, finish = (end, near) if left else (near, end)
                middle = (near[0] + 4 * away, pin[1])
                part = pen.part(
                    look.RESISTOR_LYING, resistor, "R_330", middle,
                    reference_by=(-1.3, 0), value_by=(1.4, -1.7),
                )  # fmt: skip
                pen.wire(begin, part.pin("1"))
                pen.wire(part.pin("2"), finish)
            else:
                pen.wire(pin, end)
            pen.sheet.label(label, shape, end, "left" if left else "right")
    # supplies
    for number in (2, 4):
        pen.wire(header.pin(str(number)), (62, header.pin(str(number))[1]))
    pen.wire((62, at[1]), (62, at[0]), pen.rail("+5V", (62, at[0] - 1)))
    pen.wire(header.pin("17"), (40, at[8]))
    pen.rail("+3V3", (40, at[8]))
    pen.nothing(header.pin("27"), header.pin("28"))
    # what the firmware does not use
    names = dict(enumerate(("3V3", "SDA", "SCL", "GPIO4", "GND")))
    steps = [(at[row] - at[0] + 1, str(row + 1), name) for row, name in names.items()]
    bus = pen.part(look.strip("Header_1x5", "right", steps, 12), "J902", "Header_i2c", (14, at[0] - 1))
    for row, number in enumerate((1, 3, 5, 7, 9), start=1):
        pen.wire(header.pin(str(number)), bus.pin(str(row)))
    pen.wire((36, at[0]), pen.rail("+3V3", (36, at[0] - 1)))
    pen.driven((30, at[0]))
    pen.test_point("TP901", "+3V3", (26, at[0]))
    pen.ground((40, at[4]))
    names = {11: "GPIO8", 12: "GPIO7", 15: "GPIO12", 16: "GND", 17: "GPIO16", 18: "GPIO20"}
    steps = [
        (at[row] - at[11] + 1, str(number), name) for number, (row, name) in enumerate(names.items(), start=1)
    ]
    spare = pen.part(look.strip("Header_1x6", "left", steps, 19.5), "J903", "Header_spare", (89, at[11] - 1))
    for number, there in enumerate((24, 26, 32, 34, 36, 38), start=1):
        pen.wire(header.pin(str(there)), spare.pin(str(number)))
    pen.ground((60, at[16]))
    pen.note(
        "Every line",
        "330 Ohm in each output: whatever\na program makes of a line, no two\noutputs meet with less than that.\n"
        "Inputs have theirs on their own\nsheets (1 kOhm, MISO 470 Ohm).\n\n"
        "J902 and J903 carry what the\nfirmware leaves alone; 27 and 28\nbelong to a HAT's EEPROM, which\n"
        "is not there.\n\n"
        "Jetson: same places. On its kit\nlevel shifters (TXB0108) hold a\nline with 4 kOhm: every input comes\n"
        "from 1.5 kOhm or less, and no\noutput has to take 0.2 mA.",
        (95, 9),
    )
    return pen.sheet


def controls() -> Sheet:
    """Encoder, button and status lights."""
    pen = Pen("controls", "Controls", "Encoder with a button, two status lights", 10)
    encoder = pen.part(look.ENCODER, "SW1001", "Encoder", (14, 20), "SELECT")
    pen.wire(encoder.pin("C"), (11, 23), (11, 32))
    pen.wire(encoder.pin("S2"), (11, 29))
    pen.ground((11, 32))
    for number, (pin, name) in enumerate((("A", "ENC_A"), ("B", "ENC_B"), ("S1", "ENC_SW")), start=1):
        begin = encoder.pin(pin)
        y = 15.0 + 12 * (number - 1)
        pen.wire(begin, (24, begin[1]), (24, y), (30, y))
        pen.pull_up(f"R10{number}1", "R_1k", (30, y), 0.5, "+3V3")
        pen.lying(f"R10{number}2", "R_470", (30, y), (42, y))
        pen.capacitor(f"C100{number}", "C_100n", (42, y))
        pen.wire((42, y), (52, y))
        pen.sheet.label(name, "output", (52, y), "right")
    for number, y, name, panel in ((1, 21.0, "LED1", "STATUS"), (2, 40.0, "LED2", "ACTIVE")):
        pen.sheet.label(name, "input", (70, y), "left")
        switch = pen.part(look.NMOS, f"Q100{number}", "Q_2N7002", (84.5, y))
        pen.wire((70, y), switch.pin("1"))
        pen.down(f"R10{number + 3}1", "R_100k", (76, y))
        pen.ground(switch.pin("2"))
        pen.wire(switch.pin("3"), (85, y - 2), (90, y - 2), (90, y - 3))
        light = pen.part(look.LED_DOWN, f"D100{number}", "LED_green", (90, y - 4.5), panel)
        feed = pen.part(look.RESISTOR, f"R10{number + 3}2", "R_2k2", (90, y - 8.5))
        pen.wire(feed.pin("2"), light.pin("2"))
        pen.rail("+5V", feed.pin("1"))
    pen.note(
        "Lights hang on transistors",
        "1.3 mA from +5 V: a line only moves a gate, so the weak level\n"
        "shifters of a Jetson's header will do. Dark until a program runs\n"
        "(R1041, R1051).",
        (62, 50),
    )
    pen.note(
        "Turning",
        "Contacts carry 3.3 mA and pull down through 470 Ohm; 0.05 ms\n"
        "closing, 0.15 ms opening keep spikes out, bounces are for the\n"
        "program. A line that it makes an output drives 470 Ohm.",
        (10, 50),
    )
    return pen.sheet


def module() -> Sheet:
    """All sheets, and the wires between them."""
    pen = Pen(
        "darkrack", "Darkrack: the module", "A neural instrument for Eurorack; see hw_schematics/README.md", 1
    )
    drawn = {
        sheet.name: sheet
        for sheet in (power(), pitch(), cv(), knobs(), gates(), midi(), audio(), computer(), controls())
    }
    boxes: dict[str, Subsheet] = {}

    def box(name: str, at: Point, size: Point, words: str, *, left: Pins = (), right: Pins = ()) -> None:
        """A sheet's box; ``left`` and ``right``: how far down which of its labels comes out."""
        shapes = {label.name: label.shape for label in drawn[name].labels}
        pins = [SubsheetPin(label, shapes[label], "left", down) for down, label in left]
        pins += [SubsheetPin(label, shapes[label], "right", down) for down, label in right]
        boxes[name] = pen.sheet.box(drawn[name], at, size, tuple(pins))
        if words:
            pen.say(words, (at[0] + (6.5 if left else 0.6), at[1] + 0.8), 1.1)

    bus = ("SCLK", "MOSI", "MISO")
    box("pitch", (8, 10), (22, 8), "V/OCT jack\n16-bit converter\n3.3 V reference for it\nand for the CV sheet",
        right=((2, "CS_PITCH"), (4, "SCLK"), (6, "MISO")))  # fmt: skip
    box("cv", (8, 22), (22, 10), "CV 1 to 3\nwith attenuverters\n12-bit converter",
        right=((2, "CS_CV"), (4, "SCLK"), (6, "MOSI"), (8, "MISO")))  # fmt: skip
    box("knobs", (8, 36), (22, 10), "KNOB 1 to 8\n10-bit converter",
        right=((2, "CS_KNOBS"), (4, "SCLK"), (6, "MOSI"), (8, "MISO")))  # fmt: skip
    box("gates", (8, 50), (22, 6), "GATE 1 and 2\nSchmitt triggers", right=((2, "GATE1"), (4, "GATE2")))
    names = ("ENC_A", "ENC_B", "ENC_SW", "LED1", "LED2")
    box("controls", (8, 60), (22, 12), "SELECT: encoder\nand button\nstatus lights",
        right=tuple((2.0 + 2 * row, name) for row, name in enumerate(names)))  # fmt: skip
    box("power", (88, 10), (20, 6), "±12 V from the rack\n5 V for a Pi 4")
    box("midi", (88, 24), (20, 6), "MIDI IN, MIDI OUT\nTRS type A", left=((2, "MIDI_RX"), (4, "MIDI_TX")))
    box("audio", (88, 40), (20, 8), "OUT L, OUT R\nLINE, LEVEL\nI2S converter",
        left=((2, "I2S_BCK"), (4, "I2S_LRCK"), (6, "I2S_DATA")))  # fmt: skip
    own = [
        (boxes[name], pin)
        for name in ("pitch", "cv", "knobs")
        for pin in boxes[name].pins
        if pin.name not in bus
    ]
    own += [(boxes["knobs"], pin) for pin in boxes["knobs"].pins if pin.name in bus]
    own += [(boxes[name], pin) for name in ("gates", "controls") for pin in boxes[name].pins]
    there = [(boxes[name], pin) for name in ("midi", "audio") for pin in boxes[name].pins]
    box("computer", (48, 10), (20, 62), "",
        left=tuple((one.pin(pin.name)[1] - 10, pin.name) for one, pin in own),
        right=tuple((one.pin(pin.name)[1] - 10, pin.name) for one, pin in there))  # fmt: skip
    pen.say("40-pin header of a\nRaspberry Pi 4 or 5,\nor of a Jetson", (53.5, 61), 1.1)
    for one, pin in (*own, *there):
        pen.wire(one.pin(pin.name), boxes["computer"].pin(pin.name))
    # one trunk for each line of the bus, between the converters
    for x, name in ((36.0, "SCLK"), (39.0, "MOSI"), (42.0, "MISO")):
        ends = [boxes[sheet].pin(name) for sheet in ("pitch", "cv") if name != "MOSI" or sheet == "cv"]
        for end in ends:
            pen.wire(end, (x, end[1]))
        pen.wire((x, ends[0][1]), (x, boxes["knobs"].pin(name)[1]))
    return pen.sheet
