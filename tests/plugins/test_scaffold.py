"""``c2s plugins new``: what it writes is complete, and it writes nothing over what is there."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from c2s.errors import ConfigError, OutputError, RegistryError
from c2s.scaffold import new


def test_package_is_complete(tmp_path: Path) -> None:
    folder = new("my-task", tmp_path / "here")
    assert folder == tmp_path / "here"
    written = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert written == {
        *(".gitignore", "CHANGELOG.md", "README.md", "pyproject.toml", "tests/test_task.py"),
        *(
            f"c2s_my_task/{m}.py"
            for m in ("__init__", "answers", "metrics", "plugin", "prompts", "rewards", "task")
        ),
        "c2s_my_task/py.typed",
    }
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["name"] == "c2s-my-task"
    assert project["project"]["entry-points"]["c2s"] == {"my-task": "c2s_my_task.plugin"}
    assert project["project"]["dependencies"] == ["c2s[models]>=0.1,<0.2"]
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert "$" not in text, path
            if path.suffix == ".py":
                ast.parse(text)


def test_default_folder_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert new("my-task") == Path("c2s-my-task")
    assert (tmp_path / "c2s-my-task" / "pyproject.toml").is_file()


def test_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="exists already"):
        new("my-task", tmp_path / "here")
    assert [p.name for p in tmp_path.rglob("*")] == ["here", "thesis.txt"]


@pytest.mark.parametrize(
    "name, suggestion",
    [
        ("My Task", "my-task"),
        ("myTask", "my-task"),
        ("my_task", "my-task"),
        ("1st", "st"),
        ("-x", "x"),
        ("a--b", "a-b"),
        ("", "my-task"),
        ("../../etc", "etc"),
        ("x" * 41, "x" * 40),
        ("ü", "my-task"),
    ],
)
def test_bad_names_get_a_suggestion(name: str, suggestion: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        new(name, tmp_path / "here")
    assert f"`c2s plugins new {suggestion}`" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_name_of_an_installed_plugin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="the name 'core' belongs to plugin 'core' "):
        new("core", tmp_path / "here")


def test_a_name_that_was_only_asked_for_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from c2s import plugins

    monkeypatch.setenv("C2S_LOAD_PLUGINS", "my-task")
    plugins._default_host.cache_clear()
    try:
        with pytest.warns(plugins.PluginWarning, match="no plugin of this name is installed"):
            assert new("my-task", tmp_path / "here").is_dir()
    finally:
        plugins._default_host.cache_clear()
