"""``python -m edgescope`` is the command line."""

import sys

from edgescope.cli import main

if __name__ == "__main__":
    sys.exit(main())
