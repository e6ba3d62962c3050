# SPDX-License-Identifier: Apache-2.0
"""subject - what is measured: the engines of one or more viv-vmm, QEMU's TCG, the bare host.

A subject's name is an engine's (kvm, bt, interp), "QEMU" or "native". Given several viv-vmm, the
engines of the second are bt2, interp2 and so on.
"""
import atexit
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts"))
import vivguest  # noqa: E402
from vivguest import Guest, GuestError  # noqa: E402

BUILD = os.path.join(ROOT, "build")


def work_folder():
    """A folder of this run's own, removed at its end: several may run side by side. An end by SIGTERM
    is an orderly one, too, and takes the guests along."""
    os.makedirs(os.path.join(BUILD, "bench"), exist_ok=True)
    folder = tempfile.mkdtemp(prefix="work.", dir=os.path.join(BUILD, "bench"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    return folder


WORK = work_folder()


class Options:
    """What the command line asks of every measurement."""
    rounds = 3
    only = ()                           # of kernels and programs; () is all
    subjects = ()                       # names; () is all
    vmms = [vivguest.VMM]
    clock_seconds = 180
    cpu_time = False
    windows = None                      # "on" or "off": bt's user programs by the host's MMU


def vmm_of(name):
    """(engine, viv-vmm) of a subject that is neither QEMU nor native."""
    m = re.fullmatch(r"([a-z]+)(\d*)", name)
    return m.group(1), Options.vmms[int(m.group(2) or 1) - 1]


@functools.cache
def qemu_path():
    """(path, None) of the newest QEMU there is, or (None, why there is none)."""
    folder = os.path.join(BUILD, "bench", "qemu")
    try:
        done = subprocess.run([os.path.join(ROOT, "bench", "qemu-backports"), folder], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=600, check=False)
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        done, why = None, "the download took too long"
    if done and done.returncode == 0:
        path = os.path.join(folder, "qemu")
    else:
        path = shutil.which("qemu-system-x86_64")
    if path:
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        print((version.splitlines() or ['?'])[0], flush=True)
        return path, None
    return None, f"qemu-system-x86_64 is not installed, and not to be had from backports: {why}"


@functools.cache
def unusable(name):
    """Why the subject cannot be measured here, or None."""
    if name == "QEMU":
        return qemu_path()[1]
    if name == "native":
        return None
    engine, vmm = vmm_of(name)
    if not os.access(vmm, os.X_OK):
        return f"there is no program '{vmm}'"
    if engine == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        listed = subprocess.run([vmm, "--list-engines"], capture_output=True, text=True, check=True).stdout
        return re.search(r"^kvm +\S+ +(.*)$", listed, re.M).group(1)
    return None


def subjects(*names):
    """Those of NAMES that are asked for and work here, with the reason for each that does not;
    an engine stands for as many subjects as there are viv-vmm."""
    out = []
    for name in names:
        several = range(2, len(Options.vmms) + 1) if name not in ("QEMU", "native") else ()
        for n in (name, *(f"{name}{i}" for i in several)):
            if Options.subjects and name not in Options.subjects and n not in Options.subjects:
                continue
            why = unusable(n)
            if why:
                print(f"skipped: {n}: {why}")
            else:
                out.append(n)
    return out


def command(name, kernel, initrd=None, cmdline=None, disks=(), cpus=1, memory_mib=256, nic=False):
    """The command line that boots KERNEL with the console on standard input and output. DISKS are
    paths of images, raw unless they end in .qcow2; one with ",readonly" behind it is not written."""
    if name == "QEMU":
        argv = [qemu_path()[0], "-machine", "q35,memory-backend=ram", "-object",
                f"memory-backend-memfd,id=ram,size={memory_mib}M", "-accel", "tcg,thread=multi", "-cpu", "max",
                "-smp", str(cpus), "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
                "-kernel", kernel]
        argv += ["-initrd", initrd] if initrd else []
        argv += ["-append", cmdline] if cmdline else []
        for disk in disks:
            path, _, readonly = disk.partition(",")
            argv += ["-drive", f"file={path},format={'qcow2' if path.endswith('.qcow2') else 'raw'},if=virtio" + (",readonly=on" if readonly else "")]
        return argv + (["-device", "virtio-net-pci"] if nic else [])
    engine, vmm = vmm_of(name)
    argv = [vmm, "--engine", engine, "--kernel", kernel, "--memory", f"{memory_mib}M", "--cpus", str(cpus),
            "--console", "stdio", "--no-reboot"]
    argv += ["--windows", Options.windows] if Options.windows and engine == "bt" else []
    argv += ["--initrd", initrd] if initrd else []
    argv += ["--cmdline", cmdline] if cmdline else []
    for disk in disks:
        path, _, readonly = disk.partition(",")
        argv += ["--disk", f"path={path}" + (",readonly=on" if readonly else "")]
    return argv + (["--net", "none"] if nic else [])


def guest(argv, echo=None, kind=Guest):
    """Start it; ECHO is a file that gets the console as it comes."""
    return kind(*argv[1:], vmm=argv[0], echo=echo)


def finish(name, g, timeout=120):
    """Wait until the guest has powered off, which must be clean."""
    if g.wait(timeout):
        raise GuestError(f"{name}: the guest did not end cleanly: {g.stderr()}")
