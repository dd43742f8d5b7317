"""How the tables that the Triton kernel reads get to the device."""

from typing import NamedTuple

import torch
from torch import Tensor

from fused_warmup import _C

NO_BYTES = torch.empty(0, dtype=torch.uint8)


class Captured(NamedTuple):
    """A table that a captured launch reads."""

    table: Tensor
    staging: Tensor | None  # what a captured copy fills it from, if there is such a copy
    groups_at: int


class DeviceTables:
    """A device's copy of the tables, uploaded only when they change.

    An upload goes through pinned memory and waits for nothing: torch's allocator hands a pinned
    block out again only after the event of the copy that read it.

    A graph capture differs, since its launches run later, again and again. A table that a captured
    launch reads is not rewritten by the next upload, which goes into memory of its own. A copy that
    is captured reads its pinned block again at each replay, so such a block serves that one copy;
    it is allocated beforehand, as not every torch can do so during a capture.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._table = NO_BYTES
        self._arguments: list[int] = []
        self._content = self._layout = -1  # those of the tables that are on the device
        self._spare: Tensor | None = None
        self._captured: list[Captured] = []
        self._table_is_captured = False

    def holding(self, tables: _C.TritonTables, content: int, capturing: bool) -> list[int]:
        """Return the kernel's first arguments: where the tables lie once the stream gets there.

        Args:
            tables: What the device is to hold.
            content: A number that is another after each change of them.
            capturing: Whether the current stream is capturing a graph.

        Raises:
            RuntimeError: A capture needs pinned memory that cannot be allocated during it.
        """
        if capturing:
            if content != self._content:
                return self._captured_copy(tables)
            if not self._table_is_captured:
                self._table_is_captured = True
                self._captured.append(Captured(self._table, None, tables.groups_at))
            return self._arguments
        if content != self._content:
            self._upload(tables)
            self._content = content
        if self._spare is None:
            self._spare = self._staging(tables.size)
        return self._arguments

    def rewrite_captured(self, groups: bytes) -> None:
        """Let captured launches find another table of the groups, from the next replay on."""
        words = torch.frombuffer(bytearray(groups), dtype=torch.uint8)
        for table, staging, at in self._captured:
            if staging is None:
                there = table[at : at + len(groups)]
                there.copy_(self._staging(len(groups)).copy_(words), non_blocking=True)
            else:
                torch.get_device_module(self._device).synchronize()  # a replay may be reading it
                staging[at : at + len(groups)].copy_(words)
        if self._table_is_captured:
            self._content = -1

    def _upload(self, tables: _C.TritonTables) -> None:
        self._content = -1  # should anything below fail
        size = tables.changing_size
        if self._table_is_captured or tables.layout != self._layout:
            size = tables.size
            if self._table_is_captured or self._table.numel() != size:
                self._table = self._empty(size)
                self._table_is_captured = False
                self._spare = None  # the next one is of this size
        self._fill(self._table, self._staging(size), tables)
        self._arguments = [self._table.data_ptr(), *tables.places()]
        self._layout = tables.layout

    def _captured_copy(self, tables: _C.TritonTables) -> list[int]:
        staging, self._spare = self._spare, None
        if staging is None or staging.numel() != tables.size:
            try:
                staging = self._staging(tables.size)
            except RuntimeError as error:
                raise RuntimeError(
                    f"a captured step needs {tables.size} bytes of pinned memory for its own "
                    "addresses and numbers, which this torch cannot allocate during a capture: run "
                    "one step with the same parameters before each capture, and capture one step "
                    "per graph"
                ) from error
        table = self._empty(tables.size)
        self._fill(table, staging, tables)
        self._captured.append(Captured(table, staging, tables.groups_at))
        return [table.data_ptr(), *tables.places()]

    def _fill(self, table: Tensor, staging: Tensor, tables: _C.TritonTables) -> None:
        """Enqueue a copy of as many bytes as ``staging`` has."""
        size = staging.numel()
        tables.write(table.data_ptr(), staging.data_ptr(), size)
        table[:size].copy_(staging, non_blocking=True)

    def _empty(self, size: int) -> Tensor:
        with torch.inference_mode(False):  # later steps outside of it write there
            return torch.empty(size, dtype=torch.uint8, device=self._device)

    def _staging(self, size: int) -> Tensor:
        with torch.inference_mode(False):
            return torch.empty(size, dtype=torch.uint8, pin_memory=self._device.type != "cpu")
