"""Label: which images to label next; uncertainty and query strategies."""
