"""The tables of reports, and their formats."""
