"""The workflow that publishes: nothing in it can be changed by moving a tag."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = (ROOT / ".github" / "workflows" / "release.yml").read_text()


def test_actions_are_named_by_commit_with_the_version_beside() -> None:
    used = re.findall(r"uses: *(.+)", WORKFLOW)
    assert len(used) == 5
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action


def test_the_image_is_named_by_digest() -> None:
    images = re.findall(r"(?:container|image): *(.+)", WORKFLOW)
    assert len(images) == 1
    assert re.fullmatch(r"quay\.io/pypa/[\w]+:[\w.-]+@sha256:[0-9a-f]{64}", images[0])
