"""`python -m aibridge`: the command line."""

import sys

from aibridge.cli import main

sys.exit(main())
