"""The Triton kernel compiled, without a GPU, just as a step would launch it."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from fused_warmup._groups.options import DEFAULTS, LARS_DEFAULTS
from fused_warmup._step.norms import PartNorms
from fused_warmup.schedules import cosine

triton = pytest.importorskip("triton")
GPUTarget = pytest.importorskip("triton.backends.compiler").GPUTarget
driver = pytest.importorskip("triton.runtime.driver").driver
get_ptxas = pytest.importorskip("triton.backends.nvidia.compiler").get_ptxas
backend = pytest.importorskip("fused_warmup._backend.triton.launcher")
if triton.knobs.runtime.interpret:
    pytest.skip("TRITON_INTERPRET leaves nothing to compile", allow_module_level=True)

SM_80, SM_90 = GPUTarget("cuda", 80, 32), GPUTarget("cuda", 90, 32)
GFX942 = GPUTarget("hip", "gfx942", 64)
F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
FMAS = 4  # an element: weight decay, momentum, nesterov, parameter
# Triton's compilers keep more from 3.8 on: a word waits in memory around the loop over elements,
# not in it.
SINCE_3_8 = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 8)
SPILLED_BYTES, SPILLED_SCALARS = (8, 40) if SINCE_3_8 else (0, 16)


class Driver:
    """A GPU that Triton can compile for, and that does not exist."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> str:
        return str(self.target)

    def get_current_stream(self, device: str) -> int:
        return 0


class Compiled:
    """What `Launcher` would have launched."""

    def __init__(self, target, pairs, *, scaled: bool, averages: bool = False) -> None:
        kernel = backend.kernel.sgd_step
        made = []

        class Warmup:
            def __getitem__(self, grid):
                return lambda *args, **kwargs: made.append(
                    kernel.warmup(*args, grid=grid, **kwargs)
                )

        params = [torch.zeros(100, dtype=own) for own, _ in pairs]
        plan = backend.make_triton_plan(
            params=params,
            momentum_buffers=[torch.zeros_like(p) for p in params],
            first_steps=[torch.tensor(-1) for _ in params],
            group_of=[0 for _ in params],
            schedules=[cosine(10)],
            schedule_of=[0],
            momentum_schedule_of=[0],
            t=torch.zeros((), dtype=torch.int64),
            lr=torch.zeros(1, dtype=torch.float64),
            emas=[torch.zeros(100) for _ in params] if averages else [],
        )
        options = {**DEFAULTS, "lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1}
        options["ema_decay"] = 0.9 if averages else None
        scalar = torch.ones(1) if scaled else None
        grads = [torch.zeros(100, dtype=grad) for _, grad in pairs]
        assert plan.prepare([options], grads, scalar, scalar, True)
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(driver, "_active", Driver(target))
            monkeypatch.setattr(backend.kernel, "sgd_step", Warmup())
            plan.launch(True)
        (self.kernel,) = made
        self.asm = self.kernel.asm
        self.target = target
        self.threads = target.warp_size * backend.NUM_WARPS

    def per_thread(self, elements: int) -> int:
        return max(1, elements // self.threads)

    @property
    def elements(self) -> int:
        """Elements of a thread, in the code for a chunk and in that for a tail."""
        return self.per_thread(backend.BLOCK) + self.per_thread(backend.TAIL)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


def instructions(pattern: str, code: str) -> Counter[str]:
    return Counter(re.findall(pattern, code))


def accesses(ptx: str, space: str = "global") -> Counter[str]:
    return instructions(rf"\b(?:ld|st)\.{space}\S*", ptx)


@pytest.fixture(scope="module", params=[SM_80, SM_90], ids=["sm_80", "sm_90"])
def fp32(request) -> Compiled:
    return Compiled(request.param, [(F32, F32)], scaled=False)


def test_no_register_is_spilled(fp32, tmp_path) -> None:
    (tmp_path / "kernel.ptx").write_text(fp32.asm["ptx"])
    arch = re.search(r"^\.target (\S+)", fp32.asm["ptx"], re.MULTILINE)
    assert arch is not None
    report = subprocess.run(
        [
            get_ptxas(fp32.target.arch).path,  # which of those it ships depends on its release
            "--verbose",
            f"--gpu-name={arch[1]}",
            "--output-file=/dev/null",
            tmp_path / "kernel.ptx",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert "0 bytes spill stores, 0 bytes spill loads" in report
    assert max(map(int, re.findall(r"(\d+) bytes spill", report))) <= SPILLED_BYTES
    # Eight programs of four warps share the 65,536 registers of a multiprocessor.
    registers = max(int(n) for n in re.findall(r"Used (\d+) registers", report))
    per_program = backend.NUM_WARPS * 32
    assert registers * per_program * backend.PROGRAMS_PER_MULTIPROCESSOR <= 65536


def test_fp32_moves_sixteen_bytes_at_a_time(fp32) -> None:
    found = accesses(fp32.asm["ptx"])
    wide = fp32.per_thread(backend.BLOCK) // 4
    assert found["ld.global.v4.b32"] == 3 * wide  # parameter, gradient, momentum
    assert found["st.global.v4.b32"] == 2 * wide
    assert fp32.asm["ttgir"].count("convert_layout") == 0  # nothing travels between threads


@pytest.mark.parametrize(
    ("pairs", "loads", "stores"),
    [
        ([(BF16, BF16)], {"v4.b32": 3}, {"v4.b32": 2}),
        ([(F64, F64)], {"v2.b64": 12}, {"v2.b64": 8}),
        # Four elements an access: 16 bytes of float32 and 8 of bfloat16.
        ([(F32, BF16)], {"v4.b32": 4, "v2.b32": 2}, {"v4.b32": 4}),
        ([(F32, F32), (F16, F16)], {"v4.b32": 6, "v2.b32": 6}, {"v4.b32": 4, "v2.b32": 4}),
    ],
    ids=["bf16", "fp64", "fp32 with bf16 gradients", "fp32 and fp16"],
)
def test_other_dtypes_move_as_much_at_a_time_as_the_widest_allows(pairs, loads, stores) -> None:
    compiled = Compiled(SM_90, pairs, scaled=False)
    found = accesses(compiled.asm["ptx"])
    # LLVM reads the coefficients of exp and log, which nothing writes, as .nc; tensors never.
    vectors = {name: n for name, n in found.items() if ".v" in name and ".nc" not in name}
    expected = {f"ld.global.{name}": n for name, n in loads.items()}
    expected |= {f"st.global.{name}": n for name, n in stores.items()}
    assert vectors == expected
    assert compiled.asm["ttgir"].count("convert_layout") == 0


def test_scaled_gradients_are_written_in_the_same_pass() -> None:
    compiled = Compiled(SM_90, [(F32, F32)], scaled=True)
    found = accesses(compiled.asm["ptx"])
    assert (found["ld.global.v4.b32"], found["st.global.v4.b32"]) == (6, 6)
    assert compiled.kernel.metadata.enable_fp_fusion is False


def test_averages_are_read_and_written_in_the_same_pass() -> None:
    compiled = Compiled(SM_90, [(F32, F32)], scaled=False, averages=True)
    found = accesses(compiled.asm["ptx"])
    # Two packs a thread of parameter, gradient, momentum and average; the gradient stays.
    assert (found["ld.global.v4.b32"], found["st.global.v4.b32"]) == (8, 6)
    fmas = instructions(r"\b(?:fma|mad)\.\S*f32\b", compiled.asm["ptx"])
    assert fmas == {"fma.rn.f32": (FMAS + 1) * compiled.elements}


def test_no_multiply_add_is_fused_but_ours(fp32) -> None:
    ptx = fp32.asm["ptx"]
    found = instructions(r"\b(?:fma|mad)\.\S*f32\b", ptx)
    assert found == {"fma.rn.f32": FMAS * fp32.elements}
    # Two products stay products: sign * gradient, momentum * buffer.
    assert instructions(r"\bmul\.\S*f32\b", ptx) == {"mul.rn.f32": 2 * fp32.elements}
    assert not re.search(r"\b(?:fma|mul|add|sub)\S*\.ftz", ptx)


def test_doubles_are_for_the_rate_alone(fp32) -> None:
    # If each of a thread's elements took one double operation there would be more by BLOCK / 128 of
    # them for each one, or by TAIL / 128 in the code for a tail.
    double = [
        line
        for line in fp32.asm["llir"].splitlines()
        if re.search(r"\bfpext float .* to double", line)
    ]
    assert len(double) == 1  # a float32 tensor lr
    narrowed = [line for line in fp32.asm["llir"].splitlines() if "fptrunc double" in line]
    # Rate, weight decay, momentum, 1 - dampening; some LLVMs narrow the sign, too, or one in two
    # places.
    assert 4 <= len(narrowed) < 5 + fp32.per_thread(backend.TAIL)


def test_all_warps_have_read_the_counter_before_the_ticket_is_taken(fp32) -> None:
    ptx = fp32.asm["ptx"]
    ticket = ptx.index("atom.global.gpu.acq_rel.add")
    assert ptx.rfind("bar.sync", 0, ticket) > ptx.rfind("st.global", 0, ticket)
    assert ptx.count("atom.") == 1
    # Nobody reads t again: what is written is the t that was read at first, plus 1.
    assert len(re.findall(r"tt\.load %t_ptr\b", fp32.asm["ttgir"])) == 1
    assert len(re.findall(r"tt\.store %t_ptr\b", fp32.asm["ttgir"])) == 1


@pytest.mark.parametrize("pairs", [[(F32, F32)], [(BF16, BF16)]], ids=["fp32", "bf16"])
def test_compiles_for_amd(pairs) -> None:
    compiled = Compiled(GFX942, pairs, scaled=True)
    assert len(compiled.asm["hsaco"]) > 0
    code = compiled.asm["amdgcn"]
    # A few scalars may wait in lanes of a vector register while the rates are worked out, once a
    # program; neither in memory, nor while tensors are read and written.
    for what, most in (
        ("vgpr_spill_count", 0),
        ("sgpr_spill_count", SPILLED_SCALARS),
        ("private_segment_fixed_size", 0),
    ):
        (found,) = re.findall(rf"\.{what}:\s+(\d+)", code)
        assert int(found) <= most, what
    # Tables are read by other instructions. Chunks are stored in wide accesses, tails in narrow.
    last = code.rindex("buffer_store_dwordx")
    chunks = code[code.index("buffer_load_") : last]
    tail = code[code.index("buffer_load_", last) : code.rindex("buffer_store_")]
    assert not re.findall(r"\bv_(?:read|write)lane_b32\b", chunks + tail)
    wide = compiled.per_thread(backend.BLOCK) * pairs[0][0].itemsize // 16
    assert len(re.findall(r"\b\w+_load_dwordx4\b", code)) >= 3 * wide
    assert len(re.findall(r"\b\w+_store_dwordx4\b", code)) == 3 * wide
    calls = re.findall(r"call .*@llvm\.fma\.(?:v(\d+))?f32\(", compiled.asm["llir"])
    assert sum(int(lanes or 1) for lanes in calls) == FMAS * compiled.elements
    assert " contract " not in compiled.asm["llir"]


@pytest.mark.parametrize("target", [SM_80, SM_90, GFX942], ids=lambda target: str(target.arch))
def test_kernels_of_lars_compile(target) -> None:
    """Both of a step's launches, as the launcher would make them."""
    made = []

    def warm_up(kernel):
        class Warmup:
            def __getitem__(self, grid):
                return lambda *args, **kwargs: made.append(
                    kernel.warmup(*args, grid=grid, **kwargs)
                )

        return Warmup()

    p, grad = torch.zeros(100), torch.zeros(100, dtype=BF16)
    norms = PartNorms(
        squares=torch.zeros(1, 2, dtype=F64),
        partials=torch.zeros(9, 2, dtype=F64),
        tickets=torch.zeros(1, dtype=torch.int64),
        rows=[0],
    )
    plan = backend.make_triton_plan(
        params=[p],
        momentum_buffers=[torch.zeros_like(p)],
        first_steps=[None],
        group_of=[0],
        schedules=[],
        schedule_of=[-1],
        momentum_schedule_of=[-1],
        t=torch.zeros((), dtype=torch.int64),
        lr=torch.zeros(1, dtype=F64),
        norms=norms,
    )
    options = {**DEFAULTS, **LARS_DEFAULTS, "lr": 0.1, "momentum": 0.9, "dampening": 0.0}
    scalar = torch.ones(1)
    assert plan.prepare([{**options, "weight_decay": 0.1}], [grad], scalar, scalar, True)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(driver, "_active", Driver(target))
        for module, name in ((backend.norms, "sum_squares"), (backend.kernel, "sgd_step")):
            monkeypatch.setattr(module, name, warm_up(getattr(module, name)))
        plan.launch(True)
    assert [each.metadata.name for each in made] == ["sum_squares", "sgd_step"]
    if target.backend == "cuda":
        assert all("fma.rn.f64" not in each.asm["ptx"] for each in made[:1])
