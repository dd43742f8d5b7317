"""The names in a function of PTX, and operands as C++ expressions.

A register is an unsigned integer of its width, a predicate a bool.
"""

import re

from parse import BITS, Module, split_operands

SPECIAL = {
    "%tid.x": "T->tid",
    "%ntid.x": "T->ntid",
    "%ctaid.x": "T->ctaid",
    "%nctaid.x": "T->nctaid",
}


def identifier(name: str) -> str:
    """Return a name of PTX as one of C++."""
    return re.sub(r"[%$.]", lambda m: {"%": "R_", "$": "L_", ".": "_"}[m[0]], name)


def ctype(kind: str) -> str:
    """Return the C++ type that values of a type of PTX have."""
    names = {"pred": "bool", "f32": "float", "f64": "double"}
    return names.get(kind, ("s" if kind[0] == "s" else "u") + str(BITS[kind]))


class Registers:
    """What the names in a function stand for, and operands as C++ expressions."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._scopes: list[dict[str, int]] = [{}]  # widths in bits; 0 marks memory

    at_top = property(lambda self: len(self._scopes) == 1)

    def open_scope(self) -> None:
        self._scopes.append({})

    def close_scope(self) -> None:
        self._scopes.pop()

    def add(self, name: str, width: int) -> None:
        self._scopes[-1][name] = width

    def add_memory(self, name: str) -> None:
        self.add(name, 0)

    def width(self, name: str) -> int:
        return next(scope[name] for scope in reversed(self._scopes) if name in scope)

    def bits(self, operand: str, size: int) -> str:
        """Return an operand's lowest `size` bits, as an unsigned integer."""
        kind = "bool" if size == 1 else f"u{size}"
        if operand in SPECIAL:
            return f"{kind}({SPECIAL[operand]})"
        if m := re.fullmatch(r"0[fF]([0-9a-fA-F]{8})|0[dD]([0-9a-fA-F]{16})", operand):
            assert size == (32 if m[1] else 64), operand
            return f"{kind}(0x{m[1] or m[2]}ull)"
        if re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)U?", operand):
            return f"{kind}({int(operand.rstrip('U'), 0) & ((1 << size) - 1)}ull)"
        if operand in self._module.shared:
            return f"{kind}(0)"
        if operand in self._module.constants or self.width(operand) == 0:
            assert size == 64, operand
            return f"u64({identifier(operand)})"
        width = self.width(operand)
        assert width >= size, (operand, width, size)
        assert (width == 1) == (size == 1), operand
        return f"{kind}({identifier(operand)})"

    def value(self, operand: str, kind: str) -> str:
        """Return an operand as a C++ value of a type of PTX."""
        bits = self.bits(operand, BITS[kind])
        return f"as_{kind}({bits})" if kind in ("f32", "f64") else f"{ctype(kind)}({bits})"

    def put(self, name: str, expression: str, kind: str) -> str:
        """Return the assignment of a C++ value; a wider register takes its extension."""
        if name == "_":
            return f"(void)({expression});"
        width = self.width(name)
        assert width >= BITS[kind], (name, width, kind)
        assert (width == 1) == (kind == "pred"), name
        if kind in ("f32", "f64"):
            assert width == BITS[kind], (name, kind)
            return f"{identifier(name)} = bits_{kind}({expression});"
        if kind == "pred":
            return f"{identifier(name)} = ({expression});"
        extended = f"s64({ctype(kind)}({expression}))" if kind[0] == "s" else expression
        return f"{identifier(name)} = u{width}({ctype(kind)}({extended}));"

    def put_bits(self, name: str, expression: str, size: int) -> str:
        return self.put(name, expression, "pred" if size == 1 else f"b{size}")

    def vector(self, operand: str) -> list[str]:
        return split_operands(operand.strip("{}"))

    def memory(self, operand: str, space: str, size: int, access: str) -> str:
        """Return the checked host address of "[base+offset]"."""
        m = re.fullmatch(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\d+))?\s*\]", operand)
        assert m is not None, operand
        base, offset = m[1], int(m[2] or 0)
        if space == "shared":
            is_narrow = base in self._module.shared or self.width(base) == 32
            return (
                f"T->shared_at(u64({self.bits(base, 32 if is_narrow else 64)}) + {offset}, {size})"
            )
        address = f"{self.bits(base, 64)} + u64(s64({offset}))"
        if space == "param":
            return f"reinterpret_cast<char*>({address})"
        return f"T->at({address}, {size}, Access::{access})"
