"""What others choose images by, to stand beside ours: one small module for each method."""
