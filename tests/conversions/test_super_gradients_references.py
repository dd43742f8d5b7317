"""Recipes whose values refer to others by ``${...}``, and whose defaults override each other."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fused_warmup import from_super_gradients
from fused_warmup.conversions.super_gradients import interpolation

pytest.importorskip("yaml")
omegaconf = pytest.importorskip("omegaconf")


def convert(folder: Path, name: str = "recipe", **files: str) -> Any:
    """Convert one of the recipes that are written; ``a__b`` is ``a/b.yaml``."""
    for file, text in files.items():
        path = folder.joinpath(*file.split("__")).with_suffix(".yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return from_super_gradients(folder / f"{name}.yaml", 10)


REFERENCES: dict[str, tuple[str, float]] = {
    "the top": ("initial_lr: ${rate}", 0.5),
    "its own group": ("initial_lr: ${training_hyperparams.base}", 0.25),
    "a neighbour": ("initial_lr: ${.base}", 0.25),
    "one after the other": ("initial_lr: ${again}", 0.5),
    "a part of a mapping": ("initial_lr: ${rates.default}", 0.125),
    "a mapping": ("initial_lr: ${rates}", 0.125),
    "within a mapping": ("initial_lr: {default: '${rate}', head: 1.0}", 0.5),
    "another file": ("initial_lr: ${dataset_params.rate}", 0.0625),
    "a product": ("initial_lr: '${mul:${rate},0.5}'", 0.25),
    "a sum and a quotient": ("initial_lr: '${add:${rate},${div:1,4}}'", 0.75),
    "the first of a list": ("initial_lr: '${first:${many}}'", 2.0),
    "one of a list": ("initial_lr: '${getitem:${many},1}'", 4.0),
    "a condition": ("initial_lr: '${cond:${choice},1.0,3.0}'", 3.0),
}
TOP = """
defaults: [dataset_params: data, checkpoint_params: not_here, _self_]
rate: 0.5
again: ${rate}
rates: {default: 0.125}
many: [2.0, 4.0]
choice: False
name: ${not_here_at_all}_${nor_here}
training_hyperparams:
  base: 0.25
  max_epochs: 2
  loss: ${dataset_params.missing}
"""


@pytest.mark.parametrize("name", REFERENCES)
def test_what_refers_to(name: str, tmp_path: Path) -> None:
    text, rate = REFERENCES[name]
    data = "rate: 0.0625\nroot: ???"
    recipe = convert(tmp_path, recipe=f"{TOP}  {text}\n", dataset_params__data=data)
    assert recipe.initial_lr["default"] == rate
    for resolver in interpolation.RESOLVERS:
        assert not omegaconf.OmegaConf.has_resolver(resolver)


def test_options_and_the_class_of_the_optimizer(tmp_path: Path) -> None:
    recipe = convert(
        tmp_path,
        recipe="""
            decay: 0.01
            training_hyperparams:
              max_epochs: 2
              initial_lr: 1e-3
              optimizer: ${class:torch.optim.NAdam}
              optimizer_params:
                weight_decay: ${decay}
                betas: [0.8, '${training_hyperparams.b}']
              b: 0.9
        """,
    )
    assert recipe.optimizer_class is torch.optim.NAdam
    assert recipe.optimizer_params == {"weight_decay": 0.01, "betas": [0.8, 0.9]}
    assert recipe.optimizer(torch.nn.Linear(1, 1)).param_groups[0]["weight_decay"] == 0.01


def test_training_parameters_alone_are_a_group_of_their_own(tmp_path: Path) -> None:
    text = "max_epochs: 2\nbase: 0.3\ninitial_lr: ${training_hyperparams.base}"
    assert convert(tmp_path, recipe=text).lr == 0.3


def test_what_is_not_needed_is_not_resolved(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(interpolation, "_omegaconf", None)
    text = "max_epochs: 2\ninitial_lr: 0.1\nresume: ${resume}\nphase_callbacks: ['${a.b}']"
    assert convert(tmp_path, recipe=text).lr == 0.1


def test_without_omegaconf_it_says_what_is_missing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name != "omegaconf" or None)
    with pytest.raises(ValueError, match=r"initial_lr in .*recipe\.yaml.*pip install omegaconf"):
        convert(tmp_path, recipe="max_epochs: 2\ninitial_lr: ${rate}\nrate: 1")


DOUBLES = "\n".join(f"a{i}: '${{a{i + 1}}}${{a{i + 1}}}'" for i in range(30))
MAPPINGS = "\n".join(f"b{i}: {{x: '${{b{i + 1}}}', y: '${{b{i + 1}}}'}}" for i in range(30))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("initial_lr: ${nothing}", "cannot be resolved .*nothing.*: write it out"),
        ("initial_lr: ${training_hyperparams.initial_lr}", "cannot be resolved"),
        ("initial_lr: ${a\na: ${initial_lr}", "cannot be resolved"),
        ("initial_lr: ${no_resolver:1}", "cannot be resolved .*no_resolver"),
        ("initial_lr: '${div:1,0}'", "cannot be resolved .*zero"),
        ("initial_lr: {default: '${x}'}\nx: {y: '${x}'}", "cannot be resolved"),
        (f"initial_lr: ${{a0}}\n{DOUBLES}\na30: x", "60 texts with a further"),
        (f"initial_lr: ${{b0}}\n{MAPPINGS}\nb30: 1", "more than 64 texts refer to others"),
    ],
    ids=["nowhere", "itself", "no end", "no resolver", "error", "in itself", "doubles", "mappings"],
)
def test_what_leads_nowhere_is_said(text: str, match: str, tmp_path: Path) -> None:
    nested = "\n".join(f"  {line}" for line in text.splitlines())
    top = text.split("\n", 1)[1] if "\n" in text else ""
    recipe = f"{top}\ntraining_hyperparams:\n  max_epochs: 2\n{nested}\n"
    with pytest.raises(ValueError, match=match) as caught:
        convert(tmp_path, recipe=recipe)
    assert len(str(caught.value)) < 800


def test_a_config_of_omegaconf_is_taken_as_it_is() -> None:
    """Hydra hands one to a script; what cannot be resolved there may be of no concern."""
    config = omegaconf.OmegaConf.create(
        {
            "rate": 0.2,
            "training_hyperparams": {
                "initial_lr": {"default": "${rate}", "head": 0.4},
                "max_epochs": 3,
                "lr_mode": {"StepLR": {"step_size": 1, "phase": "TRAIN_EPOCH_END"}},
                "optimizer_params": {"momentum": 0.5},
                "loss": "${not.there}",
                "metric_to_watch": "???",
                "lr_updates": "???",
            },
        }
    )
    recipe = from_super_gradients(config.training_hyperparams, 2)
    assert from_super_gradients(config, 2) == recipe
    assert recipe.initial_lr == {"default": 0.2, "head": 0.4}
    assert recipe.optimizer_params == {"weight_decay": 1e-4, "momentum": 0.5}
    assert recipe.lr_at(2, "head") == pytest.approx(0.04)
    with pytest.raises(TypeError, match="must be a mapping"):
        from_super_gradients(omegaconf.OmegaConf.create([1]), 2)  # type: ignore[arg-type]


def test_override_takes_the_place_of_a_bases_choice(tmp_path: Path) -> None:
    recipe = convert(
        tmp_path,
        base="defaults: [training_hyperparams: one, _self_]",
        training_hyperparams__one="initial_lr: 0.1\nmax_epochs: 2\nlr_warmup_epochs: 1",
        training_hyperparams__two="initial_lr: 0.2\nmax_epochs: 3",
        recipe="defaults: [base, override /training_hyperparams: two, optional x: y, _self_]",
    )
    assert (recipe.lr, recipe.steps, recipe.lr_at(0)) == (0.2, 30, 0.2)


@pytest.mark.parametrize("there", [False, True])
def test_shortcuts_of_variable_setup_go_first(there: bool, tmp_path: Path) -> None:
    """Its file is last among the defaults of a recipe: what that sets at the top itself is null."""
    params = {"training_hyperparams__mine": "initial_lr: 0.1\nmax_epochs: 2\nema: False"}
    if there:
        params["variable_setup"] = "lr:\nepochs:\nema:\nhydra: {run: {dir: '${a:${b}}'}}"
    base = "defaults: [training_hyperparams: mine, _self_, variable_setup]\nlr: 7.0"
    own = "defaults: [base, _self_]\nlr: 0.5\nepochs: 4\nema: True"
    recipe = convert(tmp_path, base=base, recipe=own, **params)
    assert (recipe.lr, recipe.steps, recipe.averaging["ema_decay"]) == (0.5, 40, 0.9999)
    assert convert(tmp_path, "base").lr == 0.1


def test_changed_defaults_beside_the_file_are_read(tmp_path: Path) -> None:
    """A copy of SuperGradients' own file may say something else than its package does."""
    recipe = convert(
        tmp_path,
        recipe="defaults: [training_hyperparams: default_train_params, _self_]\n"
        "training_hyperparams: {initial_lr: 0.1, max_epochs: 4}",
        training_hyperparams__default_train_params="lr_warmup_epochs: 1\n"
        "lr_updates: {_target_: super_gradients.training.utils.utils.empty_list}\nseed: 42",
    )
    assert recipe.lr_at(0) == 0.05
    assert "seed" not in str(recipe)
