"""Build a corpus in a process that gets killed: ``python killed_builds.py SPEC OUT WORKERS``."""

from __future__ import annotations

import sys

from c2s.corpus import build_corpus

if __name__ == "__main__":
    print("ready", flush=True)
    build_corpus(sys.argv[1], sys.argv[2], workers=int(sys.argv[3]), show_progress=False)
