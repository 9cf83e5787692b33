"""The images and words that are measured on, and what is done to them first."""
