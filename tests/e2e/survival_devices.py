# SPDX-License-Identifier: Apache-2.0
"""Devices of the machine of survival.py come and go, change size and speed, and its disks are worked on while it uses them."""
import hashlib
import os
import random
import socket
import subprocess
import time

import iso9660
import vivguest
from survival import MAC, Wrong, run, until
from survival_plan import DISK_MIB, MIB, SECRET

VIV = os.path.join(os.path.dirname(vivguest.VMM), "viv")
SECRET_MIB = 8
MEDIUM_BYTES = 700_001


def noise(key, size):
    """A command of the shell that writes SIZE bytes that follow from KEY."""
    return f"openssl enc -aes-128-ctr -pass pass:{key} -nosalt -md sha256 -in /dev/zero 2>/dev/null | head -c {size}"


class Devices:
    """The part of Run that does the plan's operations on devices; each returns what it did."""

    # --- disks that come and go ---

    def make_secret(self):
        """An encrypted disk, and its option."""
        self.key_file, path = os.path.join(self.folder, "key"), os.path.join(self.folder, f"{SECRET}.img")
        with open(self.key_file, "w", encoding="ascii") as f:
            f.write("correct horse")
        os.chmod(self.key_file, 0o600)
        self.make_image("encrypted", path, SECRET, SECRET_MIB)
        return f"path={path},format=qcow2,name={SECRET},serial={SECRET},key-file={self.key_file}"

    def make_image(self, kind, path, name, mib):
        """Its format."""
        create = [VIV, "disk", "create", path, f"{mib}M", "--format", "raw" if kind == "raw" else "qcow2"]
        if kind == "encrypted":
            create += ["-o", "encrypt.format=luks", "--key-file", self.key_file]
            self.keyed.add(name)
        if kind == "backed":
            base = f"{self.folder}/{name}.base"
            run(VIV, "disk", "create", base, f"{mib}M", "--format", "raw")
            create += ["--backing", base, "--backing-format", "raw"]
        run(*create)
        return create[6]

    def fill_disk(self, serial, key):
        """The guest writes it; what it reads back has to be what it was told to write."""
        size = DISK_MIB * MIB
        self.machine.port.shell(f"{noise(key, size)} | dd of=/dev/disk/by-id/virtio-{serial} bs=1M iflag=fullblock oflag=direct "
                                "conv=fsync 2>/dev/null")
        told = subprocess.run(noise(key, size), shell=True, check=True, capture_output=True).stdout
        self.disks[serial] = hashlib.sha256(told).hexdigest()
        self.compare_disk(self.machine.port, serial)

    def compare_disk(self, port, serial):
        told = port.shell(f"dd if=/dev/disk/by-id/virtio-{serial} iflag=direct bs=1M count={DISK_MIB} 2>/dev/null | sha256sum")
        if told.split()[0] != self.disks[serial]:
            raise Wrong(f"disk {serial} has changed")

    def check_contents(self, port):
        """Of all disks but the root's, and of the medium."""
        for serial in self.disks:
            self.compare_disk(port, serial)
        if self.medium:
            self.compare_medium(port)

    def guest_waits(self, condition, port=None):
        (port or self.machine.port).shell(f"for i in $(seq 600); do {condition} && exit 0; sleep 0.1; done; exit 1", 120)

    def op_disk(self, plug=None, unplug=None, key=0, kind=None):
        if unplug:
            return self.unplug_disk(unplug)
        path, m = os.path.join(self.folder, f"{plug}.img"), self.machine
        form = self.make_image(kind, path, plug, DISK_MIB)
        more = f",key-file={self.key_file}" if plug in self.keyed else ""
        m.ctl("plug", "disk", f"path={path},format={form},serial={plug},name={plug}{more}")
        self.guest_waits(f"[ -b /dev/disk/by-id/virtio-{plug} ]")
        self.fill_disk(plug, key)
        return "plugged"

    def unplug_disk(self, serial):
        m = self.machine
        self.compare_disk(m.port, serial)
        path = self.disk(serial)["path"]
        del self.disks[serial]
        self.keyed.discard(serial)
        m.control("unplug", device=serial)
        until(lambda: serial not in [d["name"] for d in m.control("info")["disks"]], f"{serial} goes", 120)
        self.guest_waits(f"! [ -e /dev/disk/by-id/virtio-{serial} ]")
        os.unlink(path)
        base = f"{self.folder}/{serial}.base"
        if os.path.exists(base):
            os.unlink(base)
        return "unplugged"

    # --- interfaces, consoles, media ---

    def op_net(self, plug):
        return self.plug_net("extra", plug, f"tap,ifname=extra{self.machine.tap},mac={MAC['extra']},name=extra")

    def op_user_net(self, plug):
        return self.plug_net("passt", plug, f"user,mac={MAC['passt']},name=passt") if vivguest.have("passt") else "there is no passt here"

    def plug_net(self, name, plug, settings):
        m, seen = self.machine, f"grep -qs {MAC[name]} /sys/class/net/*/address"
        if plug:
            run(*self.network.inside, vivguest.VMM, "ctl", m.sock, "plug", "net", settings)
            m.nets.append(name)
            self.guest_waits(seen)
            return "plugged"
        m.control("unplug", device=name)
        m.nets.remove(name)
        until(lambda: name not in [n["name"] for n in m.control("info")["nets"]], "the interface goes", 120)
        self.guest_waits(f"! {seen}")
        return "unplugged"

    def op_console(self, plug, word):
        """A stream: what programs in the guest and the client of a socket say to each other arrives, before it goes again."""
        m, port = self.machine, "/dev/virtio-ports/survive.console"
        if plug:
            path = os.path.join(self.folder, "plugged")
            m.ctl("plug", "console", f"socket:{path},name=survive.console,id=stream")
            self.guest_waits(f"[ -c {port} ]")
            m.stream_path = path
            self.talk(path, port, word)
            return "plugged"
        path, m.stream_path = m.stream_path, None
        self.talk(path, port, word)
        m.ctl("unplug", "stream")
        until(lambda: len(m.control("info")["consoles"]) == 1, "the console goes", 120)
        self.guest_waits(f"! [ -e {port} ]")
        if os.path.exists(path):
            raise Wrong("the socket's name is still there")
        return "unplugged"

    def op_entropy(self, plug):
        m = self.machine
        m.ctl("plug" if plug else "unplug", "rng")
        until(lambda: m.control("info")["rng"] == plug, "the source of entropy comes or goes", 120)
        self.guest_waits(("" if plug else "! ") + "ls /sys/bus/virtio/drivers/virtio_rng | grep -q virtio")
        return "plugged" if plug else "unplugged"

    def op_single(self, device):
        """Of what there is one: it goes, the guest does without, and it comes back and works."""
        m, before = self.machine, self.machine.control("info")[device]
        m.ctl("unplug", device)
        until(lambda: not m.control("info").get(device), f"{device} goes", 120)
        if device == "agent":           # its service, which systemd starts by the device, does not come back if that was gone for a moment only
            self.guest_waits("! systemctl is-active -q qemu-guest-agent && ! [ -e /dev/virtio-ports/org.qemu.guest_agent.0 ]")
        m.ctl("plug", device, *([f"path={before['path']},cid={before['cid']}"] if device == "vsock" else []))
        if device == "vsock":
            until(m.port.is_there, "the guest listens on its socket device again", 120, 0.2)
        elif device == "agent":
            until(self.agent_answers, "the guest's agent answers again", 120, 0.5)
        else:
            self.op_balloon(16)
            self.op_balloon(0)
        return "unplugged and plugged"

    def agent_answers(self):
        try:
            self.check_agent()
        except Wrong:
            return False
        return True

    def op_terminal(self, plug):
        """The console device without ports."""
        m = self.machine
        m.ctl("plug" if plug else "unplug", "hvc")
        until(lambda: m.control("info")["hvc"] == plug, "the console device comes or goes", 120)
        return "plugged" if plug else "unplugged"

    def talk(self, path, port, word):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(120)
            s.connect(path)
            self.machine.port.shell(f"(until read -r x && [ -n \"$x\" ]; do sleep 0.1; done; echo heard $x) <>{port} >&0 2>/dev/null &")
            time.sleep(0.5)
            s.sendall(word.encode() + b"\n")
            told = s.makefile().readline()
            if told.strip() != f"heard {word}":
                raise Wrong(f"the console's stream says {told!r}, not what it heard, {word}")

    def op_medium(self, insert=None, eject=None, key=0):
        m, path = self.machine, f"{self.folder}/medium{eject if insert is None else insert}.iso"
        if insert is None:
            self.compare_medium(m.port)
            until(self.eject, "the guest lets go of the medium", 120, 0.5)
            until(lambda: "path" not in m.control("info")["cdroms"][0], "the medium goes", 120)
            os.unlink(path)
            self.medium = None
            return "ejected"
        iso9660.write(path, "SURVIVE", {"DATA.BIN": random.Random(key).randbytes(MEDIUM_BYTES)})
        with open(path, "rb") as f:
            self.medium = os.path.getsize(path), hashlib.sha256(f.read()).hexdigest()
        m.ctl("insert", "cd", path)
        self.guest_waits("dd if=/dev/sr0 of=/dev/null bs=2048 count=1 2>/dev/null")
        self.compare_medium(m.port)
        return "inserted"

    def eject(self):
        """Debian's udev keeps the tray locked while there is a medium, and opens it when it is asked to."""
        try:
            self.machine.control("eject", device="cd")
        except Wrong as why:
            if "has locked the drive" not in str(why):
                raise
            return False
        return True

    def compare_medium(self, port):
        size, digest = self.medium
        told = port.shell(f"blockdev --flushbufs /dev/sr0; dd if=/dev/sr0 bs=2048 count={size // 2048} 2>/dev/null | sha256sum")
        if told.split()[0] != digest:
            raise Wrong("the medium has changed")

    # --- sizes and limits ---

    def op_cpus(self, n):
        m = self.machine
        m.control("set", setting=f"vcpus={n}")
        until(lambda: m.control("info")["cpus"] == n and m.port.shell("nproc") == str(n), f"the guest has {n} processors", 120, 0.2)
        return "done"

    def op_memory(self, mib):
        m = self.machine
        m.control("set", setting=f"memory={mib}M")
        until(lambda: m.control("info")["memory"] == mib * MIB, f"the guest has {mib} MiB", 120, 0.2)
        return "done"

    def op_balloon(self, mib):
        m = self.machine
        m.control("set", setting=f"balloon={mib}M")
        until(lambda: m.control("stats")["balloon"]["actual"] == mib * MIB, f"the balloon has {mib} MiB", 120, 0.2)
        return "done"

    def op_limits(self, iops, bps, share):
        self.machine.control("set", setting=f"disk.disk0.iops={iops},disk.disk0.bps={bps},cpu-limit={share}")
        return "set"

    def op_pause(self, seconds):
        self.machine.control("pause")
        time.sleep(seconds)
        self.machine.control("resume")
        return "and resumed"

    # --- jobs ---

    def disk(self, name):
        return next(d for d in self.machine.control("info")["disks"] if d["name"] == name)

    def new_image(self, disk, form):
        """Hand over an image to be made; (its id, its path)."""
        self.n_images += 1
        path = os.path.join(self.folder, f"{disk}.job{self.n_images}.img")
        self.machine.ctl("image-add", f"i{self.n_images}", path, "--new", f"format={form}")
        return f"i{self.n_images}", path

    def await_jobs(self):
        until(lambda: not self.machine.control("jobs")["jobs"], "the jobs end", 600)

    def await_move(self, disk, path, form):
        """The jobs end, and DISK is in PATH."""
        self.await_jobs()
        now = self.disk(disk)
        if (now["path"], now["format"]) != (path, form):
            raise Wrong(f"disk {disk} is {now}, not {path}, {form}")

    def commit(self, name):
        """Push its top image into the one right below."""
        def begin():
            try:
                self.machine.control("disk-commit", disk=name, base="1")
            except Wrong as why:
                # The kernel closes the files of a process that was killed a little later than it is seen to end.
                if "in use by another process" not in str(why):
                    raise
                return False
            return True
        until(begin, "others have let go of the images", 30)

    def overlay(self, disks, quiesce=False):
        """New images on top of DISKS; {disk: path}."""
        images = {d: self.new_image(d, "qcow2") for d in disks}
        how = {"quiesce": True} if quiesce else {}
        self.machine.control("disk-snapshot", disks=",".join(f"{d}={image}" for d, (image, _) in images.items()), **how)
        return {d: path for d, (_, path) in images.items()}

    def op_disk_snapshot(self, disks, quiesce):
        before = {d: self.disk(d) for d in disks}
        tops = self.overlay(disks, quiesce)
        self.settle()
        for d in disks:
            self.commit(d)
        for d, was in before.items():
            self.await_move(d, was["path"], was["format"])
            os.unlink(tops[d])
        return "taken and committed"

    def op_disk_stream(self, disk):
        below = self.disk(disk)["path"]
        top = self.overlay([disk])[disk]
        self.machine.control("disk-stream", disk=disk)
        self.await_move(disk, top, "qcow2")
        if "backing" in self.machine.control("disk-info", disk=disk):
            raise Wrong(f"disk {disk} stands on {below} still")
        self.keyed.discard(disk)
        os.unlink(below)
        return "pulled into a new image"

    def op_disk_mirror(self, disk, mode, end, rest, **how):
        m, was = self.machine, self.disk(disk)
        image, path = self.new_image(disk, how["format"])
        more = {"speed": "1M"} if rest else {}
        m.control("disk-mirror", disks=f"{disk}={image}", id="mirror", mode=mode, wait=end != "at once", **more)
        if rest:
            m.control("job-pause", id="mirror")
            time.sleep(0.5)
            m.control("job-set", id="mirror", speed=0)
            m.control("job-resume", id="mirror")
        if end == "completed":
            until(lambda: m.control("jobs")["jobs"][0]["ready"], "the mirror is ready", 600)
            m.control("job-complete", id="mirror")
        if end == "cancelled":
            m.control("job-cancel", id="mirror")
            self.await_move(disk, was["path"], was["format"])
            os.unlink(path)
            return "cancelled"
        self.await_move(disk, path, how["format"])
        self.keyed.discard(disk)
        os.unlink(was["path"])
        return "moved"

    def op_disk_backup(self, disk, quiesce, **how):
        image, path = self.new_image(disk, how["format"])
        more = {"quiesce": True} if quiesce else {}
        self.machine.control("disk-backup", disks=f"{disk}={image}", id="backup", **more)
        self.await_jobs()
        if how["format"] == "qcow2":
            run(VIV, "disk", "check", path)
        if disk in self.disks:
            raw = os.path.join(self.folder, "raw")
            run(VIV, "disk", "convert", path, raw, "--source-format", how["format"], "--format", "raw")
            with open(raw, "rb") as f:
                if hashlib.sha256(f.read(DISK_MIB * MIB)).hexdigest() != self.disks[disk]:
                    raise Wrong(f"the backup of {disk} has not what it has")
            os.unlink(raw)
        os.unlink(path)
        return "made"

    def op_disk_inside(self, disks):
        control, disks = self.machine.control, ",".join(disks)
        control("snapshot-create", disks=disks, name="inside")
        control("bitmap-add", disks=disks, name="dirty")
        self.check_contents(self.machine.port)
        control("bitmap-clear", disks=disks, name="dirty")
        control("bitmap-remove", disks=disks, name="dirty")
        control("snapshot-delete", disks=disks, name="inside")
        return "made and removed"

    def op_disk_resize(self, disk, more):
        size = self.disk(disk)["size"] + more
        self.machine.control("disk-resize", disk=disk, size=size)
        self.guest_waits(f"[ $(blockdev --getsize64 /dev/disk/by-id/virtio-{disk}) = {size} ]")
        return f"to {size >> 20} MiB"
