"""SEED (arXiv 2310.01218): an image as 32 tokens in causal order that decode to its meaning, of which unCLIP paints."""
