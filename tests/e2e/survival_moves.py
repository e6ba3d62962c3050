# SPDX-License-Identifier: Apache-2.0
"""What is done to the machine of survival.py as a whole: it goes to a file and back, to other processes, and some of these fail."""
import json
import os
import pathlib
import re
import subprocess
import time

import vivguest
import wire
from authority import Authority
from survival import ENV, GuestPort, Wrong, is_running, until


def has_ended(process):
    """It was killed; with all its memory that takes a moment."""
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        return False
    return True


class Moves:
    """The part of Run that does the plan's operations on the whole machine; each returns what it did."""

    # --- saved and restored ---

    def how_saved(self, packing, encrypted):
        return [f"packing={packing}", *([f"key-file={self.key_file}"] if encrypted else [])]

    def op_save(self, packing, encrypted, engine):
        m, state = self.machine, os.path.join(self.folder, "state")
        pid, begin = m.pid, time.monotonic()
        m.ctl("save", state, "--stop", *self.how_saved(packing, encrypted))
        m.wait_end(pid)
        key = ["--restore-key-file", self.key_file] if encrypted else []
        m.adopt(*m.spawn("--restore", state, *key, "--engine", engine, *m.net_options(m.tap), *m.console_options()))
        m.keep_console()
        took = time.monotonic() - begin
        os.unlink(state)
        return f"restored after {took:.2f} s"

    def op_save_and_go_on(self, packing, encrypted):
        state = os.path.join(self.folder, "kept")
        self.machine.ctl("save", state, *self.how_saved(packing, encrypted))
        os.unlink(state)
        return "the machine goes on"

    # --- migrated ---

    def keys(self):
        """Folders of two hosts that know each other."""
        if not self.hosts:
            authority = Authority(pathlib.Path(self.folder, "keys"))
            self.hosts = authority.issue("a", "DNS:a.example"), authority.issue("b", "DNS:b.example,IP:127.0.0.1")
        return self.hosts

    def disk_options(self, going):
        """--disk of all; those of GOING lead to new images."""
        options = []
        for d in self.machine.control("info")["disks"]:
            path, more = d["path"], ""
            if d["name"] in going:
                path, more = f"{self.folder}/{d['name']}.{self.machine.n + 1}.img", ",create=on"
            if d.get("serial"):
                more += f",serial={d['serial']}"
            if d["name"] in self.keyed:
                more += f",key-file={self.key_file}"
            more += "".join(f",{name}={value}" for name, value in d["limits"].items() if value)
            options += ["--disk", f"path={path},name={d['name']},format={d['format']}{more}"]
        return options

    def place(self, going):
        """What the other side has to be told when it does not take this one's word for it."""
        drive = self.machine.control("info")["cdroms"][0]
        return ["--kernel", os.path.join(self.guest, "vmlinuz"), "--initrd", os.path.join(self.guest, "initrd.img"),
                "--cdrom", f"{drive.get('path', 'none')},name=cd", *self.disk_options(going)]

    def going(self, disks):
        """Names of the disks that go along."""
        names = [d["name"] for d in self.machine.control("info")["disks"]]
        return {"shared": [], "plugged": [n for n in names if n != "disk0"], "all": names}[disks]

    def await_machine(self, via, tls, going, engine):
        """The other side; (control socket, port, address)."""
        m = self.machine
        at = "tcp:127.0.0.1:0" if via == "tcp" else f"unix:{self.folder}/wire{m.n}"
        options = self.place(going) if tls or via == "tcp" else self.disk_options(going) if going else []
        options += ["--incoming-tls", self.keys()[1]] if tls else []
        sock, port = m.spawn("--incoming", at, "--engine", engine, *options, *m.net_options(m.tap ^ 1), *m.console_options())
        until(lambda: "waiting for a machine" in m.stderr() or m.processes[-1].poll() is not None, "the destination waits", 60, 0.01)
        found = re.search(r"TCP port (\d+)", m.stderr())
        return sock, port, f"tcp:127.0.0.1:{found.group(1)}" if found else at

    def ask_migrate(self, at, *options):
        """`ctl migrate`, where the address can be reached."""
        m = self.machine
        return subprocess.Popen([*self.network.inside, vivguest.VMM, "ctl", m.sock, "migrate", at, *options, "--json"], env=ENV,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def how(self, packing, streams, tls, going, postcopy="off"):
        """Settings of a migration."""
        options = [f"packing={packing}", f"streams={streams}"]
        options += [f"tls={self.keys()[0]}", "tls_name=b.example"] if tls else []
        options += [f"with-disks={','.join(going)}"] if going else []
        if postcopy == "round":         # what is left after one does not fit
            options += ["postcopy=on", "postcopy_after=1", "pause_ms=1"]
        if postcopy == "asked":
            options += ["postcopy=on", "postcopy_after=0", "bandwidth=64M"]
        return options

    def answered(self, asking):
        """The result of a `ctl` that has to succeed."""
        told, errors = asking.communicate(timeout=600)
        if asking.returncode:
            raise Wrong(f"{' '.join(asking.args[3:])}: {errors.strip()} {told.strip()[-500:]}\n{self.machine.stderr()[-1500:]}")
        return json.loads(told)["result"]

    def phase(self):
        return self.machine.control("migration")["phase"]

    def op_migrate(self, via, tls, packing, streams, postcopy, disks, engine):
        m, pid, going = self.machine, self.machine.pid, self.going(disks)
        left = [d["path"] for d in m.control("info")["disks"] if d["name"] in going]
        sock, port, at = self.await_machine(via, tls, going, engine)
        asking = self.ask_migrate(at, *self.how(packing, streams, tls, going, postcopy))
        if postcopy == "asked":
            until(lambda: self.phase() == "memory" or asking.poll() is not None, "memory goes", 300, 0.01)
            if asking.poll() is None:
                m.control("migrate-start-postcopy")
        told = self.answered(asking)
        m.wait_end(pid)
        m.adopt(sock, port)
        m.tap ^= 1
        m.keep_console()
        for path in left:               # what went along is whole at the other side
            os.unlink(path)
        return f"{told['sent'] / 1e6:.0f} MB in {told['total_ns'] / 1e9:.1f} s, pause {told['pause_ns'] / 1e6:.0f} ms"

    op_migrate_streams = op_migrate_tls = op_migrate_post = op_migrate_disks = op_migrate

    def op_migrate_cancelled(self, via, tls, packing, streams, postcopy, disks, engine):
        m, pid, going = self.machine, self.machine.pid, self.going(disks)
        _, _, at = self.await_machine(via, tls, going, engine)
        there = m.processes[-1]
        asking = self.ask_migrate(at, *self.how(packing, streams, tls, going, postcopy), "bandwidth=8M")
        until(lambda: self.phase() in ("disks", "memory") or asking.poll() is not None, "the migration begins", 300, 0.01)
        if asking.poll() is not None:
            raise Wrong(f"the migration has ended: {asking.communicate()}")
        m.control("migrate-set", bandwidth="1M")
        phase = self.phase()
        m.control("migrate-cancel")
        _, errors = asking.communicate(timeout=300)
        if "was cancelled" not in errors:
            raise Wrong(f"a cancelled migration ends with {asking.returncode}: {errors}")
        until(lambda: there.poll() is not None, "the destination ends", 60)
        self.drop_images(going)
        self.is_still_here(pid)
        return f"in phase {phase}"

    def op_waits(self, share, cancel):
        """While a migration is under way, what would change the machine waits in line; one of it is taken back."""
        m, pid, kept = self.machine, self.machine.pid, os.path.join(self.folder, "kept")
        _, _, at = self.await_machine("unix", False, [], "bt")
        there = m.processes[-1]
        moving = self.ask_migrate(at, "bandwidth=1M")
        until(lambda: self.phase() == "memory" or moving.poll() is not None, "the migration begins", 300, 0.01)
        asked = {"set": self.ask("set", f"cpu-limit={share}")}
        self.in_line("set")
        asked["save"] = self.ask("save", kept)
        self.in_line("set", "save")
        m.control("waiting-cancel", number=next(w["number"] for w in m.control("waiting")["waiting"] if w["request"] == cancel))
        m.control("migrate-cancel")
        moving.communicate(timeout=300)
        until(lambda: there.poll() is not None, "the destination ends", 60)
        for name, one in asked.items():
            _, errors = one.communicate(timeout=300)
            if bool(one.returncode) != (name == cancel) or ("cancelled while it waited" in errors) != (name == cancel):
                raise Wrong(f"{name}, when {cancel} was taken back: {one.returncode} {errors}")
        self.is_still_here(pid)
        if os.path.exists(kept) != (cancel != "save") or (m.control("info").get("cpu_limit") == share) != (cancel != "set"):
            raise Wrong(f"{cancel} was taken back, and the machine is {m.control('info')}")
        if cancel == "set":
            os.unlink(kept)
        m.control("set", setting="cpu-limit=none")
        return "done afterwards"

    def ask(self, *args):
        return subprocess.Popen([vivguest.VMM, "ctl", self.machine.sock, *args], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                text=True)

    def in_line(self, *requests):
        until(lambda: [w["request"] for w in self.machine.control("waiting")["waiting"]] == [*requests], f"{requests} wait in line", 60)

    def drop_images(self, going):
        """What a migration that failed has left at the other side."""
        for name in going:
            path = f"{self.folder}/{name}.{self.machine.n}.img"
            if os.path.exists(path):
                os.unlink(path)

    def is_still_here(self, pid):
        """The machine goes on in the process that it was in; in doubt, whoever knows that the other one is dead says so."""
        m = self.machine
        info = m.control("info")
        if info["state"] == "paused":
            m.control("resume")
        if info["pid"] != pid or m.control("info")["state"] != "running":
            raise Wrong(f"the machine is {info}, not running in process {pid}")

    def op_migrate_broken(self, at, packing, streams):
        """The other side is killed when a record of that type comes by."""
        m, pid = self.machine, self.machine.pid
        _, _, address = self.await_machine("unix", False, [], "bt")
        there = m.processes[-1]

        def kill(record):
            there.kill()
            return record
        between = wire.Wire(pathlib.Path(self.folder), address.removeprefix("unix:"), getattr(wire, at), kill)
        try:
            asking = self.ask_migrate(f"unix:{between.path}", *self.how(packing, streams, False, []))
            _, errors = asking.communicate(timeout=300)
        finally:
            os.unlink(between.path)
        if not asking.returncode or not has_ended(there):
            raise Wrong(f"the other side was killed, and the migration ends with {asking.returncode}: {errors}")
        self.is_still_here(pid)
        return json.loads(errors)["error"]["message"] if errors.startswith("{") else errors.strip()[-200:]

    # --- upgraded ---

    def op_upgrade(self):
        m, pid = self.machine, self.machine.pid
        told = m.ctl("upgrade").split()
        m.wait_end(pid)
        m.adopt(m.sock, m.port.path)
        if str(m.pid) != told[1]:
            raise Wrong(f"process {m.pid} answers, not {told[1]}")
        return f"pause {int(told[3]) / 1e6:.0f} ms"

    def op_upgrade_refused(self, program):
        """To a program that cannot."""
        m, pid, bad = self.machine, self.machine.pid, os.path.join(self.folder, "bad")
        with open(bad, "w", encoding="ascii") as f:
            f.write("#!/bin/sh\n" + program + "\n")
        os.chmod(bad, 0o755)
        done = subprocess.run([vivguest.VMM, "ctl", m.sock, "upgrade", bad], capture_output=True, text=True, timeout=300, check=False,
                              env=dict(ENV, VIV_REAL=vivguest.VMM))
        if done.returncode != 1:
            raise Wrong(f"an upgrade to '{program}' ends with {done.returncode}: {done.stdout} {done.stderr}")
        self.is_still_here(pid)
        return done.stderr.strip()[-200:]

    def op_upgrade_broken(self, at):
        """The new one is killed when a record of that type comes by."""
        m, pid, path = self.machine, self.machine.pid, os.path.join(self.folder, "takeover")
        there = subprocess.Popen([*self.network.inside, vivguest.VMM, "--takeover", f"unix:{path}"], env=ENV, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        m.processes.append(there)
        until(lambda: os.path.exists(path), "the new one waits", 60, 0.01)
        between = wire.HandWire(pathlib.Path(self.folder), path, getattr(wire, at), lambda record: there.kill())
        try:
            told = wire.ask_upgrade(m.sock, between.path)
        finally:
            os.unlink(between.path)
            if os.path.exists(path):
                os.unlink(path)
        until(lambda: there.poll() is not None, "the new one is dead", 60)
        if "error" not in told:
            raise Wrong(f"the new one was killed, and the upgrade says {told}")
        self.is_still_here(pid)
        return json.loads(told)["error"]["message"]

    # --- forked ---

    def op_fork(self, copies):
        m = self.machine
        nets = [o for name in m.nets for o in ("--net", f"none,name={name}")]
        told = [line.split() for line in m.ctl("fork", "-n", copies, "--", *nets).splitlines()]
        try:
            for pid, sock in told:
                self.check_copy(int(pid), sock)
        finally:
            for pid, _ in told:
                if is_running(pid):
                    os.kill(int(pid), 9)
                until(lambda p=pid: not is_running(p), f"copy {pid} ends")
        self.merge()
        return f"{len(told)} copies"

    def check_copy(self, pid, sock):
        """It works on, with what was on its disks; only its connection is gone."""
        port = GuestPort(sock + ".vsock")
        until(port.is_there, f"copy {pid} answers", 120, 0.2)
        clock = int(port.shell("cat /run/survive/clock"))
        until(lambda: int(port.shell("cat /run/survive/clock")) > clock, f"copy {pid} goes on", 180, 0.3)
        told = port.shell("sed /stream:/d /run/survive/bad 2>/dev/null; true")
        if told:
            raise Wrong(f"copy {pid} says: {told}")
        self.check_contents(port)

    def merge(self):
        """The images on which the machine went on are pushed back into those below."""
        names = [d["name"] for d in self.machine.control("info")["disks"]]
        for name in names:
            self.commit(name)
        self.await_jobs()
        for d in self.machine.control("info")["disks"]:
            if ".fork" in d["path"]:
                raise Wrong(f"disk {d['name']} is still {d['path']}")
        for name in os.listdir(self.folder):
            if ".img." in name:
                os.unlink(os.path.join(self.folder, name))
