"""The experiments: one module for each page of results; `benchmarks.run` runs them."""
