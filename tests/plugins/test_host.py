"""The host: plugins load one at a time, and a broken one is reported by name while the rest works."""

from __future__ import annotations

import importlib.metadata
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_kit import Distributions

import c2s
from c2s import plugins
from c2s.errors import PluginError, RegistryError
from c2s.hookspecs import hookimpl
from c2s.plugins import PluginHost, PluginProblem, PluginWarning, default_host


@pytest.fixture
def _fresh_default_host() -> Iterator[None]:
    plugins._default_host.cache_clear()
    yield
    plugins._default_host.cache_clear()


def only_problem(host: PluginHost) -> PluginProblem:
    assert len(host.problems) == 1, host.problems
    return host.problems[0]


def test_core_comes_first_and_the_rest_in_order(distributions: Distributions, good: str) -> None:
    distributions.add("zeta", good)
    distributions.add("alpha", good.replace("agreement", "harmony"))
    host = distributions.host()
    assert [info.name for info in host.plugins] == ["core", "alpha", "zeta"]
    assert host.problems == []
    assert host.metrics.get("agreement").function([], []) == {"agreement": 1.0}
    assert str(host.metrics.owner("harmony")) == "plugin 'alpha' (distribution c2s-alpha 1.2.3)"
    assert host.plugin("zeta").registered == {"metrics": ["agreement"]}
    assert str(host.metrics.owner("accuracy")).startswith("plugin 'core'")


def test_the_core_loads_without_being_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: ())
    host = PluginHost().load()
    assert [info.name for info in host.plugins] == ["core"]
    assert "accuracy" in host.metrics


IMPORT_ERROR = "import no_such_package_here"
EXITS = "import sys; sys.exit('no licence')"
SYNTAX = "def broken(:"
MISSPELT = """
    from c2s import hookimpl
    @hookimpl
    def c2s_register_task(register): ...
    @hookimpl
    def c2s_register_metriks(register): ...
"""
UNMARKED = """
    def c2s_register_metrics(register): register("x", "y:z")
"""
NO_HOOKS = "answer = 42"
WRONG_ARGUMENT = """
    from c2s import hookimpl
    @hookimpl
    def c2s_register_metrics(registry): ...
"""
RAISES_AFTER_ONE = """
    from c2s import hookimpl
    @hookimpl
    def c2s_register_metrics(register):
        register("half_way", "THIS:X")
        raise ValueError("halfway there")
"""
EXITS_IN_HOOK = """
    import sys
    from c2s import hookimpl
    @hookimpl
    def c2s_register_metrics(register):
        register("half_way", "THIS:X")
        sys.exit(3)
"""
WRONG_TYPES = """
    from c2s import hookimpl
    @hookimpl
    def c2s_register_metrics(register):
        register("half_way", "THIS:X")
        register("number", 42)
        register("bad target", "THIS:X")
        register("no_colon", "nowhere")
"""
COLLISION = """
    from c2s import hookimpl
    @hookimpl
    def c2s_register_metrics(register):
        register("half_way", "THIS:X")
        register("accuracy", "THIS:X")
"""
TWICE = """
    from c2s import hookimpl
    @hookimpl
    def c2s_register_metrics(register):
        register("half_way", "THIS:X")
        register("half_way", "THIS:X")
"""
OTHER_CORE = """
    from c2s import hookimpl
    c2s_requires = ">=7"
    @hookimpl
    def c2s_register_metrics(register): register("half_way", "THIS:X")
"""
BAD_SPECIFIER = OTHER_CORE.replace(">=7", "seven or so")
NO_STRING = OTHER_CORE.replace('">=7"', "7")
COMMANDS = """
    from c2s import hookimpl
    @hookimpl
    def c2s_register_commands(app):
        @app.command("greet")
        def greet(): print("hello from THIS")
        @app.command()
        def wave(): ...
"""


@pytest.mark.parametrize(
    "source, kind, message",
    [
        (IMPORT_ERROR, "import", "it cannot be imported; nothing of it was registered"),
        (IMPORT_ERROR, "import", "ModuleNotFoundError: No module named 'no_such_package_here'"),
        (EXITS, "import", "SystemExit: no licence"),
        (SYNTAX, "import", "SyntaxError"),
        (MISSPELT, "hook", "'c2s_register_task' is not a hook. Did you mean 'c2s_register_tasks'"),
        (MISSPELT, "hook", "'c2s_register_metriks' is not a hook. Did you mean 'c2s_register_metrics'"),
        (UNMARKED, "hook", "'c2s_register_metrics' is not marked with @c2s.hookimpl"),
        (NO_HOOKS, "hook", "it implements no hook"),
        (WRONG_ARGUMENT, "hook", "registry"),
        (RAISES_AFTER_ONE, "hook", "its hook c2s_register_metrics failed; nothing of it was registered"),
        (RAISES_AFTER_ONE, "hook", "ValueError: halfway there"),
        (EXITS_IN_HOOK, "hook", "SystemExit: 3"),
        (WRONG_TYPES, "type", "'number', but it is of type int, not a c2s.Metric"),
        (WRONG_TYPES, "type", "'bad target', which is not a plain name"),
        (WRONG_TYPES, "type", "'nowhere', which is not 'module:attribute'"),
        (COLLISION, "collision", "'accuracy', which belongs to plugin 'core' (distribution c2s"),
        (TWICE, "collision", "'half_way' twice"),
        (OTHER_CORE, "version", "it says c2s_requires = c2s>=7, and this is c2s " + c2s.__version__),
        (BAD_SPECIFIER, "version", "'seven or so', which is not a version specifier"),
        (NO_STRING, "version", "its c2s_requires is 7, not a version specifier"),
    ],
)
def test_broken_plugin_is_named_and_the_rest_works(
    distributions: Distributions, good: str, source: str, kind: str, message: str
) -> None:
    distributions.add("broken", source)
    distributions.add("zeta", good)
    host = distributions.host()
    problem = only_problem(host)
    assert problem.kind == kind
    assert message in str(problem)
    assert str(problem).startswith("plugin 'broken' (distribution c2s-broken 1.2.3) is broken: ")
    assert "nothing of it was registered" in str(problem)
    assert host.plugin("broken").state == "broken"
    assert host.plugin("broken").registered == {}
    assert "half_way" not in host.metrics
    assert host.plugin("zeta").state == "loaded"
    assert host.metrics.get("agreement").name == "agreement"
    assert str(host.metrics.owner("accuracy")).startswith("plugin 'core'")


def test_traceback_of_a_failure_is_in_a_file(distributions: Distributions) -> None:
    distributions.add("broken", RAISES_AFTER_ONE)
    problem = only_problem(distributions.host())
    assert problem.traceback is not None
    text = problem.traceback.read_text()
    assert "plugin 'broken' (distribution c2s-broken 1.2.3)" in text
    assert 'raise ValueError("halfway there")' in text
    assert str(problem.traceback) in str(problem)


def test_no_folder_for_tracebacks_is_no_obstacle(
    distributions: Distributions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("C2S_TRACEBACK_DIR", str(blocked))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(blocked))
    distributions.add("broken", IMPORT_ERROR)
    problem = only_problem(distributions.host())
    assert problem.traceback is None
    assert "ModuleNotFoundError" in str(problem)


def test_traceback_goes_to_the_users_cache(
    distributions: Distributions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("C2S_TRACEBACK_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    distributions.add("broken", IMPORT_ERROR)
    assert only_problem(distributions.host()).traceback == tmp_path / "cache/c2s/tracebacks/c2s-broken-broken.txt"


def test_ctrl_c_while_loading_is_not_swallowed(distributions: Distributions) -> None:
    distributions.add("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        distributions.host()


def test_ctrl_c_in_a_hook_is_not_swallowed(distributions: Distributions) -> None:
    distributions.add("slow", RAISES_AFTER_ONE.replace('ValueError("halfway there")', "KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        distributions.host()


@pytest.mark.parametrize(
    "requires, works",
    [
        (("c2s>=7",), False),
        (("C2S[models] >=0.0.1, <0.1",), False),
        (("c2s>=0.1,<0.2", "numpy"), True),
        (("c2s>=7; extra == 'future'",), True),
        (("not a requirement !!", "numpy>1"), True),
        ((), True),
    ],
)
def test_distribution_that_requires_another_core_is_not_imported(
    distributions: Distributions, good: str, requires: tuple[str, ...], works: bool
) -> None:
    module = distributions.add("picky", good, requires=requires)
    host = distributions.host()
    assert (module in sys.modules) == works
    if works:
        assert host.problems == []
    else:
        assert only_problem(host).kind == "version"
        assert "its distribution requires c2s" in str(host.problems[0])
        assert f"this is c2s {c2s.__version__}" in str(host.problems[0])


def test_two_distributions_with_one_plugin_name(distributions: Distributions, good: str) -> None:
    distributions.add("twin", good, distribution="c2s-first")
    distributions.add("twin", good.replace("agreement", "harmony"), distribution="c2s-second")
    host = distributions.host()
    text = str(only_problem(host))
    assert "c2s-first" in text
    assert "c2s-second" in text
    assert ("agreement" in host.metrics) != ("harmony" in host.metrics)


@pytest.mark.parametrize(
    "source",
    [
        *(IMPORT_ERROR, EXITS, SYNTAX, MISSPELT, UNMARKED, NO_HOOKS, WRONG_ARGUMENT, RAISES_AFTER_ONE),
        *(WRONG_TYPES, COLLISION, TWICE, OTHER_CORE, NO_STRING),
        f"{COMMANDS}\n    @hookimpl\n    def c2s_register_metrics(registry): ...\n",
    ],
)
def test_a_plugin_that_failed_to_load_keeps_no_name(distributions: Distributions, good: str, source: str) -> None:
    broken = distributions.add("twin", source, distribution="c2s-first")
    distributions.add("twin", f"{good}\n{COMMANDS}", distribution="c2s-second")
    host = distributions.host(only=["twin"])
    assert only_problem(host).owner.distribution == "c2s-first", "found first, by the name of its module"
    works = host.plugin("twin")
    assert (works.state, works.owner.distribution) == ("loaded", "c2s-second")
    assert host.metrics.owner("agreement") == works.owner
    assert "half_way" not in host.metrics
    commands = host.commands()
    assert {name: owner for name, (owner, _) in commands.items()} == {"greet": works.owner, "wave": works.owner}
    assert [name for name, _ in host.manager.list_name_plugin()] == ["core", "twin"]
    held = {caller: [i.plugin for i in caller.get_hookimpls()] for caller in vars(host.manager.hook).values()}
    assert sys.modules.get(broken) not in [plugin for plugins in held.values() for plugin in plugins]
    assert len(host.problems) == 1


def test_a_name_that_a_working_plugin_has_stays_its_own(distributions: Distributions, good: str) -> None:
    distributions.add("twin", good, distribution="c2s-first")
    module = distributions.add("twin", IMPORT_ERROR, distribution="c2s-second")
    host = distributions.host()
    assert host.plugin("twin").owner.distribution == "c2s-first"
    assert "its name is taken by plugin 'twin' (distribution c2s-first" in str(only_problem(host))
    assert module not in sys.modules, "it need not be imported to be refused"


def test_registering_again_is_refused_and_changes_nothing(distributions: Distributions, good: str) -> None:
    distributions.add("alpha", good)
    host = distributions.host()
    plugin = host.manager.get_plugin("alpha")
    assert host.register(plugin, "alpha").state == "broken"
    assert "its name is taken by plugin 'alpha'" in str(only_problem(host))
    assert host.manager.get_plugin("alpha") is plugin
    assert host.plugin("alpha").state == "loaded"


def test_a_module_that_fails_when_it_is_looked_at_leaves_the_rest(distributions: Distributions, good: str) -> None:
    distributions.add("shy", "def __getattr__(name): raise RuntimeError('not today')")
    distributions.add("zeta", good)
    host = distributions.host()
    assert "RuntimeError: not today" in str(only_problem(host))
    assert host.manager.get_plugin("shy") is None
    assert host.plugin("zeta").state == "loaded"


def test_a_stranger_cannot_be_the_core(distributions: Distributions, good: str) -> None:
    distributions.add("core", good, distribution="c2s-impostor")
    host = distributions.host()
    assert only_problem(host).owner.distribution == "c2s-impostor"
    assert "its name is taken by plugin 'core'" in str(host.problems[0])
    assert "accuracy" in host.metrics


def test_collision_of_two_plugins_keeps_the_first_and_names_both(distributions: Distributions, good: str) -> None:
    distributions.add("alpha", good)
    distributions.add("beta", good)
    host = distributions.host()
    text = str(only_problem(host))
    assert "plugin 'beta' (distribution c2s-beta 1.2.3) is broken" in text
    assert "'agreement', which belongs to plugin 'alpha' (distribution c2s-alpha 1.2.3)" in text
    assert host.metrics.owner("agreement").plugin == "alpha"


def test_entry_point_may_name_an_object(distributions: Distributions) -> None:
    source = """
        from c2s import hookimpl, Metric
        class Plugin:
            @hookimpl
            def c2s_register_metrics(self, register):
                register("held", Metric("held", lambda p, r, **c: {"held": 0.0}))
        plugin = Plugin()
    """
    module = distributions.add("held", source)
    entry_point = importlib.metadata.EntryPoint("held", f"{module}:plugin", "c2s")
    host = PluginHost([entry_point]).load()
    assert host.problems == []
    assert host.metrics.get("held").range == (0.0, 1.0)
    assert str(host.metrics.owner("held")) == "plugin 'held'"


def test_register_kept_for_later_is_refused() -> None:
    kept = []
    module = types.ModuleType("keeper")

    @hookimpl
    def c2s_register_metrics(register):
        kept.append(register)

    module.c2s_register_metrics = c2s_register_metrics
    host = PluginHost([])
    assert host.register(module, "keeper").state == "loaded"
    with pytest.raises(PluginError, match="after its hook had returned"):
        kept[0]("late", "a:b")


def test_one_plugin_under_two_names_is_refused() -> None:
    module = types.ModuleType("single")

    @hookimpl
    def c2s_register_metrics(register): ...

    module.c2s_register_metrics = c2s_register_metrics
    host = PluginHost([])
    assert host.register(module, "one").state == "loaded"
    assert host.register(module, "two", distribution="c2s-two").state == "broken"
    assert "already registered" in str(only_problem(host))


def test_registries_are_frozen_after_loading(distributions: Distributions) -> None:
    host = distributions.host()
    with pytest.raises(RegistryError, match="after loading was over"):
        host.metrics.add("late", "a:b", owner=host.plugins[0].owner)


def test_loading_can_be_restricted(distributions: Distributions, good: str) -> None:
    left_out = distributions.add("alpha", good)
    distributions.add("beta", good)
    host = distributions.host(only=["beta", "gama", " "])
    assert host.plugin("alpha").state == "not loaded"
    assert left_out not in sys.modules
    assert host.metrics.owner("agreement").plugin == "beta"
    assert "accuracy" in host.metrics
    assert "plugin 'gama' is broken: no plugin of this name is installed." in str(only_problem(host))


def test_strict_raises_for_the_first_broken_plugin(distributions: Distributions) -> None:
    distributions.add("broken", RAISES_AFTER_ONE)
    with pytest.raises(PluginError, match=r"plugin 'broken' .*halfway there") as caught:
        distributions.host(strict=True)
    assert isinstance(caught.value.__cause__, ValueError)


def test_tracing_prints_calls_and_registrations(
    distributions: Distributions, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = distributions.add("alpha", good)
    distributions.host(trace=True)
    lines = capsys.readouterr().err.splitlines()
    assert "c2s plugins: alpha.c2s_register_metrics(register)" in lines
    assert f"c2s plugins:   metrics: agreement -> {module}:AGREEMENT" in lines
    assert "c2s plugins: core.c2s_register_metrics(register)" in lines


def test_nothing_is_printed_without_tracing(
    distributions: Distributions, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    distributions.add("alpha", good)
    distributions.host()
    assert capsys.readouterr() == ("", "")


def test_unknown_plugin_is_suggested(distributions: Distributions, good: str) -> None:
    distributions.add("alpha", good)
    with pytest.raises(PluginError, match=r"unknown plugin 'alfa'\. Did you mean 'alpha'"):
        distributions.host().plugin("alfa")


def test_commands_are_asked_for_once(distributions: Distributions) -> None:
    distributions.add("polite", COMMANDS)
    host = distributions.host()
    assert host.plugin("polite").registered == {}
    first = host.commands()
    assert sorted(first) == ["greet", "wave"]
    assert host.commands() is first
    assert host.plugin("polite").registered == {"commands": ["greet", "wave"]}


@pytest.mark.parametrize("reserved, taken_by", [(["greet"], "core"), ([], "alpha")])
def test_command_collision_names_both(distributions: Distributions, reserved: list[str], taken_by: str) -> None:
    if not reserved:
        distributions.add("alpha", COMMANDS.replace("wave", "nod"))
    distributions.add("polite", COMMANDS)
    host = distributions.host()
    commands = host.commands(reserved)
    assert "wave" not in commands
    text = str(only_problem(host))
    assert f"the command 'greet' belongs to plugin '{taken_by}'" in text
    assert text.startswith("plugin 'polite' (distribution c2s-polite 1.2.3)")
    assert "no command of it was added" in text


def test_failing_command_hook_leaves_the_others(distributions: Distributions) -> None:
    distributions.add("alpha", COMMANDS + "\n        raise ValueError('after two commands')\n")
    distributions.add("polite", COMMANDS)
    host = distributions.host()
    assert sorted(host.commands()) == ["greet", "wave"]
    assert host.commands()["greet"][0].plugin == "polite"
    assert "no command of it was added. ValueError: after two commands" in str(only_problem(host))


def test_ctrl_c_in_a_command_hook_is_not_swallowed(distributions: Distributions) -> None:
    distributions.add("alpha", COMMANDS + "\n        raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        distributions.host().commands()


@pytest.mark.usefixtures("_fresh_default_host")
def test_default_host_is_kept_and_warns(distributions: Distributions, good: str) -> None:
    distributions.add("broken", IMPORT_ERROR)
    distributions.add("alpha", good)
    with pytest.warns(PluginWarning, match="plugin 'broken' .*traceback: "):
        host = default_host()
    assert "agreement" in host.metrics
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert default_host() is host


@pytest.mark.usefixtures("_fresh_default_host")
def test_environment_steers_the_default_host(
    distributions: Distributions, good: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    distributions.add("alpha", good)
    distributions.add("broken", IMPORT_ERROR)
    monkeypatch.setenv("C2S_LOAD_PLUGINS", "alpha, ")
    monkeypatch.setenv("C2S_TRACE_PLUGINS", "1")
    host = default_host()
    assert [i.name for i in host.plugins if i.state == "loaded"] == ["core", "alpha"]
    assert host.plugin("broken").state == "not loaded"
    assert "alpha.c2s_register_metrics" in capsys.readouterr().err
    plugins._default_host.cache_clear()
    monkeypatch.setenv("C2S_LOAD_PLUGINS", "broken")
    monkeypatch.setenv("C2S_STRICT_PLUGINS", "yes")
    with pytest.raises(PluginError, match="plugin 'broken'"):
        default_host()


@pytest.mark.usefixtures("_fresh_default_host")
def test_default_host_asked_for_while_loading(
    distributions: Distributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("C2S_LOAD_PLUGINS", "eager")
    distributions.add("eager", "import c2s\nc2s.default_host()\n")
    with pytest.warns(PluginWarning, match="while the plugins were being loaded"):
        assert "accuracy" in default_host().metrics
