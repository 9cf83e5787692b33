"""How the mini model is made: `python -m benchmarks.train_mini`."""
