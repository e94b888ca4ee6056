"""Checkpoint in, bundle out: trimming, quantization and proof."""
