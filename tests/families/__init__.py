"""Every causal language model of the installed transformers, tiny, in every experiment, against a plain eager oracle."""
