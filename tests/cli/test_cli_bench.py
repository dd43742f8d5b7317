"""``fused-warmup bench``: it trains, measures, and says no more than it found."""

import re
from pathlib import Path

import pytest
import torch

from fused_warmup._cli import main
from fused_warmup._cli.bench import OPTIONS, Times, contenders, table, verdict

OURS, TORCH = "fused_warmup.SGD", "torch.optim.SGD(fused=True) + LambdaLR"
SETUP = """
import torch

def setup(batch, device):
    model = torch.nn.Linear(4, 3).to(device)
    images = torch.randn(batch, 4, device=device)
    return model, lambda: model(images).square().mean()

def nothing(batch, device):
    return None
"""


def bench(*arguments: str) -> None:
    main(["bench", "--device", "cpu", "--seconds", "0", *arguments])


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current folder, which is where ``python -m`` would look."""
    (tmp_path / "own_training.py").write_text(SETUP)
    monkeypatch.chdir(tmp_path)
    return "own_training"


def test_it_prints_a_table_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    bench("--batch", "2")
    head, _, titles, *rows, _, sentence = capsys.readouterr().out.splitlines()
    assert head.startswith("a small network of convolutions, batch 2, on cpu, ")
    assert head.endswith(": 60 tensors, 185,600 elements")
    assert titles.split() == ["optimizer", "training", "step", "share"]
    assert [re.split(r"  +", row)[0] for row in rows] == ["torch.optim.SGD + LambdaLR", TORCH, OURS]
    assert all(re.search(r"\d (us|ms) +[\d.]+ (us|ms) +[\d.]+ %$", row) for row in rows)
    assert sentence.endswith(".")


def test_a_model_of_ones_own(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    bench("--model", f"{module}:setup", "--batch", "5")
    head = capsys.readouterr().out.splitlines()[0]
    assert head.startswith("own_training:setup, batch 5, on cpu")
    assert head.endswith(": 2 tensors, 15 elements")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "own_training"], "names no function: write package.module:function"),
        (["--model", "no_such_module:f"], "cannot be imported .*no_such_module"),
        (["--model", "own_training:absent"], "cannot be imported .*absent"),
        (["--model", "own_training:nothing"], "returned a NoneType, needed are a module"),
        (["--batch", "0"], "--batch must"),
        (["--seconds", "nan"], "--seconds must"),
        (["--device", "abacus"], "--device=abacus is no device: write cpu or cuda"),
    ],
)
@pytest.mark.usefixtures("module")
def test_what_cannot_be_measured_is_an_error(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench(*arguments)
    assert re.search(words, capsys.readouterr().err)


def test_all_contenders_follow_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONS, "lr", 1.0)  # too low a rate would round away
    model = torch.nn.Linear(2, 2)
    for step in contenders(model, torch.device("cpu")).values():
        model(torch.ones(1, 2)).sum().backward()
        before = model.weight.detach().clone()
        step()  # a warm-up's first rate is 0
        assert torch.equal(model.weight, before)
        step()
        assert not torch.equal(model.weight, before)


@pytest.mark.parametrize(
    ("torchs", "ours", "words"),
    [
        (1e-3, 2e-4, "would take 8 % less time than with torch.*, whose part of it is 10 %"),
        (5e-5, 1e-5, "is 0.5 % of a training step here: .* not be noticeably faster"),
        (1e-3, 9e-4, "is 10.0 % of a training step here: .* not be noticeably faster"),
        (1e-3, 2e-3, "Slower here: torch.* takes 1.00 ms a step, fused_warmup.SGD 2.00 ms"),
    ],
)
def test_the_sentence_says_what_was_found(torchs: float, ours: float, words: str) -> None:
    found = {TORCH: Times(torchs, torchs, 1e-2), OURS: Times(ours, ours, 1e-2)}
    assert re.search(words, verdict(found))


def test_a_gpus_host_time_has_a_column() -> None:
    found = {OURS: Times(host=1e-5, step=2e-4, training=4e-3)}
    titles, row = table(found, torch.device("cuda")).splitlines()
    assert titles.split()[:3] == ["host", "time", "optimizer"]
    assert row.split() == [OURS, "10", "us", "200", "us", "4.00", "ms", "5.0", "%"]
