"""The commands ``export`` and ``import``: images to other tools, labels back; one module each."""
