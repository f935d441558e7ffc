"""What the authors publish: one file per family, each with its `ENTRIES`."""
