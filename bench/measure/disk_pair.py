# SPDX-License-Identifier: Apache-2.0
"""disk_pair - a disk of random bytes as a raw and as a qcow2 image, both in memory, and the random requests they are measured with."""
import os
import subprocess

from .convert import VIV
from .subject import WORK

CASES = (("randread", 1), ("randread", 32), ("randwrite", 1), ("randwrite", 32))


def warm(path):
    """PATH in memory, in the small pieces that random requests bring: how large pages of the cache are decides what
    a write to them costs the kernel."""
    with open(path, "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        while f.read(1 << 16):
            pass


def disk_pair(name, size_mib):
    """Paths of the two images: raw, and qcow2 as viv makes it. The caller unlinks them."""
    raw, qcow2 = (os.path.join(WORK, f"{name}.{e}") for e in ("img", "qcow2"))
    with open(raw, "wb") as f:
        for _ in range(size_mib):
            f.write(os.urandom(1 << 20))
    subprocess.run([VIV, "disk", "convert", "-q", raw, qcow2], check=True)
    subprocess.run(["sync"], check=True)
    for path in (raw, qcow2):
        warm(path)
    return raw, qcow2
