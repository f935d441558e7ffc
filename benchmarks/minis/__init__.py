"""Quality of the packaged models against their floors: `python -m benchmarks.minis --bank FILE --networks FOLDER`.

`rows.py` holds what a result is, `features.py` the network all picture comparisons use, and one file per group of
floors follows: `reconstruction.py`, `samples.py` (classes), `captions.py`, `copies.py`.
"""
