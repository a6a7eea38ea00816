"""Results of runs, their measures and statistics, and their files. Pure functions: no model, no Hydra."""

from anchorflow.results.files import counted, dumps, write_atomically
from anchorflow.results.folders import read_status, runs_below
from anchorflow.results.result import SCHEMA, Curve, Record, Result, Table, of_tests

__all__ = [
    "SCHEMA",
    "Curve",
    "Record",
    "Result",
    "Table",
    "counted",
    "dumps",
    "of_tests",
    "read_status",
    "runs_below",
    "write_atomically",
]
