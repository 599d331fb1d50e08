"""``python -m leyolo`` is the command ``leyolo``."""

from __future__ import annotations

import sys

from leyolo.cli import main

if __name__ == "__main__":
    sys.exit(main())
