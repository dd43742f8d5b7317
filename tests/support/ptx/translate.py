"""Translate the PTX that nvcc makes of the kernels to C++ that walks real memory.

``python translate.py kernels.ptx kernels.cpp``. Written from the PTX ISA manual and not from the
kernels, so that what they compute is checked and not repeated: one C++ function for each .entry and
.func. An instruction that is not known stops the translation with its name: add it to
`instructions.py`, from the manual.
"""

import re
import sys
from pathlib import Path

from instructions import translate
from parse import BITS, Function, Module, parse
from registers import Registers, identifier


def declare(statement: str, registers: Registers) -> str:
    """Return the C++ declaration of a .reg or .param statement."""
    if m := re.fullmatch(r"\.reg \.(\w+) (%?\w+)(?:<(\d+)>)?", statement):
        width = BITS[m[1]]
        names = [m[2] + str(i) for i in range(int(m[3]))] if m[3] else [m[2]]
        kind = "bool" if width == 1 else f"u{width}"
        for name in names:
            registers.add(name, width)
        values = ", ".join(f"{identifier(name)} = 0" for name in names)
        return f"[[maybe_unused]] {kind} {values};"
    m = re.fullmatch(r"\.param (?:\.align \d+ )?\.(\w+) ([\w$]+)(?:\[(\d+)\])?", statement)
    assert m is not None, statement
    registers.add_memory(m[2])
    return f"alignas(16) char {identifier(m[2])}[{BITS[m[1]] // 8 * int(m[3] or 1)}];"


def head_of(function: Function) -> str:
    params = "".join(
        f", char* {identifier(name)}" for name, _ in function.results + function.params
    )
    return f"static void {identifier(function.name)}(Thread* T{params})"


def body_of(function: Function, module: Module) -> str:
    registers = Registers(module)
    for name, _ in function.results + function.params:
        registers.add_memory(name)
    # Registers come first: C++ lets no goto cross a declaration.
    declarations, lines = [], []
    for statement in function.statements:
        if statement == "{":
            registers.open_scope()
            lines.append("{")
        elif statement == "}":
            registers.close_scope()
            lines.append("}")
        elif statement.endswith(":"):
            lines.append(identifier(statement[:-1]) + ":;")
        elif statement.startswith(".reg") and registers.at_top:
            declarations.append(declare(statement, registers))
        elif statement.startswith((".reg", ".param")):
            lines.append(declare(statement, registers))
        elif not statement.startswith((".pragma", ".loc")):
            lines.append(translate(statement, registers))
    text = "\n  ".join([*declarations, *lines])
    return f"{head_of(function)} {{\n  {text}\nRETURN:;\n}}\n"


def translate_module(module: Module) -> str:
    parts = ['#include "machine.h"\n']
    parts += [head_of(function) + ";" for function in module.functions]
    constants = []
    for name, values in module.constants.items():
        own, listed = identifier(name), ", ".join(map(str, values))
        parts.append(f"alignas(16) static const unsigned char {own}[] = {{{listed}}};")
        constants.append(f"{{{own}, sizeof {own}}}, ")
    # A last row that nobody reads: C++ has no empty arrays.
    parts.append(f"const Constant CONSTANTS[] = {{{''.join(constants)}{{nullptr, 0}}}};")
    parts.append(f"const int N_CONSTANTS = {len(constants)};\n")
    parts += [body_of(function, module) for function in module.functions]
    entries = [function for function in module.functions if function.is_entry]
    rows = "".join(f'  {{"{f.name}", {identifier(f.name)}, {f.params[0][1]}}},\n' for f in entries)
    parts.append(f"const Entry ENTRIES[] = {{\n{rows}}};")
    parts.append(f"const int N_ENTRIES = {len(entries)};\n")
    return "\n".join(parts)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(translate_module(parse(source.read_text())))
