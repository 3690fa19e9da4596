"""``python -m bruno``, the command for those whose shell does not find it."""

import sys

from bruno.cli import main

if __name__ == "__main__":
    sys.exit(main())
