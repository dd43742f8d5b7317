"""Recipes read from files, as SuperGradients' own are written."""

from pathlib import Path

import pytest

from fused_warmup.conversions.super_gradients import from_super_gradients

pytest.importorskip("yaml")


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_numbers_are_those_of_hydra(tmp_path: Path) -> None:
    """YAML 1.1 has text where a number lacks its point, or its exponent a sign."""
    write(
        tmp_path,
        params="""
            initial_lr: {default: 2e-4, backbone: 5.e-5, neck: .5E-4, head: 1E2}
            max_epochs: 10
            warmup_mode: LinearBatchLRWarmup
            warmup_initial_lr: 1e-6
            lr_warmup_steps: 3
            lr_mode: CosineLRScheduler
            cosine_final_lr_ratio: 1e-1
        """,
    )
    recipe = from_super_gradients(tmp_path / "params.yaml", 20)
    assert recipe.initial_lr == {"default": 2e-4, "backbone": 5e-5, "neck": 5e-5, "head": 100.0}
    params = {"initial_lr": 2e-4, "max_epochs": 10, "warmup_mode": "LinearBatchLRWarmup"}
    params |= {"warmup_initial_lr": 1e-6, "lr_warmup_steps": 3, "lr_mode": "CosineLRScheduler"}
    params |= {"cosine_final_lr_ratio": 0.1}
    assert recipe.schedules["default"] == from_super_gradients(params, 20).schedule


def test_defaults_are_read_from_the_files_beside(tmp_path: Path) -> None:
    write(
        tmp_path,
        training_hyperparams__first="""
            defaults: [default_train_params]
            max_epochs: 8
            initial_lr: 0.3
            lr_mode: PolyLRScheduler
            lr_warmup_epochs: 2
        """,
        base="""
            defaults: [training_hyperparams: first, dataset_params: not_there, _self_]
            training_hyperparams: {max_epochs: 6}
        """,
        last="training_hyperparams: {lr_warmup_epochs: 1}",
        recipe="""
            defaults: [base, _self_, variable_setup, last]
            training_hyperparams:
                initial_lr: {default: 0.1, head: 0.2}
                lr_warmup_epochs: 3
        """,
    )
    recipe = from_super_gradients(str(tmp_path / "recipe.yaml"), 5)
    params = {"initial_lr": {"default": 0.1, "head": 0.2}, "max_epochs": 6}
    params |= {"lr_mode": "PolyLRScheduler", "lr_warmup_epochs": 1}
    assert recipe == from_super_gradients(params, 5)


EXPERIMENT = """# @package _global_
defaults:
  - override /training_hyperparams: other
training_hyperparams: {lr_warmup_epochs: 2}
"""


@pytest.mark.parametrize(
    ("defaults", "initial_lr", "epochs", "warmup", "decay"),
    [
        ("[training_hyperparams: own, hp@training_hyperparams: late]", 0.5, 4, 0, 1e-4),
        ("[training_hyperparams: own, op@training_hyperparams.optimizer_params: q]", 0.1, 4, 0, 7),
        ("[training_hyperparams: grouped]", 0.1, 4, 0, 7),
        ("[training_hyperparams: own, experiment: e]", 0.2, 5, 2, 1e-4),
        ("[training_hyperparams: own, experiment/e]", 0.2, 5, 2, 1e-4),
        ("[training_hyperparams: [own, other]]", 0.2, 5, 0, 1e-4),
        ("[training_hyperparams/own]", 0.1, 4, 0, 1e-4),
        ("[training_hyperparams: own, training_hyperparams@spare: other]", 0.1, 4, 0, 1e-4),
        ("[training_hyperparams: own, hp: late]", 0.1, 4, 0, 1e-4),
    ],
)
def test_defaults_are_put_where_hydra_puts_them(
    tmp_path: Path, defaults: str, initial_lr: float, epochs: int, warmup: int, decay: float
) -> None:
    """Each compared with Hydra 1.3.2 itself."""
    write(
        tmp_path,
        recipe=f"defaults: {defaults}\ndataset: none",
        training_hyperparams__own="initial_lr: 0.1\nmax_epochs: 4",
        training_hyperparams__other="initial_lr: 0.2\nmax_epochs: 5",
        training_hyperparams__grouped="defaults: [own, optimizer_params: q]",
        op__q="weight_decay: 7",
        hp__late="initial_lr: 0.5",
        experiment__e=EXPERIMENT,
    )
    (tmp_path / "training_hyperparams" / "optimizer_params").mkdir()
    inner = tmp_path / "training_hyperparams" / "optimizer_params" / "q.yaml"
    inner.write_text("weight_decay: 7")
    recipe = from_super_gradients(tmp_path / "recipe.yaml", 3)
    assert recipe.initial_lr == {"default": initial_lr}
    assert recipe.steps == 3 * epochs
    assert recipe.lr_at(0) == pytest.approx(initial_lr / (1 + warmup))
    assert recipe.optimizer_params["weight_decay"] == decay


def test_a_default_that_is_not_there_is_missed(tmp_path: Path) -> None:
    """Leaving it out would draw a constant rate where the recipe has a cosine."""
    write(
        tmp_path,
        recipe="""
            defaults: [training_hyperparams: imagenet_resnet50_train_params]
            training_hyperparams: {initial_lr: 0.1, max_epochs: 3}
        """,
    )
    with pytest.raises(FileNotFoundError, match=r"imagenet_resnet50_train_params\.yaml"):
        from_super_gradients(tmp_path / "recipe.yaml", 5)


def test_updates_may_be_a_call_of_arange(tmp_path: Path) -> None:
    write(
        tmp_path,
        params="""
            initial_lr: 0.1
            max_epochs: 250
            lr_mode: StepLRScheduler
            lr_updates: {_target_: numpy.arange, start: 100, stop: 250, step: 50}
        """,
    )
    params = {"initial_lr": 0.1, "max_epochs": 250, "lr_mode": "StepLRScheduler"}
    expected = from_super_gradients(params | {"lr_updates": [100, 150, 200]}, 2)
    assert from_super_gradients(tmp_path / "params.yaml", 2) == expected
    with pytest.raises(TypeError, match="a call that Hydra makes: pass the path of the recipe"):
        from_super_gradients(params | {"lr_updates": {"_target_": "numpy.arange"}}, 2)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("initial_lr: 1\nmax_epochs: 2\ninitial_lr: 3", "key 'initial_lr' stands twice"),
        ("initial_lr: [1\nmax: }", r"params\.yaml is no YAML \(.*line 2"),
        ("", r"params\.yaml holds a NoneType, a mapping is needed"),
        ("initial_lr: 0.1\nmax_epochs: 3\nlr_mod: cosine", "'lr_mod' .*: did you mean lr_mode"),
        ("initial_lr: 0.1\nmax_epochs: 3\nlr_updates: {_target_: a.b}", "lr_updates calls 'a.b'"),
    ],
)
def test_what_is_no_recipe_is_said(tmp_path: Path, text: str, match: str) -> None:
    write(tmp_path, params=text)
    with pytest.raises(ValueError, match=match):
        from_super_gradients(tmp_path / "params.yaml", 5)


def test_files_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"params\.yaml is no text"):
        from_super_gradients(path, 5)
    path = tmp_path / "params.json"
    path.write_text('{"a":')
    with pytest.raises(ValueError, match=r"params\.json is no JSON"):
        from_super_gradients(path, 5)


def test_text_for_a_number_tells_of_yaml() -> None:
    with pytest.raises(TypeError, match=r"got '1e-3' of type str: .*YAML makes of 1\.0e-3"):
        from_super_gradients({"initial_lr": "1e-3", "max_epochs": 2}, 5)
