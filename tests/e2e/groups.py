# SPDX-License-Identifier: Apache-2.0
"""Control groups of a daemon's machines, as the kernel has them (src/node/cgroup.h says how they are called)."""
import os
import re
import struct
import time


def places(pid="self"):
    """Folders of PID's own groups in which a daemon makes groups: of the unified hierarchy, and of that of 'pids'."""
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as f:
        own = {line.split(":")[1]: line.rstrip("\n").split(":", 2)[2] for line in f}
    found = []
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
        for line in f:
            before, after = line.split(" - ")
            kind, _, options = after.split()
            name = {"cgroup2": "", "cgroup": "pids" if "pids" in options.split(",") else None}.get(kind)
            if name is not None and name in own and before.split()[3] == "/":
                found.append(os.path.normpath(before.split()[4] + own[name]))
    return found


def daemon_of(node):
    """What the names of its groups end with."""
    here = os.stat(node.data)
    text = b"".join(os.path.realpath(path).encode() + b"\0" for path in (node.data, node.run))
    value = 0xcbf29ce484222325
    for byte in text + struct.pack("=QQ", here.st_dev, here.st_ino):
        value = (value ^ byte) * 0x100000001b3 % (1 << 64)
    return f".{value:016x}"


def groups(node, pid="self"):
    """{uid: folders} of its groups, where PID's are."""
    found = {}
    if not os.path.exists(node.data):
        return found
    for place in places(pid):
        for name in os.listdir(place):
            match = re.fullmatch(r"machine-([0-9a-z]+)" + re.escape(daemon_of(node)), name)
            if match:
                found.setdefault(match[1], []).append(os.path.join(place, name))
    return found


def members(folder):
    with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as f:
        return sorted(map(int, f.read().split()))


def remove(node, seconds=10):
    """After its end, as a daemon that comes after it would. Its processes may be ending."""
    end = time.monotonic() + seconds
    left = [folder for folders in groups(node).values() for folder in folders]
    while left and time.monotonic() < end:
        for folder in left[:]:
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError:
                continue
            left.remove(folder)
        time.sleep(0.01)
