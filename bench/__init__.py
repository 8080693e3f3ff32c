"""Benchmarks beside peers: ratios in one run, medians of interleaved rounds."""
