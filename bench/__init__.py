"""Benchmarks and studies; run from the root of the repository, as in ``python -m bench.throughput``."""
