"""What the extension hands to Triton's launcher: needs neither Triton nor a GPU."""

import ctypes
import gc
import weakref

import pytest
import torch
from support.recorded import Recorded

from fused_warmup import _C
from fused_warmup._backend.triton.tables import DeviceTables
from fused_warmup.schedules import Kind, Schedule, Segment

INT, DOUBLE = ctypes.c_int32, ctypes.c_double
CONTENT, N_PROGRAMS, DTYPE_PAIRS = 1, 2, 3  # places among a launch's arguments


def test_entries_hold_where_the_tensors_lie() -> None:
    params = [torch.ones(5), torch.ones(0), torch.ones(7).bfloat16()]
    buffers = [torch.zeros_like(p) for p in params]
    marks = [torch.tensor(-1) for _ in params]
    recorded = Recorded(params, buffers, marks, momentum=0.9, dampening=0.1)
    grads = [torch.ones(5), torch.ones(0), torch.ones(7)]
    recorded.step(grads)
    tables = recorded.tables()
    present = [0, 2]  # a tensor without elements is none of the kernel's
    for field, tensors in (("param", params), ("grad", grads), ("momentum_buffer", buffers)):
        at = [tensors[i].data_ptr() for i in present]
        assert tables.column("TensorEntry", field, 2) == at
    assert tables.column("TensorEntry", "first_step", 2) == [marks[i].data_ptr() for i in present]
    assert tables.column("TensorEntry", "n_elements", 2) == [5, 7]
    codes = _C.TABLES["DType"]
    assert tables.column("TensorEntry", "param_dtype", 2, INT) == [
        codes["FLOAT32"],
        codes["BFLOAT16"],
    ]
    assert tables.column("TensorEntry", "grad_dtype", 2, INT) == [codes["FLOAT32"]] * 2


def test_groups_hold_a_number_or_the_address_of_a_rate() -> None:
    options = {"weight_decay": 0.1, "momentum": 0.9, "nesterov": True}
    recorded = Recorded([torch.ones(3)], [torch.zeros(3)], **options)
    recorded.step([torch.ones(3)])
    tables = recorded.tables()
    for field, expected in {"lr": 0.5, "weight_decay": 0.1, "momentum": 0.9}.items():
        assert tables.column("Group", field, 1, DOUBLE) == [expected]
    assert tables.column("Group", "nesterov", 1, INT) == [1]
    assert tables.column("Group", "lr_ptr", 1) == [0]
    lr = torch.tensor(0.25, dtype=torch.float16)
    recorded.group["lr"] = lr
    recorded.step([torch.ones(3)])
    tables = recorded.tables()
    assert tables.column("Group", "lr_ptr", 1) == [lr.data_ptr()]
    assert tables.column("Group", "lr_dtype", 1, INT) == [_C.TABLES["DType"]["FLOAT16"]]


@pytest.mark.parametrize("sizes", [(), (0, 0), (1,), (1, 64, 5000, 3), (100_000,)], ids=str)
def test_shares_cover_the_line(sizes) -> None:
    params = [torch.ones(n) for n in sizes]
    recorded = Recorded(params)
    n_programs = recorded.step([torch.ones(n) for n in sizes])[N_PROGRAMS]
    tables = recorded.tables()
    begins = tables.column("Share", "begin", n_programs + 1)
    n_entries = sum(n > 0 for n in sizes)
    end = tables.number(tables.places["line"] + 8 * n_entries)
    assert 1 <= n_programs <= 8
    assert begins == sorted(begins)
    assert (begins[0], begins[-1]) == (0, end)
    assert tables.column("Share", "entry", n_programs + 1, INT)[-1] == n_entries


def test_schedules_point_at_their_own_segments_and_values() -> None:
    first = Schedule((Segment(length=3), Segment(Kind.TABLE, start=5, values=(0.5, 0.25))))
    second = Schedule((Segment(Kind.TABLE, values=(7.0, 8.0, 9.0)),))
    recorded = Recorded([torch.ones(3)], schedules=[first, second])
    recorded.step([torch.ones(3)])
    tables = recorded.tables()
    assert tables.column("Schedule", "n_segments", 2) == [2, 1]
    segments = tables.column("Schedule", "segments", 2)
    kinds = [tables.number(at + _C.TABLES["Segment"]["kind"]) for at in segments]
    assert kinds == [_C.TABLES["Kind"]["POLY"], _C.TABLES["Kind"]["TABLE"]]
    values = tables.column("Schedule", "values", 2)
    assert [tables.number(values[0] + 8 * i, DOUBLE) for i in range(2)] == [0.5, 0.25]
    assert [tables.number(values[1] + 8 * i, DOUBLE) for i in range(3)] == [7.0, 8.0, 9.0]


def test_what_changed_is_told_and_nothing_else() -> None:
    params, grads = [torch.ones(4, 6), torch.ones(3)], [torch.ones(4, 6), torch.ones(3)]
    recorded = Recorded(params)

    def step() -> tuple[int, int, int]:
        arguments = recorded.step(grads)
        return arguments[CONTENT], arguments[0].layout, arguments[DTYPE_PAIRS]

    content, layout, pairs = step()
    assert step() == (content, layout, pairs)
    grads[0] = grads[0].clone()
    assert step() == (content + 1, layout, pairs)
    recorded.group["lr"] = 0.25
    assert step() == (content + 2, layout, pairs)
    params[1].data = params[1].data.clone()
    assert step() == (content + 3, layout, pairs)
    assert recorded.tables().column("TensorEntry", "param", 2)[1] == params[1].data_ptr()
    grads[0] = grads[0].bfloat16()
    codes = _C.TABLES["DType"]
    assert step() == (content + 4, layout, pairs | 1 << 4 * codes["FLOAT32"] + codes["BFLOAT16"])
    grads[1] = None
    changed = step()
    assert changed[:2] == (content + 5, layout + 1)
    assert recorded.plan.active == params[:1]


def test_a_stride_of_a_single_row_means_nothing() -> None:
    p = torch.ones(6, 1, 3, 3).to(memory_format=torch.channels_last)
    recorded = Recorded([p])
    assert recorded.prepare([torch.ones(54).as_strided((6, 1, 3, 3), (9, 77, 3, 1))])


def permuted() -> torch.Tensor:
    return torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)


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
        *("transposed", "shape", "layout", "dtype", "sparse", "a negated element", "negated"),
        *("zeros without memory", "freed", "device"),
    ],
)
def test_a_gradient_that_is_not_for_the_kernel_is_refused(change) -> None:
    params = [torch.ones(4, 6), permuted(), torch.ones(1)]
    recorded = Recorded(params)
    grads = [torch.ones_like(p) for p in params]
    assert recorded.prepare(grads)
    change(grads)
    assert not recorded.prepare(grads)


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
def test_a_parameter_that_became_another_is_refused(value) -> None:
    p, grad = torch.ones(4, 6), torch.ones(4, 6)
    recorded = Recorded([p])
    assert recorded.prepare([grad])
    p.data = value
    assert not recorded.prepare([grad])


@pytest.mark.parametrize(
    "change",
    [
        lambda b: setattr(b, "data", b.data.view(torch.int32)),
        lambda b: setattr(b, "data", torch._neg_view(b.data)),
        lambda b: b.as_strided_((2, 6), (6, 1)),
        lambda b: b.as_strided_((6, 4), (1, 6)),
        lambda b: b.untyped_storage().resize_(0),
    ],
    ids=["dtype", "negated", "fewer elements", "transposed", "freed"],
)
def test_a_momentum_buffer_that_became_another_is_refused(change) -> None:
    buffer = torch.zeros(4, 6)
    recorded = Recorded([torch.ones(4, 6)], [buffer], momentum=0.9)
    assert recorded.prepare([torch.ones(4, 6)])
    change(buffer)
    assert not recorded.prepare([torch.ones(4, 6)])


def test_a_momentum_buffer_that_moved_is_found() -> None:
    buffer = torch.zeros(4, 6)
    recorded = Recorded([torch.ones(4, 6)], [buffer], momentum=0.9)
    for _ in range(2):
        recorded.step([torch.ones(4, 6)])
        at = recorded.tables().column("TensorEntry", "momentum_buffer", 1)
        assert at == [buffer.data_ptr()]
        buffer.data = torch.zeros(4, 6)


def test_gradients_outlive_the_launch_and_no_more() -> None:
    """Triton runs Python code, which may let go of them."""
    p, grad = torch.ones(3, requires_grad=True), torch.ones(3)
    alive = weakref.ref(grad)
    p.grad = grad
    recorded = Recorded([p])
    del grad
    seen = []

    def launch(*arguments: object) -> None:
        p.grad = None
        gc.collect()
        seen.append(alive() is not None)

    plan = _C.TritonPlan(
        launch,
        8,
        params=[p],
        momentum_buffers=[None],
        first_steps=[None],
        group_of=[0],
        schedules=[],
        schedule_of=[-1],
        momentum_schedule_of=[-1],
        t=torch.tensor(0),
        lr=torch.zeros(1, dtype=torch.float64),
    )
    assert plan.prepare([recorded.group], None, None, None, True)
    plan.launch(True)
    assert seen == [True]
    assert alive() is None


def test_a_table_that_did_not_get_there_is_sent_again(monkeypatch) -> None:
    recorded = Recorded([torch.ones(3)])
    tables, content, *_ = recorded.step([torch.ones(3)])
    there = DeviceTables(torch.device("cpu"))
    with monkeypatch.context() as patched:
        patched.setattr(there, "_staging", lambda size: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(MemoryError):
            there.holding(tables, content, False)
    base, *_ = there.holding(tables, content, False)
    assert base == there._table.data_ptr()
    sent = bytes(there._table.tolist())
    assert sent[: tables.changing_size] == bytes(recorded.tables().block[: tables.changing_size])
