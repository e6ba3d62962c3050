# SPDX-License-Identifier: Apache-2.0
"""nbd - `viv disk serve` beside qemu-nbd and qemu-storage-daemon of the newest QEMU, on the same qcow2 image, with fio's client; and what
making, snapshotting and cloning a disk of 1 TiB takes."""
import json
import os
import statistics
import subprocess
import time

from .convert import VIV, qemu_img
from .disk_pair import CASES, disk_pair
from .report import Skip
from .subject import WORK, Options, vivguest

SIZE_MIB = 512


def serve(argv, sock):
    if os.path.exists(sock):
        os.unlink(sock)
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    for _ in range(200):
        if os.path.exists(sock):
            break
        time.sleep(0.02)
    return server


def client(sock, rw, depth):
    """Requests, and how long they took."""
    out = subprocess.run(["fio", "--name=x", "--ioengine=nbd", f"--uri=nbd+unix:///?socket={sock}", f"--rw={rw}", "--bs=4k",
                          f"--iodepth={depth}", "--runtime=1", "--time_based", "--norandommap", "--output-format=json"],
                         capture_output=True, text=True, check=True).stdout
    job = json.loads(out[out.index("{"):])["jobs"][0]["read" if rw == "randread" else "write"]
    return job["total_ios"], job["runtime"] / 1000


def measure(argv, sock, rw, depth):
    """(requests per second, processor time of the server per request in us)"""
    server = serve(argv, sock)
    try:
        n, seconds = client(sock, rw, depth)
    finally:
        server.terminate()
        _, status, used = os.wait4(server.pid, 0)
        server.returncode = status
    return n / seconds, (used.ru_utime + used.ru_stime) / n * 1e6


def bench_nbd(report):
    """Requests per second of 4 KiB, and the servers' processor time for each, which other work on the host moves less."""
    qemu = os.path.dirname(qemu_img())
    if not vivguest.have("fio") or b"nbd" not in subprocess.run(["fio", "--enghelp"], capture_output=True, check=False).stdout:
        raise Skip("there is no fio with the engine nbd")
    sock = os.path.join(WORK, "nbd.sock")
    raw, image = disk_pair("nbd", SIZE_MIB)
    servers = {
        "viv": [VIV, "disk", "serve", "-q", "--nbd", f"unix:{sock}", image],
        "QEMU": [os.path.join(qemu, "qemu-nbd"), "-t", "-e", "8", "-k", sock, "-f", "qcow2", "--cache=writeback", image],
        "QSD": [os.path.join(qemu, "qemu-storage-daemon"), "--blockdev", f"driver=file,node-name=f,filename={image},aio=threads",
                "--blockdev", "driver=qcow2,node-name=q,file=f", "--nbd-server", f"addr.type=unix,addr.path={sock}",
                "--export", "type=nbd,id=e,node-name=q,name=,writable=on"],
        "viv, raw": [VIV, "disk", "serve", "-q", "--format", "raw", "--nbd", f"unix:{sock}", raw],
    }
    for rw, depth in CASES:
        got = {name: [] for name in servers}
        for _ in range(Options.rounds):
            for name, argv in servers.items():
                got[name].append(measure(argv, sock, rw, depth))
        rate = {name: [g[0] for g in v] for name, v in got.items()}
        cost = {name: statistics.median(g[1] for g in v) for name, v in got.items()}
        label = f"nbd: 4 KiB {rw} x{depth}"
        report.line(f"{label}, requests/s", rate["viv"], 0)
        report.line(f"{label}, times qemu-nbd's rate", [statistics.median(rate["viv"]) / statistics.median(rate["QEMU"])], 2)
        report.line(f"{label}, times qemu-storage-daemon's rate",
                    [statistics.median(rate["viv"]) / statistics.median(rate["QSD"])], 2)
        report.line(f"{label}, times the rate of raw", [statistics.median(rate["viv"]) / statistics.median(rate["viv, raw"])], 2)
        print(f"{'':8}processor time per request: " + ", ".join(f"{n} {c:.1f} us" for n, c in cost.items()), flush=True)
    for path in (raw, image):
        os.unlink(path)


def quick(argv):
    """(ms by the clock, ms of the processor)"""
    begin = time.monotonic()
    child = subprocess.Popen([VIV, "disk", *argv], stdout=subprocess.DEVNULL)
    used = os.wait4(child.pid, 0)
    child.returncode = 0
    if used[1]:
        raise ValueError(f"viv disk {argv[0]} failed")
    return (time.monotonic() - begin) * 1e3, (used[2].ru_utime + used[2].ru_stime) * 1e3


def bench_large(report):
    """A disk of 1 TiB: the whole command, flush included."""
    base, clone = (os.path.join(WORK, n) for n in ("large.qcow2", "clone.qcow2"))
    got = {"creating": [], "snapshotting": [], "cloning": []}
    for i in range(max(5, Options.rounds)):
        got["creating"].append(quick(["create", base, "1T", "--force"]))
        got["snapshotting"].append(quick(["snapshot", "create", base, str(i)]))
        got["cloning"].append(quick(["create", clone, "--backing", base, "--force"]))
    for name, values in got.items():
        report.line(f"disk: {name} 1 TiB, ms", [v[0] for v in values], 1)
        report.line(f"disk: {name} 1 TiB, CPU ms", [v[1] for v in values], 1)
    os.unlink(base)
    os.unlink(clone)


MEASUREMENTS = {"disk-nbd": bench_nbd, "disk-large": bench_large}
