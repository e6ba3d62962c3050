# SPDX-License-Identifier: Apache-2.0
"""vivguest - start viv-vmm and talk to the guest's console: for the demo, tests and benchmarks."""
import atexit
import contextlib
import fcntl
import functools
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VMM = os.environ.get("VIV_VMM", os.path.join(ROOT, "build", "viv-vmm"))
GUESTS = os.path.join(ROOT, "build", "guests")


class GuestError(Exception):
    pass


def machine_of(pid):
    """The number of a machine's own process, of which PID is the one that was started: that one, or the one that it waits for."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            children = f.read().split()
        for child in children:
            with open(f"/proc/{child}/status", encoding="utf-8") as f:
                told = dict(line.split(":", 1) for line in f)
            if told["NSpid"].split()[1:] == ["1"] and os.readlink(f"/proc/{child}/exe") == os.readlink(f"/proc/{pid}/exe"):
                return int(child)
    except OSError:
        pass
    return pid


class Guest:
    """A running viv-vmm whose console is this object's input and output."""

    def __init__(self, *args, vmm=VMM, echo=None):
        self.argv = [vmm, *map(str, args)]
        self.echo = echo                # a file that gets the console as it comes, or None
        self.seen = b""                 # all console output
        self.errors = tempfile.TemporaryFile()
        self.proc = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=self.errors, start_new_session=True)
        self.mark = 0                   # where the next expect() begins to look

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    @property
    def pid(self):
        """Of the machine's process, which may have another in front of it: self.proc."""
        return machine_of(self.proc.pid)

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def text(self):
        return self.seen.decode(errors="replace")

    def _read(self, timeout):
        """Take what has come within TIMEOUT seconds; False at end of file."""
        ready, _, _ = select.select([self.proc.stdout], [], [], max(0, timeout))
        if not ready:
            return True
        data = os.read(self.proc.stdout.fileno(), 65536)
        self.seen += data
        if self.echo:
            self.echo.write(data.decode(errors="replace"))
            self.echo.flush()
        return bool(data)

    def _trouble(self, what):
        tail = self.text()[-3000:]
        return GuestError(f"{what}\n--- command: {' '.join(self.argv)}\n--- console:\n{tail}\n"
                          f"--- standard error:\n{self.stderr()[-3000:]}")

    def expect(self, pattern, timeout=60):
        """Wait until the regular expression PATTERN appears after what was matched last."""
        m = self.look(pattern, timeout)
        if not m:
            raise self._trouble(f"'{pattern}' did not come within {timeout} s")
        return m

    def look(self, pattern, timeout):
        """The same, but None when it does not appear within TIMEOUT seconds."""
        deadline = time.monotonic() + timeout
        rx = re.compile(pattern.encode())
        while True:
            m = rx.search(self.seen, self.mark)
            if m:
                self.mark = m.end()
                return m
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if not self._read(min(left, 1.0)):
                if rx.search(self.seen, self.mark):
                    continue
                raise self._trouble(f"viv-vmm ended before '{pattern}' came")

    def send(self, text):
        self.proc.stdin.write(text.encode())
        self.proc.stdin.flush()

    def command(self, line, timeout=60):
        """Run one shell line at the root prompt; its output, and an error unless it exits 0."""
        self.send(f"{line}; echo __status_$?__\n")
        m = self.expect(r"__status_(\d+)__", timeout)
        if m.group(1) != b"0":
            raise self._trouble(f"'{line}' ended with status {m.group(1).decode()}")

    def login(self, timeout=300):
        self.expect(r"login: ", timeout)
        self.send("root\n")
        self.expect(r"root@\w+:~# ", timeout)
        # Without echo and prompt, what comes back is only output.
        self.send("stty -echo; PS1=; echo __re''ady__\n")
        self.expect(r"__ready__", timeout)

    def wait(self, timeout=60):
        """Wait for the end of viv-vmm; its exit status."""
        deadline = time.monotonic() + timeout
        while self._read(min(1.0, deadline - time.monotonic())):
            if time.monotonic() > deadline:
                raise self._trouble(f"viv-vmm did not end within {timeout} s")
        return self.proc.wait(10)

    def kill(self, signo=signal.SIGKILL, drain=False):
        """End viv-vmm at once. DRAIN: take what it had written before it died."""
        if self.proc.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signo)
            self.proc.wait()
        while drain and self._read(1.0) and self.proc.stdout.peek(1):
            pass
        for stream in (self.proc.stdin, self.proc.stdout):
            try:
                stream.close()
            except OSError:
                pass


def script(name, *args, **env):
    """Run one of scripts/guest-*; what they make is kept and shared, so one process at a time makes it."""
    os.makedirs(GUESTS, exist_ok=True)
    with open(os.path.join(GUESTS, "making"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([os.path.join(ROOT, "scripts", name), *args], check=True, env={**os.environ, **env})


@functools.cache
def scratch():
    """A folder of this process that goes with it."""
    folder = tempfile.TemporaryDirectory(prefix="vivguest-")
    atexit.register(folder.cleanup)
    return folder.name


def kernel(suite):
    """Folder with Debian's unmodified cloud kernel of SUITE: vmlinuz, lib/modules."""
    folder = os.path.join(GUESTS, suite)
    script("guest-kernel", suite, folder)
    return folder


def initrd(suite, run=None, name="initrd", programs=(), modules=(), into=None):
    """A busybox initrd for the kernel of SUITE that runs the shell text RUN; static PROGRAMS in /bin, more MODULES.
    It goes with this process, unless there is a folder to put it INTO."""
    folder = kernel(suite)
    out = os.path.join(into, f"{name}.gz") if into else os.path.join(scratch(), f"{suite}-{name}.gz")
    with tempfile.NamedTemporaryFile("w", suffix=".sh", dir=scratch()) as f:
        f.write("#!/bin/sh\n" + (run or ""))
        f.flush()
        script("guest-initrd", folder, out, f.name, *programs, MODULES=" ".join(modules))
    return out


def initrd_with(base, out, files):
    """The initrd BASE with more FILES (path in the guest -> path here, which is followed and keeps its mode) as OUT."""
    with tempfile.TemporaryDirectory() as folder:
        for there, here in files.items():
            path = os.path.join(folder, there.lstrip("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            shutil.copy(here, path)
        more = subprocess.run("find . | cpio --quiet -o -H newc -R 0:0", shell=True, cwd=folder, check=True, capture_output=True).stdout
    with open(base, "rb") as head, open(out, "wb") as to:
        # An initrd may be several archives one after the other; the first is compressed, each begins at a multiple of 4.
        data = head.read()
        to.write(data + b"\0" * (-len(data) % 4) + more)
    return out


def libraries(program):
    """The shared libraries of PROGRAM, its loader included: path in the guest -> path here."""
    told = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return {path: path for path in re.findall(r"(?:=> |^\s*)(/\S+) \(", told, re.M)}


def modules(suite, name):
    """Files of the kernel module NAME and of those that it needs, in the order in which they are to be loaded."""
    folder = kernel(suite)
    version = os.listdir(os.path.join(folder, "lib/modules"))[0]
    subprocess.run(["/usr/sbin/depmod", "-b", folder, version], check=True)
    told = subprocess.run(["/usr/sbin/modprobe", "-d", folder, "-S", version, "--show-depends", name], check=True,
                          capture_output=True, text=True).stdout
    return re.findall(r"^insmod (\S+)", told, re.M)


def package(name):
    """Folder with the unpacked files of Debian's package NAME."""
    folder = os.path.join(GUESTS, "packages", name)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    script("guest-package", name, folder)
    return folder


def debian(name="debian", packages=(), mib=1500):
    """Folder with an installed Debian: root.img of MIB, vmlinuz, initrd.img. With more PACKAGES it needs
    a NAME of its own, and has what it holds in root/, too."""
    folder = os.path.join(GUESTS, name)
    script("guest-image", folder, *([",".join(packages), str(mib)] if packages else []))
    return folder


def copy_sparse(source, target):
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, target], check=True)
    return target


def have(program):
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is not None
