"""anchorflow: where label words act as anchors, and what in-context labels teach."""

__version__ = "0.1.0"
