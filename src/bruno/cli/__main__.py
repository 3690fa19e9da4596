"""``python -m bruno.cli``, for launchers that start modules."""

import sys

from bruno.cli import main

if __name__ == "__main__":
    sys.exit(main())
