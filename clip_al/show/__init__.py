"""Show: plots and the report."""
