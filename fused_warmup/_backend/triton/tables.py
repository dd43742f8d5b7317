"""The tables of `kernel.py`: what they hold, and how it gets to the device.

They consist of words of 8 bytes, float64 by its bits.
"""

import struct
from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from ...schedules import Schedule

UNIT = 16  # elements in which a row counts what allows wide accesses
ALIGNMENT = 16  # bytes of the widest access
NO_WORDS = torch.empty(0, dtype=torch.int64)

ROW = struct.Struct("=dqqqqqqdddqq")
SEGMENT_WORDS, SEGMENT_TABLE_OFFSET = 16, 6


def words_of(data: "bytes | array[int]") -> Tensor:
    """Return the words as a tensor; a single 0 where there are none, as no kernel takes nothing."""
    return torch.frombuffer(bytearray(data) or bytearray(8), dtype=torch.int64)


def group_row(
    lr: float | tuple[int, int],
    lr_schedule_at: tuple[int, int],
    momentum_schedule_at: tuple[int, int],
    options: Sequence[float],
) -> bytes:
    """Return the row of one group.

    Args:
        lr: The base rate, or a tensor's address and its dtype's place in `kernel.py`.
        lr_schedule_at: Offset and number of its schedule's segments, see `schedule_words`.
        momentum_schedule_at: Those of its momentum's schedule.
        options: Weight decay, momentum, dampening, nesterov, maximize.
    """
    rate, at, dtype = (0.0, *lr) if isinstance(lr, tuple) else (lr, 0, 0)
    return ROW.pack(rate, at, dtype, *lr_schedule_at, *momentum_schedule_at, *options)


def tensor_words(
    param_at: Sequence[int],
    grad_at: Sequence[int],
    buffer_at: Sequence[int],
    mark_at: Sequence[int],
    sizes: Sequence[int],
    groups: Sequence[int],
    pairs: Sequence[int],
) -> Tensor:
    """Return the rows of all tensors, from a column each; an address is 0 for a missing tensor."""
    columns = param_at, grad_at, buffer_at, mark_at, sizes, groups, pairs
    param, grad, buffer, mark, size, group, pair = (
        words_of(array("q", column)) for column in columns
    )
    units = torch.where((param | grad | buffer) % ALIGNMENT == 0, size // UNIT, 0)
    return torch.stack((param, grad, buffer, mark, size, units, group, pair), dim=1).flatten()


def chunk_words(sizes: Sequence[int], block: int) -> tuple[Tensor, int]:
    """Return a word for each chunk of ``block`` elements, and their number.

    A word is (row of the tensor) * 2**32 + (number of the chunk in it).
    """
    counts = torch.tensor([-(-size // block) for size in sizes], dtype=torch.int64)
    tensor = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    before = counts.cumsum(0) - counts
    words = (tensor << 32) + torch.arange(tensor.numel()) - before[tensor]
    return (words if words.numel() else torch.zeros(1, dtype=torch.int64)), words.numel()


def schedule_words(
    schedules: Sequence[Schedule],
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Return all segments followed by all tables, and each schedule's offset and number of them.

    A segment's table offset, which `Schedule.pack` counts from its schedule's first value, is
    counted from the first word here.
    """
    packed = [schedule.pack() for schedule in schedules]
    values_at = sum(len(records) for records, _ in packed) // 8
    words: array[int] = array("q")
    values: list[float] = []
    places = []
    for records, table in packed:
        segments = array("q", records)
        places.append((len(words), len(segments) // SEGMENT_WORDS))
        for i in range(SEGMENT_TABLE_OFFSET, len(segments), SEGMENT_WORDS):
            segments[i] += values_at + len(values)
        words += segments
        values += table
    words.frombytes(array("d", values).tobytes())
    return words_of(words), places


class DeviceTable:
    """int64 words on a device, uploaded only when they change.

    An upload goes through pinned memory and waits for nothing: torch's allocator hands a pinned
    block out again only after the event of the copy that read it.

    A graph capture differs, since its launches run later, again and again. A table that a captured
    launch reads is not rewritten by the next upload, which goes into memory of its own. A copy that
    is captured reads its pinned block again at each replay, so such a block serves that one copy;
    it is allocated beforehand, as not every torch can do so during a capture.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._words = self._table = NO_WORDS
        self._spare: Tensor | None = None
        # Tables that captured launches read, each with the pinned block that a captured copy fills
        # it from, if there is such a copy.
        self._captured: list[tuple[Tensor, Tensor | None]] = []
        self._table_is_captured = False

    def holding(self, words: Tensor, capturing: bool) -> Tensor:
        """Return a tensor on the device that holds ``words`` once the stream gets there.

        Args:
            words: int64 on the CPU, at least one word; never changed after it came here.
            capturing: Whether the current stream is capturing a graph.

        Raises:
            RuntimeError: A capture needs pinned memory that cannot be allocated during it.
        """
        if capturing:
            if words is not self._words:
                return self._captured_copy(words)
            if not self._table_is_captured:
                self._table_is_captured = True
                self._captured.append((self._table, None))
            return self._table
        if words is not self._words:
            self._upload(words)
        if self._spare is None:
            self._spare = self._staging(words)
        return self._table

    def rewrite_captured(self, words: Tensor) -> None:
        """Let captured launches find ``words``, as many as they had, from the next replay on."""
        for table, staging in self._captured:
            if staging is None:
                table.copy_(self._staging(words).copy_(words), non_blocking=True)
            else:
                torch.get_device_module(self._device).synchronize()  # a replay may be reading it
                staging.copy_(words)
        if self._table_is_captured:
            self._words = NO_WORDS

    def _upload(self, words: Tensor) -> None:
        if self._table_is_captured or self._table.numel() != words.numel():
            with torch.inference_mode(False):  # later steps outside of it write there
                self._table = torch.empty_like(words, device=self._device)
            self._table_is_captured = False
            self._spare = None  # the next one is of this size
        self._table.copy_(self._staging(words).copy_(words), non_blocking=True)
        self._words = words

    def _captured_copy(self, words: Tensor) -> Tensor:
        staging, self._spare = self._spare, None
        if staging is None or staging.numel() != words.numel():
            try:
                staging = self._staging(words)
            except RuntimeError as error:
                raise RuntimeError(
                    f"a capture needs pinned memory for {words.numel()} addresses and numbers that "
                    "are new in it, which this torch cannot allocate then: run one step with the "
                    "same parameters before each capture, and capture one step a graph"
                ) from error
        with torch.inference_mode(False):
            table = torch.empty_like(words, device=self._device)
        table.copy_(staging.copy_(words), non_blocking=True)
        self._captured.append((table, staging))
        return table

    def _staging(self, words: Tensor) -> Tensor:
        with torch.inference_mode(False):
            return torch.empty_like(words, pin_memory=self._device.type != "cpu")
