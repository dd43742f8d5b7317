"""The host's side of the Triton backend that needs neither Triton nor a GPU."""

import struct

import pytest
import torch

from fused_warmup._backend.triton.tables import (
    chunk_words,
    group_row,
    schedule_words,
    tensor_words,
    words_of,
)
from fused_warmup._backend.triton.tensors import Tensors
from fused_warmup.schedules import Kind, Schedule, Segment

ROW = 2**32


def test_every_chunk_has_its_word() -> None:
    words, n_chunks = chunk_words([0, 1, 4, 5, 0, 9], block=4)
    assert n_chunks == 7
    assert words.tolist() == [
        1 * ROW,
        2 * ROW,
        3 * ROW,
        3 * ROW + 1,
        5 * ROW,
        5 * ROW + 1,
        5 * ROW + 2,
    ]


@pytest.mark.parametrize("sizes", [[], [0, 0]])
def test_without_elements_there_is_no_chunk_and_yet_a_table(sizes) -> None:
    words, n_chunks = chunk_words(sizes, block=4)
    assert (words.numel(), n_chunks) == (1, 0)


def test_tensors_that_are_not_aligned_have_no_wide_units() -> None:
    table = tensor_words(
        param_at=[1600, 1600, 1604, 1600],
        grad_at=[3200, 3208, 3200, 3200],
        buffer_at=[0, 0, 0, 4801],
        mark_at=[0, 8, 0, 0],
        sizes=[50, 50, 50, 50],
        groups=[0, 1, 0, 0],
        pairs=[1, 0, 0, 0],
    ).view(4, 8)
    assert table[0].tolist() == [1600, 3200, 0, 0, 50, 3, 0, 1]
    assert table[1].tolist() == [1600, 3208, 0, 8, 50, 0, 1, 0]
    assert table[:, 5].tolist() == [3, 0, 0, 0]


def test_a_groups_row_holds_a_number_or_the_address_of_a_rate() -> None:
    options = (0.1, 0.9, 0.0, True, False)
    form = "=dqqqqqqdddqq"
    row = group_row(0.5, (16, 2), (48, 1), options)
    assert struct.unpack(form, row) == (0.5, 0, 0, 16, 2, 48, 1, 0.1, 0.9, 0.0, 1, 0)
    row = group_row((4096, 3), (0, 0), (0, 0), options)
    assert struct.unpack(form, row) == (0.0, 4096, 3, 0, 0, 0, 0, 0.1, 0.9, 0.0, 1, 0)


def test_tables_of_all_schedules_lie_behind_all_segments() -> None:
    def table(*values: float) -> Segment:
        return Segment(Kind.TABLE, values=values)

    first = Schedule((Segment(length=3), Segment(Kind.TABLE, start=5, values=(0.5, 0.25))))
    words, places = schedule_words([first, Schedule((table(7.0, 8.0, 9.0),))])
    assert places == [(0, 2), (32, 1)]
    values = words.view(torch.float64)
    assert values[words[16 + 6] :][:2].tolist() == [0.5, 0.25]
    assert values[words[32 + 6] :][:3].tolist() == [7.0, 8.0, 9.0]
    assert words.numel() == 3 * 16 + 5


def test_no_words_are_one_word() -> None:
    assert words_of(b"").tolist() == [0]


class TestTensors:
    """What `Tensors` sees of two parameters."""

    @pytest.fixture
    def params(self) -> list[torch.Tensor]:
        permuted = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
        return [torch.ones(4, 6), permuted, torch.ones(1)]

    @pytest.fixture
    def grads(self, params) -> list[torch.Tensor | None]:
        return [torch.ones_like(p) for p in params]

    @pytest.fixture
    def tensors(self, params) -> Tensors:
        buffers = [torch.zeros_like(params[0]), None, None]
        self.buffers = buffers
        return Tensors(params, buffers, (torch.float32, torch.bfloat16))

    def test_nothing_moved_gives_the_same_object(self, tensors, params, grads) -> None:
        found = tensors.look(grads)
        assert found is not None
        assert found.param_at == [p.data_ptr() for p in params]
        assert found.grad_at == [g.data_ptr() for g in grads]
        assert found.active == [0, 1, 2]
        assert tensors.look(grads) is found

    def test_what_moved_is_found(self, tensors, params, grads) -> None:
        before = tensors.look(grads)
        grads[0] = grads[0].bfloat16()
        after = tensors.look(grads)
        assert after is not before
        assert after.grad_dtypes == [torch.bfloat16, torch.float32, torch.float32]
        params[1].data = params[1].clone()
        assert tensors.look(grads).param_at[1] == params[1].data_ptr()
        grads[0] = None
        assert tensors.look(grads).active == [1, 2]
        assert tensors.params == params[1:]

    def test_a_stride_of_a_single_row_means_nothing(self) -> None:
        p = torch.ones(6, 1, 3, 3).to(memory_format=torch.channels_last)
        tensors = Tensors([p], [None], (torch.float32,))
        assert tensors.look([torch.ones(54).as_strided((6, 1, 3, 3), (9, 77, 3, 1))]) is not None

    @pytest.mark.parametrize(
        "change",
        [
            lambda grads: grads.__setitem__(0, grads[0].t().contiguous().t()),
            lambda grads: grads.__setitem__(0, grads[0][:3]),
            lambda grads: grads.__setitem__(1, grads[1].contiguous()),
            lambda grads: grads.__setitem__(0, grads[0].long()),
            lambda grads: grads.__setitem__(0, grads[0].to_sparse()),
            lambda grads: grads.__setitem__(2, torch.ones(1, dtype=torch.cfloat).conj().imag),
            lambda grads: grads.__setitem__(0, torch._neg_view(grads[0])),
            lambda grads: grads.__setitem__(0, torch._efficientzerotensor((4, 6))),
            lambda grads: grads[0].untyped_storage().resize_(0),
            lambda grads: grads.__setitem__(0, grads[0].to("meta")),
        ],
        ids=[
            "transposed",
            "shape",
            "layout",
            "dtype",
            "sparse",
            "a negated element",
            "negated",
            "zeros without memory",
            "freed",
            "device",
        ],
    )
    def test_a_gradient_that_is_not_for_the_kernel_is_refused(self, tensors, grads, change) -> None:
        change(grads)
        assert tensors.look(grads) is None

    @pytest.mark.parametrize(
        "value",
        [
            torch.ones(4, 6).double(),
            torch.ones(6, 4).t(),
            torch.ones(4, 5),
            torch._neg_view(torch.ones(4, 6)),
        ],
        ids=["dtype", "strides", "size", "negated"],
    )
    def test_a_parameter_that_became_another_is_refused(
        self, tensors, params, grads, value
    ) -> None:
        params[0].data = value
        assert tensors.look(grads) is None

    @pytest.mark.parametrize(
        "change",
        [
            lambda b: setattr(b, "data", torch.zeros(4, 6)),
            lambda b: setattr(b, "data", b.data.view(torch.int32)),
            lambda b: setattr(b, "data", torch._neg_view(b.data)),
            lambda b: b.as_strided_((2, 6), (6, 1)),
            lambda b: b.as_strided_((6, 4), (1, 6)),
            lambda b: b.untyped_storage().resize_(0),
        ],
        ids=["moved", "dtype", "negated", "fewer elements", "transposed", "freed"],
    )
    def test_a_momentum_buffer_that_became_another_is_refused(self, tensors, grads, change) -> None:
        assert tensors.look(grads) is not None
        change(self.buffers[0])
        assert tensors.look(grads) is None
