"""``python -m c2s.testing.digest``: make a task's examples in a process of its own and print their hash.

Reads one JSON object from standard input; see `c2s.testing.checks.same_examples_in_another_process`.
"""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    """Read the order, make the examples, print the hash."""
    order = json.load(sys.stdin)
    sys.path[:] = [*dict.fromkeys([*sys.path, *order["path"]])]
    from c2s.prompts import PromptTemplate
    from c2s.sentences import CellSentences
    from c2s.testing.checks import examples_digest

    task_class = importlib.import_module(order["module"])
    for part in order["class"].split("."):
        task_class = getattr(task_class, part)
    task = task_class.from_options(order["options"])
    templates = [PromptTemplate(*parts) for parts in order["templates"]]
    print(examples_digest(task, CellSentences.read_parquet(order["cells"]), templates))


if __name__ == "__main__":
    main()
