r"""Goyal's ablation in small, on one process or many: does a warm-up save the large minibatch?

Trains the demo's network on 4,000 real MNIST digits, data-parallel over all processes:

- small batch: minibatches of 50, the error to match;
- no warm-up, constant, gradual: minibatches of 500 at ten times the rate (linear scaling).

    python examples/large_batch.py                                     one process
    torchrun --nproc-per-node 2 examples/large_batch.py --quick        two, in well under 3 minutes
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 \
        torchrun --nproc-per-node 8 --max-restarts 3 examples/large_batch.py --resume

    python examples/large_batch.py --lars       another table: 16 and 32 times the small batch

With ``--lars`` the minibatches are so large that linear scaling with a gradual warm-up no longer
reaches the small one's error, and layer-wise rates (LARS) stand beside it.

(Without the variable, torchrun gives restarted processes the store of those before them, with
their addresses, where nobody listens any more: pytorch#135712.)

A minibatch is split over the processes, so their number changes how fast it goes and in which order
gradients are summed; what that changes in the last bits, training at such rates makes large, as
another seed would. A checkpoint is written after each epoch; with ``--resume`` a run that
was killed goes on from there, and with one or two processes it ends with the bits of a run that
nothing disturbed. Processes talk through gloo on CPUs and nccl on GPUs.

Rules and terms: Goyal et al. 2017, "Accurate, Large Minibatch SGD", arXiv:1706.02677, sections 2.1,
2.2 and 5.2 (table 1, figure 2).
"""

import argparse
import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import torch
import torch.distributed as dist
from demo import (
    CONSTANT,
    GRADUAL,
    LARGE_BATCH,
    NONE,
    QUICK,
    SCALED_LR,
    SMALL,
    SMALL_BATCH,
    SMALL_LR,
    Plan,
    make_network,
    make_schedule,
)
from figure import draw_mean_and_spread
from matplotlib.figure import Figure
from mnist import SOURCE, load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import fused_warmup

LARS_LR = {800: 64.0, 1600: 64.0}  # by batch: the best of 4, 16 and 64 with one seed


@dataclass(frozen=True)
class Setting:
    """How a variant is trained: its warm-up as the demo calls it, or LARS."""

    batch: int
    lr: float
    warmup: str
    lars: bool = False


LARGE = {
    SMALL: Setting(SMALL_BATCH, SMALL_LR, SMALL),
    **{name: Setting(LARGE_BATCH, SCALED_LR, name) for name in (NONE, CONSTANT, GRADUAL)},
}
VERY_LARGE = {
    SMALL: LARGE[SMALL],
    "gradual, 800": Setting(16 * SMALL_BATCH, 16 * SMALL_LR, GRADUAL),
    "LARS, 800": Setting(16 * SMALL_BATCH, LARS_LR[800], GRADUAL, lars=True),
    "gradual, 1600": Setting(32 * SMALL_BATCH, 32 * SMALL_LR, GRADUAL),
    "LARS, 1600": Setting(32 * SMALL_BATCH, LARS_LR[1600], GRADUAL, lars=True),
}
SETTINGS = {**LARGE, **VERY_LARGE}


@dataclass
class Result:
    """What one training gave: errors in percent after each epoch, and its weights' fingerprint."""

    variant: str
    seed: int
    train_errors: list[float]
    test_errors: list[float]
    updates: int
    weights: str


class Progress:
    """Finished trainings and the state of the one that is under way, in a file."""

    def __init__(self, path: Path, settings: dict[str, Any], resume: bool) -> None:
        self.path, self.settings = path, settings
        self.finished: dict[str, dict[str, Any]] = {}
        self.current: dict[str, Any] | None = None
        if resume and path.exists():
            saved = torch.load(path, weights_only=True, map_location="cpu")
            if saved["settings"] != settings:
                raise SystemExit(
                    f"{path} is of a run with {saved['settings']}, this one has {settings}: give "
                    "the same options, another --out, or leave out --resume"
                )
            self.finished, self.current = saved["finished"], saved["current"]

    def save(self, current: dict[str, Any] | None) -> None:
        """Replace the file in one piece, so that a kill at any moment leaves a whole one."""
        self.current = current
        if dist.get_rank() != 0:
            return
        part = self.path.with_suffix(".part")
        torch.save({"settings": self.settings, "finished": self.finished, "current": current}, part)
        os.replace(part, self.path)


def count_errors(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) != labels).sum()


def fingerprint(network: nn.Module) -> str:
    values = torch.cat([p.detach().flatten() for p in network.parameters()]).cpu()
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16]


def make_optimizer(
    setting: Setting, network: nn.Module, plan: Plan, steps_per_epoch: int
) -> fused_warmup.SGD | fused_warmup.LARS:
    """SGD with the demo's schedule, or LARS with that of its paper, over as many epochs."""
    if not setting.lars:
        schedule = make_schedule(setting.warmup, plan, steps_per_epoch=steps_per_epoch)
        options = {"momentum": 0.9, "weight_decay": 1e-4, "schedule": schedule}
        return fused_warmup.SGD(network.parameters(), lr=setting.lr, **options)
    recipe = fused_warmup.large_minibatch(
        setting.batch,
        steps_per_epoch=steps_per_epoch,
        epochs=plan.epochs,
        warmup_epochs=plan.warmup_epochs,
        reference_lr=setting.lr,
        reference_batch=setting.batch,
        optimizer="lars",
    )
    groups = fused_warmup.split_weight_decay(network, recipe.weight_decay, adapt=False)
    groups[1]["lr"] = setting.batch / SMALL_BATCH * SMALL_LR  # biases have SGD's rate
    return fused_warmup.LARS(groups, **recipe.lars_options())


def train(variant: str, seed: int, plan: Plan, device: torch.device, progress: Progress) -> Result:
    """Train once, from the start or from where ``progress`` says."""
    world, rank = dist.get_world_size(), dist.get_rank()
    digits = load_digits()
    images, labels = digits.train_images.to(device), digits.train_labels.to(device)
    test_images, test_labels = digits.test_images.to(device), digits.test_labels.to(device)
    setting = SETTINGS[variant]

    torch.manual_seed(seed)  # the same weights in every process
    network = make_network().to(device)
    optimizer = make_optimizer(setting, network, plan, -(-len(images) // setting.batch))
    done = Result(variant, seed, [], [], 0, "")
    if progress.current is not None:
        saved, progress.current = progress.current, None
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])  # momentum, step count and schedule
        done = Result(**saved["result"])
    model = DistributedDataParallel(network)

    for epoch in range(len(done.test_errors), plan.epochs):
        wrong = torch.zeros((), dtype=torch.int64, device=device)
        # Depends on seed and epoch alone: a resumed run sees the same minibatches.
        order = torch.Generator().manual_seed(1000 * seed + epoch)
        for rows in torch.randperm(len(images), generator=order).to(device).split(setting.batch):
            mine = rows[rank::world]
            optimizer.zero_grad()
            logits = model(images[mine])
            # The mean over the whole minibatch, though shares may differ by one: DDP divides the
            # sum of gradients by the number of processes.
            loss = cross_entropy(logits, labels[mine], reduction="sum") * (world / len(rows))
            loss.backward()
            optimizer.step()  # warm-up included; nothing to tell the other processes
            wrong += count_errors(logits, labels[mine])
        dist.all_reduce(wrong)
        with torch.inference_mode():
            wrong_tests = count_errors(network(test_images), test_labels)
        done.train_errors.append(100 * wrong.item() / len(images))
        done.test_errors.append(100 * wrong_tests.item() / len(test_images))
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
        progress.save({**state, "result": asdict(done)})
    done.updates, done.weights = optimizer.steps_applied, fingerprint(network)
    return done


def table(results: dict[str, list[Result]], plan: Plan) -> str:
    """Return the results as a Markdown table."""
    lines = [
        f"| {'':<12} | batch | peak rate | test error in %: mean ± std | training error in % |",
        f"|:{'-' * 13}|------:|----------:|----------------------------:|--------------------:|",
    ]
    for variant, runs in results.items():
        batch, lr = SETTINGS[variant].batch, SETTINGS[variant].lr
        test = [run.test_errors[-1] for run in runs]
        training = [run.train_errors[-1] for run in runs]
        error = f"{mean(test):.2f} ± {pstdev(test):.2f}"
        lines.append(
            f"| {variant:<12} | {batch:>5} | {lr:>9g} | {error:>27} | {mean(training):>19.2f} |"
        )
    lines.append(
        f"\n{len(runs)} seeds, {plan.epochs} epochs, warm-ups of {plan.warmup_epochs} epochs, "
        f"tenfold drops after epochs {', '.join(map(str, plan.drops))}"
    )
    return "\n".join(lines)


def draw(path: Path, results: dict[str, list[Result]]) -> None:
    """Draw training and test error over the epochs, mean and standard deviation of the seeds.

    Narrow and one above the other, so that the letters stay readable on a phone.
    """
    figure = Figure(figsize=(4.8, 7.2), layout="constrained")
    titles = {"train_errors": "training error (%)", "test_errors": "test error (%)"}
    panels = figure.subplots(2, 1, sharex=True)
    for axes, (field, title) in zip(panels, titles.items(), strict=True):
        for variant, runs in results.items():
            curves = [getattr(run, field) for run in runs]
            draw_mean_and_spread(axes, range(1, len(curves[0]) + 1), curves, variant, floor=0.1)
        axes.set(ylabel=title, yscale="log", ylim=(0.1, 100))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("epoch")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=130)


def start() -> torch.device:
    """Join the process group that torchrun describes, or be one process alone."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if on_gpu else None
    if device is not None:
        torch.cuda.set_device(device)
    backend = "nccl" if on_gpu else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    return device or torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description="Goyal's warm-up ablation in small.")
    parser.add_argument("--out", type=Path, default=Path("out/large_batch"), help="a folder")
    parser.add_argument("--seeds", type=int, default=5, help="trainings per variant")
    parser.add_argument("--lars", action="store_true", help="16 and 32 times the small batch")
    parser.add_argument("--quick", action="store_true", help="too short to tell, but quick")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    options = parser.parse_args()
    plan, seeds = (QUICK, min(options.seeds, 2)) if options.quick else (Plan(), options.seeds)
    if seeds < 1:
        parser.error(f"--seeds must be at least 1, got {seeds}")

    started = time.perf_counter()
    device = start()
    first = dist.get_rank() == 0
    options.out.mkdir(parents=True, exist_ok=True)
    variants = VERY_LARGE if options.lars else LARGE
    settings = {"epochs": plan.epochs, "seeds": seeds}
    progress = Progress(options.out / "checkpoint.pt", settings, options.resume)
    dist.barrier()  # all have read the checkpoint before it is written again

    results: dict[str, list[Result]] = {}
    for variant in variants:
        for seed in range(seeds):
            name = f"{variant}, seed {seed}"
            if name not in progress.finished:
                result = train(variant, seed, plan, device, progress)
                progress.finished[name] = asdict(result)
                progress.save(None)
                if first:
                    print(f"{name}: {result.test_errors[-1]:.1f} %", flush=True)
            results.setdefault(variant, []).append(Result(**progress.finished[name]))

    if first:
        (options.out / "results.json").write_text(json.dumps(progress.finished, indent=1))
        draw(options.out / "curves.png", results)
        print(f"\nData: {SOURCE}")
        if options.quick:
            print("Quick: shows that everything runs; too short to judge any warm-up by")
        print(f"\n{table(results, plan)}\n")
        took = time.perf_counter() - started
        print(f"Curves: {options.out}/curves.png; {dist.get_world_size()} processes, {took:.0f} s")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
