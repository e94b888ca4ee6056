"""A bundle and jacks in, sound out. Imports neither torch, train nor compress."""
