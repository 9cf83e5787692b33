"""Subset: which labelled images to train on, and what was chosen."""
