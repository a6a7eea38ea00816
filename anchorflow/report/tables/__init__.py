"""Tables: those of every report, and how one is written."""
