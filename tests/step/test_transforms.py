"""Parameters and gradients under torch's transforms: torch.func, and forward-mode AD."""

import pytest
import torch
from support import parameter, randn, same_bits
from torch.autograd import forward_ad

from fused_warmup import SGD, linear_warmup

# torch imports what derives its operations when forward-mode AD first runs.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

TORCH = (torch.optim.SGD, {"foreach": False})
OURS = [(SGD, {}), (SGD, {"backend": "reference"})]
every_backend = pytest.mark.parametrize("ours", OURS, ids=["default", "reference"])
OPTIONS = [{}, {"momentum": 0.9}, {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


@every_backend
@every_option
def test_many_models_by_vmap(options, ours) -> None:
    def trained(w, opt_class, more):
        w = w.clone()
        opt = opt_class([w], lr=0.1, **options, **more)
        for step in range(3):
            w.grad = w * w + step
            opt.step()
        return w

    models = randn(3, 4, seed=0)
    results = [torch.vmap(trained, (0, None, None))(models, *each) for each in (ours, TORCH)]
    assert same_bits(*results)


@every_backend
@every_option
def test_derivatives_of_training_by_jvp(options, ours) -> None:
    """By the chain rule: what training comes to is a multiple of the gradient, which is x * x.

    torch's loop detaches its first momentum and with it loses that step's part.
    """

    def trained(x, opt_class, more):
        w = torch.nn.Parameter(torch.zeros(4))
        opt = opt_class([w], lr=0.1, **options, **more)
        for _ in range(3):
            w.grad = x * x
            opt.step()
        return w

    x, v = randn(4, seed=0), randn(4, seed=1)
    mine, derivative = torch.func.jvp(lambda x: trained(x, *ours), (x,), (v,))
    assert same_bits(mine, trained(x, *TORCH))
    torch.testing.assert_close(derivative, mine * 2 * v / x)


@every_backend
@every_option
def test_tangents_of_gradients_move_on(options, ours) -> None:
    def trained(opt_class, more):
        p, other = parameter(randn(4, seed=0)), parameter(randn(3, seed=1))
        opt = opt_class([p, other], lr=0.1, **options, **more)
        for step in range(5):
            p.grad, other.grad = randn(4, seed=step + 2), randn(3, seed=step + 9)
            if step != 2:
                opt.step()
                continue
            with forward_ad.dual_level():
                p.grad = forward_ad.make_dual(p.grad, randn(4, seed=99))
                opt.step()
                p.grad = randn(4, seed=98)  # now the momentum and the parameter alone have one
                opt.step()
                tangent = forward_ad.unpack_dual(p).tangent.clone()
                assert forward_ad.unpack_dual(other).tangent is None
        return p, other, tangent

    assert all(map(same_bits, trained(*ours), trained(*TORCH)))


def test_a_schedule_under_forward_ad() -> None:
    p = parameter(torch.zeros(2))
    opt = SGD([p], lr=1.0, schedule=linear_warmup(4, count_from=1))
    for t in range(4):
        with forward_ad.dual_level():
            p.grad = forward_ad.make_dual(torch.ones(2), torch.full((2,), 2.0))
            opt.step()
            assert forward_ad.unpack_dual(p).tangent.tolist() == [-2 * (t + 1) / 4] * 2
    assert opt.steps_applied == 4


def test_a_backend_that_was_asked_for_moves_no_tangents() -> None:
    p = parameter(torch.zeros(2))
    opt = SGD([p], lr=1.0, backend="cpu")
    with forward_ad.dual_level():
        p.grad = torch.ones(2)
        opt.step()
        p.grad = forward_ad.make_dual(torch.ones(2), torch.ones(2))
        with pytest.raises(TypeError, match="carries a tangent of forward-mode AD"):
            opt.step()
    assert p.tolist() == [-1.0, -1.0]
