"""The one error a person sees: where it happened, what was expected, what came instead, what to do."""

from __future__ import annotations


class DarkrackError(Exception):
    """Something a person can put right; the front door prints it and exits 1.

    ``where`` names the file, option or line; ``expected`` and ``got`` complete the sentence
    "expected X, got Y"; ``hint`` is one thing to try, as an imperative, or empty.
    """

    def __init__(self, where: str, expected: str, got: str, hint: str = "") -> None:
        super().__init__(where, expected, got, hint)
        self.where = where
        self.expected = expected
        self.got = got
        self.hint = hint

    def __str__(self) -> str:
        line = f"error: {self.where}: expected {self.expected}, got {self.got}"
        return f"{line}\nhint: {self.hint}" if self.hint else line
