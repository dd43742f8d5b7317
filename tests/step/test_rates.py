"""Rates without parameters, by the launch of each kernel."""

from collections.abc import Callable

import pytest
import torch

from fused_warmup import cosine, linear_warmup
from fused_warmup._step.rates import Rates

SCHEDULE = linear_warmup(3, start=0.1).then(cosine(4))
BASES = [0.7, 0.3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_rates_are_left_in_both_forms(
    emulate_with: Callable[..., list],
    on_gpu: bool,
    dtype: torch.dtype,
) -> None:
    if on_gpu:
        emulate_with(None)
    count = torch.zeros((), dtype=torch.int64)
    rates = Rates(torch.device("cpu"), True, count)
    rates._dtype = dtype  # that of a GPU
    rates._make_room(2)
    rates.follow(BASES, [SCHEDULE.to_dict(), None])
    for t in range(8):
        for found_inf in (torch.tensor(2.0), None):  # skipped, then applied
            rates.prepare(found_inf)
            rates.launch()
        assert count == t + 1
        expected = torch.tensor([BASES[0] * SCHEDULE(t), BASES[1]], dtype=torch.float64)
        torch.testing.assert_close(rates.exact, expected, rtol=1e-15, atol=0.0)
        assert torch.equal(torch.stack(rates.lr), rates.exact.to(dtype))


def test_a_count_that_was_cast_is_refused() -> None:
    count = torch.zeros((), dtype=torch.int64)
    rates = Rates(torch.device("cpu"), True, count)
    rates.follow(BASES, [None, None])
    count.data = count.double()
    with pytest.raises(RuntimeError, match=r"is torch.float64 of shape \(\), it must be the int64"):
        rates.prepare(None)
