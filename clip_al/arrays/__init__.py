"""Arrays: checked at the public boundary, read in blocks, on devices; labels as codes; order."""
