"""Rates recorded from SuperGradients 3.7.1 against `from_super_gradients`, and its sane variant."""

import json
import math
from pathlib import Path

import pytest
import torch

import fused_warmup
from fused_warmup.conversions.super_gradients import from_super_gradients

GOLDEN = Path(__file__).parents[1] / "support" / "golden"
# Two orders of float64 arithmetic; nearly all of the difference is SuperGradients' own: its last
# warm-up epoch is start + W * ((initial_lr - start) / W), 1e-13 off initial_lr for a high start.
TOLERANCE = 1e-12


def squares(initial_lr, epoch, iter, max_epoch, iters_per_epoch):
    return initial_lr * (1 - (epoch * iters_per_epoch + iter) / (max_epoch * iters_per_epoch)) ** 2


RECORDED = [
    pytest.param(case, id=case["name"])
    for file in ("supergradients.json", "supergradients_more.json")
    for case in json.loads((GOLDEN / file).read_text())["cases"]
]


def params_of(case):
    params = {key: case[key] for key in ("warmup_mode", "lr_mode", "initial_lr", "max_epochs")}
    params |= case["options"]
    if "lr_schedule_function" in params:
        params["lr_schedule_function"] = squares
    return params


@pytest.mark.parametrize("case", RECORDED)
def test_rates_are_those_of_super_gradients(case):
    recipe = from_super_gradients(params_of(case), case["steps_per_epoch"])
    assert recipe.steps == len(case["lr"])
    several = isinstance(case["initial_lr"], dict)
    for t, rates in enumerate(case["lr"]):
        expected = rates if several else [rates]
        assert [recipe.lr_at(t, name) for name in recipe.initial_lr] == pytest.approx(
            expected, rel=TOLERANCE, abs=0.0
        )


@pytest.mark.parametrize("case", RECORDED)
def test_the_last_rate_holds_after_the_end(case):
    recipe = from_super_gradients(params_of(case), case["steps_per_epoch"])
    for schedule in recipe.schedules.values():
        assert schedule.steps == recipe.steps
        assert schedule(recipe.steps + 100) == schedule(recipe.steps - 1)


def rates(faithful=False, steps_per_epoch=4, **params):
    recipe = from_super_gradients(
        {"initial_lr": 0.5, "max_epochs": 8, **params}, steps_per_epoch, faithful=faithful
    )
    return [recipe.lr_at(t) for t in range(recipe.steps)]


def approx(expected):
    return pytest.approx(expected, rel=TOLERANCE, abs=1e-16)


WARMUP = [0.125] * 4 + [0.25] * 4 + [0.375] * 4
FORMULAS = {
    "PolyLRScheduler": lambda i: 0.5 * (1 - i / 16) ** 0.9,
    "CosineLRScheduler": lambda i: 0.5 * (0.1 + 0.9 * (1 + math.cos(math.pi * i / 17)) / 2),
    "ExponentialLRScheduler": lambda i: 0.5 * 0.3 ** (i / 4),
    "FunctionLRScheduler": lambda i: 0.5 * (1 - i / 16) ** 2,
}


@pytest.mark.parametrize("lr_mode", FORMULAS)
@pytest.mark.parametrize("faithful", [True, False])
def test_only_the_faithful_variant_lags_by_a_step(lr_mode, faithful):
    got = rates(
        faithful,
        lr_mode=lr_mode,
        lr_warmup_epochs=3,
        lr_cooldown_epochs=1,
        lr_decay_factor=0.3,
        cosine_final_lr_ratio=0.1,
        lr_schedule_function=squares,
    )
    formula = [FORMULAS[lr_mode](i) for i in range(16)]
    if faithful:
        assert got == approx([*WARMUP, 0.5, *formula, *formula[-1:] * 3])
    else:
        assert got == approx([*WARMUP, *formula, *formula[-1:] * 4])


@pytest.mark.parametrize("faithful", [True, False])
def test_only_the_faithful_step_is_an_epoch_late(faithful):
    got = rates(faithful, 2, lr_mode="step", lr_updates=[3, 5], max_epochs=7, lr_warmup_epochs=1)
    late = 2 * faithful
    assert got == approx([0.25] * 2 + [0.5] * (4 + late) + [0.05] * 4 + [0.005] * (4 - late))


def test_sane_batch_warmup_ends_at_initial_lr():
    params = {"warmup_mode": "LinearBatchLRWarmup", "warmup_initial_lr": 0.1, "max_epochs": 1}
    assert rates(lr_warmup_steps=1, **params) == approx([0.1, 0.5, 0.5, 0.5])
    assert rates(True, lr_warmup_steps=1, **params) == approx([0.1] * 4)
    assert rates(lr_warmup_steps=3, **params) == approx([0.1, 0.3, 0.5, 0.5])


def test_sane_cosine_keeps_to_its_epochs_with_lr_warmup_steps():
    got = rates(lr_mode="cosine", lr_warmup_epochs=2, lr_cooldown_epochs=2, lr_warmup_steps=1)
    plain = rates(lr_warmup_epochs=2)
    assert got[:8] == plain[:8]
    assert len(set(got[-9:])) == 1
    assert got[8:24] == sorted(got[8:24], reverse=True)


def test_sane_steps_count_as_the_position_of_their_first_batch():
    got = rates(steps_per_epoch=8, max_epochs=2, batch_accumulate=2, lr_mode="poly")
    assert got == approx([0.5 * (1 - 2 * t / 16) ** 0.9 for t in range(8)])


def test_a_common_recipe_takes_a_few_segments():
    recipe = from_super_gradients(
        {"initial_lr": 0.5, "max_epochs": 8, "lr_warmup_epochs": 3, "lr_mode": "cosine"}, 100
    )
    assert str(recipe.schedule) == (
        "Schedule(0: poly 0.25 -> 1 in 300; 300: 1; 301: cos 1 -> 0.01 in 501; "
        "800: 0.0100876; steps=800)"
    )
    assert recipe.summary == (
        "SuperGradients 3.7.1 step by step: LinearEpochLRWarmup over 3 epochs from 0.125, "
        "CosineLRScheduler; initial_lr 0.5; 800 optimizer steps (8 epochs of 100 batches)"
    )


def test_unrelated_parameters_are_ignored():
    params = {"initial_lr": 0.1, "max_epochs": 1, "loss": torch.nn.MSELoss(), "ema": True}
    assert from_super_gradients(params, 2).schedule.segments[0].a == 1.0


def test_what_the_optimizer_has_beside_its_rate_is_there_and_said():
    """It is no matter of the rates, and was dropped without a word."""
    optimizer_params = {"weight_decay": 1e-3, "momentum": 0.9, "nesterov": True}
    params = {"initial_lr": 0.1, "max_epochs": 1, "optimizer_params": optimizer_params}
    recipe = from_super_gradients(params, 2)
    assert "SGD(weight_decay=0.001, momentum=0.9, nesterov=True): recipe.optimizer" in str(recipe)
    model = torch.nn.Linear(2, 2)
    groups = recipe.param_groups(model.named_parameters())
    for opt in (fused_warmup.SGD(groups, **recipe.optimizer_params), recipe.optimizer(model)):
        assert optimizer_params.items() <= opt.param_groups[0].items()


def test_names_alone_do_not_tell_normalization_layers():
    params = {"initial_lr": 0.1, "max_epochs": 1, "zero_weight_decay_on_bias_and_bn": True}
    recipe = from_super_gradients(params, 2)
    assert "biases and normalization layers without weight decay" in str(recipe)
    model = torch.nn.Linear(2, 2)
    with pytest.warns(UserWarning, match=r"on_bias_and_bn.*param_groups\(model\)") as caught:
        (group,) = recipe.param_groups(model.named_parameters())
    assert caught[0].filename == __file__
    assert "weight_decay" not in group
    assert [g["weight_decay"] for g in recipe.param_groups(model)] == [0.0, 1e-4]


@pytest.mark.parametrize("given", [None, {}])
def test_an_optimizer_has_the_defaults_of_super_gradients(given):
    params = {"initial_lr": 0.1, "max_epochs": 1, "optimizer_params": given}
    recipe = from_super_gradients(params, 2)
    assert recipe.optimizer_params == {"weight_decay": 1e-4, "momentum": 0.9}
    assert "left to you" not in str(recipe)


def test_warmup_mode_may_be_a_class():
    class LinearEpochLRWarmup:
        pass

    by_class = rates(warmup_mode=LinearEpochLRWarmup, lr_warmup_epochs=3)
    assert by_class == rates(lr_warmup_epochs=3) != rates(warmup_mode=None, lr_warmup_epochs=3)


def test_a_group_without_rate_is_frozen():
    params = {"initial_lr": {"default": 0.0, "head": 0.1}, "warmup_initial_lr": 0.01}
    recipe = from_super_gradients({**params, "max_epochs": 3, "lr_warmup_epochs": 2}, 4)
    assert {recipe.lr_at(t) for t in range(recipe.steps)} == {0.0}
    model = torch.nn.ModuleDict({"body": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 2)})
    (group,) = recipe.param_groups(model.named_parameters())
    assert group["name"] == "head"
    assert [id(p) for p in group["params"]] == [id(p) for p in model["head"].parameters()]
    assert group["schedule"] is recipe.schedules["head"]
    assert not any(p.requires_grad for p in model["body"].parameters())


def test_default_leaves_out_what_is_frozen_already():
    recipe = from_super_gradients({"initial_lr": {"default": 0.1, "1.": 0.2}, "max_epochs": 1}, 4)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[0].bias.requires_grad_(False)
    groups = recipe.param_groups(model.named_parameters())
    assert [(group["name"], len(group["params"])) for group in groups] == [
        ("1.", 2),
        ("default", 1),
    ]


@pytest.mark.parametrize(
    ("groups", "message"),
    [({"0": 0.1, "0.w": 0.1}, "belongs to the groups"), ({"neck": 0.1}, "starts with 'neck'")],
)
def test_groups_must_divide_the_parameters(groups, message):
    recipe = from_super_gradients({"initial_lr": {"default": 1, **groups}, "max_epochs": 1}, 4)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=message):
        recipe.param_groups(model.named_parameters())
    with pytest.raises(ValueError, match="single one"):
        _ = recipe.lr


class LinearBatchLRWarmup:
    pass


BATCH = {"warmup_mode": "LinearBatchLRWarmup", "lr_warmup_steps": 3}
STEP = {"lr_mode": "StepLRScheduler"}


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"initial_lr": None}, ValueError, "pass a number"),
        ({"initial_lr": "1e-3"}, TypeError, "initial_lr.*real number"),
        ({"initial_lr": -0.1}, ValueError, "initial_lr"),
        ({"initial_lr": {"head": 0.1}}, ValueError, "'default' must be among them"),
        ({"max_epochs": 0}, ValueError, "max_epochs"),
        ({"max_epochs": 2.5}, TypeError, "max_epochs"),
        ({"batch_accumulate": 100}, ValueError, "never step"),
        ({"max_train_batches": 2}, ValueError, "cuts epochs"),
        ({"finetune": True, "initial_lr": {"default": 1}}, ValueError, "get_finetune_lr_dict"),
        ({"warmup_mode": "linear"}, ValueError, "one of"),
        ({"warmup_mode": 3}, ValueError, "one of"),
        ({"warmup_mode": LinearBatchLRWarmup}, ValueError, "by name only"),
        ({"lr_mode": "CosineAnnealingLR"}, ValueError, "one of"),
        ({"lr_mode": {"ReduceLROnPlateau": {"phase": "x"}}}, ValueError, "torch scheduler"),
        ({"lr_mode": "poly", "lr_cooldown_epochs": 1.5}, ValueError, "whole number"),
        (BATCH, ValueError, "rate to start from"),
        ({**BATCH, "warmup_initial_lr": "1e-6"}, TypeError, "real number"),
        ({**BATCH, "warmup_initial_lr": {"head": 0.1}}, ValueError, "lacks the groups"),
        ({**BATCH, "warmup_initial_lr": 0.1, "initial_lr": 0}, ValueError, "raise initial_lr"),
        (STEP, ValueError, "neither"),
        ({**STEP, "lr_updates": None}, ValueError, "neither"),
        ({**STEP, "lr_updates": [1], "step_lr_update_freq": 2}, ValueError, "exclude"),
        ({"lr_mode": "function"}, TypeError, "callable"),
        (
            {"lr_mode": "cosine", "lr_warmup_epochs": 1, "lr_warmup_steps": 9},
            ValueError,
            "length of zero",
        ),
    ],
)
def test_errors_name_the_remedy(params, error, message):
    with pytest.raises(error, match=message):
        from_super_gradients({"initial_lr": 0.1, "max_epochs": 3, **params}, 4)


def test_training_params_must_be_a_mapping_with_max_epochs():
    with pytest.raises(TypeError, match="to_dict"):
        from_super_gradients(object(), 4)
    with pytest.raises(ValueError, match="max_epochs"):
        from_super_gradients({"initial_lr": 0.1}, 4)
    with pytest.raises(ValueError, match="steps_per_epoch"):
        from_super_gradients({"initial_lr": 0.1, "max_epochs": 1}, 0)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize(
    "ema_params",
    [
        *(None, {}, {"decay": 0.9}, {"decay_type": "constant", "decay": 0.99}),
        *({"decay_type": "threshold", "decay": 0.5}, {"decay_type": "exp", "beta": 3}),
        {"decay": 0.8, "exp_activation": False},
    ],
    ids=str,
)
def test_averages_are_those_of_its_own_formula(ema_params, accumulate) -> None:
    """As `ModelEMA.update` computes them, from batches counted from 1, in float64."""
    params = {"initial_lr": 0.1, "max_epochs": 2, "batch_accumulate": accumulate, "ema": True}
    if ema_params is not None:
        params["ema_params"] = ema_params
    recipe = from_super_gradients(params, steps_per_epoch=6)
    given = {"decay": 0.9999, "decay_type": "exp", "beta": 15, **(ema_params or {})}
    kind = "constant" if given.get("exp_activation") is False else given["decay_type"]
    p = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    opt = fused_warmup.SGD([p], lr=0.1, **recipe.averaging)
    ema = p.detach().clone()
    for t in range(recipe.steps):
        p.grad = torch.randn(5, generator=torch.Generator().manual_seed(t), dtype=torch.float64)
        opt.step()
        batch, total = (t + 1) * accumulate, 12
        decay = given["decay"]
        if kind == "threshold":
            decay = min(decay, (1 + batch) / (10 + batch))
        elif kind == "exp":
            decay = decay * (1 - math.exp(-batch / total * given["beta"]))
        ema = ema * decay + (1 - decay) * p.detach()
        # A few roundings of each step, of numbers up to 1.
        torch.testing.assert_close(opt.state[p]["ema"], ema, rtol=0, atol=(t + 1) * 8 * 2.0**-53)


def test_without_ema_there_is_no_averaging() -> None:
    params = {"initial_lr": 0.1, "max_epochs": 1, "ema_params": {"decay": 0.9}}
    assert from_super_gradients(params, steps_per_epoch=2).averaging == {}


@pytest.mark.parametrize(
    ("ema_params", "error", "word"),
    [
        *(("0.9", TypeError, "ema_params"), ({"decay": 2}, ValueError, "decay")),
        *(({"decay_type": "cosine"}, ValueError, "cosine"), ({"beta": 0}, ValueError, "beta")),
    ],
    ids=str,
)
def test_bad_ema_params_are_refused_by_name(ema_params, error, word) -> None:
    params = {"initial_lr": 0.1, "max_epochs": 1, "ema": True, "ema_params": ema_params}
    with pytest.raises(error, match=word):
        from_super_gradients(params, steps_per_epoch=2)
