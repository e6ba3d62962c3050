# SPDX-License-Identifier: Apache-2.0
"""Jobs on a disk that a running Debian writes checksummed files to all the time."""
import json
import os
import re
import subprocess
import threading
import time

import pytest
import vivguest
from vivguest import Guest

ENV = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}

# In the guest: files with known sums on /mnt, again and again, until told to stop; then all sums are compared.
LOAD = r"""
n=0
while [ ! -e /root/stop ]; do
    f=/mnt/f$((n % 40))
    seq $n $((n + 20000 + n % 7 * 3000)) > $f
    sha256sum $f > /root/sums/$((n % 40)); [ $((n % 5)) = 0 ] && sync
    n=$((n + 1)); echo $n > /root/n
done
sync; echo 3 > /proc/sys/vm/drop_caches
cat /root/sums/* | sha256sum -c --quiet && echo load''-is-good
"""


def ctl(sock, *args, status=0):
    done = subprocess.run([vivguest.VMM, "ctl", sock, *map(str, args)], capture_output=True, text=True, timeout=120,
                          check=False)
    assert done.returncode == status, (args, done.stdout, done.stderr)
    return json.loads(done.stdout)["result"] if "--json" in args else done.stdout + done.stderr


class Events:
    """What the machine tells of its jobs."""

    def __init__(self, sock):
        self.proc = subprocess.Popen([vivguest.VMM, "ctl", sock, "events", "--json"], stdout=subprocess.PIPE, text=True)
        self.cond, self.seen = threading.Condition(), []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.proc.stdout:
            with self.cond:
                self.seen.append(json.loads(line))
                self.cond.notify_all()

    def wait(self, job, status, timeout=240):
        def has(wanted):
            return [e for e in self.seen if e.get("job") == job and e.get("status") in wanted]
        with self.cond:
            assert self.cond.wait_for(lambda: has((status, "failed", "cancelled")), timeout), self.seen[-5:]
            assert has((status,)), self.seen[-5:]
            self.seen = [e for e in self.seen if e.get("job") != job]

    def close(self):
        self.proc.kill()
        self.proc.wait()


@pytest.fixture
def machine(debian, disk, tmp_path):
    """A Debian with /dev/vdb, a small qcow2 called data, that is mounted and written to; (guest, socket, events)."""
    sock, data = str(tmp_path / "s"), str(tmp_path / "data.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", data, "96M"], check=True)
    guest = Guest("--kernel", os.path.join(debian, "vmlinuz"), "--initrd", os.path.join(debian, "initrd.img"), "--cmdline",
                  "console=ttyS0 root=/dev/vda rw", "--memory", "512M", "--disk", f"path={disk}", "--disk",
                  f"path={data},name=data", "--net", "none", "--console", "stdio", "--engine", "bt", "--control", sock)
    events = None
    try:
        guest.login(600)
        events = Events(sock)
        guest.command("mkfs.ext4 -q /dev/vdb && mount /dev/vdb /mnt && mkdir /root/sums")
        guest.command("cat > /root/load <<'END'\n" + LOAD + "END\ntrue")
        guest.send("bash /root/load &\n")
        yield guest, sock, events
    finally:
        if events:
            events.close()
        guest.kill()


def add(sock, tmp_path, name, *more):
    ctl(sock, "image-add", name, tmp_path / f"{name}.img", "--new", *more)


def writes(guest, n):
    """The guest writes N more files."""
    guest.command(f"a=$(cat /root/n); while [ $(cat /root/n) -lt $((a + {n})) ]; do sleep 0.1; done", 240)


def chain(sock):
    info, names = ctl(sock, "disk-info", "data", "--json"), []
    while info:
        names.append(os.path.basename(info["filename"]))
        info = info.get("backing")
    return names


def test_snapshot_stream_commit_mirror_and_backup_under_load(machine, tmp_path):
    guest, sock, events = machine
    ctl(sock, "set", "disk.disk0.bps=200M,disk.data.iops=2000")
    ctl(sock, "bitmap-add", "data", "day")
    add(sock, tmp_path, "full")
    ctl(sock, "disk-backup", "data=full", "id=full")
    events.wait("full", "completed")
    writes(guest, 4)
    # The guest stands still: what the increment and a mirror have then must be the same.
    ctl(sock, "pause")
    add(sock, tmp_path, "more", f"backing={tmp_path}/full.img", "backing-format=qcow2")
    ctl(sock, "disk-backup", "data=more", "id=more", "bitmap=day")
    events.wait("more", "completed")
    add(sock, tmp_path, "now", "format=raw")
    ctl(sock, "disk-mirror", "data=now", "id=now", "--stay")
    events.wait("now", "completed")
    ctl(sock, "resume")
    subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", "raw", tmp_path / "more.img", tmp_path / "now.img"], check=True,
                   timeout=120)
    writes(guest, 4)
    for name in ("one", "two"):
        add(sock, tmp_path, name)
        ctl(sock, "disk-snapshot", f"data={name}")
        writes(guest, 3)
    assert chain(sock) == ["two.img", "one.img", "data.qcow2"]
    ctl(sock, "disk-commit", "data", "id=middle", "top=1")
    events.wait("middle", "completed")
    assert chain(sock) == ["two.img", "data.qcow2"]
    writes(guest, 3)
    ctl(sock, "disk-stream", "data", "id=flat")
    events.wait("flat", "completed")
    assert chain(sock) == ["two.img"]
    add(sock, tmp_path, "moved")
    ctl(sock, "disk-mirror", "data=moved", "id=move", "--wait", "mode=blocking")
    events.wait("move", "ready")
    writes(guest, 3)
    ctl(sock, "job-complete", "move")
    events.wait("move", "completed")
    add(sock, tmp_path, "last")
    ctl(sock, "disk-snapshot", "data=last")
    writes(guest, 3)
    ctl(sock, "disk-commit", "data", "id=top")
    events.wait("top", "completed")
    assert chain(sock) == ["moved.img"]
    ctl(sock, "disk-resize", "data", "128M")
    guest.command("[ $(cat /sys/block/vdb/size) = 262144 ]")
    writes(guest, 2)
    guest.send("touch /root/stop\n")
    guest.expect("load-is-good", 240)
    # Last: the process dies in the middle of a stream; what was synced is there.
    add(sock, tmp_path, "top")
    ctl(sock, "disk-snapshot", "data=top")
    guest.command("seq 100000 > /mnt/last && sha256sum /mnt/last > /mnt/last.sum && sync")
    ctl(sock, "disk-stream", "data", "id=flat", "speed=256K")
    events.wait("flat", "progress")
    guest.kill()
    for name in ("moved", "full", "more", "top"):
        done = subprocess.run(["qemu-img", "check", "-f", "qcow2", tmp_path / f"{name}.img"], capture_output=True, text=True,
                              check=False)
        assert done.returncode in (0, 3), done.stdout       # leaks at most
    mount_nothing_but_check(tmp_path / "top.img", tmp_path / "raw")
    for name in ("last", "last.sum"):
        debugfs = subprocess.run(["debugfs", "-R", f"cat /{name}", tmp_path / "raw"], capture_output=True, check=True, env=ENV)
        (tmp_path / name).write_bytes(debugfs.stdout)
    got = subprocess.run(["sha256sum", tmp_path / "last"], capture_output=True, text=True, check=True).stdout.split()[0]
    assert (tmp_path / "last.sum").read_text().split()[0] == got


def mount_nothing_but_check(image, raw):
    """The file system in IMAGE, as RAW, after its journal was replayed."""
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, raw], check=True, timeout=120)
    for how, fine in (("-p", (0, 1)), ("-fn", (0,))):
        done = subprocess.run(["e2fsck", how, raw], capture_output=True, text=True, check=False, env=ENV)
        assert done.returncode in fine, done.stdout + done.stderr


# Every file is checked again after each that is written: "good N" says that all were right.
COPYABLE = """
mount -t ext4 /dev/vda /mnt || exit 1
n=0
while :; do
	n=$((n + 1))
	dd if=/dev/urandom of=/mnt/$((n % 20)) bs=1k count=$((n % 64 + 1)) 2>/dev/null
	md5sum /mnt/$((n % 20)) >/tmp/sum.$((n % 20))
	[ $((n % 3)) = 0 ] && sync && echo 3 >/proc/sys/vm/drop_caches
	cat /tmp/sum.* | md5sum -c >/tmp/said 2>&1 && echo "good $n" || { echo "BAD $n"; cat /tmp/said; }
done
"""


def file_has(path, pattern, timeout=60):
    end = time.monotonic() + timeout
    while not re.search(pattern, path.read_text(errors="replace") if path.exists() else ""):
        assert time.monotonic() < end, f"'{pattern}' does not come in {path}"
        time.sleep(0.05)


def test_a_machine_with_a_disk_is_forked_and_each_goes_its_own_way(tmp_path):
    sock, disk = str(tmp_path / "s"), str(tmp_path / "d.img")
    folder, initrd = vivguest.kernel("bookworm"), vivguest.initrd("bookworm", COPYABLE, "copyable")
    subprocess.run(["truncate", "-s", "64M", disk], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", disk], check=True, env=ENV)
    copies = []
    with Guest("--kernel", os.path.join(folder, "vmlinuz"), "--initrd", initrd, "--cmdline", "console=ttyS0 quiet", "--memory",
               "256M", "--engine", "bt", "--console", "stdio", "--name", "seed", "--control", sock, "--disk",
               f"path={disk},format=raw,name=data,serial=abc,bps=100M") as guest:
        guest.expect(r"good 6\r?\n", 120)
        try:
            told = ctl(sock, "fork", "-n", 2, "--", "--console", f"file:{tmp_path}/console{{}}")
            copies = [line.split()[1] for line in told.splitlines()]
            for i, copy in enumerate(copies):
                info = ctl(copy, "info", "--json")
                assert info["name"] == f"seed-{i + 1}" and info["disks"][0]["serial"] == "abc"
                assert info["disks"][0]["path"] == f"{disk}.seed-{i + 1}" and info["disks"][0]["limits"]["bps"] == 100 << 20
                file_has(tmp_path / f"console{i + 1}", r"good \d+\r?\n(.*\n)*.*good \d+")
            assert ctl(sock, "info", "--json")["disks"][0]["path"] == f"{disk}.fork1"
            guest.expect(r"good \d+\r?\n", 60)
            guest.expect(r"good \d+\r?\n", 60)
        finally:
            for copy in copies:
                ctl(copy, "quit")
        ctl(sock, "quit")
        assert guest.wait(30) == 0
        assert "BAD" not in guest.text()
    for i in (1, 2):
        assert "BAD" not in (tmp_path / f"console{i}").read_text()
        mount_nothing_but_check(f"{disk}.seed-{i}", tmp_path / "raw")
    mount_nothing_but_check(f"{disk}.fork1", tmp_path / "raw")


# One line of the state that it found; then the disk diverges: that file, others, and one that goes.
DIVERGING = """
for d in vda vdb vdc vdd; do
	mount -t ext4 /dev/$d /mnt || exit 1
	echo "$d has $(cat /mnt/state) $(ls /mnt | grep -c '^new')"
	echo diverged >/mnt/state
	for i in 1 2 3 4 5; do dd if=/dev/urandom of=/mnt/new$i bs=64k count=8 2>/dev/null; done
	rm -f /mnt/old && sync && umount /mnt
done
echo ALL-DIVERGED
"""


def test_snapshots_are_reverted_to_in_every_format_and_the_file_system_is_whole(tmp_path):
    """Inside a qcow2, and as overlays over vmdk, vdi and vhdx: taken, left, reverted to; each time a guest runs from them."""
    viv = os.path.join(os.path.dirname(vivguest.VMM), "viv")
    folder, initrd = vivguest.kernel("bookworm"), vivguest.initrd("bookworm", DIVERGING, "diverging")
    formats = ("qcow2", "vmdk", "vdi", "vhdx")
    raw, files = tmp_path / "raw", tmp_path / "files"
    files.mkdir()
    (files / "state").write_text("begun\n")
    (files / "old").write_bytes(os.urandom(300000))
    subprocess.run(["truncate", "-s", "32M", raw], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", files, raw], check=True, env=ENV)

    def disk(*words):
        subprocess.run([viv, "disk", *map(str, words)], check=True, timeout=120, stdout=subprocess.DEVNULL)

    def snapshot(fmt):
        if fmt == "qcow2":
            disk("snapshot", "create", tmp_path / "d.qcow2", "before")
            return tmp_path / "d.qcow2"
        disk("create", tmp_path / f"{fmt}.over", "--format", "qcow2", "--backing", f"d.{fmt}", "--backing-format", fmt, "--force")
        return tmp_path / f"{fmt}.over"

    def revert(fmt):
        if fmt == "qcow2":
            disk("snapshot", "revert", tmp_path / "d.qcow2", "before")
        else:
            snapshot(fmt)

    def run(disks):
        options = [w for d in disks for w in ("--disk", f"path={d},format=qcow2")]
        with Guest("--kernel", os.path.join(folder, "vmlinuz"), "--initrd", initrd, "--cmdline", "console=ttyS0 quiet", "--memory",
                   "256M", "--engine", "bt", "--console", "stdio", "--net", "none", *options) as guest:
            guest.expect("ALL-DIVERGED", 240)
            assert guest.wait(60) == 0
            return re.findall(r"vd. has (\w+) (\d)", guest.text())

    for fmt in formats:
        disk("convert", raw, tmp_path / f"d.{fmt}", "--source-format", "raw", "--format", fmt)
    disks = [snapshot(fmt) for fmt in formats]
    assert run(disks) == [("begun", "0")] * 4
    assert run(disks) == [("diverged", "5")] * 4
    for path in disks:
        mount_nothing_but_check(path, tmp_path / "now")
    for fmt in formats:
        revert(fmt)
    for path in disks:
        disk("convert", path, tmp_path / "now", "--format", "raw", "--force")
        assert (tmp_path / "now").read_bytes() == raw.read_bytes()
    assert run(disks) == [("begun", "0")] * 4
    for path in disks:
        mount_nothing_but_check(path, tmp_path / "now")
        disk("check", path)
