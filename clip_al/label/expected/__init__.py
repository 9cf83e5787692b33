"""What accuracy a head has on images without a label, and what more labels would add."""
