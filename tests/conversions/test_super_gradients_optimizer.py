"""The optimizer of a SuperGradients recipe: which class, groups, averages, and whole trainings."""

import copy
import math
import sys
from typing import Any

import pytest
import torch
from support.installed import install
from support.super_gradients_trainer import Trainer
from torch import nn

import fused_warmup
from fused_warmup import from_super_gradients

BATCHES, EPOCHS = 5, 6
RECIPE: dict[str, Any] = {
    "initial_lr": 0.05,
    "max_epochs": EPOCHS,
    "lr_warmup_epochs": 2,
    "lr_mode": "CosineLRScheduler",
}


class RMSpropTF(torch.optim.Optimizer):
    """TensorFlow's RMSprop: averages start at 1, eps is under the root, momentum has the rate."""

    def __init__(
        self, params: Any, lr: float = 0.01, eps: float = 1e-10, momentum: float = 0.0,
        weight_decay: float = 0.0, alpha: float = 0.9,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "eps": eps, "momentum": momentum, "alpha": alpha}
        super().__init__(params, {**defaults, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                average = state.setdefault("square_avg", torch.ones_like(p))
                buffer = state.setdefault("momentum_buffer", torch.zeros_like(p))
                grad = p.grad.add(p, alpha=group["weight_decay"])
                average.lerp_(grad.square(), 1 - group["alpha"])
                update = grad / average.add(group["eps"]).sqrt()
                buffer.mul_(group["momentum"]).add_(update, alpha=group["lr"])
                p.sub_(buffer)


class Lamb(torch.optim.Adagrad):
    """Stands in for timm's."""


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def backward(net: nn.Module, batch: int) -> None:
    generator = torch.Generator().manual_seed(batch)
    net(torch.randn(6, 3, generator=generator, dtype=torch.float64)).square().sum().backward()


OPTIMIZERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    # what the recipe names, torch's own for it, options that both have in the end
    "by default": (None, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 1e-4}),
    "SGD": ("SGD", torch.optim.SGD, {"momentum": 0.8, "weight_decay": 1e-4, "nesterov": True}),
    "sgd": (torch.optim.SGD, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.0}),
    "Adam": ("AdAm_", torch.optim.Adam, {"weight_decay": 1e-4}),
    "AdamW": ("AdamW", torch.optim.AdamW, {"weight_decay": 0.02, "betas": (0.8, 0.9)}),
    "RMSprop": ("RMSprop", torch.optim.RMSprop, {"momentum": 0.9, "weight_decay": 1e-4}),
    "a class with its module": ("torch.optim.NAdam", torch.optim.NAdam, {}),
    "RMSpropTF": ("RMSpropTF", RMSpropTF, {"momentum": 0.9, "weight_decay": 1e-4, "eps": 1e-3}),
    "a class": (torch.optim.Adagrad, torch.optim.Adagrad, {"lr_decay": 0.01}),
}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("lr_mode", ["CosineLRScheduler", "PolyLRScheduler"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_trajectories_are_those_of_the_trainer(
    name: str, lr_mode: str, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop over batches that keeps SuperGradients' order, resumed in the middle."""
    install(monkeypatch, "timm.optim", RMSpropTF=RMSpropTF)
    given, cls, options = OPTIMIZERS[name]
    params = {**RECIPE, "lr_mode": lr_mode, "batch_accumulate": accumulate}
    if given is not None:
        params |= {"optimizer": given, "optimizer_params": options}
    recipe = from_super_gradients(params, BATCHES)
    assert recipe.optimizer_params == options
    ours, theirs = model(), model()
    opt = recipe.optimizer(ours)
    if cls is torch.optim.SGD:
        assert type(opt) is recipe.optimizer_class is fused_warmup.SGD
    else:
        assert type(opt) is recipe.optimizer_class is cls
    twin = cls(theirs.parameters(), lr=params["initial_lr"], **options)
    trainer = Trainer(params, twin, BATCHES)
    pending: list[int] = []
    for step in trainer.steps(lambda batch: (pending.append(batch), backward(theirs, batch))):
        if step == 7:  # a new process loads what the old one saved
            weights, state = ours.state_dict(), copy.deepcopy(opt.state_dict())
            ours = model()
            opt = recipe.optimizer(ours)
            ours.load_state_dict(weights)
            opt.load_state_dict(state)
        for batch in pending:
            backward(ours, batch)
        pending.clear()
        opt.step()
        opt.zero_grad()
        twin.step()
        twin.zero_grad()
    assert recipe.steps == step + 1
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        # Rates agree to 1e-15, which up to 30 steps of float64 make no more of than this.
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_a_checkpoint_of_super_gradients_goes_on(name: str) -> None:
    """It has no count, and the rate of the moment: as the documentation says to take it."""
    params = {**RECIPE, "optimizer": name}
    recipe = from_super_gradients(params, BATCHES)
    ours, theirs = model(), model()
    groups = [{"params": list(theirs.parameters()), "name": "default"}]
    twin = getattr(torch.optim, name)(groups, lr=0.05, **recipe.optimizer_params)
    opt = recipe.optimizer(ours)
    for step in Trainer(params, twin, BATCHES).steps(lambda batch: backward(theirs, batch)):
        if step == 20:
            state = copy.deepcopy(twin.state_dict())
            state["param_groups"][0]["initial_lr"] = recipe.initial_lr["default"]
            ours.load_state_dict(theirs.state_dict())
            opt.load_state_dict(state)
            handle: Any = opt if name == "SGD" else fused_warmup.Attached.of(opt)
            handle.steps_applied = 20
        if step >= 20:
            backward(ours, step)
            opt.step()
            opt.zero_grad()
        twin.step()
        twin.zero_grad()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_a_step_that_amp_skips_does_not_count(name: str) -> None:
    recipe = from_super_gradients({**RECIPE, "optimizer": name, "mixed_precision": True}, 2)
    net = model()
    opt = recipe.optimizer(net)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step in range(5):
        opt.zero_grad()
        loss = net(torch.ones(2, 3).double()).sum() * (math.inf if step in (0, 3) else 1.0)
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
    handle: Any = opt if name == "SGD" else fused_warmup.Attached.of(opt)
    assert handle.steps_applied == 3
    assert handle.get_last_lr() == [recipe.lr_at(2)]
    assert "- mixed_precision: scaler = torch.amp.GradScaler()" in str(recipe)


def test_a_callable_of_ones_own() -> None:
    calls = []

    def build(groups: Any, **options: Any) -> Any:
        calls.append(options)
        return torch.optim.Adam(groups, **options)

    params = {**RECIPE, "optimizer": "Lamb", "optimizer_params": {"weight_decay": 0.1}}
    opt = from_super_gradients(params, 2).optimizer(model(), build, eps=1e-5)
    assert calls == [{"weight_decay": 0.1, "eps": 1e-5}]
    assert fused_warmup.Attached.of(opt).get_last_lr() == pytest.approx([0.05 / 3])
    same = from_super_gradients({**params, "optimizer": build}, 2).optimizer(model())
    assert type(same) is torch.optim.Adam


def test_sgd_of_torch_is_left_alone_where_it_is_asked_for() -> None:
    opt = from_super_gradients(RECIPE, 2).optimizer(model(), torch.optim.SGD)
    assert type(opt) is torch.optim.SGD
    assert fused_warmup.Attached.of(opt).steps_applied == 0


@pytest.mark.parametrize("package", ["super_gradients.training.utils.optimizers", "timm.optim"])
def test_others_come_from_who_is_installed(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = from_super_gradients({**RECIPE, "optimizer": "lamb"}, 2)
    assert "optimizer: Lamb(), driven by fused_warmup.attach" in str(recipe)
    for name in ("super_gradients", "timm"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"neither of which can be imported .*: pip install timm"):
        _ = recipe.optimizer_class
    install(monkeypatch, package, Lamb=Lamb)
    assert recipe.optimizer_class is Lamb


def test_who_registered_an_optimizer_has_it_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "super_gradients.common.registry.registry", OPTIMIZERS={"mine": Lamb})
    assert from_super_gradients({**RECIPE, "optimizer": "mine"}, 2).optimizer_class is Lamb


@pytest.mark.parametrize(
    ("optimizer", "error", "word"),
    [
        ("SDG", ValueError, "'SDG' is unknown.*SGD, Adam"),
        ("torch.optim.Nothing", ValueError, "Nothing"),
        ("no_such_package.Adam", ValueError, "no_such_package"),
        ("torch.nn.Linear", TypeError, "class of optimizers"),
        (3, TypeError, "3 of type int"),
        (None, TypeError, "None"),
    ],
)
def test_errors_name_the_remedy(optimizer: Any, error: type[Exception], word: str) -> None:
    recipe = from_super_gradients({**RECIPE, "optimizer": optimizer}, 2)
    assert str(recipe)  # says what there is, whoever has it
    net = model()
    with pytest.raises(error, match=word):
        recipe.optimizer(net)
    with pytest.raises(TypeError, match="optimizer_params='a'"):
        from_super_gradients({**RECIPE, "optimizer_params": "a"}, 2)


class Scaled(nn.Module):
    """A module with a bias of its own, and a normalization that SuperGradients does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.scale = nn.Parameter(torch.ones(1))
        self.norm = nn.RMSNorm(2)


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.GroupNorm(1, 2))
        self.neck = nn.Sequential(nn.LayerNorm(2), nn.InstanceNorm1d(2, affine=True))
        self.own = Scaled()
        self.head = nn.Linear(2, 2)

    def get_finetune_lr_dict(self, lr: float) -> dict[str, float]:
        return {"head": lr, "neck": lr / 10, "default": 0.0}


SPARED = {
    *("backbone.0.bias", "backbone.1.weight", "backbone.1.bias", "backbone.2.weight"),
    *("backbone.2.bias", "neck.0.weight", "neck.0.bias", "neck.1.weight", "neck.1.bias"),
    *("own.bias", "head.bias"),
}


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_biases_and_normalization_layers_are_not_decayed(optimizer: str) -> None:
    params = {
        **RECIPE,
        "initial_lr": {"default": 0.1, "backbone": 0.01, "head": 0.2},
        "optimizer": optimizer,
        "optimizer_params": {"weight_decay": 0.3},
        "zero_weight_decay_on_bias_and_bn": True,
    }
    net = Layers()
    names = {id(p): name for name, p in net.named_parameters()}
    opt = from_super_gradients(params, 2).optimizer(net)
    found = {names[id(p)]: g for g in opt.param_groups for p in g["params"]}
    assert found.keys() == set(names.values())
    for name, group in found.items():
        assert group["weight_decay"] == (0.0 if name in SPARED else 0.3)
        prefix = name.partition(".")[0]
        assert group["name"] == (prefix if prefix in ("backbone", "head") else "default")
    assert [g["name"] for g in opt.param_groups] == [
        name for name in ("backbone", "head", "default") for _ in range(2)
    ]


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_another_weight_decay_is_that_of_the_weights(optimizer: str) -> None:
    params = {**RECIPE, "optimizer": optimizer, "zero_weight_decay_on_bias_and_bn": True}
    opt = from_super_gradients(params, 2).optimizer(nn.Linear(2, 1), weight_decay=0.7)
    assert [group["weight_decay"] for group in opt.param_groups] == [0.0, 0.7]


def test_options_without_effect_are_refused() -> None:
    net = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"lr=0.5 has no effect, .* change initial_lr"):
        from_super_gradients(RECIPE, 2).optimizer(net, lr=0.5)
    existing = torch.optim.SGD(net.parameters(), lr=0.1)
    recipe = from_super_gradients({**RECIPE, "initial_lr": None, "optimizer": existing}, 2)
    with pytest.raises(ValueError, match=r"exists, to which \['momentum'\] come too late"):
        recipe.optimizer(net, momentum=0.9)
    assert "schedule" not in existing.param_groups[0]


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_a_model_without_biases_keeps_its_empty_group(optimizer: str) -> None:
    """SuperGradients' optimizers have it, and so have their checkpoints."""
    net = nn.Linear(2, 1, bias=False)
    params = {**RECIPE, "optimizer": optimizer, "zero_weight_decay_on_bias_and_bn": True}
    opt = from_super_gradients(params, 2).optimizer(net)
    assert [len(group["params"]) for group in opt.param_groups] == [0, 1]
    net(torch.ones(1, 2)).sum().backward()
    before = net.weight.detach().clone()
    opt.step()
    assert not torch.equal(net.weight, before)
    opt.load_state_dict(opt.state_dict())


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_finetune_takes_the_rates_of_the_model(optimizer: str) -> None:
    params = {**RECIPE, "optimizer": optimizer, "finetune": True, "warmup_initial_lr": 0.002}
    recipe = from_super_gradients(params, 2)
    assert "finetune: the model's get_finetune_lr_dict gives the rates" in str(recipe)
    net = Layers()
    own = recipe.for_model(net)
    assert own.initial_lr == {"head": 0.05, "neck": 0.005, "default": 0.0}
    assert [own.lr_at(0, name) for name in ("head", "neck")] == pytest.approx([0.002, 0.002])
    opt = recipe.optimizer(nn.DataParallel(net))
    assert [group["name"] for group in opt.param_groups] == ["head", "neck"]
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert {name.partition(".")[0] for name in trained} == {"head", "neck"}
    with pytest.raises(ValueError, match="pass the model itself"):
        recipe.param_groups(net.named_parameters())
    with pytest.warns(UserWarning, match="Sequential has no get_finetune_lr_dict"):
        assert len(recipe.optimizer(model()).param_groups) == 1


def test_parameters_without_names_are_refused() -> None:
    recipe = from_super_gradients(RECIPE, 2)
    for take in (recipe.optimizer, recipe.param_groups):
        with pytest.raises(TypeError, match="got a Parameter: pass the model itself"):
            take(model().parameters())


def test_nothing_is_frozen_where_the_optimizer_fails() -> None:
    net = Layers()
    recipe = from_super_gradients({**RECIPE, "finetune": True}, 2)
    with pytest.raises(TypeError, match="no_option"):
        recipe.optimizer(net, no_option=1)
    assert all(p.requires_grad for p in net.parameters())


def test_names_are_those_under_wrappers() -> None:
    params = {**RECIPE, "initial_lr": {"default": 0.1, "head": 0.2}, "optimizer": "AdamW"}
    recipe = from_super_gradients({**params, "zero_weight_decay_on_bias_and_bn": True}, 2)
    for wrapped in (nn.DataParallel(Layers()), torch.compile(Layers(), backend="eager")):
        assert len(recipe.optimizer(wrapped).param_groups) == 4


@pytest.mark.parametrize("cls", [fused_warmup.SGD, torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_that_exists_is_driven(cls: Any) -> None:
    net = model()
    groups = [{"params": net[0].parameters(), "lr": 0.1}, {"params": net[2].parameters()}]
    opt = cls(groups, lr=0.4)
    params = {**RECIPE, "initial_lr": None, "optimizer": opt}
    recipe = from_super_gradients(params, 2)
    assert recipe.initial_lr == {"group_0": 0.1, "group_1": 0.4}
    assert recipe.optimizer(net) is opt
    backward(net, 0)
    opt.step()
    handle = opt if cls is fused_warmup.SGD else fused_warmup.Attached.of(opt)
    assert handle.get_last_lr() == [recipe.lr_at(0, name) for name in recipe.initial_lr]
    with pytest.raises(ValueError, match="initial_lr to None"):
        from_super_gradients({**params, "initial_lr": 0.1}, 2)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize(
    "ema_params",
    [{}, {"decay_type": "constant", "decay": 0.9}, {"decay_type": "threshold", "decay": 0.7}],
    ids=str,
)
def test_averages_of_any_optimizer_are_those_of_its_formula(
    ema_params: dict[str, Any], accumulate: int
) -> None:
    """Buffers too, as `ModelEMA` has them, from a copy of the initial model."""
    params = {**RECIPE, "max_epochs": 2, "optimizer": "AdamW", "batch_accumulate": accumulate}
    recipe = from_super_gradients({**params, "ema": True, "ema_params": ema_params}, 6)
    assert "ema: averaged = recipe.averaged_model(model)" in str(recipe)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    opt, averaged = recipe.optimizer(net), recipe.averaged_model(net)
    want = {name: value.clone() for name, value in net.state_dict().items()}
    for t in range(recipe.steps):
        backward(net, t)
        opt.step()
        averaged.update_parameters(net)
        batch = (t + 1) * accumulate
        decay = ema_params.get("decay", 0.9999)
        if ema_params.get("decay_type") == "threshold":
            decay = min(decay, (1 + batch) / (10 + batch))
        elif not ema_params:
            decay *= 1 - math.exp(-batch / 12 * 15)
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                want[name] = want[name] * decay + (1 - decay) * value
        if t == 1:  # a new process loads what the old one saved
            saved = averaged.state_dict()
            averaged = recipe.averaged_model(net)
            averaged.load_state_dict(saved)
            averaged = copy.deepcopy(averaged)
    for name, value in averaged.module.state_dict().items():
        torch.testing.assert_close(value, want[name], rtol=1e-12, atol=1e-14)
    assert not averaged.training


def test_sgd_averages_in_its_own_step() -> None:
    params = {**RECIPE, "ema": True, "ema_params": {"decay": 0.9, "decay_type": "constant"}}
    recipe = from_super_gradients(params, 2)
    assert "averages: decay 0.9, in the step" in str(recipe)
    net = model()
    opt = recipe.optimizer(net)
    assert opt.param_groups[0]["ema_decay"] == 0.9
    with pytest.warns(
        UserWarning, match=r"of fused_warmup\.SGD, SGD of torch\.optim\.sgd does not"
    ):
        assert "ema_decay" not in recipe.optimizer(net, torch.optim.SGD).param_groups[0]
    ours = from_super_gradients({**params, "optimizer": fused_warmup.SGD}, 2)
    assert "SGD(): recipe.optimizer(model)" in str(ours)
    assert ours.optimizer(net).param_groups[0]["ema_decay"] == 0.9
    lars = from_super_gradients({**params, "optimizer": fused_warmup.LARS}, 2)
    assert "LARS(): recipe.optimizer(model)\naverages: decay 0.9, by recipe.ave" in str(lars)
    assert type(lars.optimizer(net)) is fused_warmup.LARS
    with pytest.raises(ValueError, match="ema=False"):
        from_super_gradients(RECIPE, 2).averaged_model(net)


def test_groups_added_later_follow_the_same_schedule() -> None:
    opt = from_super_gradients({**RECIPE, "optimizer": "AdamW"}, 2).optimizer(model())
    opt.add_param_group({"params": [torch.zeros(1, requires_grad=True)], "lr": 0.5})
    handle = fused_warmup.Attached.of(opt)
    handle.steps_applied = 0
    assert handle.get_last_lr() == pytest.approx([0.05 / 3, 0.5 / 3])


def test_who_is_driven_by_nothing_has_no_handle() -> None:
    with pytest.raises(ValueError, match="no schedule drives this Adam"):
        fused_warmup.Attached.of(torch.optim.Adam(model().parameters()))
