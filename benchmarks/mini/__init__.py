"""Parts of the mini model's training; `benchmarks.train_mini` puts them together."""
