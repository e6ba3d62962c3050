# SPDX-License-Identifier: Apache-2.0
"""soak - items of bench/soak (bench/guest/soak) in a guest, beside a native run of the same files."""
import os
import re
import shutil
import subprocess

from .subject import BUILD, ROOT, WORK, GuestError, command, guest, vivguest

STRESS = ("cpu", "vm", "order", "syscall")
PROJECTS = {"zlib": "zlib", "gzip": "gzip", "xz": "xz-utils"}
ITEMS = (*STRESS, "node", "luajit", *PROJECTS)
PACKAGES = ("stress-ng", "nodejs", "luajit", "gcc", "libc6-dev", "make", "gzip", "bzip2", "xz-utils", "zstd")
LOGS = os.path.join(BUILD, "bench", "soak")
MEMORY_MIB = 2048


def tree():
    """The files that the guest has beside Debian's, as a folder."""
    top = os.path.join(WORK, "soak-tree")
    shutil.rmtree(top, ignore_errors=True)
    share, programs, sbin = (os.path.join(top, "usr", "local", d) for d in ("share/soak", "bin", "sbin"))
    for folder in (share, programs, sbin):
        os.makedirs(folder)
    here = os.path.join(ROOT, "bench", "guest")
    shutil.copy(os.path.join(here, "init"), os.path.join(sbin, "bench-init"))
    shutil.copy(os.path.join(here, "soak", "soak"), programs)
    for script in ("jit.js", "jit.lua"):
        shutil.copy(os.path.join(here, "soak", script), share)
    for name, package in PROJECTS.items():
        source = os.path.join(BUILD, "bench", "src", package)
        vivguest.script("guest-source", package, source)
        shutil.copytree(source, os.path.join(share, name), symlinks=True)
    return top


def image():
    return vivguest.debian("soak", PACKAGES, tree(), 3000)


def log_path(item, where):
    os.makedirs(LOGS, exist_ok=True)
    return os.path.join(LOGS, f"{item}-{where}.log")


def native(folder, item, seconds, limit):
    """What the item puts out in the unpacked root. Made once: the files are the same until the image is."""
    path = log_path(item, "native")
    if os.path.exists(path) and os.path.getmtime(path) > os.path.getmtime(os.path.join(folder, "stamp")):
        with open(path, errors="replace") as f:
            return f.read()
    inside = 'mount -t tmpfs tmpfs "$1/tmp" && mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" && ' \
        'exec chroot "$1" /usr/local/bin/soak "$2" "$3"'
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    done = subprocess.run([*unshare, "sh", "-c", inside, "sh", os.path.join(folder, "root"), item, str(seconds)],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, timeout=limit, check=False)
    with open(path, "w") as f:
        f.write(done.stdout)
    return done.stdout


def picked(word, text):
    return re.findall(rf"^{word} (.*?)\r?$", text, re.M)


def differences(here, there):
    """Lines of results that only the guest, or only the native run has."""
    return [f"only in the guest: {r}" for r in here if r not in there] + \
        [f"only natively: {r}" for r in there if r not in here]


def run(engine, item, cpus, seconds, limit):
    """Soak one item in one guest: lines about what is wrong."""
    folder = image()
    kernel, initrd = (os.path.join(folder, f) for f in ("vmlinuz", "initrd.img"))
    cmdline = "console=ttyS0 cryptomgr.notests root=/dev/vda ro init=/usr/local/sbin/bench-init -- " \
        f"soak {item} {seconds}"
    argv = command(engine, kernel, initrd, cmdline, [os.path.join(folder, "root.img,readonly")], cpus, MEMORY_MIB)
    trouble = []
    with open(log_path(item, f"{engine}-{cpus}"), "w") as log, guest(argv, log) as g:
        try:
            g.expect(f"SOAK {item} begin", 180)
            g.expect(f"SOAK {item} end", limit)
            if g.wait(60):
                trouble.append(f"viv-vmm did not end cleanly: {g.stderr()[-500:]}")
        except (GuestError, subprocess.TimeoutExpired) as why:
            trouble.append(str(why)[:300].splitlines()[0])
            trouble += ["last on the console: " + line for line in g.text().splitlines()[-8:]]
        text = g.text()
        log.write("\n--- standard error\n" + g.stderr())
    trouble += picked("FAIL", text)
    trouble += re.findall(r"^\[ *[\d.]+\] .*(?:lockup|stall|BUG:|Oops|hung|panic|general protection).*?$", text, re.M | re.I)
    if item not in STRESS:
        trouble += differences(picked("RESULT", text), picked("RESULT", native(folder, item, seconds, limit)))
    return trouble
