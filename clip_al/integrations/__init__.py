"""Other hosts than modAL and torch, one module each; import the one that you use."""
