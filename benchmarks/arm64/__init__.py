"""Darkrack on 64-bit ARM without a board: Debian and real wheels under qemu, instructions counted, time estimated."""
