"""A script of Hugging Face's Trainer that names its optimizer and scheduler."""

import torch
from transformers import Trainer, TrainingArguments


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(16, 4)

    def forward(self, x, labels):
        return {"loss": torch.nn.functional.cross_entropy(self.layer(x), labels)}


torch.manual_seed(0)
model = Net()
rows = [{"x": torch.randn(16), "labels": torch.randint(4, ())} for _ in range(160)]
arguments = TrainingArguments(
    "out/trainer",
    optim="sgd",
    learning_rate=0.4,
    lr_scheduler_type="cosine",
    warmup_steps=5,
    max_steps=20,
    report_to=[],
    save_strategy="no",
    use_cpu=True,
)
Trainer(model, arguments, train_dataset=rows).train()
