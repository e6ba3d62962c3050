# SPDX-License-Identifier: Apache-2.0
"""What is done to the machine of survival.py, drawn from a seed and written to a log."""
import hashlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time

import vivguest
from survival import (COMPLAINTS, ENV, GUEST_ADDRESS, HERE, HOST_ADDRESS, LOAD, MAC, NETWORK, ONLINE, SERVE_PORT, UNIT, UNMANAGED,
                      Clocks, GuestPort, Machine, Network, Stream, Wrong, is_running, run, until)

MIB = 1 << 20
DISKS_MAX = 3
COPIES = 2


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


class Run:
    """One machine and what it has to survive. FOLDER gets the logs; GUEST has an installed Debian."""

    def __init__(self, guest, folder, seed, slow_engine=True):
        self.random = random.Random(seed)
        self.folder, self.guest, self.slow_engine = folder, guest, slow_engine
        self.log_file = open(os.path.join(folder, "log"), "w", encoding="utf-8")
        self.begin = time.monotonic()
        self.log(f"seed {seed}")
        self.engine, self.n_disks, self.disks, self.cpus, self.memory, self.n_done = "bt", 0, {}, 2, 512, 0
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
                             "--cmdline", "console=ttyS0 root=/dev/vda rw", "--name", "survivor", "--engine", "bt", "--memory",
                             "512M,max=1G", "--cpus", "2,max=4", "--balloon", "on", "--agent", "on", "--disk", f"path={image}",
                             "--console", f"file:{self.folder}/console", *m.net_options(0))
        m.adopt(sock, port)
        until(m.port.is_there, "Debian is up", 300, 0.5)
        until(lambda: self.stream.received and self.stream.sent, "the stream flows", 120)
        self.image = image
        self.log("the guest is up")
        self.check_agent()
        self.settle()

    def check_agent(self):
        """An agent that is installed answers, whatever was done to the machine."""
        if os.path.exists(os.path.join(self.guest, "root/usr/sbin/qemu-ga")):
            self.machine.ctl("agent", "ping")

    def finish(self):
        """The file that grew is whole, the guest goes in peace and its file system is clean."""
        m = self.machine
        m.port.shell("""awk '$2 != NR - 1 { print "line", NR, $0; exit 1 }' /root/grows""")
        told = m.port.shell("dmesg")
        with open(os.path.join(self.folder, "dmesg"), "w", encoding="utf-8") as f:
            f.write(told)
        self.stream.is_over = True
        pid = m.pid
        m.control("powerdown")
        m.wait_end(pid)
        done = subprocess.run(["e2fsck", "-fn", self.image], capture_output=True, text=True, env=ENV, check=False)
        if done.returncode:
            raise Wrong(f"e2fsck: {done.stdout}")

    def end(self):
        self.stream.is_over = True
        self.machine.end()
        self.network.end()
        self.log_file.close()

    # --- what must hold after each operation ---

    def settle(self):
        m = self.machine
        sent, received, began = self.stream.sent, self.stream.received, time.monotonic()
        there = int(m.port.shell("cat /run/survive/received"))
        until(lambda: self.stream.trouble or (self.stream.received > received + 20 and self.stream.sent > sent + 20),
              "the stream goes on", 120)
        until(lambda: int(m.port.shell("cat /run/survive/received")) > there, "the guest receives", 120, 0.2)
        if self.stream.trouble:
            raise Wrong(f"the stream: {self.stream.trouble}")
        self.check_guest(m.port)
        wrong = self.clocks.correct()
        self.clocks.check(True)
        self.log(f"     fine after {time.monotonic() - began:.1f} s; the wall clock was corrected by {wrong / 1e6:.1f} ms")

    def check_guest(self, port, *also):
        told = port.shell("; ".join(["cat /run/survive/bad 2>/dev/null", *also, "dmesg", "true"]))
        bad = [line for line in told.splitlines() if not line.startswith("[")]
        bad += [line for line in told.splitlines() if line.startswith("[") and COMPLAINTS.search(line)]
        if bad := [line for line in bad if line.strip()]:
            raise Wrong("the guest says: " + "\n".join(bad[:20]))

    # --- operations; each returns what it did ---

    def options_of_process(self):
        return ["--engine", self.engine, *self.machine.net_options(self.machine.tap), *self.machine.console_options()]

    def next_engine(self):
        """Mostly the fast one."""
        self.engine = "interp" if self.slow_engine and self.engine == "bt" and self.random.random() < 0.15 else "bt"

    def op_save(self):
        m, packing, state = self.machine, self.random.choice(["raw", "raw", "zstd"]), os.path.join(self.folder, "state")
        self.next_engine()
        pid, begin = m.pid, time.monotonic()
        m.ctl("save", state, "--stop", f"packing={packing}")
        m.wait_end(pid)
        m.adopt(*m.spawn("--restore", state, *self.options_of_process()))
        took = time.monotonic() - begin
        os.unlink(state)
        return f"{packing}, restored under {self.engine} after {took:.2f} s"

    def op_save_and_go_on(self):
        state = os.path.join(self.folder, "kept")
        self.machine.ctl("save", state, "packing=zstd")
        os.unlink(state)
        return "the machine goes on"

    def op_migrate(self):
        m, packing = self.machine, self.random.choice(["none", "zstd", "lz4"])
        self.next_engine()
        m.tap ^= 1
        wire, pid = os.path.join(self.folder, f"wire{m.n}"), m.pid
        sock, port = m.spawn("--incoming", f"unix:{wire}", *self.options_of_process())
        until(lambda: os.path.exists(wire) or m.processes[-1].poll() is not None, "the destination waits", 60, 0.01)
        m.ctl("migrate", f"unix:{wire}", f"packing={packing}")
        m.wait_end(pid)
        m.adopt(sock, port)
        return f"{packing}, to {self.engine}"

    def op_upgrade(self):
        m, pid = self.machine, self.machine.pid
        told = m.ctl("upgrade").split()
        m.wait_end(pid)
        m.control.close()
        m.adopt(m.sock, m.port.path)
        if str(m.pid) != told[1]:
            raise Wrong(f"process {m.pid} answers, not {told[1]}")
        return f"pause {int(told[3]) / 1e6:.0f} ms"

    def op_pause(self):
        seconds = self.random.choice([0.1, 0.5, 2])
        self.machine.control("pause")
        time.sleep(seconds)
        self.machine.control("resume")
        return f"{seconds} s"

    def op_fork(self):
        m = self.machine
        nets = [o for name in m.nets for o in ("--net", f"none,name={name}")]
        told = m.ctl("fork", "-n", COPIES, "--", *nets)
        copies = [line.split() for line in told.splitlines()]
        try:
            for pid, sock in copies:
                self.check_copy(int(pid), sock)
        finally:
            for pid, _ in copies:
                if is_running(pid):
                    os.kill(int(pid), 9)
                until(lambda p=pid: not is_running(p), f"copy {pid} ends")
        self.merge()
        return f"{len(copies)} copies"

    def check_copy(self, pid, sock):
        """It works on, with what was on its disks; only its connection is gone."""
        port = GuestPort(sock + ".vsock")
        until(port.is_there, f"copy {pid} answers", 120, 0.2)
        clock = int(port.shell("cat /run/survive/clock"))
        until(lambda: int(port.shell("cat /run/survive/clock")) > clock, f"copy {pid} goes on", 180, 0.3)
        told = port.shell("sed /stream:/d /run/survive/bad 2>/dev/null; true")
        if told:
            raise Wrong(f"copy {pid} says: {told}")
        for serial, digest in self.disks.items():
            self.compare_disk(port, serial, digest)

    def merge(self):
        """The images on which the machine went on are pushed back into those below."""
        m = self.machine

        def commit(name):
            try:
                m.control("disk-commit", disk=name)
            except Wrong as why:
                # The kernel closes the files of a process that was killed a little later than it is seen to end.
                if "in use by another process" not in str(why):
                    raise
                return False
            return True
        for d in m.control("info")["disks"]:
            until(lambda name=d["name"]: commit(name), "the copies have let go of the images", 30)
        until(lambda: not m.control("jobs")["jobs"], "disk-commit ends", 120)
        for d in m.control("info")["disks"]:
            if ".fork" in d["path"]:
                raise Wrong(f"disk {d['name']} is still {d['path']}")
        for name in os.listdir(self.folder):
            if ".img." in name:
                os.unlink(os.path.join(self.folder, name))

    def compare_disk(self, port, serial, digest):
        told = port.shell(f"dd if=/dev/disk/by-id/virtio-{serial} iflag=direct bs=1M 2>/dev/null | sha256sum")
        if told.split()[0] != digest:
            raise Wrong(f"disk {serial} has changed")

    def op_disk(self):
        if len(self.disks) == DISKS_MAX or (self.disks and self.random.random() < 0.5):
            return self.unplug_disk()
        m, serial = self.machine, f"d{self.n_disks}"
        path, data = os.path.join(self.folder, f"{serial}.img"), self.random.randbytes(4 * MIB)
        self.n_disks += 1
        with open(path, "wb") as f:
            f.truncate(len(data))
        m.ctl("plug", "disk", f"path={path},serial={serial},name={serial}")
        m.port.shell(f"for i in $(seq 600); do [ -b /dev/disk/by-id/virtio-{serial} ] && exit 0; sleep 0.1; done; exit 1", 120)
        seed = self.random.randrange(1 << 30)
        m.port.shell(f"openssl enc -aes-128-ctr -pass pass:{seed} -nosalt -md sha256 -in /dev/zero 2>/dev/null | head -c {len(data)} | "
                     f"dd of=/dev/disk/by-id/virtio-{serial} bs=1M iflag=fullblock oflag=direct conv=fsync 2>/dev/null")
        with open(path, "rb") as f:
            self.disks[serial] = hashlib.sha256(f.read()).hexdigest()
        self.compare_disk(m.port, serial, self.disks[serial])
        return f"{serial} is plugged"

    def unplug_disk(self):
        m, serial = self.machine, self.random.choice(sorted(self.disks))
        self.compare_disk(m.port, serial, self.disks.pop(serial))
        m.control("unplug", device=serial)
        until(lambda: serial not in [d["name"] for d in m.control("info")["disks"]], f"{serial} goes", 120)
        m.port.shell(f"! [ -e /dev/disk/by-id/virtio-{serial} ] || sleep 2; ! [ -e /dev/disk/by-id/virtio-{serial} ]")
        os.unlink(os.path.join(self.folder, f"{serial}.img"))
        return f"{serial} is unplugged"

    def op_console(self):
        """A stream: what programs in the guest and the client of a socket say to each other arrives, before it goes again."""
        m, port = self.machine, "/dev/virtio-ports/survive.console"
        if not m.stream_path:
            path = os.path.join(self.folder, "plugged")
            m.ctl("plug", "console", f"socket:{path},name=survive.console,id=stream")
            m.port.shell(f"for i in $(seq 600); do [ -c {port} ] && exit 0; sleep 0.1; done; exit 1", 120)
            m.stream_path = path
            self.talk(path, port)
            return "plugged"
        path, m.stream_path = m.stream_path, None
        self.talk(path, port)
        m.ctl("unplug", "stream")
        until(lambda: len(m.control("info")["consoles"]) == 1, "the console goes", 120)
        m.port.shell(f"! [ -e {port} ] || sleep 2; ! [ -e {port} ]")
        if os.path.exists(path):
            raise Wrong("the socket's name is still there")
        return "unplugged"

    def talk(self, path, port):
        word = f"{self.random.randrange(1 << 40):x}"
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(120)
            s.connect(path)
            self.machine.port.shell(f"(until read -r x && [ -n \"$x\" ]; do sleep 0.1; done; echo heard $x) <>{port} >&0 2>/dev/null &")
            time.sleep(0.5)
            s.sendall(word.encode() + b"\n")
            told = s.makefile().readline()
            if told.strip() != f"heard {word}":
                raise Wrong(f"the console's stream says {told!r}, not what it heard, {word}")

    def op_net(self):
        m, path = self.machine, f"grep -qs {MAC['extra']} /sys/class/net/*/address"
        if "extra" in m.nets:
            m.control("unplug", device="extra")
            m.nets.remove("extra")
            until(lambda: len(m.control("info")["nets"]) == 1, "the interface goes", 120)
            m.port.shell(f"! {path} || sleep 2; ! {path}")
            return "unplugged"
        run(*self.network.inside, vivguest.VMM, "ctl", m.sock, "plug", "net",
            f"tap,ifname=extra{m.tap},mac={MAC['extra']},name=extra")
        m.nets.append("extra")
        m.port.shell(f"for i in $(seq 600); do {path} && exit 0; sleep 0.1; done; exit 1", 120)
        return "plugged"

    def op_cpus(self):
        m, self.cpus = self.machine, self.random.choice([n for n in (1, 2, 3, 4) if n != self.cpus])
        m.control("set", setting=f"vcpus={self.cpus}")
        until(lambda: m.control("info")["cpus"] == self.cpus and m.port.shell("nproc") == str(self.cpus),
              f"the guest has {self.cpus} processors", 120, 0.2)
        return f"{self.cpus}"

    def op_memory(self):
        m, self.memory = self.machine, self.random.choice([n for n in (512, 640, 768, 1024) if n != self.memory])
        m.control("set", setting=f"memory={self.memory}M")
        until(lambda: m.control("info")["memory"] == self.memory * MIB, f"the guest has {self.memory} MiB", 120, 0.2)
        return f"{self.memory} MiB"

    def op_balloon(self):
        m, size = self.machine, self.random.choice([0, 32, 64, 96])
        m.control("set", setting=f"balloon={size}M")
        until(lambda: m.control("stats")["balloon"]["actual"] == size * MIB, f"the balloon has {size} MiB", 120, 0.2)
        return f"{size} MiB"

    def op_limits(self):
        m = self.machine
        iops, share = self.random.choice([0, 50, 500]), self.random.choice(["none", "1", "1.5"])
        m.control("set", setting=f"disk.disk0.iops={iops}")
        m.control("set", setting=f"cpu-limit={share}")
        return f"disk0 {iops} per second, processors {share}"

    OPERATIONS = {"save": 4, "save_and_go_on": 1, "migrate": 4, "upgrade": 4, "fork": 1, "pause": 1, "disk": 4, "net": 2, "console": 2, "cpus": 2,
                  "memory": 2, "balloon": 2, "limits": 1}

    def draw(self, n):
        """N operations: each kind once, then by weight."""
        names = list(self.OPERATIONS)
        self.random.shuffle(names)
        return (names + self.random.choices(names, [self.OPERATIONS[x] for x in names], k=n))[:n]

    def survive(self, n):
        for i, name in enumerate(self.draw(n)):
            self.clocks.check(True)
            begin = time.monotonic()
            self.log(f"{i + 1:4} {name}")
            told = getattr(self, "op_" + name)()
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
