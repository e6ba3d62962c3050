# SPDX-License-Identifier: Apache-2.0
"""Devices come to and go from a running Linux, which is saved, restored and migrated in between."""
import json
import os
import socket
import subprocess
import threading
import time

import pytest
import vivguest
from vivguest import Guest
from test_saved_state import ctl, wait_for

ENGINES = ["bt", "interp"]

# A shell that does what it is told, a line at a time.
SHELL = r"""
stty -echo 2>/dev/null
echo SHELL-READY
while read -r line; do eval "$line"; done
"""

# wait_until CONDITION is true, for a minute at most; total: KiB of memory
FUNCTIONS = r"""wait_until() { n=0; while ! eval "$1"; do n=$((n+1)); [ $n -lt 600 ] || return 1; usleep 100000; done; }; total() { set -- $(grep MemTotal /proc/meminfo); echo $2; }"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make interfaces")


@pytest.fixture(scope="module")
def shell(bookworm):
    return ["--kernel", os.path.join(bookworm, "vmlinuz"), "--initrd",
            vivguest.initrd("bookworm", SHELL, "hotplug", modules=("ext4", "virtio_balloon", "virtio_mem")),
            "--cmdline", "console=ttyS0 quiet", "--memory", "512M", "--console", "stdio"]


class Machine:
    """A guest with that shell, its control socket, and what the machine told."""

    def __init__(self, options, tmp_path, engine, *extra):
        self.tmp, self.engine, self.n, self.events = tmp_path, engine, 0, []
        self.guest = None
        self.start(*options, *extra)
        self.guest.expect("SHELL-READY", 300)
        self.run(FUNCTIONS)

    def start(self, *options):
        self.n += 1
        self.sock = str(self.tmp / f"sock{self.n}")
        self.guest = Guest(*options, "--engine", self.engine, "--control", self.sock)
        wait_for(self.guest, self.sock)
        self.watch()

    def watch(self):
        self.watcher = subprocess.Popen([vivguest.VMM, "ctl", self.sock, "events", "--json"], stdout=subprocess.PIPE, text=True)
        out, events = self.watcher.stdout, self.events

        def listen():
            for line in out:
                events.append(json.loads(line))
        threading.Thread(target=listen, daemon=True).start()

    def event(self, name, device, timeout=60):
        end = time.monotonic() + timeout
        while not any(e.get("event") == name and e.get("device") == device for e in self.events):
            assert time.monotonic() < end, (name, device, self.events)
            time.sleep(0.02)
        self.events[:] = [e for e in self.events if e.get("event") != name or e.get("device") != device]

    def ctl(self, *args, **kw):
        return ctl(self.sock, *args, **kw)

    def run(self, line, timeout=120):
        self.guest.command(line, timeout)

    def save_and_continue(self, *options, engine=None, how=()):
        state = str(self.tmp / "state")
        self.ctl("save", state, "--stop", *how)
        assert self.guest.wait(60) == 0
        self.guest.kill()
        self.engine = engine or self.engine
        self.start("--restore", state, *options)

    def migrate(self, *options):
        there, path = str(self.tmp / f"sock{self.n + 1}"), str(self.tmp / "incoming")
        other = Guest("--incoming", f"unix:{path}", "--engine", self.engine, "--control", there, *options)
        end = time.monotonic() + 30
        while not os.path.exists(path):
            assert time.monotonic() < end
            time.sleep(0.01)
        self.ctl("migrate", f"unix:{path}")
        assert self.guest.wait(60) == 0
        self.guest.kill()
        self.n += 1
        self.guest, self.sock = other, there
        wait_for(other, there)
        self.watch()

    def wait_balloon(self, size, timeout=60):
        end = time.monotonic() + timeout
        while (b := self.ctl("stats", "--json")["balloon"])["actual"] != size:
            assert time.monotonic() < end, b
            time.sleep(0.1)

    def end(self):
        self.watcher.kill()
        self.guest.kill()


@pytest.fixture(params=ENGINES)
def machine(request, shell, tmp_path):
    """Booted by the fast engine, whichever it is to run on."""
    m = Machine(shell, tmp_path, "bt")
    if request.param != "bt":
        m.save_and_continue(engine=request.param)
    yield m
    m.end()


def image(tmp_path, name, mib=16):
    path = str(tmp_path / name)
    with open(path, "wb") as f:
        f.truncate(mib << 20)
    return path


def test_a_disk_comes_is_used_saved_migrated_and_goes(machine, tmp_path):
    m, path = machine, image(tmp_path, "d.img")
    refused = m.ctl("plug", "disk", f"path={tmp_path}/none", status=2)
    assert "No such file" in refused, refused
    assert m.ctl("plug", "disk", f"path={path},serial=hot", "--json") == {"device": "disk0"}
    m.event("device-plugged", "disk0")
    m.run("wait_until 'test -b /dev/vda && grep -qs hot /sys/block/vda/serial'")      # the node is there a moment earlier
    assert "lists them" in m.ctl("unplug", "disk7", status=1)
    m.run("mke2fs -q /dev/vda >/dev/null && mount -t ext4 /dev/vda /mnt && echo hello >/mnt/a && sync")
    m.save_and_continue()
    m.run("grep hello /mnt/a && echo there >/mnt/b && sync && umount /mnt")
    m.migrate("--disk", f"path={path},serial=hot")
    m.run("mount -t ext4 /dev/vda /mnt && grep there /mnt/b && umount /mnt")
    m.ctl("unplug", "disk0")
    m.event("device-unplugged", "disk0")
    m.run("wait_until '! test -e /dev/vda'")
    assert json.dumps(m.ctl("info", "--json")["disks"]) == "[]"
    # What was unplugged is another's to use, and may come again.
    m.ctl("plug", "disk", f"path={path},name=again,readonly=on")
    m.run("wait_until 'test -b /dev/vda' && mount -o ro -t ext4 /dev/vda /mnt && grep hello /mnt/a && umount /mnt")
    m.ctl("unplug", "again", "--force")
    m.event("device-unplugged", "again")


def say(path, text):
    """TEXT over the socket of a console; the line that comes back."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(path)
        time.sleep(0.2)         # the guest is told that somebody is there
        s.sendall(text.encode() + b"\n")
        return s.makefile().readline().strip()


ANSWER = """answer() { (until read -r x && [ "$x" ]; do usleep 50000; done; echo "heard $x") <>/dev/$1 >&0 2>/dev/null & }; """ \
    """port() { for p in /sys/class/virtio-ports/*; do [ "$(cat $p/name 2>/dev/null)" = $1 ] && echo ${p##*/}; done; }; true"""


def test_consoles_come_are_used_saved_migrated_upgraded_forked_and_go(machine, tmp_path):
    m, path, log = machine, str(tmp_path / "port"), tmp_path / "log"
    m.run(ANSWER)
    assert "belongs to the process" in m.ctl("plug", "console", "stdio", status=1)
    assert m.ctl("plug", "console", f"socket:{path},name=org.viv.a,id=a", "--json") == {"device": "a"}
    m.ctl("plug", "console", f"file:{log}")
    m.event("device-plugged", "console0")
    m.run("wait_until 'test -n \"$(port org.viv.a)\"' && wait_until 'test -c /dev/hvc1 -o -c /dev/hvc0'")
    assert "no device 'b'" in m.ctl("unplug", "b", status=1)
    m.run("answer $(port org.viv.a)")
    assert say(path, "one") == "heard one"
    m.run("stty -opost raw </dev/hvc1 2>/dev/null; for h in 0 1; do echo logged >/dev/hvc$h & done; true")
    wait(lambda: "logged" in log.read_text(), "the line is in the file")
    m.save_and_continue()
    m.run("answer $(port org.viv.a)")
    assert say(path, "two") == "heard two"
    if m.engine == "bt":
        m.ctl("upgrade")
        m.guest.proc.wait(60)
        m.run("answer $(port org.viv.a)")
        assert say(path, "three") == "heard three"
        m.ctl("unplug", "a")
        wait(lambda: [c.get("id") for c in m.ctl("info", "--json")["consoles"]] == [None, "console0"], "it goes")
        assert not os.path.exists(path)
        m.run("wait_until '! test -n \"$(port org.viv.a)\"'")
        # Its place is free for another; copies have it, too, and it leads nowhere there.
        m.ctl("plug", "console", f"socket:{path},name=org.viv.b,id=b")
        copy = m.ctl("fork").split()[1]
        assert [c.get("id") for c in ctl(copy, "info", "--json")["consoles"]] == [None, "console0", "b"]
        ctl(copy, "quit")
        m.ctl("quit")
        return
    m.ctl("unplug", "a", "--force")
    m.event("device-unplugged", "a")
    m.run("true")


def wait(condition, what, timeout=60):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def sweepers():
    """The processes that remove sockets of machines by and by."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as comm, open(f"/proc/{pid}/cmdline", "rb") as line:
                found += [line.read().decode()] if comm.read().strip() == "viv-sweep" else []
        except OSError:
            pass                        # it has ended
    return found


@pytest.mark.parametrize("how", ["quit", "kill", "upgrade and kill", "save", "unplug", "refusal", "another's"])
def test_the_name_of_a_socket_that_was_plugged_ends_with_the_machine(bookworm, tmp_path, how):
    sock, paths = str(tmp_path / "s"), [str(tmp_path / "console"), str(tmp_path / "vsock")]

    def ours():
        return [line for line in sweepers() if str(tmp_path) in line]
    with Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--cmdline", "console=ttyS0 rootwait root=/dev/vdz", "--memory", "128M",
               "--console", "stdio", "--engine", "bt", "--control", sock) as guest:
        guest.expect("Waiting for root device", 60)
        if how == "refusal":
            assert "cid" in ctl(sock, "plug", "vsock", f"path={paths[1]},cid=1", status=1)
            ctl(sock, "plug", "console", f"socket:{paths[0]},id=a", status=0)
            ctl(sock, "plug", "console", f"socket:{tmp_path}/b,id=a", status=1)
            assert not os.path.exists(f"{tmp_path}/b")
            wait(lambda: len(ours()) == 1, "what was refused needs none")
            ctl(sock, "quit")
        else:
            ctl(sock, "plug", "console", f"socket:{paths[0]},name=org.viv.a,id=a")
            ctl(sock, "plug", "vsock", f"path={paths[1]},cid=7")
            assert len(ours()) == 2 and all(map(os.path.exists, paths))
        if how == "upgrade and kill":
            told = ctl(sock, "upgrade")
            assert guest.proc.wait(60) == 0
            time.sleep(3)               # longer than between two looks
            assert len(ours()) == 2 and all(map(os.path.exists, paths))
            for path in paths:          # and they are served
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(path)
            os.kill(int(told.split()[1]), 9)
        elif how == "kill":
            guest.proc.kill()
        elif how == "save":
            ctl(sock, "save", tmp_path / "state", "--stop")
        elif how == "unplug":
            for device in ("a", "vsock"):
                ctl(sock, "unplug", device, "--force")
            wait(lambda: not ours(), "the names have gone: nobody waits")
            ctl(sock, "quit")
        elif how == "another's":
            # What has the name now is not to be removed.
            os.unlink(paths[0])
            with open(paths[0], "w", encoding="ascii"):
                pass
            os.rename(paths[1], str(tmp_path / "moved"))
            wait(lambda: not ours(), "the names have gone: nobody waits")
            ctl(sock, "quit")
        elif how == "quit":
            ctl(sock, "quit")
        wait(lambda: not ours(), "all have ended", 10)
        assert [os.path.exists(p) for p in paths] == [how == "another's", False]


def test_a_socket_that_was_plugged_after_an_upgrade_is_let_go(bookworm, tmp_path):
    """Who listened on the control socket first has ended by then."""
    sock, path = str(tmp_path / "s"), str(tmp_path / "console")
    with Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--cmdline", "console=ttyS0 rootwait root=/dev/vdz", "--memory", "128M",
               "--console", "stdio", "--engine", "bt", "--control", sock) as guest:
        guest.expect("Waiting for root device", 60)
        ctl(sock, "upgrade")
        assert guest.proc.wait(60) == 0
        for _ in range(2):
            ctl(sock, "plug", "console", f"socket:{path},name=org.viv.a,id=a")
            ctl(sock, "unplug", "a", "--force")
            wait(lambda: not [line for line in sweepers() if path in line], "the name has gone: nobody waits")
        ctl(sock, "plug", "console", f"socket:{path},name=org.viv.a,id=a")
        ctl(sock, "quit")
        wait(lambda: not os.path.exists(path), "all have ended", 10)


def test_fifty_times_in_and_out(machine, tmp_path):
    m, path, keep = machine, image(tmp_path, "d.img", 1), image(tmp_path, "k.img", 1)
    m.ctl("plug", "disk", f"path={keep},name=keep")
    for i in range(50 if m.engine == "bt" else 5):
        m.ctl("plug", "disk", f"path={path},serial=n{i}")
        m.run(f"wait_until 'grep -qs n{i} /sys/block/vd*/serial'")
        m.ctl("unplug", "disk0")
        m.event("device-unplugged", "disk0")
        m.run(f"! grep -qs n{i} /sys/block/vd*/serial")
    fds = os.listdir(f"/proc/{m.guest.pid}/fd")
    assert len(fds) < 80, fds
    m.save_and_continue()
    m.run("dd if=/dev/vda of=/dev/null bs=1M 2>/dev/null")


def test_a_disk_that_is_pulled_out_under_load_and_a_reset_that_finishes_an_unplug(shell, tmp_path):
    path, other = image(tmp_path, "d.img"), image(tmp_path, "e.img")
    m = Machine(shell, tmp_path, "bt", "--disk", f"path={other},name=boot")
    try:
        m.ctl("plug", "disk", f"path={path},iops=50")
        m.run("wait_until 'test -b /dev/vdb'")
        m.guest.send("while :; do dd if=/dev/zero of=/dev/vdb bs=64k count=99 conv=fsync 2>/dev/null || break; done & sleep 1\n")
        m.ctl("unplug", "disk0", "--force")
        m.event("device-unplugged", "disk0")
        m.run("kill $! 2>/dev/null; true")
        # A guest that holds on: the device goes with the next reset.
        m.ctl("pause")
        m.ctl("unplug", "boot")
        m.ctl("reset")
        m.ctl("resume")
        m.event("device-unplugged", "boot")
        m.guest.expect("SHELL-READY", 120)
        m.run("! test -e /dev/vda")
    finally:
        m.end()


def test_a_guest_without_acpi_refuses_and_force_works(shell, tmp_path):
    options = [o if o != "console=ttyS0 quiet" else "console=ttyS0 quiet acpi=off" for o in shell]
    path = image(tmp_path, "d.img")
    m = Machine(options, tmp_path, "bt", "--disk", f"path={path}")
    try:
        assert "does not listen" in m.ctl("plug", "net", "none", status=1)
        assert "--force" in m.ctl("unplug", "disk0", status=1)
        m.ctl("unplug", "disk0", "--force")
        m.event("device-unplugged", "disk0")
    finally:
        m.end()


@needs_root
def test_a_tap_comes_and_carries_ping(shell, tmp_path):
    if not os.path.exists("/dev/net/tun") or not vivguest.have("ip"):
        pytest.skip("no /dev/net/tun or no 'ip' here")
    ns = f"vivplug{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", ns], check=False).returncode:
        pytest.skip("network namespaces are not permitted here")
    inside = ["ip", "netns", "exec", ns]
    m = Machine(shell, tmp_path, "bt")
    try:
        for cmd in ("tuntap add dev t0 mode tap", "addr add 10.77.0.1/24 dev t0", "link set t0 up", "link set lo up"):
            subprocess.run([*inside, "ip", *cmd.split()], check=True)
        done = subprocess.run([*inside, vivguest.VMM, "ctl", m.sock, "plug", "net", "tap,ifname=t0,name=lan"],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        m.run("wait_until 'test -e /sys/class/net/eth0' && ip link set eth0 up && ip addr add 10.77.0.2/24 dev eth0")
        m.run("ping -c 3 10.77.0.1")
        m.ctl("unplug", "lan")
        m.event("device-unplugged", "lan")
        m.run("! test -e /sys/class/net/eth0")
    finally:
        m.end()
        subprocess.run(["ip", "netns", "del", ns], check=False)


def resident(guest):
    """Bytes of guest memory that the host has given."""
    with open(f"/proc/{guest.pid}/status", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("RssShmem:")).split()[1]) << 10


def test_the_balloon_takes_memory_and_gives_it_back(shell, tmp_path):
    m = Machine(shell, tmp_path, "bt", "--balloon", "on")
    try:
        m.run("dd if=/dev/zero of=/tmp/fill bs=1M count=300 2>/dev/null; rm /tmp/fill; echo 3 >/proc/sys/vm/drop_caches")
        assert "multiple of 4 KiB" in m.ctl("set", "balloon=5", status=1)
        assert "cannot have more" in m.ctl("set", "balloon=4G", status=1)
        m.ctl("set", "balloon=256M")
        m.wait_balloon(256 << 20)
        m.run("test $(awk '/MemFree/ { print $2 }' /proc/meminfo) -lt 240000")
        assert resident(m.guest) < 256 << 20, resident(m.guest)
        m.ctl("stats")
        time.sleep(0.5)
        guest = m.ctl("stats", "--json")["balloon"]["guest"]
        assert guest["free"] < 240 << 20 < guest["total"], guest
        m.save_and_continue(engine="interp")
        m.wait_balloon(256 << 20)
        m.engine = "bt"
        m.migrate()
        m.wait_balloon(256 << 20)
        m.ctl("set", "balloon=0")
        m.wait_balloon(0)
        m.run("test $(awk '/MemFree/ { print $2 }' /proc/meminfo) -gt 350000")
        m.run("dd if=/dev/urandom of=/tmp/a bs=1M count=90 2>/dev/null && cp /tmp/a /tmp/b && cmp /tmp/a /tmp/b && rm /tmp/a /tmp/b")
    finally:
        m.end()


def test_a_share_of_the_host_processors(shell, tmp_path):
    m = Machine(shell, tmp_path, "bt", "--cpu-limit", "2")
    try:
        assert "no share" in m.ctl("set", "cpu-limit=-1", status=1)
        m.guest.send("while :; do :; done &\n")
        m.ctl("set", "cpu-limit=0.2")
        before, start = m.ctl("stats", "--json")["host_cpu_ns"], time.monotonic()
        time.sleep(2)
        used, took = m.ctl("stats", "--json")["host_cpu_ns"] - before, time.monotonic() - start
        assert used < 0.3e9 * took, (used, took)
        m.save_and_continue()
        assert m.ctl("info", "--json")["cpu_limit"] == "0.2"
        m.ctl("set", "cpu-limit=none")
        m.run("true")
    finally:
        m.end()


ONLINE = "for c in /sys/devices/system/cpu/cpu[1-9]; do [ -e $c/online ] && [ $(cat $c/online) = 0 ] && echo 1 >$c/online; done; true"


def wait_cpus(m, n):
    end = time.monotonic() + 60
    while m.ctl("info", "--json")["cpus"] != n:
        assert time.monotonic() < end, m.ctl("info")
        time.sleep(0.1)


def test_processors_come_and_go(shell, tmp_path):
    m = Machine(shell, tmp_path, "bt", "--cpus", "2,max=4")
    try:
        assert "1 to 4" in m.ctl("set", "vcpus=5", status=1)
        m.run("test $(nproc) = 2")
        m.ctl("set", "vcpus=4")
        m.run(f"wait_until 'test -e /sys/devices/system/cpu/cpu3/online' && {ONLINE} && test $(nproc) = 4")
        m.run("taskset 8 true && test $(grep -c ^processor /proc/cpuinfo) = 4")
        m.save_and_continue(engine="interp")
        m.run("test $(nproc) = 4 && taskset 8 true")
        m.ctl("set", "vcpus=1")
        wait_cpus(m, 1)
        m.run("test $(nproc) = 1")
        m.engine = "bt"
        m.migrate()
        assert m.ctl("info", "--json")["cpus"] == 1
        m.ctl("set", "vcpus=3")
        m.run(f"wait_until 'test -e /sys/devices/system/cpu/cpu2/online' && {ONLINE} && test $(nproc) = 3 && taskset 4 true")
        # A reset keeps them.
        m.ctl("reset")
        m.guest.expect("SHELL-READY", 120)
        m.run("test $(nproc) = 3")
    finally:
        m.end()


def test_processors_without_a_max_are_refused(shell, tmp_path):
    m = Machine(shell, tmp_path, "bt", "--cpus", "2")
    try:
        assert "1 to 2" in m.ctl("set", "vcpus=3", status=1)
        assert "does not listen" in m.ctl("set", "vcpus=1", status=1)
    finally:
        m.end()


def wait_memory(m, mib):
    end = time.monotonic() + 60
    while m.ctl("info", "--json")["memory"] != mib << 20:
        assert time.monotonic() < end, m.ctl("info")
        time.sleep(0.1)


def test_memory_comes_and_goes(shell, tmp_path):
    m = Machine(shell, tmp_path, "bt", "--memory", "256M,max=1280M")
    total = "$(total)"
    try:
        m.run("echo online_movable >/sys/devices/system/memory/auto_online_blocks")
        assert "at most" in m.ctl("set", "memory=2G", status=1)
        assert "stay" in m.ctl("set", "memory=128M", status=1)
        m.run(f"test {total} -lt 260000")
        m.ctl("set", "memory=1G")
        wait_memory(m, 1024)
        m.run(f"wait_until 'test {total} -gt 900000'")
        m.run("mount -t tmpfs -o size=600m none /mnt && dd if=/dev/urandom of=/mnt/a bs=1M count=100 2>/dev/null && "
              "md5sum /mnt/a >/tmp/sum && tail -c 1000000 /mnt/a >/tmp/tail")
        m.save_and_continue(engine="interp")
        wait_memory(m, 1024)
        m.run("tail -c 1000000 /mnt/a | cmp - /tmp/tail")
        m.engine = "bt"
        m.migrate()
        m.run("md5sum -c /tmp/sum && rm /mnt/a")
        m.ctl("set", "memory=256M")
        wait_memory(m, 256)
        m.run(f"wait_until 'test {total} -lt 260000'")
        assert resident(m.guest) < 300 << 20, resident(m.guest)
        m.ctl("set", "memory=512M")
        wait_memory(m, 512)
    finally:
        m.end()
