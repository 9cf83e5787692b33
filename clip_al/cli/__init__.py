"""The command line `clip-al`: a file a command."""
