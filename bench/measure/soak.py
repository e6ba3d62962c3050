# SPDX-License-Identifier: Apache-2.0
"""soak - items of bench/soak (bench/guest/soak) in a guest, beside a native run of the same files."""
import os
import re
import subprocess

from . import tools
from .patient import PatientGuest
from .subject import BUILD, ROOT, GuestError, vivguest

STRESS = ("cpu", "vm", "order", "syscall")
PROJECTS = {"zlib": "zlib", "gzip": "gzip", "xz": "xz-utils"}
ITEMS = (*STRESS, "node", "luajit", *PROJECTS)
PACKAGES = ("stress-ng", "nodejs", "luajit", "gcc", "libc6-dev", "make", "gzip", "bzip2", "xz-utils", "zstd")
LOGS = os.path.join(BUILD, "bench", "soak")
MEMORY_MIB = 2048


def debian():
    return vivguest.debian("soak", PACKAGES, 3000)


def prepare():
    """(folder of the Debian with the packages, disk of our tools)"""
    here = os.path.join(ROOT, "bench", "guest", "soak")
    files = {"bin/soak": os.path.join(here, "run"), **{f: os.path.join(here, f) for f in ("jit.js", "jit.lua")},
             **{name: tools.source(package) for name, package in PROJECTS.items()}}
    return debian(), tools.disk("soak", files)


def log_path(item, where):
    os.makedirs(LOGS, exist_ok=True)
    return os.path.join(LOGS, f"{item}-{where}.log")


def native(where, item, seconds, limit):
    """What the item puts out here."""
    done = subprocess.run(tools.native(*where, ["soak", item, seconds]), stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit, check=False)
    with open(log_path(item, "native"), "w") as f:
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
    where = prepare()
    trouble = []
    with open(log_path(item, f"{engine}-{cpus}"), "w") as log, \
            tools.start(engine, *where, ["soak", item, seconds], cpus, MEMORY_MIB, log, PatientGuest) as g:
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
        trouble += differences(picked("RESULT", text), picked("RESULT", native(where, item, seconds, limit)))
    return trouble
