"""Adapt: image and text adapters that tune CLIP to a labelled dataset."""
