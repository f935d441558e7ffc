"""`python -m smalti`: the same as the `smalti` command."""

import sys

from smalti.cli import main

if __name__ == "__main__":
    sys.exit(main())
