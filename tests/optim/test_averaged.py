"""Models that have the averages for weights: beside the trained model, and in its place."""

import pytest
import torch
from support import copies, randn, same_bits
from torch import nn

from fused_warmup import SGD
from fused_warmup.distributed import StepInBackward


def trained(dtype: torch.dtype = torch.float32, **options) -> tuple[nn.Module, SGD]:
    """A model with a frozen parameter, tied weights and a buffer, after three steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)).to(dtype)
    model[2].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    opt = SGD(model.parameters(), lr=0.1, momentum=0.9, **{"ema_decay": 0.5, **options})
    for step in range(3):
        opt.zero_grad()
        model(randn(8, 4, seed=step, dtype=dtype)).square().sum().backward()
        opt.step()
    return model, opt


def test_parameters_are_the_averages_themselves() -> None:
    model, opt = trained()
    twin = opt.averaged(model)
    assert type(twin) is type(model)
    assert twin[0].weight.data_ptr() == opt.state[model[0].weight]["ema"].data_ptr()
    assert twin[2].weight is twin[0].weight
    assert twin[0].bias is model[0].bias
    assert not any(p.requires_grad for p in twin.parameters())
    before = twin[0].weight.clone()
    model(randn(8, 4, seed=9)).square().sum().backward()
    opt.step()
    assert not torch.equal(twin[0].weight, before)
    opt.load_state_dict(opt.state_dict())
    assert twin[0].weight.data_ptr() == opt.state[model[0].weight]["ema"].data_ptr()


@pytest.mark.parametrize("copy_buffers", [False, True])
def test_buffers_are_shared_or_copied(copy_buffers) -> None:
    model, opt = trained()
    twin = opt.averaged(model, copy_buffers=copy_buffers)
    shared = twin[1].running_mean is model[1].running_mean
    assert shared is not copy_buffers
    assert same_bits(twin[1].running_mean, model[1].running_mean)


def test_that_of_a_half_model_computes_in_float32() -> None:
    model, opt = trained(torch.bfloat16)
    twin = opt.averaged(model).eval()
    tensors = [*twin.parameters(), *twin.buffers()]
    assert all(t.dtype == torch.float32 for t in tensors if t.is_floating_point())
    assert torch.equal(twin[0].bias, model[0].bias.float())  # frozen
    assert twin(randn(8, 4, seed=0)).dtype == torch.float32


def test_the_model_inside_data_parallel_is_taken(tmp_path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/s", rank=0, world_size=1
    )
    try:
        model, opt = trained()
        wrapped = nn.parallel.DistributedDataParallel(model)
        assert type(opt.averaged(wrapped)) is nn.Sequential
        with opt.swap_averaged(wrapped):
            assert same_bits(model[0].weight.detach(), opt.state[model[0].weight]["ema"])
    finally:
        torch.distributed.destroy_process_group()


def test_until_their_start_averages_are_the_present_weights() -> None:
    model, opt = trained(ema_start=100)
    twin = opt.averaged(model)
    assert same_bits(twin[0].weight, model[0].weight)
    with opt.swap_averaged(model):
        assert same_bits(twin[0].weight, model[0].weight)
    model(randn(8, 4, seed=9)).square().sum().backward()
    opt.step()
    assert same_bits(twin[0].weight, model[0].weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("master_weights", [False, True])
def test_swapped_in_place_and_back_to_the_bit(dtype, master_weights) -> None:
    model, opt = trained(dtype, master_weights=master_weights)
    other, twin = trained(dtype, master_weights=master_weights)
    weights = copies(list(model.parameters()))
    average = opt.state[model[0].weight]["ema"]
    with opt.swap_averaged(model):
        assert same_bits(model[0].weight.detach(), average.to(dtype))
    assert all(map(same_bits, model.parameters(), weights))
    with pytest.raises(KeyError), opt.swap_averaged(model):
        raise KeyError
    assert all(map(same_bits, model.parameters(), weights))
    for net, optimizer in ((model, opt), (other, twin)):
        net(randn(8, 4, seed=9, dtype=dtype)).square().sum().backward()
        optimizer.step()
    assert all(map(same_bits, model.parameters(), other.parameters()))


def test_no_step_and_no_second_swap_inside() -> None:
    model, opt = trained()
    with opt.swap_averaged(model):
        model(randn(8, 4, seed=9)).square().sum().backward()
        averages = copies(list(model.parameters()))
        with pytest.raises(RuntimeError, match="inside swap_averaged"):
            opt.step()
        with pytest.raises(RuntimeError, match="already"), opt.swap_averaged(model):
            pass
        assert all(map(same_bits, model.parameters(), averages))
    opt.step()


def test_a_model_without_averages_is_refused() -> None:
    model, opt = trained(ema_decay=None)
    for use in (opt.averaged, lambda m: opt.swap_averaged(m).__enter__()):
        with pytest.raises(ValueError, match="ema_decay"):
            use(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_made_in_inference_mode_it_works_outside(dtype: torch.dtype) -> None:
    model, opt = trained(dtype)
    with torch.inference_mode():
        twin = opt.averaged(model, copy_buffers=True)
    twin.train()(randn(8, 4, seed=0))  # which moves batch normalization's statistics
    assert not any(tensor.is_inference() for tensor in twin.state_dict().values())


def test_an_update_in_backward_is_refused_inside() -> None:
    model, opt = trained()
    handle = StepInBackward(opt)
    model(randn(8, 4, seed=0)).square().sum().backward()
    opt.step()
    before = copies(opt.state[model[0].weight].values())
    with opt.swap_averaged(model), pytest.raises(RuntimeError, match="inside swap_averaged"):
        model(randn(8, 4, seed=0)).square().sum().backward()
    assert all(map(same_bits, opt.state[model[0].weight].values(), before))
    opt.zero_grad()
    model(randn(8, 4, seed=0)).square().sum().backward()
    opt.step()
    assert opt.steps_applied == 5
    handle.remove()
