# SPDX-License-Identifier: Apache-2.0
"""A daemon on a host that is not well: programs/faults.c stands between it and the system."""
import contextlib
import ctypes
import mmap
import os
import subprocess
import threading
import time

from test_access import Site

HERE = os.path.dirname(os.path.abspath(__file__))


def until(is_so, timeout=60, log=lambda: ""):
    """What IS_SO() returns when it is something."""
    end = time.monotonic() + timeout
    while not (found := is_so()):
        assert time.monotonic() < end, log()[-3000:]
        time.sleep(0.02)
    return found


class Faults(ctypes.Structure):
    """struct faults of programs/faults.c."""
    _fields_ = [("clock_s", ctypes.c_int64), ("holds_syncs", ctypes.c_uint32), ("holds_writes", ctypes.c_uint32),
                ("sync_error", ctypes.c_int32), ("write_error", ctypes.c_int32), ("fork_error", ctypes.c_int32),
                ("waiting", ctypes.c_uint32), ("is_watching", ctypes.c_uint32), ("seen", ctypes.c_uint32),
                ("what", ctypes.c_char * 256), ("kills_at", ctypes.c_uint32)]


class Unwell(Site):
    """A daemon that listens on loopback, too, and whose host does as the test says: self.faults."""
    def __init__(self, folder):
        super().__init__(folder)
        library, control = os.path.join(self.folder, "faults.so"), os.path.join(self.folder, "faults")
        subprocess.run(["cc", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", library, os.path.join(HERE, "programs/faults.c"), "-ldl"],
                       check=True)
        with open(control, "w+b") as f:
            f.truncate(ctypes.sizeof(Faults))
            self.memory = mmap.mmap(f.fileno(), ctypes.sizeof(Faults))
        self.faults = Faults.from_buffer(self.memory)
        self.prefix = ["env", f"LD_PRELOAD={library}", f"VIV_FAULTS={control}", f"VIV_FAULTS_UNDER={self.data}"]

    @contextlib.contextmanager
    def with_fault(self, **what):
        for name, value in what.items():
            setattr(self.faults, name, value)
        try:
            yield
        finally:
            for name in what:
                setattr(self.faults, name, 0)

    def watch(self):
        """From now on the loop is to leave the disk alone: see check_loop()."""
        self.faults.seen = 0
        self.faults.what = b""
        self.faults.is_watching = 1

    def check_loop(self):
        self.faults.is_watching = 0
        assert not self.faults.seen, f"the loop did {self.faults.what} first, of {self.faults.seen}"

    def until(self, is_so, timeout=60):
        return until(is_so, timeout, self.log)

    def disk(self, state):
        """What the node says of its disk once it says STATE."""
        return self.until(lambda: (d := self.ask("GET", "/v1/node")["disk"])["state"] == state and d)

    def end(self):
        self.faults.holds_syncs = self.faults.holds_writes = 0
        super().end()


class Later(threading.Thread):
    """What CALL() returns, by and by."""
    def __init__(self, call):
        super().__init__(daemon=True)
        self.call, self.found, self.failure = call, None, None
        self.start()

    def run(self):
        try:
            self.found = self.call()
        except BaseException as e:      # noqa: B036 (told by result())
            self.failure = e

    def result(self, timeout=60):
        self.join(timeout)
        assert not self.is_alive(), "there is no answer"
        if self.failure:
            raise self.failure
        return self.found
