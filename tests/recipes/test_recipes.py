"""The large-minibatch recipe and the weight decay split."""

import math
from dataclasses import FrozenInstanceError
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fused_warmup.recipes import large_minibatch, split_weight_decay


def test_goyal_on_imagenet():
    """8192 images on 256 GPUs: the paper's headline run, section 5.1."""
    recipe = large_minibatch(8192, steps_per_epoch=156)
    assert recipe.lr == pytest.approx(3.2, rel=1e-15)
    assert (recipe.momentum, recipe.weight_decay, recipe.nesterov) == (0.9, 1e-4, True)
    assert (recipe.warmup_steps, recipe.drop_steps) == (780, (4680, 9360, 12480))
    assert recipe.total_steps == recipe.schedule.steps == 14040
    rates = [recipe.lr * factor for factor in recipe.schedule(range(14040))]
    # 1/k is rounded before it is multiplied by lr: two roundings of numbers near 1, times 3.2.
    assert rates[0] == pytest.approx(0.1, abs=1e-15)
    ramp = [after - before for before, after in pairwise(rates[:781])]
    assert ramp == pytest.approx([3.1 / 780] * 780, rel=1e-11)
    assert rates[780:4680] == [recipe.lr] * 3900
    for first, last, wanted in ((4680, 9360, 0.32), (9360, 12480, 0.032), (12480, 14040, 0.0032)):
        assert rates[first:last] == pytest.approx([wanted] * (last - first), rel=1e-14)


@given(
    st.integers(1, 100_000),
    st.integers(1, 2000),
    st.floats(1e-4, 10.0),
    st.integers(1, 4096),
    st.sampled_from([0, 0.5, 1, 5]),
)
def test_recipe_is_the_formula(batch, per_epoch, lr, reference, warmup_epochs):
    if 0 < warmup_epochs * per_epoch < 0.5:
        return
    recipe = large_minibatch(
        batch,
        steps_per_epoch=per_epoch,
        reference_lr=lr,
        reference_batch=reference,
        warmup_epochs=warmup_epochs,
    )
    k = batch / reference
    assert recipe.lr == pytest.approx(k * lr, rel=1e-15)
    warmup = math.floor(warmup_epochs * per_epoch + 0.5) if k > 1 else 0
    assert recipe.warmup_steps == warmup
    for t in {0, 1, warmup, 30 * per_epoch - 1, 30 * per_epoch, 80 * per_epoch, 10**6}:
        if t < warmup:
            wanted = lr + (k * lr - lr) * t / warmup
        else:
            wanted = k * lr * 0.1 ** sum(t >= epoch * per_epoch for epoch in (30, 60, 80))
        assert recipe.lr * recipe.schedule(t) == pytest.approx(wanted, rel=1e-10)


def test_steps_per_epoch_follow_from_the_dataset():
    assert large_minibatch(256, dataset_size=1000).steps_per_epoch == 4
    assert large_minibatch(256, dataset_size=1000, drop_last=True).steps_per_epoch == 3
    assert large_minibatch(250, dataset_size=1000).steps_per_epoch == 4


@pytest.mark.parametrize("batch", [64, 256])
def test_a_small_batch_needs_no_warmup(batch):
    recipe = large_minibatch(batch, steps_per_epoch=10)
    assert recipe.lr == 0.1 * batch / 256
    assert recipe.schedule([0, 299, 300]) == [1.0, 1.0, 0.1]
    assert f"none, a batch of {batch} is no larger than the reference" in str(recipe)


def test_recipe_without_drops_or_warmup():
    recipe = large_minibatch(512, steps_per_epoch=10, milestones=(), warmup_epochs=0)
    assert recipe.schedule([0, 899, 10_000]) == [1.0, 1.0, 1.0]
    assert str(recipe).count("none, as asked") == 2


def test_recipe_drives_torch_sgd_but_for_the_schedule():
    options = large_minibatch(512, steps_per_epoch=10, momentum=0.0, nesterov=False).sgd_options()
    assert options.pop("schedule").steps == 900
    group = torch.optim.SGD([torch.zeros(1)], **options).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.2, 0.0, 1e-4)


def test_recipe_is_immutable():
    with pytest.raises(FrozenInstanceError):
        large_minibatch(512, steps_per_epoch=10).lr = 1.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, "give exactly one of them"),
        ({"steps_per_epoch": 9, "dataset_size": 9}, TypeError, "give exactly one of them"),
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch must lie in"),
        ({"dataset_size": 0}, ValueError, "dataset_size must lie in"),
        ({"dataset_size": 9, "drop_last": True}, ValueError, "no full batch of 512"),
        ({"batch_size": 0}, ValueError, "batch_size must lie in"),
        ({"batch_size": True}, TypeError, "batch_size must be an integer"),
        ({"reference_batch": 0}, ValueError, "reference_batch must lie in"),
        ({"reference_lr": 0}, ValueError, "reference_lr must be a finite number above 0"),
        ({"warmup_epochs": -1}, ValueError, "warmup_epochs must be .* at least 0, got -1"),
        ({"warmup_epochs": 0.01}, ValueError, "warmup_epochs=0.01 .*rounds to 0 steps"),
        ({"warmup_epochs": 30}, ValueError, "warm-up must end before the first drop"),
        ({"warmup_epochs": 90, "milestones": ()}, ValueError, "warm-up must end before"),
        ({"milestones": (30, 90)}, ValueError, "milestones must lie before the end at epochs=90"),
        ({"milestones": (0, 30)}, ValueError, "milestones must be .* above 0, got 0"),
        ({"epochs": 0}, ValueError, "epochs must be .* above 0, got 0"),
        ({"gamma": -0.1}, ValueError, "gamma must be .* at least 0"),
        ({"momentum": 1.5}, ValueError, "momentum must be .* at most 1, got 1.5"),
        ({"momentum": 0}, ValueError, "nesterov=True needs a momentum above 0"),
        ({"weight_decay": -1}, ValueError, "weight_decay must be .* at least 0"),
    ],
)
def test_recipe_names_what_is_wrong(arguments, error, message):
    if not {"dataset_size", "steps_per_epoch"} & set(arguments) and arguments:
        arguments = arguments | {"steps_per_epoch": 10}
    with pytest.raises(error, match=message):
        large_minibatch(**{"batch_size": 512} | arguments)


class LlamaRMSNorm(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))


class NormalHead(nn.Linear):
    """Not a normalization, for all its name."""


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3, 3))
        self.bias = nn.Parameter(torch.ones(2, 3))


LAYERS = {
    "linear": lambda: nn.Linear(3, 3),
    "conv": lambda: nn.Conv2d(3, 3, 1, bias=False),
    "batch_norm": lambda: nn.BatchNorm2d(3),
    "layer_norm": lambda: nn.LayerNorm((3, 2, 2)),
    "custom_norm": lambda: LlamaRMSNorm((1, 3, 1, 1)),
    "head": lambda: NormalHead(3, 3),
    "attention": lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True),
    "gru": lambda: nn.GRU(3, 3),
    "experts": Experts,
    "prelu": lambda: nn.PReLU(),
    "embedding": lambda: nn.Embedding(5, 3),
}


@given(
    st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=3),
    st.booleans(),
)
def test_split_loses_nothing_and_repeats_nothing(names, ties, as_pairs):
    model = nn.ModuleList(LAYERS[name]() for name in names)
    for i, j in ties:  # a whole layer shared under two names
        model[i % len(model)] = model[j % len(model)]
    model[0].requires_grad_(False)
    pairs = model.named_parameters(remove_duplicate=False)
    groups = split_weight_decay(pairs if as_pairs else model, 0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    given_out = [id(p) for group in groups for p in group["params"]]
    assert sorted(given_out) == sorted(id(p) for p in model.parameters())
    assert all(p.ndim > 1 for p in groups[0]["params"])


def test_split_by_layer_and_name():
    model = nn.ModuleDict({name: build() for name, build in LAYERS.items()})
    with_decay, without = split_weight_decay(model, 0.1, named=True)
    assert [name for name, _ in with_decay["params"]] == [
        "linear.weight",
        "conv.weight",
        "head.weight",
        "attention.in_proj_weight",
        "attention.bias_k",
        "attention.bias_v",
        "attention.out_proj.weight",
        "gru.weight_ih_l0",
        "gru.weight_hh_l0",
        "experts.weight",
        "embedding.weight",
    ]
    spared = dict(without["params"])
    assert {"layer_norm.weight", "custom_norm.weight", "experts.bias", "prelu.weight"} <= set(
        spared
    )


def test_split_spares_what_a_norm_shares():
    model = nn.ModuleList([LlamaRMSNorm((3, 3)), nn.Linear(3, 3, bias=False)])
    model[1].weight = model[0].weight
    with_decay, without = split_weight_decay(model, 0.1)
    assert with_decay["params"] == []
    assert without["params"] == [model[0].weight]


def test_split_feeds_an_optimizer():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    for named in (False, True):
        optimizer = torch.optim.SGD(split_weight_decay(model, 0.1, named=named), lr=0.1)
        assert [len(group["params"]) for group in optimizer.param_groups] == [1, 3]


@pytest.mark.parametrize(
    ("parameters", "weight_decay", "error", "message"),
    [
        (nn.ReLU(), 0.1, ValueError, "got no parameters"),
        ([], 0.1, ValueError, "got no parameters"),
        ([torch.zeros(1)], 0.1, TypeError, r"must be \(name, tensor\) pairs, got Tensor"),
        ([("weight", None)], 0.1, TypeError, r"must be \(name, tensor\) pairs"),
        (nn.LazyLinear(3), 0.1, ValueError, "'weight' has no shape yet: run one forward"),
        (nn.Linear(3, 3), -0.1, ValueError, "weight_decay must be .* at least 0, got -0.1"),
    ],
)
def test_split_names_what_is_wrong(parameters, weight_decay, error, message):
    with pytest.raises(error, match=message):
        split_weight_decay(parameters, weight_decay)


def test_examples_are_not_taken_for_updates() -> None:
    """``large_minibatch(8192, 1_281_167)`` was an epoch of 1,281,167 updates."""
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        large_minibatch(8192, 1_281_167)
