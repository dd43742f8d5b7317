"""PTX's instructions as C++ statements, one function a family.

An operation reads its operands as values of its own type and writes the result's bits back.
"""

import re
from collections.abc import Callable

from parse import BITS, split_operands
from registers import Registers, ctype, identifier

Operation = Callable[[list[str], list[str], Registers], str | None]

# Where data lies, and hints that change no value: which cache, how long, how much at once.
SPACES = ("param", "global", "shared")
HINTS = ("nc", "ca", "cg", "cs", "wb", "L1::no_allocate", "L2::128B", "L2::256B", "relaxed", "gpu")


def access(mods: list[str]) -> tuple[str, int, str]:
    """Return the space, the number of values and their type of a load or a store."""
    kind = mods[-1]
    known = {*SPACES, *HINTS, "v2", "v4", kind}
    assert set(mods) <= known, mods
    space = next((mod for mod in mods if mod in SPACES), "generic")
    return space, 2 if "v2" in mods else 4 if "v4" in mods else 1, kind


def load(mods: list[str], o: list[str], r: Registers) -> str:
    space, n, kind = access(mods)
    size = BITS[kind] // 8
    targets = r.vector(o[0])
    assert len(targets) == n, o
    # All values are read before the first register is written: one of them may be the address.
    lines = [f"const char* from = {r.memory(o[1], space, n * size, 'READ')};"]
    lines += [f"const auto v{i} = load<{ctype(kind)}>(from + {i * size});" for i in range(n)]
    lines += [r.put(target, f"v{i}", kind) for i, target in enumerate(targets)]
    return " ".join(lines) + (" T->after_access();" if space in ("generic", "global") else "")


def store(mods: list[str], o: list[str], r: Registers) -> str:
    space, n, kind = access(mods)
    size = BITS[kind] // 8
    sources = r.vector(o[1])
    assert len(sources) == n, o
    lines = [f"char* to = {r.memory(o[0], space, n * size, 'WRITE')};"]
    lines += [
        f"store<u{BITS[kind]}>(to + {i * size}, {r.bits(source, BITS[kind])});"
        for i, source in enumerate(sources)
    ]
    return " ".join(lines) + (" T->after_access();" if space in ("generic", "global") else "")


def move(mods: list[str], o: list[str], r: Registers) -> str:
    size = BITS[mods[-1]]
    if o[0].startswith("{"):  # the low part comes first
        parts = r.vector(o[0])
        each = size // len(parts)
        puts = [r.put_bits(part, f"all >> {i * each}", each) for i, part in enumerate(parts)]
        return f"const u64 all = {r.bits(o[1], size)}; " + " ".join(puts)
    if o[1].startswith("{"):
        parts = r.vector(o[1])
        each = size // len(parts)
        joined = (f"u64({r.bits(part, each)}) << {i * each}" for i, part in enumerate(parts))
        return r.put_bits(o[0], " | ".join(joined), size)
    return r.put_bits(o[0], r.bits(o[1], size), size)


def call(mods: list[str], o: list[str], r: Registers) -> str:
    result, name, args = o[0].strip("() "), o[1], split_operands(o[2].strip("()"))
    return f"{identifier(name)}(T, {', '.join(map(identifier, [result, *args]))});"


def atomic(mods: list[str], o: list[str], r: Registers) -> str | None:
    if mods != ["global", "inc", "u32"]:
        return None
    at = r.memory(o[1], "global", 4, "WRITE")
    return r.put(o[0], f"T->atomic_inc({at}, {r.value(o[2], 'u32')})", "u32")


def prefetch(mods: list[str], o: list[str], r: Registers) -> str | None:
    """Asks for memory that the launch must be allowed to read."""
    return (
        f"T->at({r.bits(o[0].strip('[]'), 64)}, 1, Access::READ);" if mods[0] == "global" else None
    )


def barrier(mods: list[str], o: list[str], r: Registers) -> str | None:
    """Waits for the block, or for the warp, all of it."""
    if (mods, o) == (["sync"], ["0"]):
        return "T->barrier();"
    return "T->warp_barrier();" if (mods, o) == (["warp", "sync"], ["-1"]) else None


def compare(mods: list[str], o: list[str], r: Registers) -> str | None:
    relation, kind = mods
    a, b = r.value(o[1], kind), r.value(o[2], kind)
    signs = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
    unordered = f"(is_nan({a}) || is_nan({b}))" if kind[0] == "f" else "false"
    if relation in ("num", "nan"):
        return r.put(o[0], ("!" if relation == "num" else "") + unordered, "pred")
    if relation.removesuffix("u") not in signs:
        return None
    holds = f"({a} {signs[relation.removesuffix('u')]} {b})"
    if relation.endswith("u"):
        return r.put(o[0], f"{unordered} || {holds}", "pred")
    return r.put(o[0], f"!{unordered} && {holds}", "pred")


def select(mods: list[str], o: list[str], r: Registers) -> str:
    size = BITS[mods[-1]]
    choice = f"{r.bits(o[3], 1)} ? {r.bits(o[1], size)} : {r.bits(o[2], size)}"
    return r.put_bits(o[0], choice, size)


def logic(sign: str) -> Operation:
    def operation(mods: list[str], o: list[str], r: Registers) -> str:
        return r.put(o[0], f"{r.value(o[1], mods[-1])} {sign} {r.value(o[2], mods[-1])}", mods[-1])

    return operation


def invert(mods: list[str], o: list[str], r: Registers) -> str:
    sign = "!" if mods[-1] == "pred" else "~"
    return r.put(o[0], f"{sign}{r.value(o[1], mods[-1])}", mods[-1])


def shift_left(mods: list[str], o: list[str], r: Registers) -> str:
    kind, by = mods[-1], r.value(o[2], "u32")
    shifted = f"{ctype(kind)}({r.value(o[1], kind)} << {by})"
    return r.put(o[0], f"{by} >= {BITS[kind]} ? {ctype(kind)}(0) : {shifted}", kind)


def shift_right(mods: list[str], o: list[str], r: Registers) -> str:
    kind, by = mods[-1], r.value(o[2], "u32")
    value, size = r.value(o[1], kind), BITS[kind]
    if kind[0] == "s":
        return r.put(o[0], f"{value} >> ({by} >= {size} ? {size - 1} : {by})", kind)
    return r.put(o[0], f"{by} >= {size} ? {ctype(kind)}(0) : {ctype(kind)}({value} >> {by})", kind)


def arithmetic(sign: str) -> Operation:
    """Sum, difference, product or quotient: floats rounded to nearest, integers wrapping."""

    def operation(mods: list[str], o: list[str], r: Registers) -> str | None:
        kind = mods[-1]
        if kind[0] == "f":
            ok = mods[:-1] == ["rn"]
            return (
                r.put(o[0], f"{r.value(o[1], kind)} {sign} {r.value(o[2], kind)}", kind)
                if ok
                else None
            )
        if mods[0] == "wide":
            wide = kind[0] + str(2 * BITS[kind])
            a, b = (f"{ctype(wide)}({r.value(each, kind)})" for each in o[1:3])
            return r.put(o[0], f"{a} {sign} {b}", wide)
        if sign in "/%":
            return r.put(o[0], f"{r.value(o[1], kind)} {sign} {r.value(o[2], kind)}", kind)
        if len(mods) > 1 and mods[0] != "lo":
            return None
        a, b = (f"u64({r.bits(each, BITS[kind])})" for each in o[1:3])
        return r.put(o[0], f"{ctype(kind)}({a} {sign} {b})", kind)

    return operation


def multiply_add(mods: list[str], o: list[str], r: Registers) -> str | None:
    kind = mods[-1]
    if mods[0] == "rn":
        return r.put(o[0], f"fma_({', '.join(r.value(each, kind) for each in o[1:4])})", kind)
    if mods[0] == "lo":
        a, b, c = (f"u64({r.bits(each, BITS[kind])})" for each in o[1:4])
        return r.put(o[0], f"{ctype(kind)}({a} * {b} + {c})", kind)
    if mods[0] == "wide":
        wide = kind[0] + str(2 * BITS[kind])
        a, b = (f"{ctype(wide)}({r.value(each, kind)})" for each in o[1:3])
        return r.put(o[0], f"{a} * {b} + {r.value(o[3], wide)}", wide)
    return None


def extreme(sign: str) -> Operation:
    def operation(mods: list[str], o: list[str], r: Registers) -> str | None:
        a, b = (r.value(each, mods[-1]) for each in o[1:3])
        return r.put(o[0], f"{a} {sign} {b} ? {a} : {b}", mods[-1]) if mods[-1][0] in "us" else None

    return operation


def negate(mods: list[str], o: list[str], r: Registers) -> str:
    kind = mods[-1]
    size = BITS[kind]
    if kind[0] == "f":
        return r.put_bits(o[0], f"{r.bits(o[1], size)} ^ (u{size}(1) << {size - 1})", size)
    return r.put_bits(o[0], f"u{size}(0) - {r.bits(o[1], size)}", size)


def absolute(mods: list[str], o: list[str], r: Registers) -> str | None:
    size = BITS[mods[-1]]
    if mods[-1][0] != "f":
        return None
    return r.put_bits(o[0], f"{r.bits(o[1], size)} & ~(u{size}(1) << {size - 1})", size)


def reciprocal(mods: list[str], o: list[str], r: Registers) -> str | None:
    if mods == ["rn", "f32"]:
        return r.put(o[0], f"1.0f / {r.value(o[1], 'f32')}", "f32")
    if mods == ["approx", "ftz", "f64"]:
        return r.put(o[0], f"rcp_approx_ftz_f64({r.value(o[1], 'f64')})", "f64")
    return None


def square_root(mods: list[str], o: list[str], r: Registers) -> str | None:
    return r.put(o[0], f"sqrt({r.value(o[1], 'f64')})", "f64") if mods == ["rn", "f64"] else None


ROUNDINGS = {"rzi": "trunc", "rmi": "floor", "rpi": "ceil", "rni": "nearbyint"}


def convert(mods: list[str], o: list[str], r: Registers) -> str | None:
    *rounding, to, source = mods
    if to in ("bf16x2", "f16x2") and rounding == ["rn"] and source == "f32":
        halves = (f"cvt_rn_{to[:-2]}({r.value(each, source)})" for each in o[1:3])
        return r.put_bits(o[0], f"pack_halves({', '.join(halves)})", 32)
    if to in ("bf16", "f16") and rounding == ["rn"] and source == "f32":
        return r.put_bits(o[0], f"cvt_rn_{to}({r.value(o[1], source)})", 16)
    if (source, to, rounding) == ("f16", "f32", []):
        return r.put(o[0], f"cvt_f32_f16({r.bits(o[1], 16)})", to)
    if (source, to, rounding) == ("f64", "s64", ["rzi"]):
        return r.put(o[0], f"cvt_rzi_s64_f64({r.value(o[1], source)})", to)
    if (source, to) == ("f64", "f64") and len(rounding) == 1 and rounding[0] in ROUNDINGS:
        return r.put(o[0], f"{ROUNDINGS[rounding[0]]}({r.value(o[1], source)})", to)
    widening = source == "f32" and to == "f64" and not rounding
    narrowing = source == "f64" and to == "f32" and rounding == ["rn"]
    from_integer = source[0] in "us" and to in ("f32", "f64") and rounding == ["rn"]
    if widening or narrowing or from_integer:
        return r.put(o[0], f"{ctype(to)}({r.value(o[1], source)})", to)
    if source[0] in "us" and to[0] in "us" and not rounding:
        return r.put(o[0], f"{ctype(to)}({r.value(o[1], source)})", to)
    return None


FAMILIES: dict[str, Operation] = {
    "ld": load,
    "st": store,
    "mov": move,
    "call": call,
    "atom": atomic,
    "prefetch": prefetch,
    "setp": compare,
    "selp": select,
    "and": logic("&"),
    "or": logic("|"),
    "xor": logic("^"),
    "not": invert,
    "shl": shift_left,
    "shr": shift_right,
    "add": arithmetic("+"),
    "sub": arithmetic("-"),
    "mul": arithmetic("*"),
    "div": arithmetic("/"),
    "rem": arithmetic("%"),
    "mad": multiply_add,
    "fma": multiply_add,
    "min": extreme("<"),
    "max": extreme(">"),
    "neg": negate,
    "abs": absolute,
    "rcp": reciprocal,
    "sqrt": square_root,
    "cvt": convert,
    "cvta": lambda mods, o, r: r.put(o[0], r.value(o[1], "u64"), "u64"),
    "bra": lambda mods, o, r: f"goto {identifier(o[0])};",
    "ret": lambda mods, o, r: "goto RETURN;",
    "bar": barrier,
    # Threads take turns, and each sees at once what others wrote.
    "membar": lambda mods, o, r: "" if mods == ["gl"] else None,
}


def translate(statement: str, registers: Registers) -> str:
    """Return an instruction, with its guard, as a C++ statement."""
    m = re.fullmatch(r"(?:@(!?)(%\w+) )?(\w+)((?:\.[\w:]+)*)(?: (.*))?", statement)
    assert m is not None, statement
    mods, operands = m[4].split(".")[1:], split_operands(m[5] or "")
    operation = FAMILIES.get(m[3])
    code = operation(mods, operands, registers) if operation else None
    if code is None:
        raise SystemExit(f"unknown instruction: {statement}")
    return f"if ({m[1]}{registers.bits(m[2], 1)}) {{ {code} }}" if m[2] else f"{{ {code} }}"
