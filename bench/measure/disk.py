# SPDX-License-Identifier: Apache-2.0
"""disk - the block layer on a raw image, without a guest, beside fio on the same file."""
import json
import os
import statistics
import subprocess

from .subject import BUILD, WORK, Options, vivguest

DISK_CASES = (("read", "random", 4096, 1), ("read", "random", 4096, 32), ("write", "random", 4096, 1),
              ("write", "random", 4096, 32), ("read", "sequential", 1 << 20, 4), ("write", "sequential", 1 << 20, 4))


def disk_fio(path, op, order, size, depth, seconds, mode):
    rw = ("rand" if order == "random" else "") + op
    out = subprocess.run(["fio", "--name=x", f"--filename={path}", "--ioengine=io_uring", f"--direct={int(mode == 'direct')}",
                          f"--rw={rw}", f"--bs={size}", f"--iodepth={depth}", f"--runtime={seconds}", "--time_based",
                          "--norandommap", "--invalidate=0", "--output-format=json"],
                         capture_output=True, text=True, check=True)
    return json.loads(out.stdout[out.stdout.index("{"):])["jobs"][0][op]["iops"]


def disk_ours(path, op, order, size, depth, seconds, mode):
    out = subprocess.run([os.path.join(BUILD, "bench", "blk_raw"), path, op, order, str(size), str(depth), str(seconds), mode],
                         capture_output=True, text=True, check=True)
    return float(out.stdout.split()[0])


def bench_disk(report):
    """The block layer on a raw image, without a guest, beside fio on the same file."""
    path = os.path.join(WORK, "disk.img")
    with open(path, "wb") as f:
        for _ in range(128):
            f.write(os.urandom(1 << 20))
        os.fsync(f.fileno())
    has_fio = vivguest.have("fio")
    if not has_fio:
        print("skipped: fio: it is not installed")
    for mode in ("direct", "cached"):
        for case in DISK_CASES:
            ours, theirs = [], []
            for _ in range(Options.rounds):
                ours.append(disk_ours(path, *case, 1, mode))
                if has_fio:
                    theirs.append(disk_fio(path, *case, 1, mode))
            op, order, size, depth = case
            label = f"disk: {mode} {order} {op} {size >> 10} KiB x{depth}, ops/s"
            report.line(label, ours, 0)
            if has_fio:
                print(f"{'':8}{'fio':40} {statistics.median(theirs):12,.0f}   blk is "
                      f"{statistics.median(ours) / statistics.median(theirs):.2f} of fio's", flush=True)
    os.unlink(path)


MEASUREMENTS = {"disk": bench_disk}
