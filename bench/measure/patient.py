# SPDX-License-Identifier: Apache-2.0
"""patient - a guest whose time limits are of work, not of the clock: a busy host makes nothing fail, and a
guest that hangs fails soon."""
import glob
import os
import time

from .subject import Guest

IDLE_SECONDS = 180      # without work for so long, a guest hangs
IDLE_SHARE = 0.02       # work of less than that part of the time is none: a tick now and then
STEP = 15


class PatientGuest(Guest):
    """Timeouts are seconds of processor time that viv-vmm may use until then."""

    def used(self):
        """Processor time of viv-vmm, in seconds."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wanted(self):
        """Seconds in which its threads ran or waited for a processor of the host."""
        total = 0
        for path in glob.glob(f"/proc/{self.pid}/task/*/schedstat"):
            try:
                with open(path, encoding="ascii") as f:
                    run, waited, _ = f.read().split()
                total += int(run) + int(waited)
            except (OSError, ValueError):
                pass                    # the thread has ended
        return total / 1e9

    def expect(self, pattern, timeout=60):
        began, since, wanted = self.used(), time.monotonic(), self.wanted()
        while True:
            m = self.look(pattern, STEP)
            if m:
                return m
            if self.used() - began > timeout:
                raise self._trouble(f"'{pattern}' did not come within {timeout} s of processor time")
            if self.wanted() - wanted > IDLE_SHARE * IDLE_SECONDS:
                since, wanted = time.monotonic(), self.wanted()
            elif time.monotonic() - since > IDLE_SECONDS:
                raise self._trouble(f"the guest hangs: it has done nothing for {IDLE_SECONDS} s, and '{pattern}' did not come")
