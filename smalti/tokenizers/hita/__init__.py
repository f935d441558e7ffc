"""Hita (arXiv 2507.02358): holistic tokens of the whole image, then a grid of patch tokens."""
