"""What near-copies and search find, on photos and on genuine CLIP embeddings."""
