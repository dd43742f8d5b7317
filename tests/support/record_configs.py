"""Records what the frameworks of conversions/configs do, into tests/support/golden/configs.json.

Needs mmengine-lite 0.10.7 and fvcore 0.1.5.post20221221 (``pip install --no-deps`` is enough for
the latter), the folder detectron2/solver of Detectron2's repository at 02b5c4e, and the files
deepspeed/runtime/lr_schedules.py of DeepSpeed 0.19.8 and
mmdet/engine/schedulers/quadratic_warmup.py of MMDetection 3.3.0, none of which can be installed in
little:

    python tests/support/record_configs.py DETECTRON2 LR_SCHEDULES QUADRATIC_WARMUP > configs.json
"""

import importlib
import importlib.util
import itertools
import json
import logging
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

LR, MOMENTUM = 0.2, 0.9
MILESTONES = {"BASE_LR": 0.02, "MAX_ITER": 60, "STEPS": (30, 50), "GAMMA": 0.5, "WARMUP_ITERS": 9}
COSINE = MILESTONES | {"LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR_END": 0.0005}
FIXED = MILESTONES | {"LR_SCHEDULER_NAME": "WarmupStepWithFixedGammaLR", "NUM_DECAYS": 4}
DETECTRON2: list[dict[str, Any]] = [
    {**base, **more}
    for base in (MILESTONES, COSINE, FIXED)
    for more in (
        {},
        {"WARMUP_METHOD": "constant", "WARMUP_FACTOR": 0.1},
        {"RESCALE_INTERVAL": True},
        {"WARMUP_ITERS": 0},
        {"WARMUP_ITERS": 35},
    )
] + [MILESTONES | {"WARMUP_ITERS": 70}, COSINE | {"WARMUP_ITERS": 60}]
# Where fvcore's 1e-6 makes drops come early: only the steps around them are recorded.
LONG = {"BASE_LR": 0.02, "MAX_ITER": 3_000_000, "STEPS": (2_000_000,), "WARMUP_ITERS": 1000}
AROUND = [0, 1, *range(990, 1003), *range(1_999_990, 2_000_005), 2_999_999]

WARMUPS: list[dict[str, Any]] = [
    {"warmup_num_steps": steps, "warmup_type": kind}
    for steps, kind in itertools.product((1, 2, 7), ("log", "linear"))
]
DEEPSPEED: list[tuple[str, dict[str, Any]]] = [
    *(("WarmupLR", {**w, "warmup_min_lr": 0.01, "warmup_max_lr": LR}) for w in WARMUPS),
    ("WarmupLR", {"warmup_num_steps": 5}),
    *(("WarmupDecayLR", {**w, "total_num_steps": 20, "warmup_max_lr": LR}) for w in WARMUPS),
    ("WarmupDecayLR", {"total_num_steps": 6, "warmup_num_steps": 8, "warmup_min_lr": 1e-4}),
    *(("WarmupCosineLR", {**w, "total_num_steps": 20, "cos_min_ratio": 0.05}) for w in WARMUPS),
    ("WarmupCosineLR", {"total_num_steps": 30, "warmup_num_steps": 9, "warmup_min_ratio": 0.3}),
    ("WarmupCosineLR", {"total_num_steps": 6, "warmup_num_steps": 8}),
]

WARMUP = {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 7}
CONVERTED = {"by_epoch": True, "convert_to_iter_based": True}
MMENGINE: list[list[dict[str, Any]]] = [
    [WARMUP, {"type": "MultiStepLR", "by_epoch": True, "milestones": [4, 8, 8], "gamma": 0.3}],
    [WARMUP, {"type": "CosineAnnealingLR", "T_max": 8, "begin": 2, "end": 10, "eta_min": 0.01}],
    [WARMUP, {"type": "CosineAnnealingLR", "eta_min_ratio": 0.05, **CONVERTED}],
    [WARMUP, {"type": "CosineAnnealingLR", "T_max": 10}],
    [{"type": "CosineAnnealingLR", "T_max": 3, "eta_min": 0.02}],
    [{"type": "PolyLR", "power": 0.9, "eta_min": 1e-4, "by_epoch": False}],
    [WARMUP, {"type": "PolyLR", "power": 2, "begin": 0.5, **CONVERTED}],
    [{"type": "ConstantLR", "factor": 0.5, "end": 3}, {"type": "StepLR", "step_size": 3}],
    [WARMUP, {"type": "ExponentialLR", "gamma": 0.9}, {"type": "StepLR", "step_size": 4}],
    [{"type": "OneCycleLR", "eta_max": 0.4, "total_steps": 10, **CONVERTED}],
    [{"type": "OneCycleLR", "eta_max": 0.4, "three_phase": True, "anneal_strategy": "linear"}],
    [
        {"type": "CosineRestartLR", "periods": [3, 5], "restart_weights": [1, 0.5],
         "eta_min": 0.001},
        {"type": "CosineAnnealingMomentum", "T_max": 6, "eta_min": 0.5, "end": 6},
        {"type": "LinearMomentum", "start_factor": 0.8, "begin": 6, "end": 9},
    ],
    [
        {"type": "QuadraticWarmupLR", "end": 2, **CONVERTED},
        {"type": "CosineAnnealingLR", "T_max": 8, "begin": 2, "eta_min": 0.01, **CONVERTED},
        {"type": "QuadraticWarmupMomentum", "by_epoch": False, "begin": 3, "end": 9},
    ],
    [
        {"type": "QuadraticWarmupLR", "by_epoch": False, "begin": 2, "end": 9},
        {"type": "StepLR", "step_size": 1, "gamma": 0.5},
    ],
]  # fmt: skip
EPOCH_LENGTH, MAX_EPOCHS = 5, 10


def optimizer(**options: float) -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], **options)


def detectron2(folder: Path, solver: dict[str, Any], steps: list[int]) -> list[float]:
    """Rates of Detectron2's own build_lr_scheduler, for which the rest of it is stood in."""
    for name, content in {
        "detectron2": {"__path__": [str(folder)]},
        "detectron2.config": {"CfgNode": dict},
        "detectron2.utils": {"__path__": []},
        "detectron2.utils.env": {"TORCH_VERSION": (2, 13)},
    }.items():
        module = sys.modules.setdefault(name, ModuleType(name))
        vars(module).update(content)
    defaults = {
        "LR_SCHEDULER_NAME": "WarmupMultiStepLR", "BASE_LR_END": 0.0, "NUM_DECAYS": 3,
        "WARMUP_FACTOR": 1.0 / 1000, "WARMUP_METHOD": "linear", "RESCALE_INTERVAL": False,
        "GAMMA": 0.1,
    }  # fmt: skip
    build = importlib.import_module("detectron2.solver.build")
    cfg = SimpleNamespace(SOLVER=SimpleNamespace(**{**defaults, **solver}))
    scheduler = build.build_lr_scheduler(cfg, optimizer(lr=solver["BASE_LR"]))
    rates = []
    for step in steps:
        scheduler.last_epoch = step
        rates += scheduler.get_lr()
    return rates


def deepspeed(file: Path, name: str, params: dict[str, Any], steps: int) -> list[float]:
    """Rates of DeepSpeed's own class, stepped after each update as its engine does."""
    logger = logging.getLogger("deepspeed")
    logger.setLevel(logging.ERROR)
    sys.modules["deepspeed"] = ModuleType("deepspeed")
    sys.modules["deepspeed.utils"] = ModuleType("deepspeed.utils")
    vars(sys.modules["deepspeed.utils"])["logger"] = logger
    spec = importlib.util.spec_from_file_location("lr_schedules", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    opt = optimizer(lr=LR)
    scheduler = getattr(module, name)(opt, **params)
    rates = []
    for _ in range(steps):
        rates.append(opt.param_groups[0]["lr"])
        scheduler.step()
    return rates


def mmengine(
    schedulers: list[dict[str, Any]], epoch_length: int, max_epochs: int
) -> tuple[list[float], list[float]]:
    """Rates and momenta of MMEngine's own classes, built and stepped as its runner does."""
    importlib.import_module("mmengine.optim")
    registry = importlib.import_module("mmengine.registry").PARAM_SCHEDULERS
    opt = optimizer(lr=LR, momentum=MOMENTUM)
    built = []
    for each in schedulers:
        end = max_epochs if each.get("by_epoch", True) else max_epochs * epoch_length
        arguments = {"optimizer": opt, "epoch_length": epoch_length}
        built.append(registry.build({"end": end, **each}, default_args=arguments))
    group, rates, momenta = opt.param_groups[0], [], []
    for step in range(1, max_epochs * epoch_length + 1):
        rates.append(group["lr"])
        momenta.append(group["momentum"])
        opt.step()
        at_epochs = [each for each in built if each.by_epoch and step % epoch_length == 0]
        for each in [each for each in built if not each.by_epoch] + at_epochs:
            each.step()
    return rates, momenta


def register_mmdetection(quadratic: Path) -> None:
    """Run MMDetection's file, which registers its schedulers, without the rest of MMDetection."""
    registry = ModuleType("mmdet.registry")
    registry.PARAM_SCHEDULERS = importlib.import_module("mmengine.registry").PARAM_SCHEDULERS  # type: ignore[attr-defined]
    sys.modules |= {"mmdet": ModuleType("mmdet"), "mmdet.registry": registry}
    runpy.run_path(str(quadratic))


def main() -> None:
    solver, schedules, quadratic = map(Path, sys.argv[1:])
    found: dict[str, Any] = {
        "about": " ".join((__doc__ or "").split()),
        "detectron2": [
            {"solver": each, "lr": detectron2(solver, each, list(range(60)))}
            for each in DETECTRON2
        ],
        "detectron2_long": {
            "solver": LONG, "steps": AROUND, "lr": detectron2(solver, LONG, AROUND)
        },
        "deepspeed": [
            {"type": name, "params": params, "lr": deepspeed(schedules, name, params, 40)}
            for name, params in DEEPSPEED
        ],
        "mmengine": [],
    }  # fmt: skip
    register_mmdetection(quadratic)
    for each in MMENGINE:
        rates, momenta = mmengine(each, EPOCH_LENGTH, MAX_EPOCHS)
        found["mmengine"].append({"schedulers": each, "lr": rates, "momentum": momenta})
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
