"""Score: how well a labelled image agrees with its label (SAS), how little others replace it."""
