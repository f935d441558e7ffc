"""MaskGIT's VQGAN (arXiv 2202.04200): the tokenizer of RAR, and the proxy that TiTok's first stage learns to name."""
