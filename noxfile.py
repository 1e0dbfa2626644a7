"""Every task of this repository. Each session builds its own environment from nothing, with plain pip.

``python -m nox -s demo`` is the place to start; ``python -m nox -l`` lists the rest.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_external_run = True

CONSTRAINTS = ("-c", "constraints.txt")
PLUGINS = sorted(path.parent.name for path in Path("plugins").glob("*/pyproject.toml"))
CHAPTERS = sorted(path.stem for path in Path("book/chapters").glob("*.md"))
# Three test processes on two cores, since many tests wait for processes of their own; the tests of a file are in
# one of them, which then makes what they share once.
PROCESSES = ("-n", "3", "--dist", "loadfile")
# More threads than that only get in each other's way; numba would give torch its own number of them.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
# What is rounded elsewhere on another processor: the kernels of OpenBLAS (numpy, scipy), torch, oneDNN and MKL.
KERNELS = (
    {
        "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "AVX2",
    },
    {
        "OPENBLAS_CORETYPE": "Nehalem",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
    },
)
# Nothing here may need the network once pip is done.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def install(session: nox.Session, *packages: str) -> None:
    """Install `packages` at the versions of ``constraints.txt``."""
    # Most of what is installed is never imported: compiling it all ahead would take longer than the rest of it.
    session.install("--no-compile", *CONSTRAINTS, *packages)
    # What is imported is compiled once and kept, or every one of the many processes would do it again.
    session.env.update(OFFLINE, PYTHONDONTWRITEBYTECODE="")


def plugin_folders(names: list[str]) -> list[str]:
    """Return the folders of the named plugins; of all for no name or ``all``."""
    chosen = PLUGINS if not names or names == ["all"] else names
    unknown = sorted(set(chosen) - set(PLUGINS))
    if unknown:
        raise SystemExit(f"No plugin {', '.join(unknown)} here; there are {', '.join(PLUGINS)}, or all.")
    return [f"plugins/{name}" for name in chosen]


def editable(folders: list[str]) -> list[str]:
    """Return pip's arguments to install `folders` in place."""
    return [word for folder in folders for word in ("-e", folder)]


def run_all(session: nox.Session, commands: list[tuple[str, ...]], *environments: dict[str, str]) -> None:
    """Run every command in every environment, also after one that fails; fail at the end with all that did."""
    failed = []
    for environment in environments:
        for words in commands:
            try:
                session.run(*words, env=environment)
            except CommandFailed:
                failed.append(f"{environment} {' '.join(words)}")
    if failed:
        session.error("\n".join([f"{len(failed)} failed:", *failed]))


@nox.session
def demo(session: nox.Session) -> None:
    """Run the annotation chapter at its default size; leaves everything in out/demo."""
    install(session, ".[models,book]", "./plugins/annotation")
    started = time.monotonic()
    # The cells that come with scanpy, also where C2S_DATA_MIRROR has more: five minutes are for one dataset.
    bundled = ("-p", "datasets", '["pbmc68k_reduced"]')
    session.run(
        "c2s", "chapters", "run", "annotation", *bundled, "--out", "out/demo", "--overwrite", *session.posargs
    )
    session.log(f"out/demo was made in {time.monotonic() - started:.0f} s; open out/demo/annotation.html")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests of the core and of every plugin; the core must be covered to 90% by branch."""
    install(session, "-e", ".[models,book,testing]", *editable(plugin_folders([])), "-r", "tests/requirements.txt")
    if session.posargs:
        session.run("pytest", *session.posargs, env=ONE_THREAD)
        return
    session.run("coverage", "erase")
    measured = (*PROCESSES, "--cov", "--cov-append", "--cov-report=")
    plugins = [("pytest", f"{folder}/tests", *measured) for folder in plugin_folders([])]
    core = ("pytest", "tests", "--durations=25", *measured)
    run_all(session, [core, *plugins, ("coverage", "report", "--fail-under=90")], ONE_THREAD)


@nox.session
def plugin_tests(session: nox.Session) -> None:
    """Run the tests of the plugins named after ``--``, or of all."""
    folders = plugin_folders(session.posargs)
    install(session, "-e", ".[models,testing]", *editable(folders), "-r", "tests/requirements.txt")
    run_all(session, [("pytest", f"{folder}/tests") for folder in folders], ONE_THREAD)


@nox.session
def kernels(session: nox.Session) -> None:
    """Run all tests, or those named after ``--``, as on two other processors, with one and with two threads."""
    install(session, "-e", ".[models,book,testing]", *editable(plugin_folders([])), "-r", "tests/requirements.txt")
    paths = session.posargs or ["tests", *(f"{folder}/tests" for folder in plugin_folders([]))]
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    environments = [
        {**ONE_THREAD, **kernel, **dict.fromkeys(names, threads), "PYTEST_ADDOPTS": " ".join(processes)}
        for threads, processes in (("1", PROCESSES), ("2", ()))
        for kernel in KERNELS
    ]
    run_all(session, [("pytest", path) for path in paths], *environments)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and who may import whom."""
    install(session, "ruff", "import-linter")
    # import-linter reads the source only; the dependencies need not be there.
    session.install("--no-deps", "-e", ".", *editable(plugin_folders([])))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def resolve(session: nox.Session) -> None:
    """Ask whether Python 3.12 and 3.13 would do: are there wheels of all, and is what is used still there."""
    install(session, "ruff")
    extras = {"plugins/annotation": "[celltypist]", "plugins/embedding": "[scib]"}
    plugins = [f"./{folder}{extras.get(folder, '')}" for folder in plugin_folders([])]
    everything = (".[models,book,text,metrics,ray,quantised,testing]", *plugins, "-r", "tests/requirements.txt")
    # Of docrep, which scvi-tools needs, there is no wheel for any Python, and without wheels pip can ask nothing.
    alone = ("--no-deps", "scvi-tools")
    asked = ("--dry-run", "--quiet", "--ignore-installed", "--only-binary=:all:", "--target", session.create_tmp())
    commands: list[tuple[str, ...]] = []
    for python in ("3.12", "3.13"):
        pip = ("python", "-m", "pip", "install", *asked, "--python-version", python, *CONSTRAINTS)
        # The oldest Python of the project does not know type parameters in brackets.
        target = ("--target-version", f"py{python.replace('.', '')}", "--ignore", "UP046,UP047")
        commands += [(*pip, *everything), (*pip, *alone), ("ruff", "check", *target, ".")]
    run_all(session, commands, OFFLINE)


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy --strict, core and plugins."""
    stubs = ("pandas-stubs", "scipy-stubs", "types-PyYAML")
    install(session, "-e", ".[models,book,testing]", *editable(plugin_folders([])), "mypy", *stubs)
    session.run("mypy")
    for folder in plugin_folders([]):
        package = next(path.parent for path in Path(folder).glob("*/__init__.py") if path.parent.name != "tests")
        session.run("mypy", "--strict", str(package))


@nox.session
def book(session: nox.Session) -> None:
    """Run every chapter, then build the HTML book from what was executed, with warnings as errors.

    ``nox -s book -- smoke`` runs the chapters at another size than the default ``laptop``.
    """
    profile = session.posargs[0] if session.posargs else "laptop"
    # Ray for the chapter on more than one machine.
    install(session, ".[models,book,testing,ray]", *plugin_folders([]))
    source = Path("book/_executed")
    shutil.rmtree(source, ignore_errors=True)
    (source / "chapters").mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml", "references.bib"):
        shutil.copy(Path("book", name), source)
    shutil.copytree("book/_static", source / "_static")
    seconds = {}
    for name in CHAPTERS:
        started = time.monotonic()
        out = f"out/book/{name}"
        session.run("c2s", "chapters", "run", name, "--profile", profile, "--out", out, "--overwrite")
        seconds[name] = time.monotonic() - started
        shutil.copy(Path(out, f"{name}.ipynb"), source / "chapters")
    session.run("jupyter-book", "build", "-W", "-n", "--keep-going", str(source), "--path-output", "book")
    for name, took in seconds.items():
        session.log(f"chapter {name}: {took:.0f} s at profile {profile}")
    session.log("the book: book/_build/html/index.html")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure transform, inverse, parsing and prediction against cell2sentence, in pairs; prints the ratios."""
    install(session, ".[models]", *plugin_folders([]), "plotnine", "psutil")
    # Its other requirements (JupyterLab, a Sphinx theme) are not imported by what is measured.
    session.install("--no-deps", "cell2sentence==1.2.0")
    scripts = [path for path in sorted(Path("benchmarks").glob("*.py")) if "__main__" in path.read_text()]
    chosen = [path for path in scripts if not session.posargs or path.stem in session.posargs]
    for script in chosen:
        session.run("python", str(script))
