"""The two demos: labelling digits, and training on a clean half of them."""
