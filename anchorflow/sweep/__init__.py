"""Many runs: what is to be done, in which packs, where, and what became of it."""
