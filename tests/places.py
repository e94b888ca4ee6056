"""Where an error stands in a file, as tests compare it."""

from __future__ import annotations

import re


def unnumbered(where: str) -> str:
    """The place without its line number, which has tests of its own (tests/test_toml_table.py)."""
    return re.sub(r":\d+: ", ": ", where)
