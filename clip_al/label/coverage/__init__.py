"""Coverage: which images stand best for many others; its weights, its draws, its kernel."""
