"""The module's electronics: drawn by scripts, checked by KiCad against a table of what was intended."""
