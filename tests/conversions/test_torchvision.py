"""from_torchvision beside torch's schedulers, put together as torchvision's scripts do."""

import argparse
import itertools
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as torchs

import fused_warmup
from fused_warmup import from_torchvision

LR, L, EPOCHS = 0.5, 4, 12
Options = dict[str, Any]


def optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)


def after_warmup(opt: Any, main: Any, options: Options, length: int) -> Any:
    if not length:
        return main
    low, method = options["lr_warmup_decay"], options["lr_warmup_method"]
    if method == "linear":
        warmup: Any = torchs.LinearLR(opt, start_factor=low, total_iters=length)
    else:
        warmup = torchs.ConstantLR(opt, factor=low, total_iters=length)
    return torchs.SequentialLR(opt, [warmup, main], milestones=[length])


def classification(options: Options) -> list[float]:
    opt, warmup = optimizer(), options["lr_warmup_epochs"]
    name = options["lr_scheduler"]
    main: Any
    if name == "steplr":
        main = torchs.StepLR(opt, options["lr_step_size"], options["lr_gamma"])
    elif name == "cosineannealinglr":
        main = torchs.CosineAnnealingLR(opt, EPOCHS - warmup, eta_min=options["lr_min"])
    else:
        main = torchs.ExponentialLR(opt, options["lr_gamma"])
    scheduler = after_warmup(opt, main, options, warmup)
    rates = []
    for _ in range(EPOCHS):
        rates += [opt.param_groups[0]["lr"]] * L
        opt.step()
        scheduler.step()
    return rates


def segmentation(options: Options) -> list[float]:
    opt, warmup = optimizer(), options["lr_warmup_epochs"]
    main = torchs.PolynomialLR(opt, total_iters=L * (EPOCHS - warmup), power=0.9)
    scheduler = after_warmup(opt, main, options, L * warmup)
    rates = []
    for _ in range(EPOCHS * L):
        rates.append(opt.param_groups[0]["lr"])
        opt.step()
        scheduler.step()
    return rates


def detection(options: Options, epochs: int, batches: int) -> list[float]:
    opt = optimizer()
    main: Any
    if options["lr_scheduler"] == "multisteplr":
        main = torchs.MultiStepLR(opt, options["lr_steps"], options["lr_gamma"])
    else:
        main = torchs.CosineAnnealingLR(opt, epochs)
    rates = []
    for epoch in range(epochs):
        length = min(1000, batches - 1)
        warmup = None if epoch else torchs.LinearLR(opt, 1 / 1000, total_iters=length)
        for _ in range(batches):
            rates.append(opt.param_groups[0]["lr"])
            opt.step()
            if warmup is not None:
                warmup.step()
        main.step()
    return rates


def check(options: Options, script: Any, wanted: list[float], batches: int = L) -> None:
    rates = from_torchvision({"lr": LR, "epochs": EPOCHS, **options}, batches, script=script)
    found = [rates.lr_at(t) for t in range(len(wanted))]
    assert found == pytest.approx(wanted, rel=1e-12, abs=1e-12 * LR)
    assert rates.schedule.steps == len(wanted)
    assert rates.left == {}


@pytest.mark.parametrize(
    ("name", "warmup", "method"),
    list(
        itertools.product(
            ("steplr", "cosineannealinglr", "exponentiallr"), (0, 1, 5), ("linear", "constant")
        )
    ),
)
def test_classification(name: str, warmup: int, method: str) -> None:
    options = {
        "lr_scheduler": name, "lr_step_size": 3, "lr_gamma": 0.7, "lr_min": 0.01,
        "lr_warmup_epochs": warmup, "lr_warmup_method": method, "lr_warmup_decay": 0.02,
    }  # fmt: skip
    check(options, "classification", classification(options))


@pytest.mark.parametrize("method", ["linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_segmentation(warmup: int, method: str) -> None:
    options = {"lr_warmup_epochs": warmup, "lr_warmup_method": method, "lr_warmup_decay": 0.02}
    check(options, "segmentation", segmentation(options))


@pytest.mark.parametrize(("epochs", "batches"), [(12, 2), (12, 5), (2, 1002)])
@pytest.mark.parametrize(
    "options",
    [
        {"lr_scheduler": "multisteplr", "lr_steps": [4, 9], "lr_gamma": 0.3},
        {"lr_scheduler": "cosineannealinglr"},
    ],
    ids=str,
)
def test_detection(options: Options, epochs: int, batches: int) -> None:
    wanted = detection(options, epochs, batches)
    check({**options, "epochs": epochs}, "detection", wanted, batches)


LINE = (
    "--opt sgd_nesterov --lr=0.5 --lr-scheduler CosineAnnealingLR --lr-warmup-epochs 5 "
    "--lr-warmup-method linear --epochs 100 --wd 2e-5 --norm-weight-decay 0.0 --amp"
)


def test_the_command_line_and_the_parsed_arguments_say_the_same() -> None:
    rates = from_torchvision(LINE, 10)
    assert rates == from_torchvision(LINE.split(), 10)
    parsed = argparse.Namespace(
        opt="sgd_nesterov", lr=0.5, lr_scheduler="cosineannealinglr", lr_warmup_epochs=5,
        lr_warmup_method="linear", epochs=100, weight_decay=2e-5, norm_weight_decay=0.0, amp=True,
        resume=None, test_only=False,
    )  # fmt: skip
    assert rates.schedule == from_torchvision(parsed, 10).schedule
    assert rates.sgd_options() == from_torchvision(parsed, 10).sgd_options()
    assert rates.left == {"norm_weight_decay": 0.0, "amp": True}
    opt = fused_warmup.SGD([torch.nn.Parameter(torch.ones(2))], **rates.sgd_options())
    group = opt.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5, 0.9, 2e-5)
    assert group["nesterov"] is True


def test_short_names_and_negative_numbers() -> None:
    rates = from_torchvision("--lr 0.1 -b 32 -j 8 --seed -1", 4)
    assert rates.left == {"batch_size": 32, "workers": 8, "seed": -1}


def test_drops_are_a_list_on_the_command_line() -> None:
    rates = from_torchvision("--lr-steps 3 5 --epochs 6", 4, script="detection")
    assert [round(rates.lr_at(t), 6) for t in (3, 11, 12, 20)] == [0.02, 0.02, 0.002, 0.0002]


def test_options_of_another_optimizer_are_left() -> None:
    rates = from_torchvision("--opt adamw --lr 1e-3", 4)
    assert "momentum" not in rates.sgd_options()
    assert rates.left == {"opt": "adamw", "momentum": 0.9, "weight_decay": 1e-4}


@pytest.mark.parametrize(
    ("line", "script", "message"),
    [
        ("--lr-scheduler plateau", "classification", "lr_scheduler must be one of .*plateau"),
        ("--lr-scheduler steplr", "detection", "lr_scheduler must be one of .*steplr"),
        ("--lr-warmup-method cubic", "classification", "lr_warmup_method must be one of"),
        ("--lr-warmup-epoch 5", "classification", "did you mean 'lr_warmup_epochs'"),
        ("--lr-warmup-epochs 90", "classification", "leaves none of the 90 epochs"),
        ("--lr-warmup-epochs 30", "segmentation", "leaves none of the 30 epochs"),
        ("--lr 0", "classification", "lr must be a finite number above 0"),
        ("--lr 0.1 0.2", "classification", r"lr must be a real number, got \[0.1, 0.2\]"),
        ("--lr-sched cosineannealinglr", "classification", "is short for --lr-scheduler, which"),
        ("--lr-st 30", "detection", "--lr-st is short for --lr-steps"),
        ("0.1 --lr", "classification", "'0.1' belongs to no option"),
        ("--lr '1", "classification", "is no command line .No closing quotation."),
        ("--lr 1", "video", "script must be one of"),
    ],
)
def test_refuses(line: str, script: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        from_torchvision(line, 4, script=script)


def test_detection_in_epochs_of_one_step_has_no_warm_up_that_ends() -> None:
    with pytest.raises(ValueError, match="stays at a thousandth"):
        from_torchvision("", 1, script="detection")
