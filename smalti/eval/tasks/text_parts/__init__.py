"""The parts of the text task."""
