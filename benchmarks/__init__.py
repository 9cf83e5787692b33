"""Scripts that measure the figures in our documents; see each module's first lines."""
