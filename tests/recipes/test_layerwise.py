"""The recipe for LARS: the rates of its reference, a warm-up from 0 and a polynomial decay."""

import pytest
from support import models

from fused_warmup import LARS, LarsMinibatch, large_minibatch, split_weight_decay


@pytest.mark.parametrize(
    ("batch", "lr", "epochs"),
    [(4096, 5, 5), (8192, 10, 5), (16_384, 25, 5), (32_767, 25, 5), (32_768, 32, 14)],
)
def test_rate_and_warmup_go_by_the_batch(batch, lr, epochs) -> None:
    recipe = large_minibatch(batch, steps_per_epoch=40, optimizer="lars")
    assert isinstance(recipe, LarsMinibatch)
    assert (recipe.lr, recipe.warmup_steps, recipe.total_steps) == (lr, 40 * epochs, 3600)
    middle = (recipe.warmup_steps + 3600) // 2
    values = [recipe.schedule(t) for t in (0, recipe.warmup_steps // 2, recipe.warmup_steps, 3600)]
    assert values == [0.0, 0.5, 1.0, 0.0]
    assert recipe.schedule(middle) == pytest.approx(0.25, rel=1e-12)


def test_a_reference_is_scaled_linearly() -> None:
    recipe = large_minibatch(
        512, steps_per_epoch=10, reference_lr=2.0, reference_batch=128, optimizer="lars"
    )
    assert recipe.lr == 8.0
    assert "8 = 2 x 512/128" in str(recipe)


def test_options_build_the_optimizer() -> None:
    recipe = large_minibatch(4096, steps_per_epoch=10, optimizer="lars")
    opt = LARS(models((3,)), **recipe.lars_options())
    group = opt.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (5.0, 0.9, 1e-4)
    assert (group["trust_coefficient"], group["lr_in_momentum"], group["nesterov"]) == (
        *(0.001, True),
        False,
    )


def test_what_does_not_fit_is_refused() -> None:
    recipe = large_minibatch(4096, steps_per_epoch=10, optimizer="lars")
    with pytest.raises(TypeError, match="far too high for SGD"):
        recipe.sgd_options()
    with pytest.raises(ValueError, match="optimizer='adam' is unknown"):
        large_minibatch(4096, steps_per_epoch=10, optimizer="adam")
    with pytest.raises(ValueError, match="decays without drops"):
        large_minibatch(4096, steps_per_epoch=10, milestones=(30,), optimizer="lars")
    with pytest.raises(ValueError, match="must end before"):
        large_minibatch(4096, steps_per_epoch=10, epochs=5, optimizer="lars")


def test_biases_may_be_left_out() -> None:
    named = [("weight", models((3, 3))[0]), ("bias", models((3,))[0])]
    decayed, rest = split_weight_decay(named, 1e-4, adapt=False)
    assert "adapt" not in decayed
    assert (rest["adapt"], rest["weight_decay"]) == (False, 0.0)
