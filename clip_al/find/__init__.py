"""Near-copies among images, and images by text or example."""
