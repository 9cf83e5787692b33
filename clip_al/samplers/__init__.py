"""Samplers: what a DataLoader draws from a selection, alone or in several processes."""
