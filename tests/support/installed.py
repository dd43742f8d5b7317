"""Packages that are there for a test, with the classes that it needs of them and nothing else."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest


def install(monkeypatch: pytest.MonkeyPatch, package: str, **contents: Any) -> None:
    """Let a package be importable, and the packages that it is in."""
    parts = package.split(".")
    for i in range(len(parts)):
        module = ModuleType(".".join(parts[: i + 1]))
        module.__spec__ = ModuleSpec(module.__name__, None)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, module.__name__, module)
