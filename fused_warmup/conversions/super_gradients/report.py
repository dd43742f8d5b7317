"""What became of each training parameter, in words: none is dropped in silence."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...schedules.checks import shown
from .names import ELSEWHERE, KNOWN, NO_PARAMETERS
from .optimizer import becomes_sgd, follows_by_itself, name_of, named
from .torch_mode import PLATEAU, TorchMode

if TYPE_CHECKING:
    from .recipe import SuperGradientsRecipe

VERSION = "SuperGradients 3.7.1"
IN_ITS_LOOP = {
    "sync_bn": "model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model), before the optimizer",
    "torch_compile": "model = torch.compile(model)",
    "precise_bn": "torch.optim.swa_utils.update_bn(loader, model), after each epoch",
}
"""Switches of the loop, and the line that does the same."""


def report(recipe: "SuperGradientsRecipe") -> str:
    """Return what ``str(recipe)`` says: what was taken, what is left, what nobody knows."""
    lines = [recipe.summary, _optimizer_line(recipe)]
    if recipe.averaging:
        lines.append(_averaging_line(recipe))
    if recipe.momentum_cycle and becomes_sgd(recipe.named):
        lines.append("momentum: CyclicLR's cycle, in the step")
    if recipe.finetune:
        lines.append(
            "finetune: the model's get_finetune_lr_dict gives the rates, in recipe.optimizer(model)"
        )
    if recipe.left:
        lines += ["left to you:", *(f"- {line}" for line in recipe.left)]
    if recipe.of_no_concern:
        lines.append(f"of no concern to the optimizer: {', '.join(recipe.of_no_concern)}")
    if recipe.unknown:
        lines.append(f"unknown, {VERSION} does not read it either: {', '.join(recipe.unknown)}")
    return "\n".join(lines)


def _optimizer_line(recipe: "SuperGradientsRecipe") -> str:
    options = ", ".join(f"{name}={shown(each)}" for name, each in recipe.optimizer_params.items())
    name = "fused_warmup.SGD" if becomes_sgd(recipe.named) else name_of(recipe.named)
    line = f"optimizer: {name}({options})"
    if not follows_by_itself(recipe.named):
        line += ", driven by fused_warmup.attach"
    if recipe.zero_weight_decay_on_bias_and_bn:
        line += ", biases and normalization layers without weight decay"
    on_the_device = name in ("Adam", "AdamW") and "fused" not in recipe.optimizer_params
    told = ", with fused=True its rates come from the device" if on_the_device else ""
    return f"{line}: recipe.optimizer(model){told}"


def _averaging_line(recipe: "SuperGradientsRecipe") -> str:
    decay, schedule = recipe.averaging["ema_decay"], recipe.averaging.get("ema_schedule")
    first = decay if schedule is None else decay * schedule(0)
    last = decay if schedule is None else decay * schedule(recipe.steps - 1)
    course = f"{decay:g}" if first == last else f"{first:g} to {last:g}"
    by = "in the step" if becomes_sgd(recipe.named) else "by recipe.averaged_model(model)"
    return f"averages: decay {course}, {by}"


def left_to_you(params: Mapping[str, Any], torch_mode: TorchMode | None) -> tuple[str, ...]:
    """Return what the loop has to do, each with the line that does it."""
    sgd, amp = becomes_sgd(named(params)), bool(params.get("mixed_precision"))
    lines = []
    if torch_mode is not None and torch_mode.name == PLATEAU:
        arguments = ", ".join(f"{key}={shown(it)}" for key, it in torch_mode.arguments.items())
        lines.append(
            f"lr_mode: plateau = torch.optim.lr_scheduler.{PLATEAU}"
            f"({', '.join(filter(None, ('opt', arguments)))}); plateau.step({torch_mode.metric}) "
            f"at {torch_mode.phase}, from epoch {params.get('lr_warmup_epochs', 0)} on"
        )
    moves_momentum = torch_mode is not None and torch_mode.name == "CyclicLR"
    if (
        torch_mode
        and moves_momentum
        and torch_mode.arguments.get("cycle_momentum", True)
        and not sgd
    ):
        lines.append(
            "lr_mode: CyclicLR moves the momentum, betas[0], too: group['betas'] before each step, "
            "or cycle_momentum=False"
        )
    accumulate = params.get("batch_accumulate", 1)
    step = "scaler.step(opt)" if amp else "opt.step()"
    if accumulate > 1:
        lines.append(
            f"batch_accumulate: if (epoch * len(loader) + batch + 1) % {accumulate} == 0: "
            f"{step}; opt.zero_grad(); gradients add up, the loss is not divided"
        )
    if amp:
        lines.append(
            "mixed_precision: scaler = torch.amp.GradScaler(); then with torch.autocast('cuda'): "
            "loss = ...; scaler.scale(loss).backward(); scaler.step(opt); scaler.update()"
        )
    norm = params.get("clip_grad_norm")
    if norm is not None:
        lines.append(f"clip_grad_norm: {_clipping(norm, sgd, amp)}, before {step}")
    if params.get("ema"):
        if sgd:
            lines.append(
                "ema, of buffers: the step averages parameters; recipe.averaged_model(model) "
                "averages buffers too"
            )
        else:
            lines.append(
                "ema: averaged = recipe.averaged_model(model); averaged.update_parameters(model) "
                f"after each {step}"
            )
    lines += [f"{name}: {line}" for name, line in IN_ITS_LOOP.items() if params.get(name)]
    for name in ("phase_callbacks", "pre_prediction_callback", "pre_launch_callbacks_list"):
        if params.get(name):
            lines.append(
                f"{name}: {', '.join(_names(params[name]))}, called where SuperGradients does"
            )
    return tuple(lines)


def _clipping(norm: Any, sgd: bool, amp: bool) -> str:
    if sgd:
        return f"fused_warmup.clip_grad_norm_(opt, {norm}{', scaler=scaler' * amp})"
    unscaled = "scaler.unscale_(opt); " * amp
    return f"{unscaled}torch.nn.utils.clip_grad_norm_(model.parameters(), {norm})"


def of_no_concern(params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the parameters that no step of the optimizer depends on, if they were set."""
    return tuple(n for n in ELSEWHERE if n in params and not _is_default(params[n], ELSEWHERE[n]))


def unknown(params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the parameters that SuperGradients does not have."""
    return tuple(str(n) for n in params if n not in KNOWN and n not in NO_PARAMETERS)


def _is_default(value: Any, default: Any) -> bool:
    return value is None or (isinstance(value, (bool, str, int, list, dict)) and value == default)


def _names(callbacks: Any) -> Iterable[str]:
    """The names of callbacks: of objects, of texts, of mappings with the name as their key."""
    for each in callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]:
        if isinstance(each, Mapping) and each:
            yield str(each.get("_target_", next(iter(each))))
        else:
            yield each if isinstance(each, str) else type(each).__name__
