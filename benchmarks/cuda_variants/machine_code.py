"""What ptxas made of the kernels, read from an object file by the tools in Triton's package."""

import importlib.util
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

WIDE_LOAD = re.compile(r"\bLDG?\.E\S*\.128")
WIDE_STORE = re.compile(r"\bSTG?\.E\S*\.128")
GENERIC = re.compile(r"\b(LD|ST)\.E")
LOCAL = re.compile(r"\b(LDL|STL)\b")


def find_tool() -> Path | None:
    """Return Triton's cuobjdump, or None."""
    triton = importlib.util.find_spec("triton")
    if triton is None or not triton.submodule_search_locations:
        return None
    tool = Path(triton.submodule_search_locations[0], "backends/nvidia/bin/cuobjdump")
    return tool if tool.exists() else None


@dataclass(frozen=True)
class Loop:
    """A loop that reads and writes 16 bytes at a time, as its instructions with their addresses."""

    instructions: tuple[tuple[int, str], ...]

    @property
    def code(self) -> list[str]:
        return [line for _, line in self.instructions]

    @property
    def longest_turn(self) -> int:
        """Instructions of a turn, at most: what branches go around is not done."""
        index = {at: i for i, (at, _) in enumerate(self.instructions)}
        to_end = [1] * len(index)  # from an instruction on
        for i in reversed(range(len(index) - 1)):
            line = self.code[i]
            goes_to = index.get(branch_target(line) or -1, 0)
            ways = [to_end[goes_to]] if goes_to > i else []
            if not line.startswith("BRA 0x"):  # every other may go on with the next
                ways.append(to_end[i + 1])
            to_end[i] = 1 + max(ways)
        return to_end[0]

    @property
    def loads_in_flight(self) -> int:
        """16-byte loads before the first store, and before anything waits for one of them."""
        loaded: set[int] = set()
        n = 0
        for line in self.code:
            numbers = [int(number) for number in re.findall(r"\bR(\d+)\b", line)]
            if WIDE_STORE.search(line) or loaded.intersection(numbers):
                break
            if WIDE_LOAD.search(line):
                n += 1
                loaded.update(range(numbers[0], numbers[0] + 4))
        return n

    @property
    def wide_loads(self) -> int:
        """16-byte loads of a turn."""
        return sum(bool(WIDE_LOAD.search(line)) for line in self.code)

    @property
    def generic(self) -> list[str]:
        """Accesses that must find out which memory an address belongs to."""
        return [line for line in self.code if GENERIC.search(line)]


@dataclass(frozen=True)
class Code:
    """A kernel's instructions, each with its address."""

    name: str
    instructions: tuple[tuple[int, str], ...]

    @property
    def lines(self) -> list[str]:
        return [line for _, line in self.instructions]

    def loops(self) -> list[Loop]:
        """Return the innermost loops that move tensors, the one with most in flight first."""
        spans = []
        for at, line in self.instructions:
            target = branch_target(line)
            if target is not None and target < at:
                spans.append((target, at))
        inner = [s for s in spans if not any(s[0] <= o[0] < o[1] < s[1] for o in spans)]
        loops = [
            Loop(tuple(one for one in self.instructions if a <= one[0] <= b)) for a, b in inner
        ]
        moving = [
            loop for loop in loops if loop.wide_loads and any(map(WIDE_STORE.search, loop.code))
        ]
        return sorted(moving, key=lambda loop: -loop.loads_in_flight)


def branch_target(line: str) -> int | None:
    """Return the address that a branch may go to, of any other instruction None."""
    found = re.search(r"\bBRA\b.*?\b(0x[0-9a-f]+)", line)
    return int(found[1], 16) if found else None


def read(object_file: Path) -> list[Code]:
    """Return the kernels of an object file or cubin."""
    tool = find_tool()
    assert tool is not None
    command = [str(tool), "-sass", str(object_file)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kernels = []
    for part in re.split(r"Function : ", listing)[1:]:
        found = re.finditer(r"/\*([0-9a-f]{4,6})\*/\s+([^;]*);", part)
        code = tuple((int(m[1], 16), m[2].strip()) for m in found)
        kernels.append(Code(part.split(maxsplit=1)[0], code))
    return kernels


def read_report(report: str) -> dict[str, str]:
    """Return the part of ptxas's report (-Xptxas=-v) that belongs to each kernel."""
    parts = re.split(r"Compiling entry function '", report)[1:]
    return {part.split("'")[0]: part for part in parts}


def registers(part: str) -> int:
    """Return how many registers a thread of a kernel takes."""
    found = re.search(r"Used (\d+) registers", part)
    assert found is not None
    return int(found[1])


def spills(part: str) -> bool:
    """Whether a kernel keeps anything in local memory."""
    clean = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"
    return clean not in part or "bytes cumulative stack size" in part
