"""Does warm-up help? A small convolutional network, a large minibatch, and an answer in numbers.

Trains one network on 4,000 real MNIST digits (mnist.py says where they come from), each time with
as many passes over them:

- small batch: minibatches of 50 at a rate that suits them: the error to match;
- no warm-up:  minibatches of 500 at the peak rate from the first step;
- constant:    the same after five epochs at a tenth of it: a jump;
- gradual:     the same after five epochs of rising to it from a tenth, a little at every step.

The linear scaling rule says which peak rate to take: ten times the small batch's. The demo tries
a band of rates around it, since warm-up matters in a part of the band only: at low rates everything
trains, at high ones nothing does. Seeds are paired: a seed gives each the same initial weights.

Rules and terms are those of Goyal et al. 2017, "Accurate, Large Minibatch SGD", arXiv:1706.02677,
sections 2.1 (linear scaling) and 2.2 (constant and gradual warm-up).

How much a warm-up helps depends on the network. This one starts steep, with He's initialisation and
nothing to normalise its activations. Two others, tried at the scaled rate with three seeds each:
with torch's default initialisation, seeds fail with a gradual warm-up as without one; with batch
normalisation after each convolution on top of that, all train, to 3.4 % with it and without.

    python examples/demo.py                 two minutes on two cores; writes out/demo.png and .json
    python examples/demo.py --quick         some seconds, to see that it runs
"""

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, pstdev

import torch
from figure import draw
from mnist import SOURCE, load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

import fused_warmup
from fused_warmup.schedules import Schedule, constant_warmup, linear_warmup, multi_step

SMALL_BATCH, SMALL_LR = 50, 0.03
LARGE_BATCH = 500
K = LARGE_BATCH // SMALL_BATCH
SCALED_LR = K * SMALL_LR  # the linear scaling rule
SMALL, NONE, CONSTANT, GRADUAL = "small batch", "no warm-up", "constant", "gradual"
Band = dict[str, dict[float, list[float]]]  # final errors by variant and peak rate, one a seed
FAILED = 50.0  # an error in percent beyond which a run learned next to nothing; chance is 90


@dataclass(frozen=True)
class Plan:
    """How long to train, and at which peak rates with the large minibatch."""

    epochs: int = 16
    warmup_epochs: int = 5
    drops: tuple[int, ...] = (10, 13)  # epochs at which the rate falls tenfold
    rates: tuple[float, ...] = (0.05, 0.1, 0.2, SCALED_LR, 0.4, 0.6, 0.8)


QUICK = Plan(epochs=4, warmup_epochs=2, drops=(3,), rates=(0.1, SCALED_LR))


@dataclass(frozen=True)
class Run:
    """One training: which way, at which peak learning rate, from which seed."""

    variant: str
    peak_lr: float
    seed: int


@dataclass(frozen=True)
class Result:
    """Learning rate and training error in percent at each step, and the test error at the end."""

    lrs: list[float]
    train_errors: list[float]
    test_error: float


def make_network() -> nn.Sequential:
    """Two convolutions and a linear layer, He's initialisation, no normalisation layers."""
    network = nn.Sequential(
        nn.Conv2d(1, 8, kernel_size=5, stride=2),  # [N, 8, 12, 12]
        nn.ReLU(),
        nn.Conv2d(8, 16, kernel_size=5, stride=2),  # [N, 16, 4, 4]
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return network


def make_schedule(variant: str, plan: Plan, steps_per_epoch: int) -> Schedule:
    """Factor on the peak rate at every step; drops count from the start of training."""
    drops = multi_step(epochs=plan.drops, steps_per_epoch=steps_per_epoch)
    length = {"epochs": plan.warmup_epochs, "steps_per_epoch": steps_per_epoch}
    if variant == CONSTANT:
        return constant_warmup(factor=1 / K, **length).then(drops, clock="global")
    if variant == GRADUAL:
        return linear_warmup(start=1 / K, **length).then(drops, clock="global")
    return drops


def error_rate(logits: Tensor, labels: Tensor) -> float:
    return 100 * (logits.argmax(1) != labels).float().mean().item()


def train(run: Run, plan: Plan) -> Result:
    digits = load_digits()
    images, labels = digits.train_images, digits.train_labels
    torch.manual_seed(run.seed)
    network = make_network()
    batch = SMALL_BATCH if run.variant == SMALL else LARGE_BATCH
    optimizer = fused_warmup.SGD(
        network.parameters(),
        lr=run.peak_lr,
        momentum=0.9,
        weight_decay=1e-4,
        schedule=make_schedule(run.variant, plan, steps_per_epoch=len(images) // batch),
    )
    lrs, errors = [], []
    for _ in range(plan.epochs):
        for rows in torch.randperm(len(images)).split(batch):
            optimizer.zero_grad()
            logits = network(images[rows])
            cross_entropy(logits, labels[rows]).backward()
            optimizer.step()  # no scheduler.step(): the schedule is in here
            lrs += optimizer.get_last_lr()
            errors.append(error_rate(logits, labels[rows]))
    with torch.inference_mode():
        test_error = error_rate(network(digits.test_images), digits.test_labels)
    return Result(lrs, errors, test_error)


def train_all(runs: list[Run], plan: Plan) -> dict[Run, Result]:
    """Train on all cores, behind a progress bar."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # A container may be granted fewer cores than it sees, and each process takes half a GB.
    workers = min(cores or 1, 8)
    spawn = multiprocessing.get_context("spawn")
    results = {}
    # One thread a process: so small a network gains more from trainings side by side.
    with ProcessPoolExecutor(workers, spawn, torch.set_num_threads, (1,)) as pool:
        futures = {pool.submit(train, run, plan): run for run in runs}
        for future in tqdm(as_completed(futures), "training", len(futures), unit="run"):
            results[futures[future]] = future.result()
    return results


def cell(errors: list[float]) -> str:
    failed = sum(error > FAILED for error in errors)
    note = f"({failed}/{len(errors)} fail)" if failed else ""
    return f"{mean(errors):5.1f} ± {pstdev(errors):4.1f} {note:<10}"


def print_table(band: Band, target: list[float]) -> None:
    seeds = len(target)
    print(f"\nFinal test error in %: mean ± standard deviation over {seeds} seeds")
    print(f"(fail: seeds that end above {FAILED:g} %; guessing gives 90 %)\n")
    print("   peak rate  " + "".join(f"{name:<24}" for name in band) + "gradual beats none in")
    for lr in band[GRADUAL]:
        none, gradual = band[NONE][lr], band[GRADUAL][lr]
        wins = sum(ours < theirs for ours, theirs in zip(gradual, none, strict=True))
        verdict = "all fail" if min(none + gradual) > FAILED else f"{wins} of {seeds} seeds"
        mark = "=>" if lr == SCALED_LR else "  "
        cells = "".join(f"{cell(errors[lr]):<24}" for errors in band.values())
        print(f"{mark} {lr:<10.2g} {cells}{verdict}")
    scaling = f"{SMALL_LR:g} x {LARGE_BATCH}/{SMALL_BATCH} = {SCALED_LR:g}"
    print(f"\n=> the linearly scaled rate, {scaling}")
    print(f"   the error to match, of minibatches of {SMALL_BATCH} at {SMALL_LR:g}: {cell(target)}")


def finding(band: Band, *, quick: bool) -> str:
    """What the figure shows, in two lines."""
    if quick:
        return f"Minibatches of {LARGE_BATCH}: a quick run, too short to tell"
    gradual, none = (mean(band[variant][SCALED_LR]) for variant in (GRADUAL, NONE))
    return (
        f"Minibatches of {LARGE_BATCH} at the linearly scaled rate:\n"
        f"{gradual:.1f} % test error with a gradual warm-up, {none:.1f} % without"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Warm-up at a large minibatch, on MNIST digits.")
    parser.add_argument("--out", type=Path, default=Path("out/demo.png"), help="the figure's file")
    parser.add_argument("--seeds", type=int, default=5, help="trainings per warm-up and rate")
    parser.add_argument("--quick", action="store_true", help="too short to tell, but quick")
    options = parser.parse_args()
    plan, seeds = (QUICK, 1) if options.quick else (Plan(), options.seeds)
    if seeds < 1:
        parser.error(f"--seeds must be at least 1, got {seeds}")

    started = time.perf_counter()
    digits = load_digits()
    print(f"Data: {SOURCE}")
    print(f"      {len(digits.train_labels)} to train on, {len(digits.test_labels)} to test on")
    if options.quick:
        print("Quick: shows that everything runs; too short to judge any warm-up by")

    # The small batch takes the longest, so it goes first and leaves no core idle at the end.
    small = [Run(SMALL, SMALL_LR, seed) for seed in range(seeds)]
    large = {
        name: {lr: [Run(name, lr, seed) for seed in range(seeds)] for lr in plan.rates}
        for name in (NONE, CONSTANT, GRADUAL)
    }
    sweep = [run for rates in large.values() for runs in rates.values() for run in runs]
    results = train_all(small + sweep, plan)

    band = {
        name: {lr: [results[run].test_error for run in runs] for lr, runs in rates.items()}
        for name, rates in large.items()
    }
    target = [results[run].test_error for run in small]
    print_table(band, target)

    headline = {name: [results[run] for run in rates[SCALED_LR]] for name, rates in large.items()}
    draw(
        options.out,
        finding(band, quick=options.quick),
        lrs={name: seeds[0].lrs for name, seeds in headline.items()},
        train_errors={name: [r.train_errors for r in seeds] for name, seeds in headline.items()},
        band=band,
        target=target,
        target_label=f"batches of {SMALL_BATCH} at {SMALL_LR:g}",
        headline_lr=SCALED_LR,
    )
    found = {"errors": band, "errors of the small batch": target}
    options.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"Figure: {options.out}; {time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
