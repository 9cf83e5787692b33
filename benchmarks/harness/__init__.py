"""What every measurement uses: cells that are run once, the machine, paired tests, pages."""
