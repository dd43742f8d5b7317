"""Hugging Face's Trainer takes the optimizer and its scheduler's face."""

import torch
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainingArguments

import fused_warmup


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(16, 4)

    def forward(self, x, labels):
        return {"loss": cross_entropy(self.layer(x), labels)}


if __name__ == "__main__":
    net = Net()
    schedule = fused_warmup.get_schedule("cosine", num_warmup_steps=10, num_training_steps=40)
    opt = fused_warmup.SGD(net.parameters(), lr=0.4, momentum=0.9, schedule=schedule)
    arguments = TrainingArguments(
        "out/trainer",
        max_steps=40,
        logging_steps=10,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
    )
    rows = [{"x": torch.randn(16), "labels": torch.randint(4, ())} for _ in range(320)]
    Trainer(net, arguments, train_dataset=rows, optimizers=(opt, opt.scheduler())).train()
