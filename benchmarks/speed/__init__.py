"""Time and memory: one command a module, each beside what it cannot do without, or peers."""
