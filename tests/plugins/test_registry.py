"""Registries: lazy targets, types, collisions, suggestions."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from c2s.errors import PluginError, RegistryError
from c2s.prompts import PromptTemplate
from c2s.registry import Owner, Registry, check_instance, check_prompts, check_task
from c2s.splits import Split
from c2s.tasks import Metric, Task

MINE = Owner("mine", "c2s-mine", "0.3.0")
YOURS = Owner("yours", "c2s-yours", "2.0.0")


def agree(predictions, references, **columns):
    return {"agreement": 1.0}


AGREEMENT = Metric("agreement", agree)
NOT_A_METRIC = "agreement"


def metrics() -> Registry[Metric]:
    return Registry("metric", "a c2s.Metric registered under its own name", check_instance("Metric"))


def test_object_and_target_give_the_same() -> None:
    registry = metrics()
    registry.add("agreement", f"{__name__}:AGREEMENT", owner=MINE, summary="one line")
    assert registry.get("agreement") is AGREEMENT
    assert registry.names() == ["agreement"]
    assert registry.owner("agreement") == MINE
    assert registry.entries()[0].summary == "one line"
    assert registry.entries()[0].where == f"{__name__}:AGREEMENT"
    other = metrics()
    other.add("agreement", AGREEMENT, owner=MINE)
    assert other.get("agreement") is AGREEMENT
    assert other.entries()[0].where == "c2s.tasks:Metric"


def test_target_is_imported_on_first_get_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy_target.py").write_text(
        "from c2s import Metric\nclass Holder:\n    M = Metric('lazy', lambda p, r, **c: {'lazy': 1.0})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry = metrics()
    registry.add("lazy", "lazy_target:Holder.M", owner=MINE)
    assert registry.names() == ["lazy"]
    assert "lazy" in registry
    assert len(registry) == 1
    assert "lazy_target" not in sys.modules
    first = registry.get("lazy")
    assert "lazy_target" in sys.modules
    del sys.modules["lazy_target"]
    assert registry.get("lazy") is first


def test_unknown_name_suggests_and_lists() -> None:
    registry = metrics()
    registry.add("agreement", AGREEMENT, owner=MINE)
    with pytest.raises(RegistryError, match=r"unknown metric 'agrement'\. Did you mean 'agreement'\?"):
        registry.get("agrement")
    with pytest.raises(RegistryError, match=r"unknown metric 'zzz'\. Fix: choose one of agreement"):
        registry.get("zzz")
    with pytest.raises(RegistryError, match="none are registered"):
        metrics().get("zzz")


def test_collision_names_both_owners_and_first_stays() -> None:
    registry = metrics()
    registry.add("agreement", AGREEMENT, owner=MINE)
    with pytest.raises(RegistryError) as caught:
        registry.add("agreement", Metric("agreement", agree), owner=YOURS)
    message = str(caught.value)
    assert "plugin 'mine' (distribution c2s-mine 0.3.0)" in message
    assert "plugin 'yours' (distribution c2s-yours 2.0.0)" in message
    assert registry.owner("agreement") == MINE
    assert registry.get("agreement") is AGREEMENT


@pytest.mark.parametrize("name", ["", "has space", "../up", "-dash", "a/b", "ü"])
def test_names_that_are_not_plain_are_refused(name: str) -> None:
    with pytest.raises(RegistryError, match="not a plain name"):
        metrics().add(name, AGREEMENT, owner=MINE)


def test_name_must_be_the_objects_own() -> None:
    with pytest.raises(PluginError, match="its own name is 'agreement'"):
        metrics().add("harmony", AGREEMENT, owner=MINE)


@pytest.mark.parametrize("target", ["no_colon", "mod:", ":attr", "mod:1x", "a b:c"])
def test_malformed_target_is_refused_when_registered(target: str) -> None:
    with pytest.raises(PluginError, match="not 'module:attribute'"):
        metrics().add("agreement", target, owner=MINE)


def test_wrong_type_of_object_is_refused_when_registered() -> None:
    with pytest.raises(PluginError, match=r"plugin 'mine' .*c2s-mine.* it is of type function, not a c2s\.Metric"):
        metrics().add("agreement", agree, owner=MINE)


@pytest.mark.parametrize(
    "target, message",
    [
        (f"{__name__}:NOT_A_METRIC", r"it is of type str, not a c2s\.Metric"),
        (f"{__name__}:ABSENT", "AttributeError"),
        ("no_such_module_at_all:X", "ModuleNotFoundError"),
    ],
)
def test_bad_target_is_named_with_its_plugin_and_distribution(target: str, message: str) -> None:
    registry = metrics()
    registry.add("agreement", target, owner=MINE)
    with pytest.raises(PluginError, match=message) as caught:
        registry.get("agreement")
    assert "plugin 'mine' (distribution c2s-mine 0.3.0)" in str(caught.value)


def test_target_that_exits_becomes_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exits_on_import.py").write_text("import sys\nsys.exit('bye')\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = metrics()
    registry.add("agreement", "exits_on_import:X", owner=MINE)
    with pytest.raises(PluginError, match="SystemExit: bye"):
        registry.get("agreement")


def test_frozen_registry_takes_nothing() -> None:
    registry = metrics()
    registry.freeze()
    with pytest.raises(RegistryError, match="after loading was over"):
        registry.add("agreement", AGREEMENT, owner=MINE)
    assert list(registry) == []
    assert "empty" in repr(registry)


class Complete(Task):
    """A task that can be made."""

    name = "complete"
    title = "Complete"
    prompts = "complete"
    metrics = ("accuracy",)

    @property
    def columns(self) -> tuple[str, ...]:
        return ()

    def split(self, obs, *, seed=0) -> Split: ...

    def examples(self, sentences, templates, *, seed=0, answers=True): ...


class Unfinished(Task):
    """Lacks split and examples."""

    name = "unfinished"
    title = "Unfinished"
    prompts = "unfinished"
    metrics = ("accuracy",)
    columns = ()


class Undecorated(Complete):
    """Its option would be lost: no @dataclass."""

    name = "undecorated"
    label: str = "cell_type"


@dataclass(frozen=True)
class Decorated(Undecorated):
    """The same, done right."""

    name = "decorated"
    label: str = "cell_type"


class Bare(Task):
    """Has no attribute at all."""


def test_complete_tasks_pass() -> None:
    assert check_task("complete", Complete) is None
    assert check_task("decorated", Decorated) is None


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("complete", Complete(), "not a subclass of c2s.Task"),
        ("metric", AGREEMENT, "of type Metric"),
        ("str", str, "the class str"),
        ("bare", Bare, "does not set name, title, prompts, metrics"),
        ("unfinished", Unfinished, "does not define examples, split"),
        ("undecorated", Undecorated, "not decorated with @dataclass"),
        ("other", Complete, "its own name is 'complete'"),
    ],
)
def test_what_is_no_task_is_described(name: str, value: object, message: str) -> None:
    assert message in (check_task(name, value) or "")


TEMPLATE = PromptTemplate("t/one", "{cell_sentence} :", "{label}")


def test_lists_of_prompts_pass() -> None:
    assert check_prompts("t", [TEMPLATE]) is None
    assert check_prompts("t", (TEMPLATE,)) is None


@pytest.mark.parametrize(
    "value, message",
    [
        ([], "at least one"),
        (TEMPLATE, "not a list"),
        ([TEMPLATE, "text"], "one of its items is of type str"),
        ([TEMPLATE, PromptTemplate("t/one", "x", "y")], "two of its templates are called 't/one'"),
    ],
)
def test_what_is_no_list_of_prompts_is_described(value: object, message: str) -> None:
    assert message in (check_prompts("t", value) or "")
