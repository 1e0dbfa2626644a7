"""Mutation testing of one area: change its source in one place, run its tests, count what goes unnoticed.

``python tests/mutation/run.py sentences`` needs ``pip install cosmic-ray``, which makes the changes. How to
read the result is in CONTRIBUTING.md. Nothing is written to the source. The tests run once, which shows which of
them call what; then each mutant lives in a fork of that process, where the changed function takes the place of
the original, and costs no more than those tests that call it, the fastest first.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import difflib
import importlib.machinery
import inspect
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import threading
import time
import tomllib
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Mutant:
    """One change of one line."""

    module: str
    operator: str
    occurrence: int
    line: int
    column: int
    before: str
    after: str
    outcome: str = ""
    killed_by: str = ""
    seconds: float = 0.0


def not_worth_changing(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield where a change cannot be noticed: annotations, what only type checkers read, `@kernel` (speed)."""
    for node in ast.walk(tree):
        found: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef):
            every = [a for a in ast.walk(node.args) if isinstance(a, ast.arg)]
            found += [node.returns, *(a.annotation for a in every)]
            found += [d for d in node.decorator_list if isinstance(d, ast.Name) and d.id == "kernel"]
        elif isinstance(node, ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            found.append(node)
        for part in found:
            if part is not None:
                yield (part.lineno, max(0, part.col_offset - 1)), (part.end_lineno, part.end_col_offset)


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a file, with the operators of cosmic-ray."""
    import cosmic_ray.plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    source = path.read_text()
    ignored = list(not_worth_changing(ast.parse(source)))
    nodes = get_ast(source)
    for name in sorted(cosmic_ray.plugins.operator_names()):
        operator_class = cosmic_ray.plugins.get_operator(name)
        if operator_class.arguments():
            continue
        operator = operator_class()
        places = (place for node in ast_nodes(nodes) for place in operator.mutation_positions(node))
        for occurrence, (start, _) in enumerate(places):
            if not any(begin <= start < end for begin, end in ignored):
                yield Mutant(path.name, name.split("/")[-1], occurrence, *start, before="", after="")


def mutated(path: Path, mutant: Mutant) -> str | None:
    """Return the changed source, and write the changed lines into `mutant`; None if it is no Python."""
    import cosmic_ray.plugins
    from cosmic_ray.mutating import mutate_code

    source = path.read_text()
    operator = cosmic_ray.plugins.get_operator(f"core/{mutant.operator}")()
    try:
        changed = mutate_code(source, operator, mutant.occurrence)
    except AttributeError:  # cosmic-ray 8.7 knows no dotted name in `except (a.B, C)`
        return None
    lines = list(difflib.unified_diff(source.splitlines(), (changed or "").splitlines(), n=0, lineterm=""))[3:]
    mutant.before = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
    mutant.after = " ".join(line[1:].strip() for line in lines if line.startswith("+"))
    try:
        compile(changed, str(path), "exec")
    except (SyntaxError, TypeError, ValueError):
        return None
    return changed


def sample(folder: Path, places: int, seed: int) -> list[tuple[Mutant, str]]:
    """Choose places at random, and one of the mutants of each: an operator has a dozen replacements, all alike."""
    by_place: dict[tuple[str, int, int, str], list[Mutant]] = {}
    for path in sorted(folder.glob("*.py")):
        for mutant in mutants_of(path):
            kind = re.sub("_.*", "", mutant.operator)
            by_place.setdefault((mutant.module, mutant.line, mutant.column, kind), []).append(mutant)
    rng = random.Random(seed)
    order = sorted(by_place)
    rng.shuffle(order)
    chosen = []
    for place in order:
        mutant = rng.choice(by_place[place])
        source = mutated(folder / mutant.module, mutant)
        if source is not None:
            chosen.append((mutant, source))
        if len(chosen) == places:
            break
    print(f"{len(chosen)} mutants at {len(order)} places ({sum(map(len, by_place.values()))} mutants)", flush=True)
    return chosen


def functions_of(name_of_module: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """Return the functions and methods of a module by qualified name, without their wrappers."""
    found: dict[str, Any] = {}

    def add(thing: Any, owner: str) -> None:
        for name in ("__func__", "fget", "func", "py_func"):
            thing = getattr(thing, name, thing) if not isinstance(thing, type) else thing
        thing = inspect.unwrap(thing) if callable(thing) else thing
        if isinstance(thing, types.FunctionType) and thing.__module__ == name_of_module:
            found.setdefault(f"{owner}{thing.__name__}", thing)
        elif isinstance(thing, type) and thing.__module__ == name_of_module and not owner:
            for part in vars(thing).values():
                add(part, f"{thing.__name__}.")

    for value in list(namespace.values()):
        add(value, "")
    return found


def transplant(path: Path, source: str) -> set[str] | None:
    """Put what a changed source changes into the loaded module; return the changed names, None if that fails."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    module = sys.modules[name]
    # In the module's own namespace, so that what the module registers elsewhere still sees its names.
    old = dict(vars(module))
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
        new = dict(vars(module))
    finally:
        vars(module).clear()
        vars(module).update(old)
    changed = set()
    fresh = functions_of(name, new)
    for key, function in functions_of(name, old).items():
        other = fresh.get(key)
        if other is None:
            return None
        parts = ("__code__", "__defaults__", "__kwdefaults__")
        if any(repr(getattr(function, p)) != repr(getattr(other, p)) for p in parts[1:]) or (
            not same_code(function.__code__, other.__code__)
        ):
            changed.add(key)
            if inspect.signature(function) != inspect.signature(other):
                changed.add("")  # a call that is refused never gets into the function
            for part in parts:
                setattr(function, part, getattr(other, part))
    plain = (int, float, str, bytes, tuple, frozenset, dict)
    for key, value in old.items():
        other = new.get(key)
        if isinstance(value, plain) and not key.startswith("__") and repr(other) != repr(value):
            changed.add("")
            for user in list(sys.modules.values()):
                if getattr(user, "__name__", "").startswith("c2s") and vars(user).get(key) is value:
                    setattr(user, key, other)
    return changed or None


def same_code(one: types.CodeType, other: types.CodeType) -> bool:
    """Compare two code objects, those inside them included."""
    flat = [
        [
            (
                c.co_code,
                c.co_names,
                c.co_varnames,
                c.co_argcount,
                c.co_posonlyargcount,
                c.co_kwonlyargcount,
                constants,
            )
            for c in every_code(code)
            for constants in [[repr(k) for k in c.co_consts if not isinstance(k, types.CodeType)]]
        ]
        for code in (one, other)
    ]
    return flat[0] == flat[1]


def every_code(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a code object and those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from every_code(constant)


def interpret_kernels(config: dict[str, Any]) -> None:
    """Make the kernels plain Python: machine code would hide a change, and compiling takes long."""
    package = config["package"].replace("/", ".")
    for file in config["interpreted"]:
        module = sys.modules[f"{package}.{file.removesuffix('.py')}"]
        for name, value in list(vars(module).items()):
            if hasattr(value, "py_func"):
                value.py_func.py_func = value.py_func
                setattr(module, name, value.py_func)


class Mutations:
    """A pytest plugin that runs the collected tests once as they are, then against each mutant in a fork."""

    def __init__(self, config: dict[str, Any], chosen: list[tuple[Mutant, str]], report: Callable[[int], None]):
        self.config, self.chosen, self.report = config, chosen, report
        self.folder = ROOT / config["package"]
        self.calls: dict[str, set[tuple[str, str]]] = {}
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Do all of it."""
        self.session = session
        if session.testsfailed:
            raise session.Failed("tests could not be collected")
        for item in session.items:
            failure = self.run_unchanged(item)
            if failure:
                raise session.Failed(f"{item.nodeid} fails without any change:\n{failure}")
        for number, (mutant, source) in enumerate(self.chosen):
            if not mutant.outcome:
                self.try_mutant(mutant, source)
                self.report(number)
        return True

    def run_unchanged(self, item: pytest.Item) -> str:
        """Run a test, and note what it calls; its session's fixtures stay for the forks."""
        seen = self.calls[item.nodeid] = set()
        folder = str(self.folder)

        def note(frame: types.FrameType, event: str, argument: Any) -> None:
            code = frame.f_code
            if code.co_filename.startswith(folder):
                seen.add((Path(code.co_filename).name, code.co_qualname.split(".<locals>")[0]))

        begin = time.process_time()
        sys.settrace(note)
        threading.settrace(note)
        try:
            failure = run_item(item, Ahead(self.session))
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
        self.seconds[item.nodeid] = time.process_time() - begin
        return failure

    def tests_for(self, mutant: Mutant, changed: set[str] | None) -> list[pytest.Item]:
        """Return the tests that call what is changed: file by file, those that know the module best first."""
        first = self.config["first"].get(mutant.module.removesuffix(".py"), [])
        interpreted = mutant.module in self.config["interpreted"]
        places = {name: i for i, name in enumerate([*first, *self.config["tests"]][::-1])}
        chosen = []
        for item in self.session.items:
            file = os.path.relpath(item.path, ROOT / self.config["folder"])
            calls = self.calls[item.nodeid]
            if interpreted:
                wanted = file in first
            elif changed is None or "" in changed:
                wanted = any(module == mutant.module for module, _ in calls) or file in first
            else:
                wanted = any((mutant.module, name) in calls for name in changed)
            if wanted:
                chosen.append((-places.get(file, -1), file, self.seconds[item.nodeid], item))
        return [item for *_, item in sorted(chosen, key=lambda entry: entry[:3])]

    def try_mutant(self, mutant: Mutant, source: str) -> None:
        """Run the tests against one mutant in a fork, and write what became of it into `mutant`."""
        log = Path(tempfile.mkstemp(suffix=".log")[1])
        begin = time.monotonic()
        child = os.fork()
        if not child:
            code = 1
            try:
                code = self.run_mutant(mutant, source, log)
            except BaseException as error:
                log.write_text(f"FAILED {error!r}")
            finally:
                os._exit(code)
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() - begin > 900:
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.01)
        mutant.seconds = round(time.monotonic() - begin, 2)
        text = log.read_text(errors="replace")
        log.unlink()
        failed = re.findall(r"^(?:FAILED|ERROR) (.*)$", text, re.MULTILINE)
        mutant.outcome = "killed" if status else "survived"
        mutant.killed_by = failed[0][:160] if failed else f"time or crash (status {status})" if status else ""
        if not status:
            mutant.killed_by = text.strip()[:160]

    def run_mutant(self, mutant: Mutant, source: str, log: Path) -> int:
        """Make the change and run the tests in this process, a fork; return 1 as soon as one fails."""
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
        path = self.folder / mutant.module
        decorator = mutant.before.startswith("@")
        changed = None if decorator else transplant(path, source)
        if mutant.module in self.config["interpreted"]:
            interpret_kernels(self.config)
        items = self.tests_for(mutant, changed)
        limit = 5 + int(time.process_time() + 3 * sum(self.seconds[item.nodeid] for item in items))
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        if changed is None:
            log.write_text("imported anew")
            return self.run_imported_anew(path, source, sorted({str(item.path) for item in items}), log)
        log.write_text(f"{len(items)} tests of {', '.join(sorted(changed))}")
        for item, following in zip(items, [*items[1:], None], strict=True):
            failure = run_item(item, following or Ahead(self.session))
            if failure:
                log.write_text(f"FAILED {item.nodeid} {failure[-400:]}")
                return 1
        return 0

    def run_imported_anew(self, path: Path, source: str, tests: list[str], log: Path) -> int:
        """Run the tests against changed decorators and classes, which need everything to be imported again."""
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) or ""
            if name.split(".")[0] == "c2s" or (file.startswith(f"{ROOT}/") and name != "__main__"):
                del sys.modules[name]
        loader: Any = importlib.machinery.SourceFileLoader
        get_code = loader.get_code

        def changed_code(self: Any, name: str) -> Any:
            if Path(self.path) == path:
                return compile(source, str(path), "exec", dont_inherit=True)
            return get_code(self, name)

        loader.get_code = changed_code
        out = os.open(log, os.O_WRONLY | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        options = ["-x", "-q", "--assert=plain", "--capture=sys", "-p", "no:cacheprovider", "-W", "ignore"]
        code = int(pytest.main([*options, *tests]))
        sys.stdout.flush()
        return code


class Ahead:
    """Stands for the next test where none is known: everything but the session's fixtures is taken down."""

    def __init__(self, session: pytest.Session) -> None:
        self.session = session

    def listchain(self) -> list[Any]:
        """Return what the next test needs."""
        return [self.session]


def run_item(item: pytest.Item, following: Any) -> str:
    """Run a test with its fixtures, as often as wanted; return what failed, or nothing."""
    from _pytest.runner import runtestprotocol

    item._initrequest()  # type: ignore[attr-defined]
    reports = runtestprotocol(item, log=False, nextitem=following)
    return next((str(report.longrepr) or "failed" for report in reports if report.failed), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("area", choices=sorted(p.stem for p in Path(__file__).parent.glob("*.toml")))
    parser.add_argument("--places", type=int, default=150, help="how many places to change (default 150)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", type=Path, help="leave out what this earlier result says was killed")
    parser.add_argument("--out", type=Path, help="where the result goes (default: out/mutation/AREA.json)")
    options = parser.parse_args()
    out = options.out or ROOT / "out" / "mutation" / f"{options.area}.json"
    config = tomllib.loads((Path(__file__).parent / f"{options.area}.toml").read_text())
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    # What tests/conftest.py sets, and too late here.
    os.environ |= {"PYTHONPATH": str(ROOT), "HYPOTHESIS_PROFILE": "mutation", "TOKENIZERS_PARALLELISM": "false"}
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    os.environ["NUMBA_THREADING_LAYER"] = "workqueue"  # OpenMP ends a fork that uses it
    import hypothesis

    # A failing property need not be made small here.
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile(
        "mutation", deadline=None, derandomize=True, max_examples=20, phases=phases, database=None
    )
    chosen = sample(ROOT / config["package"], options.places, options.seed)
    if options.again:
        earlier = json.loads(options.again.read_text())["mutants"]
        known = {(m["module"], m["before"], m["after"]): m for m in earlier if m["outcome"] == "killed"}
        for mutant, _ in chosen:
            if result := known.get((mutant.module, mutant.before, mutant.after)):
                mutant.outcome, mutant.killed_by, mutant.seconds = "killed", result["killed_by"], result["seconds"]
    equivalent = {(e["module"], e["before"], e["after"]): e["why"] for e in config.get("equivalent", [])}
    out.parent.mkdir(parents=True, exist_ok=True)
    terminal = os.fdopen(os.dup(1), "w")

    def counts() -> dict[str, int]:
        return {o: sum(m.outcome == o for m, _ in chosen) for o in ("killed", "equivalent", "survived")}

    def report(number: int) -> None:
        mutant = chosen[number][0]
        if mutant.outcome == "survived" and (mutant.module, mutant.before, mutant.after) in equivalent:
            mutant.outcome = "equivalent"
        shown = f"{mutant.module}:{mutant.line}  {mutant.before}  ->  {mutant.after}  ({mutant.killed_by})"
        note = mutant.killed_by[:90] if mutant.outcome == "killed" else shown
        print(f"{number + 1}/{len(chosen)} {mutant.outcome} {mutant.seconds} s {note}", file=terminal, flush=True)
        result = {"area": options.area, "date": str(datetime.date.today()), "seed": options.seed, **counts()}
        result["mutants"] = [asdict(m) for m, _ in chosen if m.outcome]
        out.write_text(json.dumps(result, indent=1) + "\n")

    files = dict.fromkeys([*config["tests"], *(t for tests in config["first"].values() for t in tests)])
    tests = [os.path.normpath(f"{config['folder']}/{name}") for name in files]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            "-q",
            "--assert=plain",
            "-p",
            "no:cacheprovider",
            "-W",
            "ignore",
            f"--basetemp={folder}/tests",
        ]
        code = pytest.main([*arguments, *tests], plugins=[Mutations(config, chosen, report)])
    found = counts()
    told = found["killed"] + found["survived"]
    print(f"{options.area}: {found}, score {found['killed'] / max(1, told):.1%}")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
