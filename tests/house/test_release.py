"""The workflows that publish: nothing in them can be changed by moving a tag."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
WORKFLOW = (WORKFLOWS / "release.yml").read_text()


@pytest.mark.parametrize(("workflow", "actions"), [("release.yml", 5), ("site.yml", 4)])
def test_actions_are_named_by_commit_with_the_version_beside(workflow: str, actions: int) -> None:
    used = re.findall(r"uses: *(.+)", (WORKFLOWS / workflow).read_text())
    assert len(used) == actions
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action


def test_the_image_is_named_by_digest() -> None:
    images = re.findall(r"(?:container|image): *(.+)", WORKFLOW)
    assert len(images) == 1
    assert re.fullmatch(r"quay\.io/pypa/[\w]+:[\w.-]+@sha256:[0-9a-f]{64}", images[0])
