"""Metrics, dataset readers, benchmarks and reports: the paper's tables with our row in them."""
