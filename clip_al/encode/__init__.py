"""Encode: a CLIP model makes unit-length embeddings of images and texts."""
