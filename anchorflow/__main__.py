"""`python -m anchorflow` is the same as `anchorflow`."""

import sys

from anchorflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
