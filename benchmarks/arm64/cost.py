"""From counts to milliseconds: a range, and an estimate only.

A core has pipes, and each takes so many instructions of its kinds in a cycle. The short end of the range is the busiest
pipe alone, everything else hidden behind it; the long end is one pipe after the other, and every line that misses a
cache waited for. Out-of-order cores lie between the two. Nothing is fitted to measurements; docs/arm64.md holds the
ranges against published ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.arm64.counts import LINE_BYTES, Counts


@dataclass(frozen=True)
class Core:
    """What a core does in a cycle, and how many cycles a line takes from L2 and L3.

    ``loaded_bytes`` to registers from L1. ``l3_cycles`` None: there is no L3, what misses L2 comes from memory.
    """

    decoded: float
    integer: float
    branch: float
    memory: float
    vector: float
    multiply: float
    loaded_bytes: float
    stored_bytes: float
    l2_cycles: float
    l3_cycles: float | None


@dataclass(frozen=True)
class Machine:
    """A core at its clock with its memory: what its pins can carry at most, and what a copy of memory reaches."""

    name: str
    core: str
    clock_ghz: float
    memory_peak_gbs: float
    memory_copy_gbs: float


@dataclass(frozen=True)
class Estimate:
    """Milliseconds, from the busiest pipe alone to one after the other; ``bound`` is what the short end waits for."""

    low_ms: float
    high_ms: float
    bound: str

    def holds(self, measured_ms: float) -> bool:
        """Whether a measurement lies in the range."""
        return self.low_ms <= measured_ms <= self.high_ms

    @property
    def middle_ms(self) -> float:
        """The geometric mean of the ends."""
        return float((self.low_ms * self.high_ms) ** 0.5)


CORES = {
    # Arm, Cortex-A72 Software Optimization Guide (UAN 0016A), 2.1 and 3: decodes 3 instructions a cycle; two integer
    # pipes, one for branches, one load, one store, two for FP and ASIMD of 64 bits each ("Arm's Cortex A72: aarch64 for
    # the masses", Chips and Cheese, 2023), so that a multiply-add of 128 bits takes both: 1 a cycle. The 21 cycles of
    # L2 are an assumption: Arm names none.
    "cortex-a72": Core(3, 2, 1, 2, 2, 1, 16, 16, 21, None),
    # Arm, Cortex-A76 Software Optimization Guide (PJDOC-466751330-7215), 2.1 and 3: 4 instructions a cycle; three
    # integer pipes, one for branches, two for loads and stores, two of 128 bits for FP and ASIMD, and both of them
    # multiply (FMLA, SDOT). L2 9 cycles, L3 31: Arm at the core's launch, 2018.
    "cortex-a76": Core(4, 3, 1, 2, 2, 2, 32, 16, 9, 31),
}
# LPDDR4-3200 and LPDDR4X-4267 on 32 bits: 3.2 and 4.267 * 4 bytes. Copies by tinymembench, "C copy": a Pi 4 (sbc-
# reviews issue 110), a Pi 5 with 8 GB, the slower of two (raspberrypi/firmware issue 1876).
MACHINES = {
    "pi4 1.5": Machine("Raspberry Pi 4, 1.5 GHz", "cortex-a72", 1.5, 12.8, 2.78),
    "pi4": Machine("Raspberry Pi 4, 1.8 GHz", "cortex-a72", 1.8, 12.8, 2.78),
    "pi5": Machine("Raspberry Pi 5, 2.4 GHz", "cortex-a76", 2.4, 17.1, 5.56),
    # Its big core is a Cortex-A76 (Kryo 485 Gold). LPDDR4X-4266 on 64 bits; the copy is the Pi 5's.
    "sd855": Machine("Snapdragon 855+, 2.96 GHz", "cortex-a76", 2.96, 34.1, 5.56),
}


def estimate(counts: Counts, machine: Machine) -> Estimate:
    """How long that work takes on one core, its caches warm from the same work before."""
    core = CORES[machine.core]
    memory_lines = counts.missed_l2 if core.l3_cycles is None else counts.missed_l3
    memory_bytes = memory_lines * LINE_BYTES
    cycles_a_byte = machine.clock_ghz  # GHz over GB/s
    at_once = {
        "decoding": counts.instructions / core.decoded,
        "integer pipes": counts.integer / core.integer,
        "branches": counts.branch / core.branch,
        "load and store pipes": (counts.load_store + counts.load_store_vector) / core.memory,
        "bytes loaded": counts.loaded_bytes / core.loaded_bytes,
        "bytes stored": counts.stored_bytes / core.stored_bytes,
        "SIMD pipes": (counts.vector + counts.vector_multiply) / core.vector,
        "multiplications": counts.vector_multiply / core.multiply,
        "memory": memory_bytes * cycles_a_byte / machine.memory_peak_gbs,
    }
    bound = max(at_once, key=lambda name: at_once[name])
    one_by_one = (
        counts.integer / core.integer
        + counts.branch / core.branch
        + (counts.load_store + counts.load_store_vector)
        / (core.memory / 2)  # of two, one takes loads, one takes either
        + (counts.vector + counts.vector_multiply)
        / core.multiply  # on a Cortex-A72 128 bits may take both pipes
        + counts.other
        + max(counts.missed_l1 - counts.missed_l2, 0) * core.l2_cycles
        + memory_bytes * cycles_a_byte / machine.memory_copy_gbs
    )
    if core.l3_cycles is not None:
        one_by_one += max(counts.missed_l2 - counts.missed_l3, 0) * core.l3_cycles
    to_ms = 1e-6 / machine.clock_ghz
    return Estimate(at_once[bound] * to_ms, max(one_by_one, at_once[bound]) * to_ms, bound)
