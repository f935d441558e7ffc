"""Detail preservation as curves: charts with known truth and the pure functions that read their reconstructions."""
