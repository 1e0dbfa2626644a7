"""``python -m c2s`` is ``c2s``."""

from __future__ import annotations

from c2s.cli import main

if __name__ == "__main__":
    main()
