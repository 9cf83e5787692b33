"""Small networks, their training, and what is trained on: rounds of labels, and subsets."""
