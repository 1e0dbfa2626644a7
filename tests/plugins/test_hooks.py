"""Every hook is documented, called with what its signature says, and used by a plugin of this repository."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from plugin_kit import Distributions

from c2s import hookspecs
from c2s.plugins import KINDS, PluginHost

ROOT = Path(__file__).parents[2]
HOOKS = sorted(name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "c2s_spec"))

ALL_HOOKS = """
    from c2s import Baseline, Chapter, Dataset, Embedder, Metric, PromptTemplate, Reward, hookimpl

    @hookimpl
    def c2s_register_prompts(register): register("mine", [PromptTemplate("mine/a", "{cell_sentence}", "x")])
    @hookimpl
    def c2s_register_metrics(register): register("mine", Metric("mine", len))
    @hookimpl
    def c2s_register_rewards(register): register("mine", Reward("mine", len))
    @hookimpl
    def c2s_register_baselines(register): register("mine", Baseline("mine", len))
    @hookimpl
    def c2s_register_embedders(register): register("mine", Embedder("mine", len))
    @hookimpl
    def c2s_register_datasets(register): register("mine", Dataset("mine", "Mine", len))
    @hookimpl
    def c2s_register_tasks(register): register("mine", "THIS:Task")
    @hookimpl
    def c2s_register_chapters(register): register("mine", Chapter("mine", "Mine", "mine.md"))
    @hookimpl
    def c2s_register_commands(app): app.command("mine")(lambda: None)
"""


def record(host: PluginHost) -> list[tuple[str, str, list[str]]]:
    """Note every real call: hook, plugin, names of the arguments."""
    calls: list[tuple[str, str, list[str]]] = []

    def before(hook: str, implementations: list, arguments: dict) -> None:
        calls.extend((hook, i.plugin_name, sorted(arguments)) for i in implementations)

    host.manager.add_hookcall_monitoring(before, lambda *_: None)
    return calls


def test_each_hook_is_called_once_per_plugin_in_the_stated_order(distributions: Distributions) -> None:
    distributions.add("alpha", ALL_HOOKS.replace('"mine', '"yours'))
    distributions.add("mine", ALL_HOOKS)
    host = PluginHost(distributions.entry_points())
    calls = record(host)
    host.load()
    host.commands()
    assert host.problems == []
    registering = [f"c2s_register_{kind}" for kind in KINDS]
    for plugin in ("alpha", "mine"):
        assert [c[0] for c in calls if c[1] == plugin] == [*registering, "c2s_register_commands"]
    loading = [c[1] for c in calls if c[0] != "c2s_register_commands" and c[1] != "core"]
    assert loading == ["alpha"] * len(KINDS) + ["mine"] * len(KINDS), "plugin by plugin"
    assert {c[0] for c in calls} == set(HOOKS)
    for hook, _, arguments in calls:
        assert arguments == list(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert [len(host.registries()[kind].names()) >= 2 for kind in KINDS] == [True] * len(KINDS)


def test_commands_are_not_asked_for_while_loading(distributions: Distributions) -> None:
    distributions.add("mine", ALL_HOOKS)
    host = PluginHost(distributions.entry_points())
    calls = record(host)
    host.load()
    assert "c2s_register_commands" not in {c[0] for c in calls}


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_says_who_uses_what_it_registers(hook: str) -> None:
    text = inspect.getdoc(getattr(hookspecs, hook)) or ""
    assert re.search(r"\b(used|called)\b", text), text
    assert list(inspect.signature(getattr(hookspecs, hook)).parameters) in (["register"], ["app"])


def test_hook_page_lists_the_order_in_which_hooks_are_called() -> None:
    tree = ast.parse(Path(hookspecs.__file__).read_text())
    defined = [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("c2s_")]
    assert defined == [*(f"c2s_register_{kind}" for kind in KINDS), "c2s_register_commands"]
    assert len(Path(hookspecs.__file__).read_text().splitlines()) < 100, "one page"


def test_each_hook_is_used_by_a_plugin_of_this_repository() -> None:
    sources = [ROOT / "c2s" / "builtin.py", *ROOT.glob("plugins/*/c2s_*/*.py")]
    templates = [*(ROOT / "c2s" / "scaffold" / "template").rglob("*.py.template")]
    implemented = set()
    for path in [*sources, *templates]:
        for found in re.finditer(r"@hookimpl\s+def (\w+)\(", path.read_text()):
            implemented.add(found[1])
    assert implemented == set(HOOKS)
