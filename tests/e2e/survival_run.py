# SPDX-License-Identifier: Apache-2.0
"""What is done to the machine of survival.py, drawn from a seed and written to a log."""
import os
import shutil
import subprocess
import tempfile
import time

import vivguest
from survival import (COMPLAINTS, ENV, GUEST_ADDRESS, HERE, HOST_ADDRESS, LOAD, NETWORK, ONLINE, SERVE_PORT, UNIT, UNMANAGED, Clocks,
                      Machine, Network, Stream, Wrong, run, until)
from survival_devices import VIV, Devices
from survival_moves import Moves
from survival_plan import SECRET, Plan


def put_into(image, files, folder):
    """Write FILES, {path: (text or path of a file here, mode)}, into the ext4 of IMAGE."""
    commands = []
    for i, (there, (what, mode)) in enumerate(files.items()):
        here = what
        if not os.path.isfile(what):
            here = os.path.join(folder, f"put{i}")
            with open(here, "w", encoding="utf-8") as f:
                f.write(what)
        commands += [f"write {here} {there}", f"set_inode_field {there} mode 0100{mode}"]
    unit = "/etc/systemd/system"
    commands += [f"symlink {unit}/multi-user.target.wants/survive.service {unit}/survive.service"]
    told = subprocess.run(["debugfs", "-w", "-f", "/dev/stdin", image], input="\n".join(commands), env=ENV, text=True, check=True,
                          capture_output=True)
    if "not found" in told.stderr or "error" in told.stderr.lower().replace("debugfs", ""):
        raise Wrong(f"debugfs: {told.stderr}")


class Run(Moves, Devices):
    """One machine and what it has to survive. FOLDER gets the logs; GUEST has an installed Debian."""

    def __init__(self, guest, folder, seed, slow_engine=True):
        self.plan, self.folder, self.guest = Plan(seed, slow_engine), folder, guest
        self.log_file = open(os.path.join(folder, "log"), "w", encoding="utf-8")
        self.begin = time.monotonic()
        self.log(f"seed {seed}, processors {self.plan.cpu}")
        self.disks = {}                 # serial -> digest of what the guest has written
        self.medium = None              # (size, digest) of what is in the drive
        self.n_done, self.n_images, self.hosts, self.key_file = 0, 0, None, None
        self.keyed = set()              # disks whose images are encrypted
        self.network = Network()
        self.stream = Stream(self.network.listen())
        self.machine = Machine(folder, self.network, self.log)
        self.clocks = Clocks(self.machine)

    def log(self, text):
        line = f"{time.monotonic() - self.begin:8.1f} {text}"
        self.log_file.write(line + "\n")
        self.log_file.flush()
        print(line, flush=True)

    # --- beginning and end ---

    def boot(self):
        m, image = self.machine, os.path.join(self.folder, "root.img")
        program = os.path.join(self.folder, "survive")
        run("cc", "-O2", "-static", "-o", program, os.path.join(HERE, "programs/survive.c"))
        vivguest.copy_sparse(os.path.join(self.guest, "root.img"), image)
        load = LOAD.replace("@PORT@", str(SERVE_PORT)).replace("@ADDRESS@", GUEST_ADDRESS).replace("@HOST@", HOST_ADDRESS)
        load = load.replace("@STREAM@", str(self.stream.listener.getsockname()[1]))
        put_into(image, {
            "/usr/local/sbin/survive": (program, "755"), "/usr/local/sbin/load": (load, "755"),
            "/usr/local/src/survive.c": (os.path.join(HERE, "programs/survive.c"), "644"),
            "/etc/systemd/system/survive.service": (UNIT, "644"), "/etc/systemd/network/10-survive.network": (NETWORK, "644"),
            "/etc/systemd/network/11-extra.network": (UNMANAGED, "644"), "/etc/udev/rules.d/80-cpus.rules": (ONLINE, "644"),
        }, self.folder)
        sock, port = m.spawn("--kernel", os.path.join(self.guest, "vmlinuz"), "--initrd", os.path.join(self.guest, "initrd.img"),
                             "--cmdline", "console=ttyS0 root=/dev/vda rw", "--name", "survivor", "--engine", "bt", "--cpu",
                             self.plan.cpu, "--memory", "512M,max=1G", "--cpus", "2,max=4", "--balloon", "on", "--agent", "on",
                             "--disk", f"path={image},name=disk0", "--disk", self.make_secret(), "--cdrom", "none,name=cd",
                             "--console", f"file:{self.folder}/console", *m.net_options(0))
        m.adopt(sock, port)
        until(m.port.is_there, "Debian is up", 300, 0.5)
        until(lambda: self.stream.received and self.stream.sent, "the stream flows", 120)
        self.log("the guest is up")
        self.fill_disk(SECRET, 1)
        self.check_agent()
        self.settle()

    def check_agent(self):
        """It is in every image, and answers whatever was done to the machine."""
        self.machine.ctl("agent", "ping")

    def finish(self):
        """The file that grew is whole, the guest goes in peace and its file system is clean."""
        m = self.machine
        m.port.shell("""awk '$2 != NR - 1 { print "line", NR, $0; exit 1 }' /root/grows""")
        told = m.port.shell("dmesg")
        with open(os.path.join(self.folder, "dmesg"), "w", encoding="utf-8") as f:
            f.write(told)
        self.check_contents(m.port)
        self.stream.is_over = True
        pid, root, raw = m.pid, self.disk("disk0"), os.path.join(self.folder, "root.raw")
        m.control("powerdown")
        m.wait_end(pid)
        run(VIV, "disk", "convert", root["path"], raw, "--source-format", root["format"], "--format", "raw")
        done = subprocess.run(["e2fsck", "-fn", raw], capture_output=True, text=True, env=ENV, check=False)
        if done.returncode:
            raise Wrong(f"e2fsck: {done.stdout}")

    def end(self):
        self.stream.is_over = True
        self.machine.end()
        self.network.end()
        self.log_file.close()

    # --- what must hold after each operation ---

    def settle(self):
        """The stream goes on in both directions, nobody complains, and the clocks are right."""
        m = self.machine
        sent, received, began = self.stream.sent, self.stream.received, time.monotonic()
        there = int(m.port.shell("cat /run/survive/received"))
        until(lambda: self.stream.trouble or (self.stream.received > received + 20 and self.stream.sent > sent + 20),
              "the stream goes on", 120)
        m.port.shell(f"for i in $(seq 1000); do read n </run/survive/received; [ ${{n:-0}} -gt {there} ] && exit 0; sleep 0.1; done; exit 1")
        if self.stream.trouble:
            raise Wrong(f"the stream: {self.stream.trouble}")
        self.check_guest(m.port)
        wrong = self.clocks.correct()
        self.log(f"     fine after {time.monotonic() - began:.1f} s; the wall clock was corrected by {wrong / 1e6:.1f} ms")

    def check_guest(self, port, *also):
        told = port.shell("; ".join(["cat /run/survive/bad 2>/dev/null", *also, "dmesg", "true"]))
        bad = [line for line in told.splitlines() if not line.startswith("[")]
        bad += [line for line in told.splitlines() if line.startswith("[") and COMPLAINTS.search(line)]
        if bad := [line for line in bad if line.strip()]:
            raise Wrong("the guest says: " + "\n".join(bad[:20]))

    def survive(self, n):
        for i, (name, how) in enumerate(self.plan.steps(n)):
            begin = time.monotonic()
            self.log(f"{i + 1:4} {name} " + " ".join(f"{key}={value}" for key, value in how.items()))
            told = getattr(self, "op_" + name)(**how)
            self.log(f"     {told} ({time.monotonic() - begin:.1f} s)")
            self.settle()
            self.n_done += 1
        self.check_agent()
        self.log(f"{self.n_done} operations, {self.stream.sent} and {self.stream.received} records, checksums "
                 f"{self.machine.port.shell('cat /run/survive/sums')}, "
                 f"objects {self.machine.port.shell('cat /run/survive/compiles 2>/dev/null || echo 0')}")


def survive(guest, seed, operations, slow_engine=True, folder=None):
    """Do it all; the folder of the logs is left when something is Wrong."""
    folder = folder or tempfile.mkdtemp(prefix="viv-survive-", dir="/tmp")
    os.makedirs(folder, exist_ok=True)
    r = Run(guest, folder, seed, slow_engine)
    try:
        r.boot()
        r.survive(operations)
        r.finish()
        r.log("survived")
    except BaseException as why:
        r.log(f"FAILED with seed {seed} after {r.n_done} operations: {why}")
        raise
    finally:
        r.end()
    shutil.rmtree(folder)
