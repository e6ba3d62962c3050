# SPDX-License-Identifier: Apache-2.0
"""The host fails, the guest stays: passt dies, disks shrink or fill up, terminals stall, signals."""
import ctypes
import os
import pathlib
import pty
import select
import signal
import socket
import subprocess
import tempfile
import termios
import time

import pytest
import vivguest
from vivguest import Guest

ELF = os.path.join(vivguest.ROOT, "build/tests/guest/hostile/hostile.elf")
# Boots no kernel: prints for ever, or sleeps for ever.
FLOOD = ["--kernel", ELF, "--cmdline", "test=console rounds=100000", "--memory", "64M", "--engine", "interp"]
SLEEP = ["--kernel", ELF, "--cmdline", "", "--memory", "64M", "--engine", "interp"]
FLOOD_SAYS = {"viv-vmm: warning: guest: output lost: nobody reads the console (0x1)" + more
              for more in ("", "; more of these are only counted")}
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user or make interfaces")


def linux(run, name, *extra, **kw):
    folder = vivguest.kernel("bookworm")
    return Guest("--kernel", os.path.join(folder, "vmlinuz"), "--initrd", vivguest.initrd("bookworm", run, name),
                 "--cmdline", "console=ttyS0 quiet", "--memory", "256M", "--engine", "interp",
                 "--console", "stdio", *extra, **kw)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(n) for n in f.read().split()]


# ---- network ----

NET = """
ip link set eth0 up
udhcpc -q -n -i eth0 -s /bin/true >/dev/null 2>&1 && echo NET-UP
while read -r line; do
	udhcpc -q -n -t 10 -i eth0 -s /bin/true >/dev/null 2>&1 && echo "NET-AGAIN $line"
done
"""


def passts(pid):
    """Those that PID has started, itself or by its keeper; not those that have ended."""
    found = []
    for child in children(pid):
        with open(f"/proc/{child}/stat", encoding="ascii") as f:
            name, _, state = f.read().partition("(")[2].rpartition(")")
        if name.startswith("passt") and state.split()[0] != "Z":
            found.append(child)
        found += passts(child)
    return found


@pytest.mark.parametrize("jail", ["off", "on"])
def test_passt_that_is_killed_comes_back(jail):
    with linux(NET, "net", "--net", "user", "--jail", jail) as guest:
        guest.expect("NET-UP", 120)
        for n in range(2):
            old = passts(guest.proc.pid)
            assert len(old) == 1
            os.kill(old[0], signal.SIGKILL)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and passts(guest.proc.pid) in ([], old):
                time.sleep(0.1)
            guest.send(f"{n}\n")
            guest.expect(f"NET-AGAIN {n}", 60)
        assert guest.stderr().count("\n") <= 5, guest.stderr()        # one of them about the jail
        keepers = children(guest.proc.pid)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(os.path.exists(f"/proc/{pid}") for pid in keepers):
        time.sleep(0.1)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in keepers)   # nobody outlives the machine


# ---- disks ----

DISK_IO = """
dd if=/dev/vda of=/dev/null bs=4k count=1 2>/dev/null && echo READ-GOOD
read -r line
dd if=/dev/vda of=/dev/null bs=4k skip=1024 count=1 iflag=direct 2>/dev/null || echo READ-FAILS
dd if=/dev/zero of=/dev/vda bs=64k seek=16 count=16 oflag=direct conv=fsync 2>/dev/null && echo WRITE-GOOD || echo WRITE-FAILS
echo ALIVE
"""


def test_disk_image_cut_short_under_the_guest(tmp_path):
    disk = tmp_path / "d.img"
    disk.write_bytes(b"\0" * (8 << 20))
    with linux(DISK_IO, "diskio", "--disk", f"path={disk}") as guest:
        guest.expect("READ-GOOD", 120)
        os.truncate(disk, 1 << 20)
        guest.send("go\n")
        guest.expect("READ-FAILS", 60)
        guest.expect("ALIVE", 60)
        assert guest.wait(60) == 0
        assert guest.stderr().count(str(disk)) == 1, guest.stderr()


@needs_root
def test_file_system_that_is_full(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", folder], check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        disk = folder / "d.img"
        with open(disk, "wb") as f:
            f.truncate(8 << 20)
        with linux(DISK_IO, "diskio", "--disk", f"path={disk}") as guest:
            guest.expect("READ-GOOD", 120)
            guest.send("go\n")
            guest.expect("WRITE-FAILS", 60)
            guest.expect("ALIVE", 60)
            assert guest.wait(60) == 0
            assert guest.stderr().count(str(disk)) == 1, guest.stderr()
            assert "No space left" in guest.stderr()
    finally:
        subprocess.run(["umount", folder], check=True)


# ---- signals, standard descriptors ----

@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("what", ["flood", "sleep"])
def test_signal_ends_the_machine(signo, what):
    with Guest(*(FLOOD if what == "flood" else SLEEP)) as guest:
        time.sleep(0.5)
        begin = time.monotonic()
        os.kill(guest.proc.pid, signo)
        assert guest.proc.wait(10) == 0 and time.monotonic() - begin < 3
        assert set(guest.stderr().splitlines()) <= FLOOD_SAYS, guest.stderr()


def test_output_that_goes_away_does_not_end_the_machine():
    with Guest(*FLOOD) as guest:
        guest.expect("BEGIN", 30)
        guest.proc.stdout.close()
        time.sleep(1)
        assert guest.proc.poll() is None
        os.kill(guest.proc.pid, signal.SIGTERM)
        assert guest.proc.wait(10) == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors_are_not_taken_by_files(closed, tmp_path):
    disk = tmp_path / "d.img"
    disk.write_bytes(b"\x55" * (1 << 20))
    words = " ".join(f"'{w}'" for w in [vivguest.VMM, *FLOOD, "--disk", f"path={disk}"])
    proc = subprocess.Popen(["sh", "-c", f"exec {words} {closed}"], stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    links = [os.readlink(f"/proc/{proc.pid}/fd/{n}") for n in range(3)]
    proc.terminate()
    assert proc.wait(10) == 0
    assert all(link == "/dev/null" for link in links), links
    assert disk.read_bytes() == b"\x55" * (1 << 20)


class Terminal:
    """viv-vmm with a terminal of its own."""

    def __init__(self, *args):
        self.master, slave = pty.openpty()
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.proc = subprocess.Popen([vivguest.VMM, *args], stdin=slave, stdout=slave, stderr=slave,
                                     start_new_session=True)

    def wait_raw(self):
        deadline = time.monotonic() + 10
        while termios.tcgetattr(self.slave)[3] & termios.ICANON:
            assert time.monotonic() < deadline and self.proc.poll() is None
            time.sleep(0.02)

    def is_restored(self):
        return termios.tcgetattr(self.slave)[:4] == self.before[:4]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV, signal.SIGABRT])
def test_terminal_is_restored_after_a_signal(signo):
    with Terminal(*SLEEP) as t:
        t.wait_raw()
        t.proc.send_signal(signo)
        status = t.proc.wait(10)
        assert status == (0 if signo in (signal.SIGTERM, signal.SIGHUP) else -signo)
        assert t.is_restored()


def thread_of(pid, name):
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/comm", encoding="ascii") as f:
            if f.read().strip() == name:
                return int(tid)
    raise AssertionError(f"process {pid} has no thread '{name}'")


@pytest.mark.parametrize("engine", ["bt", "interp"])
@pytest.mark.parametrize("name", ["vcpu0", "viv-vmm"])
def test_a_process_that_a_fault_ends_says_so_from_its_jail(engine, name):
    """In whatever thread, and while code runs on the guest's stack pointer."""
    with Guest(*FLOOD[:-1], engine) as guest:
        guest.expect("BEGIN", 30)
        ctypes.CDLL(None).tgkill(guest.pid, thread_of(guest.pid, name), signal.SIGSEGV)
        assert guest.wait(10) == -signal.SIGSEGV
        told = [line for line in guest.stderr().splitlines() if "the process ends" in line]
        assert len(told) == 1 and f"signal 11 (SIGSEGV) in thread '{name}' at " in told[0], guest.stderr()
        assert told[0].endswith(f"sent by process {os.getpid()}") or told[0].endswith("sent by process 0"), told


def test_quit_key_twice_ends_with_status_0():
    with Terminal(*SLEEP) as t:
        t.wait_raw()
        os.write(t.master, b"\x01x\x01x\x01x")
        assert t.proc.wait(10) == 0
        assert t.is_restored()


def test_terminal_that_stands_still_blocks_neither_signals_nor_the_guest():
    with Terminal(*FLOOD) as t:
        t.wait_raw()
        time.sleep(1.5)         # nobody reads: the terminal's buffer is full
        t.proc.send_signal(signal.SIGTERM)
        assert t.proc.wait(5) == 0
        assert t.is_restored()


# ---- consoles ----

def test_console_in_a_file(tmp_path):
    log = tmp_path / "log"
    with Guest("--kernel", ELF, "--cmdline", "test=poweroff", "--memory", "64M", "--engine", "interp",
               "--console", f"file:{log}") as guest:
        assert guest.wait(30) == 0
    assert log.read_bytes() == b"BEGIN\r\n"


def test_console_on_a_pseudo_terminal():
    with Guest(*FLOOD, "--console", "pty") as guest:
        deadline = time.monotonic() + 10
        while "console is at" not in guest.stderr() and time.monotonic() < deadline:
            time.sleep(0.05)
        path = guest.stderr().split("console is at ")[1].split()[0]
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        assert select.select([fd], [], [], 10)[0] and os.read(fd, 100)
        os.close(fd)
        time.sleep(0.3)
        assert guest.proc.poll() is None


def test_console_on_a_socket_takes_one_client_after_the_other(tmp_path):
    path = tmp_path / "s"
    with Guest(*FLOOD, "--console", f"socket:{path}") as guest:
        for _ in range(3):
            deadline = time.monotonic() + 10
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(10)
                while True:
                    try:
                        s.connect(str(path))
                        break
                    except (FileNotFoundError, ConnectionRefusedError):
                        assert time.monotonic() < deadline
                        time.sleep(0.05)
                assert s.recv(100)
                time.sleep(0.3)         # its buffer is full when it goes
        os.kill(guest.proc.pid, signal.SIGTERM)
        assert guest.proc.wait(10) == 0
    assert not path.exists()


# ---- rights ----

@pytest.fixture
def for_all():
    """A folder that every user may enter: pytest's own are closed again whenever another pytest starts."""
    with tempfile.TemporaryDirectory(prefix="viv-for-all-") as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


def readable_copy(folder, *files):
    """Copies that another user may read and execute, whatever the umask was that made the files."""
    copies = [vivguest.copy_sparse(f, str(folder / os.path.basename(f))) for f in files]
    for copy in copies:
        os.chmod(copy, 0o755)
    return copies


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


SERVE = """
ip link set eth0 up
cat >/tmp/s <<'EOF'
#!/bin/sh
[ "$1" = bound ] && ip addr add $ip/${mask:-24} dev $interface && ip route add default via $router dev $interface
exit 0
EOF
chmod +x /tmp/s
udhcpc -q -n -i eth0 -s /tmp/s >/dev/null 2>&1 && echo NET-UP
echo from-guest | dd of=/dev/vda conv=fsync 2>/dev/null && echo DISK-GOOD
read -r line
"""


@needs_root
def test_unprivileged_user_runs_everything_of_the_first_session(for_all):
    folder = vivguest.kernel("bookworm")
    vmm, kernel, initrd = readable_copy(for_all, vivguest.VMM, os.path.join(folder, "vmlinuz"),
                                        vivguest.initrd("bookworm", SERVE, "serve"))
    disk = for_all / "d.img"
    disk.write_bytes(b"\0" * (4 << 20))
    os.chmod(disk, 0o600)
    os.chown(disk, 65534, 65534)
    port = free_port()
    with Guest(*NOBODY[1:], vmm, "--kernel", kernel, "--initrd", initrd, "--cmdline", "console=ttyS0 quiet",
               "--memory", "256M", "--cpus", "2", "--disk", f"path={disk},format=raw",
               "--net", f"user,hostfwd=tcp:127.0.0.1:{port}:8022", "--console", "stdio", "--engine", "auto",
               vmm=NOBODY[0]) as guest:
        guest.expect("NET-UP", 120)
        guest.expect("DISK-GOOD", 30)
        # The forwarded port is bound; test_debian.py carries data through one.
        socket.create_connection(("127.0.0.1", port), 10).close()
        guest.send("done\n")
        assert guest.wait(60) == 0, guest.stderr()
    assert disk.read_bytes().startswith(b"from-guest\n")


@needs_root
def test_tap_without_permission_says_what_to_do(for_all):
    vmm, elf = readable_copy(for_all, vivguest.VMM, ELF)
    done = subprocess.run([*NOBODY, vmm, "--kernel", elf, "--net", "tap,ifname=vivtest0", "--engine", "interp"],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "net=user" in done.stderr and "permi" in done.stderr, done.stderr


# One ICMP echo; the answer comes from the guest.
PING = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(20)
s.sendto(bytes([8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1]), ("10.77.0.2", 0))
while True:
    data, peer = s.recvfrom(200)
    if peer[0] == "10.77.0.2" and data[20:22] == bytes(2) and data[24:26] == bytes([0x12, 0x34]):
        break
"""

TAP = """
ip link set eth0 up
ip addr add 10.77.0.2/24 dev eth0
echo TAP-UP
nc -l -p 8022 -e /bin/cat && echo SERVED
"""


@needs_root
def test_tap_in_a_network_namespace_carries_ping_and_tcp(tmp_path):
    if not os.path.exists("/dev/net/tun") or not vivguest.have("ip"):
        pytest.skip("no /dev/net/tun or no 'ip' here")
    folder = vivguest.kernel("bookworm")
    initrd = vivguest.initrd("bookworm", TAP, "tap")
    ns = f"vivtest{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", ns], check=False).returncode:
        pytest.skip("network namespaces are not permitted here")
    inside = ["ip", "netns", "exec", ns]
    try:
        for cmd in ("tuntap add dev t0 mode tap", "addr add 10.77.0.1/24 dev t0", "link set t0 up", "link set lo up"):
            subprocess.run([*inside, "ip", *cmd.split()], check=True)
        with Guest(*inside[1:], vivguest.VMM, "--kernel", os.path.join(folder, "vmlinuz"), "--initrd", initrd,
                   "--cmdline", "console=ttyS0 quiet", "--memory", "256M", "--engine", "interp",
                   "--net", "tap,ifname=t0", "--console", "stdio", vmm="ip") as guest:
            guest.expect("TAP-UP", 120)
            subprocess.run([*inside, "/usr/bin/python3", "-c", PING], check=True, timeout=60)
            client = ("import socket,os;s=socket.create_connection(('10.77.0.2',8022),20);s.settimeout(20);"
                      "d=os.urandom(300000);import threading;threading.Thread(target=s.sendall,args=(d,)).start();"
                      "g=b''\nwhile len(g)<len(d): g+=s.recv(65536)\nassert g==d")
            subprocess.run([*inside, "/usr/bin/python3", "-c", client], check=True, timeout=60)
            guest.expect("SERVED", 30)
            assert guest.wait(60) == 0
    finally:
        subprocess.run(["ip", "netns", "del", ns], check=False)
