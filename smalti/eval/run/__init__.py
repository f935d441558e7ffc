"""Evaluation runs: `sources` (images in), `subjects` (what is evaluated), `chunks` (resume), `result` (the JSON)."""
