"""The views of this package's experiments: VIEW in the module with the experiment's name. They are found by that name."""
