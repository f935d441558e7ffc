"""TiTok (arXiv 2406.07550) and TA-TiTok (arXiv 2501.07730): an image as a short sequence of tokens without a place."""
