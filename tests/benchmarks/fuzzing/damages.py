"""Ways to damage a file: its bytes, the values of a JSON file, or what the header of a safetensors file says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

NUMBERS = (0, 1, -1, 2, 3, 7, 2**31, 2**63, 10**9, 10**12, 10**30, 0.5, -0.5, 1e308, 1e-45)
CONSTANTS = (None, True, False, "", "x", "../../etc/passwd", "/etc/passwd", "model.bin", "\ud800", [], {}, [[]])
DEEP = ("[" * 3000 + "]" * 3000, '{"a":' * 3000 + "1" + "}" * 3000)
RAW = ("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, *DEEP)
"""What json.dumps does not write, yet may stand in a file."""
MARK = "\u0001raw\u0001"


def damage_bytes(whole: bytes, rng: np.random.Generator) -> bytes:
    """Flips, cuts out, doubles or puts in a few bytes, or ends the file early."""
    found = bytearray(whole)
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(len(found) + 1))
        kind = int(rng.integers(5))
        if kind == 0 and place < len(found):
            found[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del found[place : place + int(rng.integers(1, 30))]
        elif kind == 2:
            found[place:place] = found[place : place + int(rng.integers(1, 30))]
        elif kind == 3:
            found[place:place] = rng.bytes(int(rng.integers(1, 9)))
        elif rng.random() < 0.3:
            del found[place:]
    return bytes(found)


def damage_json(whole: bytes, rng: np.random.Generator) -> bytes:
    """Changes, renames, doubles, moves or takes out a few values."""
    content = json.loads(whole)
    raw: list[str] = []
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(content))
        if not places:
            break
        holder, key = places[int(rng.integers(len(places)))]
        _change(content, holder, key, rng, raw)
    text = json.dumps(content)
    for piece in raw:
        text = text.replace(json.dumps(MARK), piece, 1)
    if rng.random() < 0.1 and text.startswith("{") and len(text) > 2:  # a key twice
        other = json.dumps({str(key): None for key in list(content)[:1]})[1:-1]
        text = f"{{{text[1:-1]}, {other}}}" if rng.random() < 0.5 else f"{{{other}, {text[1:]}"
    return text.encode("utf-8", "surrogatepass")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in list(pairs)[:400]:
        yield value, key
        yield from _places(each)


def _change(content: Any, holder: Any, key: Any, rng: np.random.Generator, raw: list[str]) -> None:
    kind = int(rng.integers(8))
    old = holder[key]
    if kind == 0:
        del holder[key]
    elif kind == 1:
        holder[key] = NUMBERS[int(rng.integers(len(NUMBERS)))]
    elif kind == 2:
        holder[key] = CONSTANTS[int(rng.integers(len(CONSTANTS)))]
    elif kind == 3:
        holder[key] = MARK
        raw.append(RAW[int(rng.integers(len(RAW)))])
    elif kind == 4:
        holder[key] = [old] if rng.random() < 0.5 else {"value": old}
    elif kind == 5:
        holder[key] = str(old) if not isinstance(old, str) else int(rng.integers(10))
    elif kind == 6 and isinstance(holder, dict):
        holder[f"{key}{'_' if rng.random() < 0.5 else ''}".swapcase()] = holder.pop(key)
    else:
        other, place = list(_places(content))[int(rng.integers(len(list(_places(content)))))]
        holder[key] = other[place] if not _holds(other[place], holder) else None


def _holds(value: Any, holder: Any) -> bool:
    return value is holder or any(_holds(each, holder) for _, each in ((k, h[k]) for h, k in _places(value)))


DTYPES = ("F64", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "C64", "F4", "f32", "", "X")


def damage_header(whole: bytes, rng: np.random.Generator) -> bytes:
    """Lies in a safetensors file: about the header's length, names, types, shapes or where numbers lie."""
    length = int.from_bytes(whole[:8], "little")
    text, numbers = whole[8 : 8 + length], whole[8 + length :]
    kind = int(rng.integers(8))
    if kind == 0:
        lies = (0, 1, length - 1, length + 1, len(whole), 2**31, 2**63, 2**64 - 1)
        return lies[int(rng.integers(len(lies)))].to_bytes(8, "little") + whole[8:]
    if kind == 1:
        return whole[: int(rng.integers(len(whole)))]
    if kind == 2:
        text = damage_bytes(text, rng)
    elif kind == 3:
        text = damage_json(text, rng)
    elif kind == 4:
        numbers += rng.bytes(int(rng.integers(1, 64)))
    else:
        text = _lie(json.loads(text), rng)
    return len(text).to_bytes(8, "little") + text + numbers


def _lie(header: dict[str, Any], rng: np.random.Generator) -> bytes:
    names = [name for name in header if name != "__metadata__"]
    one, other = (header[names[int(i)]] for i in rng.integers(len(names), size=2))
    kind = int(rng.integers(7))
    if kind == 0:
        one["dtype"] = DTYPES[int(rng.integers(len(DTYPES)))]
    elif kind == 1:
        sizes = (-1, 0, 1, 2**31, 2**63, 10**12, 3)
        shape = [*one["shape"], sizes[int(rng.integers(len(sizes)))]]
        one["shape"] = shape[int(rng.integers(2)) :]
    elif kind == 2:
        one["data_offsets"] = list(other["data_offsets"])
    elif kind == 3:
        one["data_offsets"] = one["data_offsets"][::-1]
    elif kind == 4:
        shift = int(rng.choice([-8, -4, -1, 1, 4, 8, 10**9, 2**62]))
        one["data_offsets"] = [place + shift for place in one["data_offsets"]]
    elif kind == 5:
        name = names[int(rng.integers(len(names)))]
        header[f"{name}.more"] = header.pop(name)
    else:
        one["shape"], other["shape"] = other["shape"], one["shape"]
    return json.dumps(header).encode()
