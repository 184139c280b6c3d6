"""Training: losses, data, the three stages, the loop (paper section 1.3)."""
