"""Encode: images and texts become unit-length embeddings; the table on disk and its shards."""
