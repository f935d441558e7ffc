"""Named protocols: `base` (what one is), the .yaml files, `pixels` and `texts` (applied), `columns` (what compares)."""
