"""The training parameters that SuperGradients 3.7.1 has, by what becomes of them here."""

from typing import Any

RATES: dict[str, Any] = {
    "initial_lr": None,
    "batch_accumulate": 1,
    "warmup_mode": "LinearEpochLRWarmup",
    "lr_warmup_epochs": 0,
    "lr_warmup_steps": 0,
    "warmup_initial_lr": None,
    "lr_cooldown_epochs": 0,
    "lr_mode": None,
    "lr_updates": (),
    "step_lr_update_freq": None,
    "cosine_final_lr_ratio": 0.01,
    "lr_schedule_function": None,
    "max_train_batches": None,
    "finetune": False,
    # SuperGradients has none and refuses Step and Exponential without; its recipes say 0.1.
    "lr_decay_factor": 0.1,
}
"""Those that move the learning rate, with the values of its DEFAULT_TRAINING_PARAMS."""
OPTIMIZER: dict[str, Any] = {
    "optimizer": "SGD",
    "optimizer_params": {},
    "zero_weight_decay_on_bias_and_bn": False,
    "ema": False,
    "ema_params": {},
}
"""Those that say which optimizer, and what it averages."""
TAKEN = {"max_epochs", *RATES, *OPTIMIZER}
"""Those that a recipe takes over: its rates, its optimizer."""
LOOP: dict[str, Any] = {
    "clip_grad_norm": None,
    "mixed_precision": False,
    "sync_bn": False,
    "precise_bn": False,
    "torch_compile": False,
    "phase_callbacks": None,
    "pre_prediction_callback": None,
}
"""Those that change the training, and are for the loop."""
ELSEWHERE: dict[str, Any] = {
    "loss": None,
    "criterion_params": {},
    "train_metrics_list": [],
    "valid_metrics_list": [],
    "metric_to_watch": "Accuracy",
    "greater_metric_to_watch_is_better": True,
    "load_opt_params": True,
    "run_validation_freq": 1,
    "run_test_freq": 1,
    "save_model": True,
    "save_ckpt_epoch_list": [],
    "average_best_models": True,
    "ckpt_best_name": "ckpt_best.pth",
    "ckpt_name": "ckpt_latest.pth",
    "resume": False,
    "resume_path": None,
    "resume_strict_load": False,
    "resume_from_remote_sg_logger": False,
    "run_id": None,
    "precise_bn_batch_size": None,
    "max_valid_batches": None,
    "dataset_statistics": False,
    "enable_qat": False,
    "seed": 42,
    "silent_mode": False,
    "launch_tensorboard": False,
    "tensorboard_port": None,
    "tb_files_user_prompt": False,
    "save_tensorboard_to_s3": False,
    "log_installed_packages": True,
    "sg_logger": "base_sg_logger",
    "sg_logger_params": None,
    "kill_ddp_pgroup_on_end": True,
    "torch_compile_loss": False,
    "torch_compile_options": None,
}
"""Those that are no matter of the optimizer or of the step: losses, metrics, files, logs."""
KNOWN = {*TAKEN, *LOOP, *ELSEWHERE}
NO_PARAMETERS = ("defaults", "_convert_", "schema", "pre_launch_callbacks_list")
"""What is beside parameters in a file or in a TrainingParams object."""
