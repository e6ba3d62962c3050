# SPDX-License-Identifier: Apache-2.0
"""The table of devices and options against what is done to a whole machine: docs/design/matrix.md shows it,
test_matrix.py executes it. A row knows how it is given to the machine, how it is seen to work, and how it comes and
goes."""
import os
import shutil
import socket
import subprocess
import time

import vivguest

# The columns; each is a function of test_matrix.py.
OPERATIONS = ("save and restore", "restore under the other engine", "fork", "migrate", "upgrade", "hot-plug", "reset")

# Options of the configuration document that say nothing of the machine, but of the process that runs it, or of its first start.
OF_THE_PROCESS = {
    "name", "engine", "code_cache", "windows", "cmdline", "kernel", "initrd", "firmware_log", "control", "end_file", "paused", "changed_disks",
    "revert_disks", "restore_key_file", "copy", "incoming_tls", "jail", "pid_namespace", "cgroup", "stats", "profile", "profile_symbols", "perf_map", "log_level", "no_reboot",
}
# What is in the table of another test, which says why.
ELSEWHERE = {
    "disks[].create": "test_migration_disks.py: an image is made before there is a machine",
    "nets[].ifname": "test_survival.py: a tap needs root and a namespace",
    "firmware": "test_kernel.py boots it; it is a device of ROM alone, which is in guest memory",
    "exit_port": "write-only, without state", "test_device": "for test kernels; its state is fwcfg's, tests/unit/vm/save.c",
    "cpu": "test_migration.py: the CPUID table goes along",
}


ON_THE_BOARD = "part of the board, as in every PC"
WITH_ITS_DEVICE = "yes, with its device"


class Row:
    """DEVICES: of virtio that it makes. KEYS: of the configuration document that it shows."""

    def __init__(self, name, keys, devices=(), hotplug="yes"):
        self.name, self.keys, self.devices, self.hotplug = name, keys, devices, hotplug

    def options(self, _m):
        return []

    def check(self, m):
        raise NotImplementedError

    def plug(self, m):
        """It comes, works and goes, on a running machine; nothing for what can only be there from the start."""


class Processors(Row):
    def options(self, _m):
        return ["--cpus", "2,max=3"]

    def check(self, m):
        m.run("test $(nproc) = 2 && taskset 2 true")

    def plug(self, m):
        m.ctl("set", "vcpus=3")
        m.run("wait_until 'test -e /sys/devices/system/cpu/cpu2/online' && echo 1 >/sys/devices/system/cpu/cpu2/online; test $(nproc) = 3")
        m.ctl("set", "vcpus=2")
        m.until(lambda: m.ctl("info", "--json")["cpus"] == 2, "the processor goes")


class Memory(Row):
    def options(self, _m):
        return ["--memory", "256M,max=512M"]

    def check(self, m):
        m.run("test -e /tmp/blob || { head -c 3000000 /dev/urandom >/tmp/blob; sha256sum </tmp/blob >/tmp/sum; }; "
              "test \"$(sha256sum </tmp/blob)\" = \"$(cat /tmp/sum)\"")

    def plug(self, m):
        for mib in (384, 256):
            m.ctl("set", f"memory={mib}M")
            m.until(lambda size=mib: m.ctl("info", "--json")["memory"] == size << 20, f"there are {mib} MiB")


class Disk(Row):
    """LETTER writes its number of checks where it has found the last one."""

    def __init__(self, name, keys, make, options="", readonly=False):
        super().__init__(f"disk: {name}", keys, ("virtio-blk",))
        self.make, self.more, self.readonly = make, options, readonly
        self.serial = name.replace(" ", "-")[:20]

    def image(self, m, plugged=False):
        path = os.path.join(m.tmp, self.serial + ("-plugged" if plugged else ""))
        if not os.path.exists(path):
            self.make(m.tmp, path)
        return path

    def options(self, m):
        key = os.path.join(m.tmp, "key")
        return ["--disk", f"path={self.image(m)},serial={self.serial},name={self.serial}{self.more.format(key=key)}"]

    def find(self, serial):
        return f'd=; for b in /sys/block/vd*; do [ "$(cat $b/serial)" = {serial} ] && d=/dev/${{b##*/}}; done; test -b "$d"'

    def check(self, m, serial=None):
        self.checks = getattr(self, "checks", 0) + 1
        serial = serial or self.serial
        if self.readonly:
            m.run(f"{self.find(serial)} && test \"$(cat /sys/block/${{d#/dev/}}/ro)\" = 1 && dd if=$d of=/dev/null bs=64k count=4 2>/dev/null")
            return
        m.run(f"{self.find(serial)} && echo {serial} {self.checks} | dd of=$d bs=512 seek=9 conv=sync,fsync 2>/dev/null && "
              f"echo 1 >/proc/sys/vm/drop_caches; dd if=$d bs=512 skip=9 count=1 2>/dev/null | grep -q '^{serial} {self.checks}$'")

    def plug(self, m):
        path, serial = self.image(m, True), self.serial + "x"
        m.ctl("plug", "disk", f"path={path},serial={serial[-20:]},name={serial}{self.more.format(key=os.path.join(m.tmp, 'key'))}")
        m.run(f"wait_until 'grep -qs {serial[-20:]} /sys/block/vd*/serial'")
        self.check(m, serial[-20:])
        m.ctl("unplug", serial)
        m.until(lambda: serial not in [d["name"] for d in m.ctl("info", "--json")["disks"]], f"{serial} goes")


class Drive(Row):
    """It comes and goes, and so does its medium; the guest reads it by blocks."""

    def image(self, m, name):
        path = os.path.join(m.tmp, name)
        if not os.path.exists(path):
            with open(path, "wb") as f:
                f.write(name.encode().ljust(2048, b"\0") * 100)
        return path

    def options(self, m):
        return ["--cdrom", f"path={self.image(m, 'cd-one.iso')},format=raw,name=cd"]

    def check(self, m, name="cd-one.iso", dev="/dev/sr0"):
        m.run(f"test \"$(dd if={dev} bs=2048 skip=42 count=1 iflag=direct 2>/dev/null | tr -d '\\0')\" = {name}")

    def plug(self, m):
        m.ctl("eject", "cd")
        m.run("! dd if=/dev/sr0 bs=2048 count=1 iflag=direct 2>/dev/null | grep -q cd-")
        for name in ("cd-two.iso", "cd-one.iso"):
            m.ctl("insert", "cd", self.image(m, name))
            self.check(m, name)
            if name == "cd-two.iso":
                m.ctl("eject", "cd")
        m.ctl("plug", "cdrom", f"path={self.image(m, 'cd-three.iso')},format=raw,name=another")
        m.run("wait_until 'test -b /dev/sr1'")
        self.check(m, "cd-three.iso", "/dev/sr1")
        m.ctl("unplug", "another")
        m.until(lambda: [d["name"] for d in m.ctl("info", "--json")["cdroms"]] == ["cd"], "the drive goes")


class Net(Row):
    def __init__(self, kind, keys, mac):
        super().__init__(f"net: {kind}", keys, ("virtio-net",))
        self.kind, self.mac = kind, mac

    def options(self, _m):
        return ["--net", f"{self.kind},mac={self.mac}"]

    def nic(self, mac):
        return f"grep -l {mac} /sys/class/net/*/address | cut -d/ -f5"

    def check(self, m, mac=None):
        m.run(f"nic=$({self.nic(mac or self.mac)}); test -n \"$nic\" && ip link set $nic up && "
              f"wait_until 'test \"$(cat /sys/class/net/$nic/carrier)\" = 1'")
        if self.kind == "user":
            m.run("udhcpc -q -n -t 20 -T 1 -i $nic -s /bin/true >/dev/null 2>&1")

    def plug(self, m):
        mac = self.mac[:-1] + "f"
        m.ctl("plug", "net", f"{self.kind},mac={mac},name=plugged")
        m.run(f"wait_until 'grep -qs {mac} /sys/class/net/*/address'")
        self.check(m, mac)
        m.ctl("unplug", "plugged")
        m.until(lambda: "plugged" not in [n["name"] for n in m.ctl("info", "--json")["nets"]], "the interface goes")


class One(Row):
    """A device of which there is one or none, called WORD; SETTINGS to plug it."""

    def __init__(self, word, keys, devices, hotplug="yes"):
        super().__init__(word, keys, devices, hotplug)
        self.word = word

    def settings(self, _m):
        return []

    def is_gone(self, m):
        """In the guest."""

    def come(self, m):
        m.ctl("plug", self.word, *self.settings(m))

    def go(self, m):
        m.ctl("unplug", self.word)
        m.until(lambda: not m.ctl("info", "--json").get(self.word), f"{self.word} goes")
        self.is_gone(m)

    def plug(self, m):
        self.go(m)
        self.come(m)
        self.check(m)


class Stream(Row):
    """Bytes go through a socket into the guest and come back."""

    def __init__(self, name, keys, port, device, ident=""):
        super().__init__(name, keys, ("virtio-console",) if "virtio" in device else (), "yes" if ident else WITH_ITS_DEVICE if "virtio" in device else ON_THE_BOARD)
        self.port, self.device, self.ident = port, device, ident

    def options(self, m):
        return ["--console", f"socket:{m.socket_path(self.port)},{self.device}"]

    def check(self, m, path=None, port=None):
        port = port or self.port
        device = f"/dev/{port}" if port.startswith("tty") else \
            f'/dev/$(for p in /sys/class/virtio-ports/*; do [ "$(cat $p/name 2>/dev/null)" = {port} ] && echo ${{p##*/}}; done)'
        m.run(f"d={device}; stty -echo raw <$d 2>/dev/null; "
              '(until read -r x && [ "$x" ]; do usleep 50000; done; echo "heard $x") <>$d >&0 2>/dev/null & true')
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(120)
            s.connect(path or m.socket_path(self.port))
            time.sleep(0.3)
            s.sendall(b"hello\n")
            told = s.makefile().readline()
        assert told.strip() == "heard hello", told

    def plug(self, m):
        if not self.ident:
            return
        path = os.path.join(m.tmp, "plugged.socket")
        m.ctl("plug", "console", f"socket:{path},name=org.viv.plugged,id=plugged")
        m.run("wait_until 'grep -qs org.viv.plugged /sys/class/virtio-ports/*/name'")
        self.check(m, path, "org.viv.plugged")
        m.ctl("unplug", "plugged")
        m.until(lambda: "plugged" not in [c.get("id") for c in m.ctl("info", "--json")["consoles"]], "the console goes")


class Shell(Row):
    def options(self, _m):
        return ["--console", "stdio"]

    def check(self, m):
        m.run("true")


class FileConsole(Row):
    def options(self, m):
        return ["--console", f"file:{m.socket_path('hvc')},device=virtio"]

    def check(self, m):
        self.checks = getattr(self, "checks", 0) + 1
        m.run(f"echo check-{self.checks} >/dev/hvc0")
        m.until(lambda: f"check-{self.checks}" in open(m.socket_path("hvc"), encoding="utf-8").read(), "hvc0 says it")


class Entropy(One):
    def check(self, m):
        m.run("wait_until 'dd if=/dev/hwrng bs=16 count=1 2>/dev/null | od -An -tx1 | grep -q ..'")

    def is_gone(self, m):
        m.run("! dd if=/dev/hwrng bs=16 count=1 2>/dev/null | od -An -tx1 | grep -q ..")


class Balloon(One):
    def options(self, _m):
        return ["--balloon", "on"]

    def check(self, m):
        for mib in (24, 16):
            m.ctl("set", f"balloon={mib}M")
            m.until(lambda size=mib: m.ctl("stats", "--json")["balloon"]["actual"] == size << 20, f"it has {mib} MiB")


class AgentPort(One):
    def options(self, _m):
        return ["--agent", "on"]

    def is_gone(self, m):
        m.run("! grep -qs org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name")
        assert "no port for a guest agent" in m.ctl("agent", "ping", status=1)

    def check(self, m):
        m.run("wait_until 'grep -qs org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name'")
        assert "no guest agent runs" in m.ctl("agent", "ping", status=1)


class Vsock(One):
    def options(self, m):
        return ["--vsock", m.socket_path("vsock"), "--vsock-cid", "77"]

    def settings(self, m):
        return [f"path={m.socket_path('vsock')},cid=77"]

    def is_gone(self, m):
        assert not os.path.exists(m.socket_path("vsock"))

    def check(self, m):
        m.run("wait_until 'test \"$(vsock cid)\" = \"vsock: cid 77\"'")
        for left in reversed(range(10)):        # a guest that was restored cuts what it hears before it knows that
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(60)
                s.connect(m.socket_path("vsock"))
                s.sendall(b"CONNECT 1000\n")
                lines = s.makefile("rb")
                if lines.readline().startswith(b"OK"):
                    s.sendall(b"ping\n")
                    if lines.readline() == b"ping\n":
                        return
            assert left, "no echo over vsock"
            time.sleep(0.3)


class Share(Row):
    def options(self, _m):
        return ["--cpu-limit", "1.9"]

    def check(self, m):
        assert m.ctl("info", "--json")["cpu_limit"] == "1.9"

    def plug(self, m):
        m.ctl("set", "cpu-limit=none")
        m.ctl("set", "cpu-limit=1.9")


class Limits(Disk):
    def check(self, m, serial=None):
        super().check(m, serial)
        name = serial or self.serial
        assert [d["limits"]["iops"] for d in m.ctl("info", "--json")["disks"] if d["name"] == name or d["serial"] == name] == [5000]


def raw(_folder, path):
    with open(path, "wb") as f:
        f.truncate(8 << 20)


def qcow2(_folder, path):
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "8M"], check=True)


def overlay(folder, path):
    base = path + ".base"
    raw(folder, base)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", path], check=True)


def encrypted(folder, path):
    key = os.path.join(folder, "key")
    if not os.path.exists(key):
        with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as f:
            f.write("correct horse")
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "--object", f"secret,id=s,file={key}", "-o",
              "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", path, "8M"]
    # On a busy host it now and then measures no processor time for its key derivation, and gives up.
    assert any(subprocess.run(create, check=False).returncode == 0 for _ in range(30))


LIMIT_KEYS = tuple(f"disks[].{kind}{way}{burst}" for kind in ("iops", "bps") for way in ("", "_read", "_write")
                   for burst in ("", "_burst", "_burst_seconds"))
ROWS = [
    Processors("processors", ("cpus", "cpus_max")),
    Memory("memory, virtio-mem", ("memory", "memory_max"), ("virtio-mem",)),
    Disk("raw", ("disks[].path", "disks[].serial", "disks[].name"), raw),
    Disk("qcow2", ("disks[].format",), qcow2, ",format=qcow2"),
    Disk("backing image", (), overlay),
    Disk("encrypted", ("disks[].key_file",), encrypted, ",key-file={key}"),
    Disk("readonly", ("disks[].readonly",), raw, ",readonly=on", readonly=True),
    Disk("direct", ("disks[].direct",), raw, ",direct=on"),
    Limits("limits", LIMIT_KEYS, raw, ",iops=5000"),
    Drive("cdrom", ("cdroms[].path", "cdroms[].format", "cdroms[].name"), ("virtio-scsi",), hotplug="yes, and its medium"),
    Net("none", ("nets[].kind", "nets[].mac", "nets[].name"), "52:54:00:00:88:10"),
    Net("user", ("nets[].hostfwd", "nets[].metadata"), "52:54:00:00:88:20"),
    Shell("console: uart, stdio", ("consoles[].target",), hotplug=ON_THE_BOARD),
    Stream("console: uart, socket", ("consoles[].device",), "ttyS1", "device=uart"),
    FileConsole("console: virtio, file", ("hvc",), ("virtio-console",), hotplug=WITH_ITS_DEVICE),
    Stream("console: virtio, stream", ("consoles[].name",), "org.viv.stream", "device=virtio,name=org.viv.stream"),
    Stream("console: a device of its own", ("consoles[].id",), "org.viv.own", "device=virtio,name=org.viv.own,id=own", "own"),
    Entropy("rng", ("rng",), ("virtio-rng",)),
    Balloon("balloon", ("balloon",), ("virtio-balloon",), hotplug="yes, and its size"),
    AgentPort("agent", ("agent", "agent_device"), ("virtio-console",)),
    Vsock("vsock", ("vsock", "vsock_cid"), ("virtio-vsock",)),
    Share("cpu-limit", ("cpu_limit",)),
]
if not shutil.which("passt"):
    ROWS = [r for r in ROWS if r.name != "net: user"]


def cell(row, operation):
    return row.hotplug if operation == "hot-plug" else "yes"


def table():
    """As docs/design/matrix.md has it."""
    lines = ["| | " + " | ".join(OPERATIONS) + " |", "|---" * (len(OPERATIONS) + 1) + "|"]
    lines += [f"| {row.name} | " + " | ".join(cell(row, o) for o in OPERATIONS) + " |" for row in ROWS]
    return "\n".join(lines)


def vsock_program(folder):
    program = os.path.join(folder, "vsock")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs/vsock.c")
    subprocess.run(["cc", "-O2", "-static", "-o", program, source], check=True)
    return program


def initrd(folder):
    script = r"""
stty -echo 2>/dev/null
vsock echo 1000 >/dev/null 2>&1 &
echo SHELL-READY
while read -r line; do eval "$line"; done
"""
    return vivguest.initrd("bookworm", script, "matrix", programs=(vsock_program(folder),),
                           modules=("virtio_balloon", "virtio_mem", "vmw_vsock_virtio_transport", "virtio_scsi", "sr_mod"))
