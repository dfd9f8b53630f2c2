"""`python -m imagingx`."""

import sys

from imagingx.cli import main

sys.exit(main())
