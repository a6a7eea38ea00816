"""Your own experiments."""
