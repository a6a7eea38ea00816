"""Experiments of one's own."""
