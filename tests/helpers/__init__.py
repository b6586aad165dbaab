"""What several tests and benchmarks use: solutions, wrong solutions, stubs, servers."""
