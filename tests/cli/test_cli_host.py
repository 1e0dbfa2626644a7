"""The command line as a whole: light, one line for an error, exit codes, plugins' commands."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import c2s
import c2s.cli
from c2s import plugins
from c2s.cli import COMMANDS, main
from c2s.errors import ConfigError, OutputError

HEAVY = ("torch", "transformers", "datasets", "scanpy", "anndata", "pandas", "pyarrow", "sklearn", "matplotlib")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from c2s.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def loaded_by(code: str) -> set[str]:
    """Top-level modules that are loaded after running `code` in a fresh interpreter."""
    program = (
        f"{code}\nimport sys, json\nsys.stderr.write(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def call(*arguments: str) -> str:
    called = f"from c2s.cli import main\ntry:\n    main({list(arguments)!r})"
    return f"{called}\nexcept SystemExit as e:\n    assert not e.code"


@pytest.mark.parametrize(
    "code",
    ["import c2s", call("--help"), call("--version"), call("plugins", "list"), call("plugins", "--help")],
    ids=["import c2s", "--help", "--version", "plugins list", "plugins --help"],
)
def test_light_commands_import_nothing_heavy(code: str) -> None:
    assert not loaded_by(code) & set(HEAVY)


def test_import_c2s_loads_a_handful_of_modules() -> None:
    # What takes time is files read: counted, because a stopwatch on a busy machine proves nothing.
    third_party = loaded_by("import c2s") - loaded_by("pass") - sys.stdlib_module_names
    assert third_party == {"c2s"}


def test_pytest_plugin_is_light() -> None:
    assert not loaded_by("import c2s.testing.pytest_plugin") & set(HEAVY)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    """Call main() here; returns exit code, stdout and stderr."""
    plugins._default_host.cache_clear()
    monkeypatch.setattr(c2s.cli, "_reported", [])
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    yield call
    plugins._default_host.cache_clear()


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Install a plugin of the given source for one test."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def install(name: str, source: str) -> None:
        module = f"cli_plugin_{name}"
        made.append(module)
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"c2s_{name}-0.4.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: c2s-{name}\nVersion: 0.4\n")
        (info / "entry_points.txt").write_text(f"[c2s]\n{name} = {module}\n")
        importlib.invalidate_caches()

    yield install
    for module in made:
        sys.modules.pop(module, None)


RAISING = """
    import typer
    from c2s import hookimpl
    from c2s.errors import ConfigError, OutputError

    @hookimpl
    def c2s_register_commands(app):
        @app.command()
        def fail(how: str):
            if how == "c2s":
                raise OutputError("the output x exists already.", fix="choose another path.")
            if how == "many":
                raise ConfigError("profile 'p'", ["unknown option 'a'", "unknown option 'b'"])
            if how == "ctrl-c":
                raise KeyboardInterrupt
            if how == "bug":
                raise ZeroDivisionError("a bug")
            if how == "exit":
                raise typer.Exit(7)
            if how == "pipe":
                raise BrokenPipeError(32, "Broken pipe")
            if how == "extra":
                import no_such_package_here
            print("fine")
"""


def test_every_command_of_the_table_exists_and_is_documented() -> None:
    for name, command in COMMANDS.items():
        module, _, attribute = command.target.partition(":")
        assert module == f"c2s.cli.{name}"
        assert callable(getattr(importlib.import_module(module), attribute)), name
        assert command.help.endswith(".")


def test_help_lists_core_and_plugin_commands(runner, plugin) -> None:
    plugin("raising", RAISING)
    code, out, err = runner("--help")
    assert code == 0
    assert err == ""
    for name in (*COMMANDS, "fail"):
        assert f" {name} " in out


def test_version(runner) -> None:
    assert runner("--version") == (0, f"c2s {c2s.__version__}\n", "")


def test_no_arguments_show_the_help(runner) -> None:
    _, out, err = runner()
    assert "Commands" in out + err


@pytest.mark.parametrize("typed, meant", [("pluginz", "plugins"), ("tranform", "transform"), ("fial", "fail")])
def test_unknown_command_is_suggested(runner, plugin, typed: str, meant: str) -> None:
    plugin("raising", RAISING)
    code, _, err = runner(typed)
    assert code == 2
    assert f"No such command '{typed}'" in err
    assert f"'{meant}'" in err


def test_a_core_command_does_not_load_plugins(runner, plugin) -> None:
    plugin("loud", "raise RuntimeError('imported')")
    code, _, err = runner("plugins", "new", "--help")
    assert code == 0
    assert err == ""


@pytest.mark.parametrize(
    "how, code, line",
    [
        ("c2s", 2, "Error: the output x exists already. Fix: choose another path."),
        ("many", 2, "Error: profile 'p': unknown option 'a'; unknown option 'b'."),
        ("ctrl-c", 130, "Stopped by Ctrl-C; no half-written output was left."),
    ],
)
def test_errors_are_one_line_and_a_code(runner, plugin, how: str, code: int, line: str) -> None:
    plugin("raising", RAISING)
    assert runner("fail", how) == (code, "", line + "\n")


def test_missing_extra_says_what_to_install(runner, plugin) -> None:
    plugin("raising", RAISING.replace("no_such_package_here", "torch_of_another_world as torch"))
    with pytest.raises(ModuleNotFoundError):
        main(["fail", "extra"])


@pytest.mark.parametrize("package", ["torch", "transformers", "papermill"])
def test_package_of_an_extra_that_is_missing(
    runner, plugin, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    plugin("raising", RAISING.replace("no_such_package_here", package))
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = runner("fail", "extra")
    assert code == 2
    extra = "book" if package == "papermill" else "models"
    assert err.startswith(f"Error: this command needs the package {package!r}")
    assert f"python -m pip install 'c2s[{extra}]'" in err


def test_exit_codes_of_a_command_are_its_own(runner, plugin) -> None:
    plugin("raising", RAISING)
    assert runner("fail", "exit")[0] == 7
    assert runner("fail", "well") == (0, "fine\n", "")


def test_a_closed_pipe_is_no_error(runner, plugin) -> None:
    plugin("raising", RAISING)
    streams = sys.stdout, sys.stderr
    try:
        code, _, err = runner("fail", "pipe")
    finally:
        sys.stdout, sys.stderr = streams
    assert code == 1
    assert "Traceback" not in err


def test_a_bug_keeps_its_traceback(runner, plugin) -> None:
    plugin("raising", RAISING)
    with pytest.raises(ZeroDivisionError):
        main(["fail", "bug"])


@pytest.mark.parametrize("how, kind", [("c2s", OutputError), ("many", ConfigError)])
def test_debug_shows_the_traceback(runner, plugin, monkeypatch: pytest.MonkeyPatch, how: str, kind: type) -> None:
    plugin("raising", RAISING)
    monkeypatch.setenv("C2S_DEBUG", "1")
    with pytest.raises(kind):
        main(["fail", how])


def test_broken_plugin_is_a_warning_and_the_command_works(runner, plugin) -> None:
    plugin("raising", RAISING)
    plugin("broken", "import no_such_package_here")
    code, out, err = runner("fail", "well")
    assert (code, out) == (0, "fine\n")
    assert err.startswith(
        "Warning: plugin 'broken' (distribution c2s-broken 0.4) is broken: it cannot be imported"
    )
    assert len(err.splitlines()) == 1


def test_a_core_command_that_needs_plugins_warns_in_one_line(tmp_path: Path) -> None:
    info = tmp_path / "c2s_broken-0.4.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: c2s-broken\nVersion: 0.4\n")
    (info / "entry_points.txt").write_text("[c2s]\nbroken = no_such_module_here\n")
    path = os.pathsep.join([str(tmp_path), str(Path(c2s.__file__).parents[1])])
    done = run("plugins", "new", "my-task", "--folder", str(tmp_path / "new"), PYTHONPATH=path)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Warning: plugin 'broken' (distribution c2s-broken 0.4) is broken")


def test_other_warnings_are_shown_as_usual(runner, plugin) -> None:
    plugin("raising", RAISING.replace("import no_such_package_here", "import warnings; warnings.warn('as usual')"))
    with pytest.warns(UserWarning, match="as usual"):
        assert runner("fail", "extra")[0] == 0


def test_list_shows_working_and_broken_plugins(runner, plugin) -> None:
    plugin("raising", RAISING)
    plugin("broken", "import no_such_package_here")
    code, out, err = runner("plugins", "list")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["PLUGIN", "DISTRIBUTION", "VERSION", "STATE", "REGISTERS"]
    assert any(line.split() == ["raising", "c2s-raising", "0.4", "loaded", "commands:", "fail"] for line in lines)
    assert any(line.split() == ["broken", "c2s-broken", "0.4", "broken", "-"] for line in lines)
    assert "No module named 'no_such_package_here'" in lines[-1]
    assert "traceback: " in lines[-1]


def test_list_as_json(runner, plugin) -> None:
    plugin("raising", RAISING)
    plugin("broken", "import no_such_package_here")
    _, out, _ = runner("plugins", "list", "--json")
    found = {entry["name"]: entry for entry in json.loads(out)}
    assert found["raising"]["registered"] == {"commands": ["fail"]}
    assert found["raising"]["version"] == "0.4"
    assert found["broken"]["state"] == "broken"
    assert "no_such_package_here" in found["broken"]["problems"][0]
    assert found["core"]["registered"]["metrics"][:3] == ["accuracy", "macro_f1", "exact_match"]


def test_info_of_a_plugin(runner, plugin) -> None:
    plugin("raising", RAISING)
    _, out, _ = runner("plugins", "info", "raising")
    assert "plugin 'raising' (distribution c2s-raising 0.4), loaded" in out
    assert "c2s fail" in out
    _, out, _ = runner("plugins", "info", "core", "--json")
    facts = json.loads(out)
    assert facts["entries"]["metrics"][0]["target"] == "c2s.metrics:accuracy_metric"


TASKS = """
    from dataclasses import dataclass
    from c2s import PromptTemplate, Task, hookimpl

    @dataclass(frozen=True)
    class Mine(Task):
        name = "mine"
        title = "What is mine"
        prompts = "mine"
        metrics = ("accuracy", "macro_f1")
        label: str
        depth: int = 3
        columns = ()
        def split(self, obs, *, seed=0): ...
        def examples(self, sentences, templates, *, seed=0, answers=True): ...

    @hookimpl
    def c2s_register_prompts(register):
        register("mine", [PromptTemplate("mine/a", "{cell_sentence}", "{label}")])

    @hookimpl
    def c2s_register_tasks(register):
        register("mine", "cli_plugin_tasks:Mine", summary="one of two")
        register("gone", "cli_plugin_tasks:Gone")
"""


def test_info_shows_what_a_task_asks_for(runner, plugin) -> None:
    plugin("tasks", TASKS)
    code, out, err = runner("plugins", "info", "tasks")
    assert code == 0
    assert "  mine  cli_plugin_tasks:Mine  -- one of two" in out
    assert "task mine\n  title: What is mine\n  version: 0.1.0\n  paper section: -\n" in out
    assert "  options: label, depth=3\n  prompts: mine (1 templates)\n  metrics: accuracy, macro_f1\n" in out
    assert "  rewards: -\n" in out
    assert err.startswith("Warning: the task 'gone' of plugin 'tasks' (distribution c2s-tasks 0.4) cannot be")


def test_ctrl_c_while_plugins_are_loaded(runner, plugin) -> None:
    plugin("slow", "raise KeyboardInterrupt")
    assert runner("no-such-command")[0] == 130
    assert runner("--help")[0] == 130


def test_strict_loading_is_an_error_of_one_line(runner, plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin("broken", "import no_such_package_here")
    monkeypatch.setenv("C2S_STRICT_PLUGINS", "1")
    code, _, err = runner("--help")
    assert code == 2
    assert err.startswith("Error: plugin 'broken' (distribution c2s-broken 0.4) is broken: it cannot be imported")
    assert len(err.splitlines()) == 1


def test_info_of_a_broken_plugin_says_why(runner, plugin) -> None:
    plugin("broken", "import no_such_package_here")
    _, out, _ = runner("plugins", "info", "broken")
    assert "problem: plugin 'broken'" in out


def test_info_and_check_of_a_plugin_that_is_not_there(runner) -> None:
    for command in ("info", "check"):
        code, _, err = runner("plugins", command, "cores")
        assert code == 2
        assert err.startswith("Error: unknown plugin 'cores'. Did you mean 'core'?")


def test_check_passes_says_what_and_fails_with_code_1(runner, plugin) -> None:
    plugin("raising", RAISING)
    code, out, _ = runner("plugins", "check", "raising")
    assert code == 0
    assert "1 of 1 checks of plugin 'raising' passed." in out
    assert "Not checked here: training and prediction." in out
    plugins._default_host.cache_clear()
    plugin(
        "wrong",
        "from c2s import hookimpl\n@hookimpl\ndef c2s_register_metrics(register):\n"
        "    register('absent', 'cli_plugin_wrong:ABSENT')\n",
    )
    code, out, _ = runner("plugins", "check", "wrong")
    assert code == 1
    assert "FAILED  metrics: absent is a c2s.Metric" in out
    assert "AttributeError" in out
    assert "1 of 2 checks" in out


def test_new_writes_and_says_what_next(runner, tmp_path: Path) -> None:
    code, out, _ = runner("plugins", "new", "my-task", "--folder", str(tmp_path / "here"))
    assert code == 0
    assert "c2s_my_task/task.py" in out
    assert f"python -m pip install -e {tmp_path / 'here'}" in out
    code, _, err = runner("plugins", "new", "my-task", "--folder", str(tmp_path / "here"))
    assert code == 2
    assert err.startswith("Error: the output")


def test_the_real_command_ends_without_a_traceback() -> None:
    done = run("plugins", "info", "nobody")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: unknown plugin 'nobody'.")
    assert "Traceback" not in done.stderr
    done = run("plugins", "info", "nobody", C2S_DEBUG="1")
    assert "Traceback" in done.stderr
