"""`python launch.py` is `anchorflow run`."""

from anchorflow.cli import run

if __name__ == "__main__":
    run()
