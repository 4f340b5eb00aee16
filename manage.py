#!/usr/bin/env python
"""The command line of the server: `manage.py help` lists what it can do."""

import os
import sys

from batchserver.command_line import main

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "batchserver.settings")
    main(sys.argv)
