"""Named protocols: `base` (what one is), the .yaml files (the data), `pixels` (applied), `columns` (what compares)."""
