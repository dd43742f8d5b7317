"""Lightning: the step computes the rate; `opt.scheduler()` lets LearningRateMonitor log it.

Trainer's ``gradient_clip_val`` works in any precision: the hook lets the step clip. Lightning's own
clipping refuses optimizers that unscale, in "bf16-mixed" too; without the hook, build the optimizer
with ``unscale=False``.
"""

import lightning as L
import torch
from torch.nn.functional import cross_entropy

import fused_warmup
from fused_warmup.schedules import cosine, linear_warmup


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(16, 4)

    def training_step(self, batch, index):
        return cross_entropy(self.layer(batch[0]), batch[1])

    def configure_optimizers(self):
        schedule = linear_warmup(10).then(cosine(30))
        opt = fused_warmup.SGD(self.parameters(), lr=0.4, momentum=0.9, schedule=schedule)
        return {
            "optimizer": opt,
            "lr_scheduler": {"scheduler": opt.scheduler(), "interval": "step"},
        }

    def configure_gradient_clipping(
        self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
    ):
        if gradient_clip_val:
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)  # of "16-mixed"
            fused_warmup.clip_grad_norm_(optimizer, gradient_clip_val, scaler=scaler)


if __name__ == "__main__":
    data = torch.utils.data.TensorDataset(torch.randn(320, 16), torch.randint(4, (320,)))
    trainer = L.Trainer(
        accelerator="cpu",
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
    )
    trainer.fit(Net(), torch.utils.data.DataLoader(data, batch_size=8))
    print(trainer.optimizers[0].steps_applied, "steps")
