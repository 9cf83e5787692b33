"""Table: the embeddings on disk, with their ids; built, followed, checked and repaired."""
