"""What is imported, and when: modules are counted, not seconds."""

import importlib
import subprocess
import sys

import pytest

OPTIONAL = {"PIL", "accelerate", "jsonargparse", "matplotlib", "pooch", "rich", "yaml"}


def modules_after(code):
    script = f"{code}\nimport sys\nsys.stderr.write(' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stderr.split())


NONE = modules_after("")


def test_the_front_door_opens_at_once():
    assert len(modules_after("import bruno") - NONE) < 40


def test_the_version_needs_neither_torch_nor_numpy():
    code = "from bruno.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass"
    assert not {"torch", "numpy", "sklearn", "matplotlib", "accelerate"} & modules_after(code)


def test_help_needs_neither_torch_nor_numpy():
    loaded = modules_after("from bruno.cli import main; main([])")
    assert not {"torch", "numpy", "sklearn", "matplotlib", "accelerate"} & loaded
    assert len(loaded - NONE) < 350


@pytest.mark.parametrize("name", ["BrunoClassifier", "Bruno", "few_shot", "Evidence"])
def test_the_core_loads_no_optional_package(name):
    assert not OPTIONAL & modules_after(f"from bruno import {name}")


@pytest.mark.parametrize(
    "package", ["bruno", "bruno.data", "bruno.estimators", "bruno.evaluation", "bruno.training"]
)
def test_every_export_is_there_and_listed(package):
    module = importlib.import_module(package)
    assert {*module.__all__} <= {*dir(module)}
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_a_missing_extra_is_named(monkeypatch, capsys):
    import bruno.cli
    import bruno.data

    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.delitem(sys.modules, "bruno.data.downloads", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'bruno-sets\[train\]' installs"):
        bruno.data.download  # noqa: B018
    monkeypatch.setitem(sys.modules, "jsonargparse", None)
    monkeypatch.delitem(sys.modules, "bruno.cli.command_line", raising=False)
    monkeypatch.delattr(bruno.cli, "command_line", raising=False)
    assert bruno.cli.main(["info"]) == 2
    err = capsys.readouterr().err
    assert err == "bruno: error: this command needs jsonargparse, which pip install " + (
        "'bruno-sets[train]' installs\n"
    )


def test_the_service_and_training_need_no_matplotlib():
    loaded = modules_after("import bruno.cli.serve, bruno.training.runs")
    assert "matplotlib" not in loaded
