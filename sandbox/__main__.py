"""``python -m sandbox``: the program, at the price of ``site``."""

import sys

from sandbox.cli.main import main

sys.exit(main(sys.argv[1:]))
