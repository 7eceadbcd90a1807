"""``python -m unplateau`` is the command line."""

import sys

from unplateau.cli.main import main

sys.exit(main())
