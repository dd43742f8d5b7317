"""PTX as text, taken apart: functions, their statements, and constants in global memory."""

import re
from dataclasses import dataclass

BITS = {
    **{"pred": 1, "b8": 8, "u8": 8, "s8": 8, "b16": 16, "u16": 16, "s16": 16, "f16": 16},
    **{"bf16": 16, "b32": 32, "u32": 32, "s32": 32, "f32": 32, "f16x2": 32, "bf16x2": 32},
    **{"b64": 64, "u64": 64, "s64": 64, "f64": 64},
}


@dataclass
class Function:
    """An .entry or a .func. Its parameters have names and sizes in bytes."""

    name: str
    is_entry: bool
    results: list[tuple[str, int]]
    params: list[tuple[str, int]]
    statements: list[str]
    """Without their semicolons. "{", "}" and labels ("L:") are statements of their own."""


@dataclass
class Module:
    functions: list[Function]
    constants: dict[str, list[int]]
    """Bytes of each initialised variable in global memory."""
    shared: set[str]
    """Names of the arrays of dynamic shared memory, all of which begin it."""


def split_operands(text: str) -> list[str]:
    """Split at the commas that are outside of all brackets."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "{[(") - (c in "}])")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts if part.strip()]


def parse_params(text: str | None) -> list[tuple[str, int]]:
    params = []
    for each in split_operands(text or ""):
        m = re.fullmatch(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?", each)
        assert m is not None, each
        params.append((m[2], BITS[m[1]] // 8 * int(m[3] or 1)))
    return params


def split_statements(body: str) -> list[str]:
    """Split a body; "{a, b}" within an operand does not open a block."""
    statements = []
    at = 0
    while m := re.compile(r"\s*([{}]|[$\w]+:|[^;]+;)").match(body, at):
        statements.append(re.sub(r"\s+", " ", m[1]).removesuffix(";").strip())
        at = m.end()
    assert not body[at:].strip(), body[at : at + 80]
    return statements


def parse(text: str) -> Module:
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    assert not re.search(r"^\s*\.shared", text, re.MULTILINE), "static shared memory"
    module = Module([], {}, set())
    for m in re.finditer(r"\.extern\s+\.shared\s+\.align\s+\d+\s+\.b8\s+([\w$]+)\[\];", text):
        module.shared.add(m[1])
    constant = r"\.global\s+\.align\s+\d+\s+\.b8\s+([\w$]+)\[(\d+)\]\s*=\s*\{([^}]*)\};"
    for m in re.finditer(constant, text):
        values = [int(byte) for byte in m[3].split(",")]
        module.constants[m[1]] = values + [0] * (int(m[2]) - len(values))
    function = r"""\.(entry|func)\s*(?:\(([^)]*)\))?\s*([\w$]+)\s*(?:\(([^)]*)\))?[^{};]*\{"""
    for m in re.finditer(function, text):
        end, depth = m.end(), 1
        while depth:
            depth += (text[end] == "{") - (text[end] == "}")
            end += 1
        module.functions.append(
            Function(
                name=m[3],
                is_entry=m[1] == "entry",
                results=parse_params(m[2]),
                params=parse_params(m[4]),
                statements=split_statements(text[m.end() : end - 1]),
            )
        )
    return module
