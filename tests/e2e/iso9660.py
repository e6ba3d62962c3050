# SPDX-License-Identifier: Apache-2.0
"""Small disks of ISO 9660 (ECMA-119): a root directory with a few files, as a drive for CDs reads them."""
import struct

BLOCK = 2048


def both(fmt, value):
    """In both byte orders, as most numbers stand there."""
    return struct.pack("<" + fmt, value) + struct.pack(">" + fmt, value)


def record(name, block, size, is_folder=False):
    """A directory record, 9.1."""
    body = b"\0" + both("I", block) + both("I", size) + bytes([126, 11, 22, 0, 0, 0, 0]) + bytes([2 if is_folder else 0, 0, 0])
    body += both("H", 1) + bytes([len(name)]) + name
    body += b"" if len(name) % 2 else b"\0"
    return bytes([len(body) + 1]) + body


def write(path, label, files):
    """FILES: name -> bytes; names in capitals, as in "A.TXT"."""
    at, placed = 21, []
    for name, data in sorted(files.items()):
        placed.append((name, at, data))
        at += max(1, -(-len(data) // BLOCK))
    root = record(b"\0", 20, BLOCK, True) + record(b"\1", 20, BLOCK, True)
    root += b"".join(record(f"{name};1".encode(), block, len(data)) for name, block, data in placed)
    assert len(root) <= BLOCK
    table = [b"\1\0" + struct.pack(order + "I", 20) + struct.pack(order + "H", 1) + b"\0\0" for order in "<>"]
    date = b"2026112200000000\0"
    first = b"\1CD001\1\0" + b" " * 32 + label.encode().ljust(32) + bytes(8) + both("I", at) + bytes(32)
    first += both("H", 1) + both("H", 1) + both("H", BLOCK) + both("I", len(table[0])) + struct.pack("<II", 18, 0)
    first += struct.pack(">II", 19, 0) + record(b"\0", 20, BLOCK, True) + b" " * (4 * 128 + 3 * 37) + date * 4 + b"\1\0"
    with open(path, "wb") as f:
        for block, data in [(16, first), (17, b"\xffCD001\1"), (18, table[0]), (19, table[1]), (20, root)] + [p[1:] for p in placed]:
            f.seek(block * BLOCK)
            f.write(data)
        f.truncate(at * BLOCK)
    return str(path)
