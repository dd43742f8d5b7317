"""Recipes of every shape that SuperGradients' own files have, read from files like theirs."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.installed import install
from torch import nn

import fused_warmup
from fused_warmup import from_super_gradients

pytest.importorskip("yaml")

EPOCH = 10
WHOLE = """
defaults:
  - training_hyperparams: mine
  - dataset_params: not_here
  - arch_params: not_here_either
  - checkpoint_params: default_checkpoint_params
  - _self_
  - variable_setup
resume: False
architecture: net
experiment_name: ${architecture}_on_${dataset_params.name}
"""
# name: the training parameters of the recipe, the rest of it, rates at steps, the optimizer,
# what the summary says
SHAPES: dict[str, tuple[str, str, dict[int, float], str, list[str]]] = {
    "steps at epochs that numpy counts": (
        """
        max_epochs: 25
        lr_updates: {_target_: numpy.arange, start: 10, stop: 25, step: 5}
        lr_decay_factor: 0.1
        lr_mode: StepLRScheduler
        lr_warmup_epochs: 0
        initial_lr: 0.1
        loss: CrossEntropyLoss
        optimizer: SGD
        optimizer_params: {weight_decay: 1e-4, momentum: 0.9}
        train_metrics_list: [Accuracy, Top5]
        _convert_: all
        """,
        "",
        {0: 0.1, 109: 0.1, 110: 0.01, 160: 0.001},
        "SGD(weight_decay=0.0001, momentum=0.9)",
        ["of no concern to the optimizer: loss, train_metrics_list"],
    ),
    "steps of fractions of epochs": (
        """
        max_epochs: 12
        lr_mode: StepLRScheduler
        step_lr_update_freq: 2.4
        initial_lr: 0.016
        lr_warmup_epochs: 3
        warmup_initial_lr: 1e-6
        lr_decay_factor: 0.5
        optimizer: RMSpropTF
        optimizer_params: {momentum: 0.8, weight_decay: 1e-5, eps: 0.001}
        ema: True
        ema_params: {decay: 0.9999, decay_type: constant}
        mixed_precision: True
        zero_weight_decay_on_bias_and_bn: True
        """,
        "training_hyperparams: {resume: '${resume}'}",
        {0: 1e-6, 39: 0.016, 40: 0.008, 60: 0.004, 90: 0.002},
        "RMSpropTF(weight_decay=1e-05, momentum=0.8, eps=0.001)",
        ["averages: decay 0.9999, by recipe.averaged_model(model)", "GradScaler", "resume"],
    ),
    "a polynomial over rates by layers": (
        """
        max_epochs: 8
        lr_mode: PolyLRScheduler
        initial_lr: 0.01
        lr_warmup_epochs: 2
        multiply_head_lr: 10.
        optimizer: SGD
        optimizer_params: {momentum: 0.9, weight_decay: 5e-4}
        ema: True
        ema_params: {decay: 0.9999, beta: 15, decay_type: exp}
        zero_weight_decay_on_bias_and_bn: True
        """,
        """
        training_hyperparams:
          max_epochs: 6
          sync_bn: True
          initial_lr: {"encoder.back": 0.01, default: 0.1}
          loss: {DiceLoss: {ignore_index: 19}}
        """,
        {0: 0.1 / 3, 10: 0.2 / 3, 20: 0.1, 30: 0.1 * (1 - 9 / 40) ** 0.9},
        "SGD(weight_decay=0.0005, momentum=0.9)",
        ["unknown, SuperGradients 3.7.1 does not read it either: multiply_head_lr",
         "- sync_bn: model = torch.nn.SyncBatchNorm", "in the step"],
    ),
    "a warm-up of batches and a threshold": (
        """
        max_epochs: 20
        static_assigner_end_epoch: 15
        warmup_mode: LinearBatchLRWarmup
        warmup_initial_lr:  1e-6
        lr_warmup_steps: 5
        lr_warmup_epochs: 0
        initial_lr:  2e-3
        lr_mode: CosineLRScheduler
        cosine_final_lr_ratio: 0.1
        optimizer: AdamW
        optimizer_params: {weight_decay: 0.0001}
        ema: True
        ema_params: {decay: 0.9997, decay_type: threshold}
        phase_callbacks:
          - StageSwitchCallback:
              end_epoch: ${training_hyperparams.static_assigner_end_epoch}
        pre_prediction_callback:
        """,
        "",
        {0: 1e-6, 4: 2e-3, 6: 2e-3,
         100: 2e-3 * (0.1 + 0.9 * (1 + math.cos(math.pi * 94 / 196)) / 2)},
        "AdamW(weight_decay=0.0001)",
        ["decay 0.181818 to ", "- phase_callbacks: StageSwitchCallback",
         "- ema: averaged = recipe.averaged_model(model)"],
    ),
    "steps of a warm-up that its mode does not read": (
        """
        max_epochs: 15
        lr_mode: cosine
        cosine_final_lr_ratio: 0.1
        initial_lr: 1e-3
        optimizer: AdamW
        lr_warmup_steps: 25
        warmup_initial_lr: 1e-06
        """,
        "",
        {0: 1e-3, 26: 1e-3},
        "AdamW()",
        ["SuperGradients 3.7.1 step by step: CosineLRScheduler;"],
    ),
    "a cooldown, Nesterov": (
        """
        max_epochs: 10
        lr_mode: CosineLRScheduler
        cosine_final_lr_ratio: 0.05
        lr_warmup_epochs: 1
        lr_cooldown_epochs: 3
        initial_lr:  0.02
        optimizer_params: {momentum: 0.9, weight_decay: 0.0005, nesterov: True}
        ema: True
        """,
        "",
        {0: 0.01, 10: 0.02, 71: 0.02 * (0.05 + 0.95 * (1 + math.cos(math.pi * 59 / 61)) / 2)},
        "SGD(weight_decay=0.0005, momentum=0.9, nesterov=True)",
        ["cooldown of 3 epochs"],
    ),
    "the names of a warm-up that is no more": (
        """
        max_epochs: 4
        lr_mode: CosineLRScheduler
        initial_lr: 0.01
        lr_warmup_epochs: 3
        warmup_momentum: 0.8
        warmup_initial_lr: 1e-06
        warmup_bias_lr: 0.1
        """,
        "",
        {0: 1e-6, 30: 0.01},
        "SGD(weight_decay=0.0001, momentum=0.9)",
        ["does not read it either: warmup_momentum, warmup_bias_lr"],
    ),
    "three batches a step": (
        """
        max_epochs: 9
        initial_lr: 5e-3
        optimizer: SGD
        mixed_precision: True
        batch_accumulate: 3
        lr_mode: PolyLRScheduler
        optimizer_params: {momentum: 0.9, weight_decay: 1e-4, nesterov: False}
        load_opt_params: False
        """,
        "",
        {0: 5e-3, 11: 5e-3 * (1 - 32 / 90) ** 0.9},
        "SGD(weight_decay=0.0001, momentum=0.9, nesterov=False)",
        ["30 optimizer steps", "% 3 == 0: scaler.step(opt); opt.zero_grad()"],
    ),
    "a distillation": (
        """
        max_epochs: 61
        initial_lr: 5e-3
        lr_mode: CosineLRScheduler
        lr_warmup_epochs: 5
        lr_cooldown_epochs: 10
        ema: True
        mixed_precision: True
        zero_weight_decay_on_bias_and_bn: True
        optimizer: Lamb
        optimizer_params: {weight_decay: 0.02}
        """,
        """
        training_hyperparams:
          criterion_params:
            task_loss_fn: {_target_: some.where.Loss}
        teacher_arch_params: {image_size: [224, 224]}
        arch_params:
        """,
        {0: 5e-3 / 6, 50: 5e-3},
        "Lamb(weight_decay=0.02)",
        ["driven by fused_warmup.attach, biases and normalization layers without weight decay"],
    ),
    "a warm-up from nothing, clipped": (
        """
        max_epochs: 10
        initial_lr: 0.03
        lr_mode: CosineLRScheduler
        cosine_final_lr_ratio: 0
        lr_warmup_epochs: 1
        warmup_initial_lr: 0.
        warmup_mode: LinearEpochLRWarmup
        clip_grad_norm: 1
        optimizer_params: {weight_decay: 0, momentum: 0.9}
        average_best_models: False
        """,
        "training_hyperparams: {initial_lr: 0.06}",
        {0: 0.0, 10: 0.06},
        "SGD(weight_decay=0, momentum=0.9)",
        ["- clip_grad_norm: fused_warmup.clip_grad_norm_(opt, 1), before opt.step()"],
    ),
    "a quantization that starts over": (
        """
        max_epochs: 100
        warmup_mode: LinearEpochLRWarmup
        lr_warmup_epochs: 3
        initial_lr: 5e-4
        lr_mode: CosineLRScheduler
        optimizer: AdamW
        optimizer_params: {weight_decay: 0.0001}
        ema: True
        ema_params: {decay: 0.9}
        phase_callbacks: []
        """,
        """
        dataset_name: ???
        num_classes: ${some_resolver:${dataset_name}}
        pre_launch_callbacks_list:
          - QATRecipeModificationCallback: {max_epochs_divisor: 10}
        """,
        {0: 1.25e-4, 30: 5e-4},
        "AdamW(weight_decay=0.0001)",
        ["- pre_launch_callbacks_list: QATRecipeModificationCallback"],
    ),
}  # fmt: skip


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"back": nn.Linear(3, 3), "norm": nn.BatchNorm1d(3)})
        self.head = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder["norm"](self.encoder["back"](x))
        return self.head(x)  # type: ignore[no-any-return]


class Lamb(torch.optim.AdamW):
    pass


class RMSpropTF(torch.optim.RMSprop):
    pass


@pytest.mark.parametrize("name", SHAPES)
def test_a_recipe_becomes_rates_and_an_optimizer(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, "timm.optim", Lamb=Lamb, RMSpropTF=RMSpropTF)
    params, rest, rates, optimizer, said = SHAPES[name]
    folder = tmp_path / "training_hyperparams"
    folder.mkdir()
    (folder / "mine.yaml").write_text(f"defaults: [default_train_params]\n{_flush(params)}")
    (tmp_path / "recipe.yaml").write_text(WHOLE + _flush(rest))
    recipe = from_super_gradients(tmp_path / "recipe.yaml", EPOCH)
    for t, rate in rates.items():
        assert recipe.lr_at(t) == pytest.approx(rate, rel=1e-12, abs=1e-18), t
    text = str(recipe)
    assert optimizer in text
    for each in said:
        assert each in text
    net = Net()
    opt = recipe.optimizer(net)
    assert type(opt).__name__ == optimizer.partition("(")[0]
    net(torch.randn(4, 3)).square().sum().backward()
    opt.step()
    handle: Any = opt if isinstance(opt, fused_warmup.SGD) else fused_warmup.Attached.of(opt)
    names = [group["name"] for group in opt.param_groups]
    assert handle.get_last_lr() == [recipe.lr_at(0, name) for name in names]


def _flush(text: str) -> str:
    lines = text.splitlines()
    indent = min((len(x) - len(x.lstrip()) for x in lines if x.strip()), default=0)
    return "\n".join(line[indent:] for line in lines)


@pytest.mark.parametrize("file", ["base", "script", "variables"])
def test_what_is_no_whole_recipe_says_what_it_lacks(file: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "defaults: [training_hyperparams: default_train_params, _self_]\n"
        "training_hyperparams: {optimizer: AdamW}"
    )
    (tmp_path / "script.yaml").write_text("defaults: [dataset_params: some, _self_]\nout: ???")
    (tmp_path / "variables.yaml").write_text("lr:\nepochs:\nhydra: {run: {dir: '${x:${lr}}'}}")
    with pytest.raises(ValueError, match="lacks max_epochs"):
        from_super_gradients(tmp_path / f"{file}.yaml", EPOCH)
    (tmp_path / "small.yaml").write_text(
        "defaults: [base, _self_]\n"
        "training_hyperparams: {max_epochs: 2, lr_mode: PolyLRScheduler, initial_lr: 6e-5}"
    )
    recipe = from_super_gradients(tmp_path / "small.yaml", EPOCH)
    assert recipe.lr_at(0) == 6e-5
    assert recipe.optimizer_class is torch.optim.AdamW


def test_every_parameter_is_said_in_one_place() -> None:
    """Of what was given, of every kind, nothing is missing in the summary."""
    params = {
        "initial_lr": 0.1,
        "max_epochs": 2,
        "lr_mode": {"CyclicLR": {"base_lr": 0.1, "max_lr": 1, "phase": "TRAIN_EPOCH_END"}},
        "optimizer": "Adam",
        "clip_grad_norm": 0.5,
        "mixed_precision": True,
        "batch_accumulate": 2,
        "ema": True,
        "sync_bn": True,
        "precise_bn": True,
        "torch_compile": True,
        "phase_callbacks": [nn.Identity(), "EarlyStop", {"_target_": "a.B"}],
        "pre_prediction_callback": nn.Identity(),
        "loss": nn.MSELoss(),
        "save_ckpt_epoch_list": [1],
        "seed": 42,
        "my_own": 3,
    }
    text = str(from_super_gradients(params, EPOCH))
    for line in (
        "- batch_accumulate: if (epoch * len(loader) + batch + 1) % 2 == 0: scaler.step(opt)",
        "- clip_grad_norm: scaler.unscale_(opt); "
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5), before scaler.step(opt)",
        "- sync_bn: ",
        "- precise_bn: ",
        "- torch_compile: model = torch.compile(model)",
        "- phase_callbacks: Identity, EarlyStop, a.B",
        "- pre_prediction_callback: Identity",
        "of no concern to the optimizer: loss, save_ckpt_epoch_list\n",
        "does not read it either: my_own",
    ):
        assert line in text


def test_a_whole_recipe_and_an_object_with_parameters_are_taken_too() -> None:
    params = {"initial_lr": 0.1, "max_epochs": 2, "lr_mode": "poly"}
    recipe = from_super_gradients(params, EPOCH)
    assert (
        from_super_gradients({"architecture": "net", "training_hyperparams": params}, 10) == recipe
    )

    class TrainingParams:
        def to_dict(self) -> dict[str, Any]:
            return {**params, "schema": {}}

    assert from_super_gradients(TrainingParams(), 10) == recipe  # type: ignore[arg-type]


def test_a_cooldown_that_nobody_heeds_is_said() -> None:
    mode = {"StepLR": {"step_size": 1, "phase": "TRAIN_EPOCH_END"}}
    params = {"initial_lr": 0.1, "max_epochs": 3, "lr_mode": mode, "lr_cooldown_epochs": 1}
    assert "cooldown of 1 epochs, which no torch scheduler heeds" in str(
        from_super_gradients(params, EPOCH)
    )
