"""``python -m unplateau`` is the command line."""

import sys

from unplateau.cli.main import main

sys.argv[0] = "unplateau"  # as it is recorded with a run
sys.exit(main())
