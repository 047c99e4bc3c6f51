"""``python -m dqc``: the command line."""

import sys

from dqc.cli import main

sys.exit(main())
