"""get_schedule without transformers; tests/integrations/test_hugging_face_schedules.py has it."""

import pytest

from fused_warmup import get_schedule


@pytest.mark.parametrize(("part", "steps"), [(0.1, 100), (0.0333, 34), (0.0, 0), (7.0, 7)])
def test_a_part_of_the_training_may_be_the_warmup(part: float, steps: int) -> None:
    """TrainingArguments' warmup_steps, which rounds up."""
    assert get_schedule("cosine", part, 1000) == get_schedule("cosine", steps, 1000)


@pytest.mark.parametrize("name", ["constant_with_warmup", "inverse_sqrt"])
def test_a_part_of_a_training_without_end(name: str) -> None:
    with pytest.raises(TypeError, match=r"num_warmup_steps=0.1 is a fraction.*num_training_steps="):
        get_schedule(name, 0.1)
    assert get_schedule(name, 0.1, 50) == get_schedule(name, 5, 50)


@pytest.mark.parametrize("wrong", [7.5, -0.1, float("nan"), float("inf")])
def test_what_is_no_number_of_steps(wrong: float) -> None:
    with pytest.raises((TypeError, ValueError), match="num_warmup_steps must"):
        get_schedule("cosine", wrong, 1000)


@pytest.mark.parametrize("name", ["num_cycles", "min_lr_rate", "num_warmup_steps", "lr"])
def test_a_flag_is_no_number(name: str) -> None:
    arguments = {"num_warmup_steps": 10, "num_training_steps": 100, name: True}
    with pytest.raises(TypeError, match=f"{name} must be a"):
        get_schedule("cosine", **arguments)  # type: ignore[arg-type]
