# SPDX-License-Identifier: Apache-2.0
"""convert - `viv disk convert` beside the newest qemu-img: a disk of 4 GiB with two installed Debians, from the page cache."""
import os

import statistics
import subprocess
import time

from .report import Skip
from .subject import BUILD, WORK, Options, qemu_path

VIV = os.path.join(BUILD, "viv")
DISK, PLACES = 4 << 30, (0, 2 << 30)    # of the source, and where the system stands in it
# name: (format of the source, of the target, options of the target, compressed?)
CASES = {
    "raw to qcow2": ("raw", "qcow2", "", False),
    "qcow2 to raw": ("qcow2", "raw", "", False),
    "vmdk to qcow2": ("vmdk", "qcow2", "", False),
    "raw to qcow2, zstd": ("raw", "qcow2", "compression_type=zstd", True),
    "raw to qcow2, zlib": ("raw", "qcow2", "compression_type=zlib", True),
    "qcow2 of zstd to qcow2": ("zstd", "qcow2", "", False),
}


def qemu_img():
    found, why = qemu_path()
    path = os.path.join(os.path.dirname(found or ""), "qemu-img")
    if not os.path.exists(path):
        raise Skip(f"there is no qemu-img of Debian backports: {why}")
    return path


def sources(qemu):
    """The same disk in each format, all made by qemu-img; and read, so that they are in memory."""
    image = os.path.join(BUILD, "guests", "debian", "root.img")
    if not os.path.exists(image):
        raise Skip("there is no Debian image; make it with: scripts/guest-image")
    made = {"raw": os.path.join(WORK, "source.raw")}
    with open(made["raw"], "wb") as f:
        f.truncate(DISK)
    for place in PLACES:
        subprocess.run(["dd", f"if={image}", f"of={made['raw']}", "bs=1M", f"seek={place >> 20}", "conv=sparse,notrunc", "status=none"],
                       check=True)
    for name, fmt, more in (("qcow2", "qcow2", []), ("vmdk", "vmdk", []),
                            ("zstd", "qcow2", ["-c", "-o", "compression_type=zstd"])):
        made[name] = os.path.join(WORK, f"source-{name}.{fmt}")
        subprocess.run([qemu, "convert", "-f", "raw", "-O", fmt, *more, made["raw"], made[name]], check=True)
    subprocess.run(["sync"], check=True)
    for path in made.values():
        warm(path)
    return made


def warm(path):
    """All data of PATH in memory; of holes there is none."""
    with open(path, "rb", buffering=0) as f:
        end, at = os.fstat(f.fileno()).st_size, 0
        while at < end:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            hole = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            while at < hole:
                at += len(os.pread(f.fileno(), min(1 << 24, hole - at), at))


def run(argv, target):
    begin = time.monotonic()
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    _, child.returncode, used = os.wait4(child.pid, 0)
    took = time.monotonic() - begin
    if child.returncode:
        raise ValueError(f"{argv[0]} failed")
    if Options.cpu_time:
        took = used.ru_utime + used.ru_stime
    size = os.stat(target).st_blocks * 512
    os.unlink(target)
    subprocess.run(["sync"], check=True)        # nobody pays for the other's dirty pages
    return took, size


def ours(made, case):
    source, fmt, options, is_compressed = case
    target = os.path.join(WORK, "target." + fmt)
    return run([VIV, "disk", "convert", made[source], target, "--format", fmt, *(["-o", options] if options else []),
                *(["--compress"] if is_compressed else [])], target)


def theirs(qemu, made, case, cache):
    source, fmt, options, is_compressed = case
    target = os.path.join(WORK, "target." + fmt)
    return run([qemu, "convert", "-f", {"zstd": "qcow2"}.get(source, source), "-O", fmt, "-t", cache,
                *(["-o", options] if options else []), *(["-c"] if is_compressed else []), made[source], target], target)


def bench_convert(report):
    """Seconds. qemu-img as it is by default, which leaves the target in memory, and with its target on the
    disk at the end, as ours is."""
    qemu = qemu_img()
    made = sources(qemu)
    for name, case in CASES.items():
        if Options.only and not any(o in name for o in Options.only):
            continue
        took = {"viv": [], "qemu-img": [], "qemu-img -t writeback": []}
        sizes = {}
        for _ in range(Options.rounds):
            for label in took:
                seconds, sizes[label] = ours(made, case) if label == "viv" else \
                    theirs(qemu, made, case, "unsafe" if label == "qemu-img" else "writeback")
                took[label].append(seconds)
        report.line(f"convert: {name}, s", took["viv"], 3)
        for label in list(took)[1:]:
            ratio = statistics.median(took[label]) / statistics.median(took["viv"])
            row = f"convert: {name}, times as fast as {label}"
            report.line(row, [ratio], 2)
            print(f"{'':8}{label:40} {statistics.median(took[label]):12.3f} s, image of {sizes[label] >> 20} MiB, "
                  f"ours {sizes['viv'] >> 20} MiB", flush=True)
    for path in made.values():
        os.unlink(path)



MEASUREMENTS = {"disk-convert": bench_convert}
