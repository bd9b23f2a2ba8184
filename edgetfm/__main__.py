"""`python -m edgetfm` is the command `edgetfm`."""

import sys

from edgetfm.cli import main

sys.exit(main())
