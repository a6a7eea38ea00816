"""The views of this package's experiments. A view is VIEW in the module with the experiment's name."""
