# SPDX-License-Identifier: Apache-2.0
"""A running Debian is saved and continued again and again, under one engine and the other."""
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest
import vivguest
from vivguest import Guest

# Runs in the guest: checksums of the same files over and over, a file that grows on the disk, and two clocks
# that may neither go back nor jump.
WATCH = r"""
set -u
sum0=$(cat /usr/bin/* 2>/dev/null | sha256sum)
mono() { cut -d' ' -f1 /proc/uptime | tr -d .; }
last=$(mono); wall=$(date +%s%N); n=0
while :; do
    sum=$(cat /usr/bin/* 2>/dev/null | sha256sum)
    [ "$sum" = "$sum0" ] || echo BAD''-SUM
    echo "line $n of the file that grows" >> /root/grows; [ $((n % 8)) = 0 ] && sync
    now=$(mono); w=$(date +%s%N)
    [ "$now" -ge "$last" ] || echo BAD''-MONO "$last" "$now"
    [ "$w" -ge "$wall" ] || echo BAD''-WALL "$wall" "$w"
    [ $((now - last)) -lt 6000 ] || echo BAD''-JUMP "$last" "$now"
    last=$now; wall=$w; n=$((n + 1)); echo "round-$n"
    [ -e /root/stop ] && break
done
awk '{ if ($2 != NR - 1) { print "BAD""-FILE", NR; exit } }' /root/grows
echo "watch ended after $n"
"""


def ctl(sock, *args, status=0, timeout=120):
    done = subprocess.run([vivguest.VMM, "ctl", sock, *map(str, args)], capture_output=True, text=True,
                          timeout=timeout, check=False)
    assert done.returncode == status, (args, done.stdout, done.stderr)
    return json.loads(done.stdout)["result"] if "--json" in args else done.stdout + done.stderr


def wait_for(guest, path, timeout=60):
    """The machine serves its control socket."""
    end = time.monotonic() + timeout
    while True:
        assert guest.proc.poll() is None, guest.stderr()
        assert time.monotonic() < end, f"nobody listens on {path}"
        with socket.socket(socket.AF_UNIX) as s:
            if s.connect_ex(path) == 0:
                return
        time.sleep(0.002)


def debian_options(debian, disk):
    return ["--kernel", os.path.join(debian, "vmlinuz"), "--initrd", os.path.join(debian, "initrd.img"),
            "--cmdline", "console=ttyS0 root=/dev/vda rw", "--memory", "512M", "--cpus", "2",
            "--disk", f"path={disk}", "--net", "none", "--console", "stdio"]


def continue_machine(state, sock, engine, *extra):
    return Guest("--restore", state, "--engine", engine, "--control", sock, *extra)


def test_debian_is_saved_and_continued_alternating_engines(debian, disk, tmp_path):
    rounds = int(os.environ.get("VIV_SAVE_ROUNDS", "12"))
    sock, state = str(tmp_path / "s"), str(tmp_path / "state")
    engines = ["bt", "bt", "interp"]
    guest = Guest(*debian_options(debian, disk), "--engine", "bt", "--control", sock)
    try:
        guest.login(600)
        guest.command("cat > /root/watch <<'END'\n" + WATCH + "END\ntrue")
        guest.send("bash /root/watch &\n")
        guest.expect("round-1\r?\n", 120)
        told = ""
        for i in range(rounds):
            time.sleep(0.3 + 0.2 * (i % 3))
            packing = ["raw", "raw", "lz4", "zstd"][i % 4]
            ctl(sock, "save", state, "--stop", f"packing={packing}")
            assert guest.wait(30) == 0
            told += guest.text()
            guest.kill()
            guest = continue_machine(state, sock, engines[i % 3])
            wait_for(guest, sock)
        guest.send("touch /root/stop\n")
        guest.expect(r"watch ended after \d+", 300)
        told += guest.text()
        guest.send("poweroff\n")
        assert guest.wait(300) == 0
    finally:
        guest.kill()
    assert "BAD-" not in told, told[-3000:]
    done = subprocess.run(["e2fsck", "-fn", disk], capture_output=True, text=True,
                          env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def saved(bookworm, tmp_path):
    """A kernel that waits for its root, saved while it runs on; (options, state)."""
    sock, state, disk = str(tmp_path / "s"), str(tmp_path / "state"), tmp_path / "d.img"
    disk.write_bytes(b"\0" * (1 << 20))
    options = ["--kernel", os.path.join(bookworm, "vmlinuz"), "--cmdline", "console=ttyS0 rootwait root=/dev/vdz",
               "--memory", "512M", "--disk", f"path={disk}", "--console", "stdio", "--engine", "bt"]
    with Guest(*options, "--control", sock) as guest:
        guest.expect("Waiting for root device", 60)
        ctl(sock, "save", state, "--stop")
        assert guest.wait(30) == 0
    return options, state, str(disk)


def refused(*args, says):
    done = subprocess.run([vivguest.VMM, *map(str, args)], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=60, check=False)
    assert done.returncode == 1 and says in done.stderr, (args, done.returncode, done.stderr)


def test_the_first_instruction_comes_within_milliseconds(saved, tmp_path):
    _, state, _ = saved
    sock = str(tmp_path / "again")
    best = 1e9
    for _ in range(5):
        with continue_machine(state, sock, "bt", "--paused") as guest:
            wait_for(guest, sock)
            frozen = ctl(sock, "info", "--json")["guest_time_ns"]
            ctl(sock, "quit")
        begin = time.monotonic_ns()
        with continue_machine(state, sock, "bt") as guest:
            wait_for(guest, sock)
            ran = ctl(sock, "info", "--json")["guest_time_ns"] - frozen
            # Between start and answer, less what the guest has run: an upper bound.
            best = min(best, time.monotonic_ns() - begin - ran)
            ctl(sock, "quit")
    print(f"start to first instruction, and the answer: {best / 1e6:.1f} ms")
    assert best < 100e6     # docs/promises.md has the figure of a quiet machine


def test_a_file_that_is_not_whole_is_refused_and_so_is_a_changed_disk(saved, tmp_path):
    _, state, disk = saved
    whole = open(state, "rb").read()
    bad = tmp_path / "bad"
    for size in (0, 10, 63, 64, 5000, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:size])
        refused("--restore", bad, "--check", says="is not a whole saved machine")
    tail = len(whole) - 2000
    for at in (0, 9, 13, 17, 40, 60, tail, len(whole) - 5, len(whole) - 10):
        bad.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1:])
        refused("--restore", bad, "--check", says=str(bad))
    data = next(i for i in range(1 << 20, len(whole), 4096) if whole[i])
    bad.write_bytes(whole[:data] + bytes([whole[data] ^ 1]) + whole[data + 1:])
    refused("--restore", bad, "--check", says="another checksum")
    zero = next(i for i in range(1 << 20, len(whole), 4096) if not any(whole[i:i + (64 << 10)]))
    bad.write_bytes(whole[:zero + 70] + b"\1" + whole[zero + 71:])
    refused("--restore", bad, "--check", says="was zero when it was written")
    refused("--restore", state, "--memory", "256M", "--check", says="the saved machine has 512 MiB, not 256")
    refused("--restore", state, "--memory", "512M,max=1G", "--check", says="with all that can be added the saved machine has 512 MiB, not 1024")
    refused("--restore", state, "--cpus", "2", "--check", says="cpus: the saved machine has 1, not 2")
    refused("--restore", state, "--net", "none", "--check", says="virtio devices")
    subprocess.run([vivguest.VMM, "--restore", state, "--check"], check=True, timeout=60)
    with open(disk, "r+b") as f:
        f.write(b"x")
    refused("--restore", state, "--check", says="has changed since the machine was saved")
    subprocess.run([vivguest.VMM, "--restore", state, "--changed-disks", "--check"], check=True, timeout=60)
    with open(disk, "ab") as f:
        f.write(b"\0" * 512)
    refused("--restore", state, "--changed-disks", "--check", says="bytes, and had")


def test_a_save_that_fails_leaves_the_machine_running_and_no_file(bookworm, tmp_path):
    sock = str(tmp_path / "s")
    with Guest("--kernel", os.path.join(bookworm, "vmlinuz"), "--cmdline", "console=ttyS0 rootwait root=/dev/vdz",
               "--memory", "256M", "--console", "stdio", "--engine", "bt", "--control", sock) as guest:
        guest.expect("Linux version", 60)
        assert "cannot make" in ctl(sock, "save", "/nonexistent/state", status=2)
        (tmp_path / "folder").mkdir()
        assert "not a regular file" in ctl(sock, "save", tmp_path / "folder", status=2)
        ctl(sock, "save", tmp_path / "good")
        assert "running" in ctl(sock, "info")
        guest.expect("Waiting for root device", 60)
        assert not [f for f in os.listdir(tmp_path) if f.endswith(".tmp")]
        ctl(sock, "quit")


def test_a_saved_machine_can_be_saved_again_after_it_was_continued(saved, tmp_path):
    """The memory of a continued machine is a mapping of its file: a save of it must find all of it."""
    _, state, _ = saved
    sock, second = str(tmp_path / "s2"), str(tmp_path / "second")
    with continue_machine(state, sock, "bt") as guest:
        wait_for(guest, sock)
        time.sleep(0.3)
        result = ctl(sock, "save", second, "--stop", "--json")
        assert guest.wait(30) == 0
    assert result["memory"] > 20 << 20
    subprocess.run([vivguest.VMM, "--restore", second, "--check"], check=True, timeout=60)
    with continue_machine(second, sock, "interp") as guest:
        wait_for(guest, sock)
        a = ctl(sock, "stats", "--json")["cpus"][0]["instructions"]
        time.sleep(1)
        b = ctl(sock, "stats", "--json")["cpus"][0]["instructions"]
        assert b > a
        text = ctl(sock, "info")
        assert re.search(r"state: running", text)
        ctl(sock, "quit")


def test_what_was_named_from_one_folder_is_found_from_another(bookworm, tmp_path, monkeypatch):
    """The machine in its jail has no folder; who restores it, or asks it for a snapshot, stands anywhere."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    sock, state = str(tmp_path / "s"), tmp_path / "state"
    monkeypatch.chdir(here)
    (here / "plain.img").write_bytes(bytes(1 << 20))
    subprocess.run([os.path.join(vivguest.ROOT, "build", "viv"), "disk", "create", "-f", "qcow2", "q.qcow2", "1M"], check=True)
    with Guest("--kernel", os.path.relpath(os.path.join(bookworm, "vmlinuz")), "--cmdline", "console=ttyS0 rootwait root=/dev/vdz", "--memory",
               "128M", "--disk", "path=plain.img,name=plain", "--disk", "path=q.qcow2,name=q", "--vsock", "v", "--console", "stdio",
               "--engine", "bt", "--control", sock) as guest:
        guest.expect("Waiting for root device", 60)
        monkeypatch.chdir(there)
        ctl(sock, "image-add", "i", "top.qcow2", "--new")
        ctl(sock, "disk-snapshot", "q=i")
        assert ctl(sock, "disk-info", "q", "--json")["backing"]["filename"] == str(here / "q.qcow2")
        ctl(sock, "save", state, "--stop")
        assert guest.wait(30) == 0
    with Guest("--restore", state, "--control", sock) as guest:
        wait_for(guest, sock)
        assert [d["path"] for d in ctl(sock, "info", "--json")["disks"]] == [str(here / "plain.img"), str(there / "top.qcow2")]
        ctl(sock, "reset")              # the kernel is read again
        (_, copy), = [line.split() for line in ctl(sock, "fork").splitlines()]
        ctl(copy, "quit")
        ctl(sock, "quit")


def state_of(sock):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(sock)
        s.sendall(b"\x12\0\0\0" + b'{"request":"info"}')
        text = s.recv(65536)
        while len(text) < 4 + int.from_bytes(text[:4], "little"):
            text += s.recv(65536)
        return json.loads(text[4:])["result"]["state"]


def test_who_interrupts_a_fork_leaves_the_machine_running(bookworm, tmp_path):
    sock, interrupted = str(tmp_path / "s"), 0
    options = ["--kernel", os.path.join(bookworm, "vmlinuz"), "--cmdline", "console=ttyS0 rootwait root=/dev/vdz",
               "--memory", "256M", "--console", "stdio", "--engine", "bt", "--control", sock, "--name", "seed"]
    with Guest(*options) as guest:
        guest.expect("Waiting for root device", 60)
        for _ in range(50):
            with subprocess.Popen([vivguest.VMM, "ctl", sock, "fork"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as fork:
                # In small steps, however quick or slow the host is: who is stopped lets nothing go on.
                while fork.poll() is None:
                    fork.send_signal(signal.SIGSTOP)
                    is_paused = state_of(sock) == "paused"
                    if is_paused:
                        fork.send_signal(signal.SIGINT)
                    fork.send_signal(signal.SIGCONT)
                    if is_paused:
                        break
                    time.sleep(0.0003)
                told = fork.communicate(timeout=60)[0].split()
            assert state_of(sock) == "running"
            if told or os.path.exists(sock + "-1"):         # too late: the copy runs, or begins to
                wait_for(guest, sock + "-1")
                ctl(sock + "-1", "quit")
            interrupted += fork.returncode == -signal.SIGINT
            if interrupted == 3:
                break
        assert interrupted == 3
        ctl(sock, "quit")


def test_a_machine_is_forked_into_copies_that_run_and_it_goes_on(bookworm, tmp_path):
    sock, disk = str(tmp_path / "s"), tmp_path / "d.img"
    disk.write_bytes(b"\0" * (1 << 20))
    options = ["--kernel", os.path.join(bookworm, "vmlinuz"), "--cmdline", "console=ttyS0 rootwait root=/dev/vdz",
               "--memory", "256M", "--console", "stdio", "--engine", "bt", "--control", sock, "--name", "seed"]
    with Guest(*options, "--disk", f"path={disk},readonly=on") as guest:
        guest.expect("Waiting for root device", 60)
        copies = [line.split() for line in ctl(sock, "fork", "-n", 5).splitlines()]
        assert len(copies) == 5
        try:
            for i, (pid, copy) in enumerate(copies):
                info = ctl(copy, "info", "--json")
                assert info["name"] == f"seed-{i + 1}" and info["pid"] == int(pid) and info["state"] == "running"
            assert f"'{copies[0][1]}', where copy 1 would" in ctl(sock, "fork", status=1)       # nor is the machine paused for that
            time.sleep(1)
            for _, copy in copies:
                assert ctl(copy, "stats", "--json")["cpus"][0]["interrupts"] > 0
            assert ctl(sock, "info", "--json")["state"] == "running"
        finally:
            for _, copy in copies:
                ctl(copy, "quit")
        ctl(sock, "quit")
