"""`python -m warpkit` is `warpkit`."""

import sys

from warpkit.cli.main import main

sys.exit(main())
