"""`python -m pytest_speedup` is `pytest-speedup`."""

import sys

from pytest_speedup.cli import main

sys.exit(main())
