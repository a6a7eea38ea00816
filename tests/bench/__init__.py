"""`make bench`: ours against a plain transcription of the protocol, side by side in one run. Timings are no tests."""
