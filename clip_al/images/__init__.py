"""Images: wherever they lie, one RGB picture after the other, each with an id."""
