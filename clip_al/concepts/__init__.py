"""Concepts: a vocabulary, the top-m concepts of each image, the diversity of a set (CBD)."""
