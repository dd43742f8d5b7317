"""A SuperGradients recipe in SuperGradients' own Trainer."""

import torch
from super_gradients.training import Trainer
from super_gradients.training.metrics import Accuracy

from fused_warmup import SGD, from_super_gradients

torch.manual_seed(0)
model = torch.nn.Linear(16, 4)
data = torch.utils.data.TensorDataset(torch.randn(32, 16), torch.randint(4, (32,)))
loader = torch.utils.data.DataLoader(data, batch_size=8)

options = {"momentum": 0.9, "weight_decay": 1e-4}
params = {
    "max_epochs": 6,
    "initial_lr": 0.1,
    "lr_mode": "CosineLRScheduler",
    "warmup_mode": "LinearEpochLRWarmup",
    "lr_warmup_epochs": 3,
    "optimizer": "SGD",
    "optimizer_params": options,
    "loss": "CrossEntropyLoss",
    "train_metrics_list": [Accuracy()],
    "valid_metrics_list": [Accuracy()],
    "metric_to_watch": "Accuracy",
}
options["schedule"] = from_super_gradients(params, len(loader)).schedule
params |= {"optimizer": SGD, "lr_mode": None, "lr_warmup_epochs": 0}
trainer = Trainer(experiment_name="digits", ckpt_root_dir="out")
trainer.train(model, params, train_loader=loader, valid_loader=loader)
