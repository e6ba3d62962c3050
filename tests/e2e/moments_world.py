# SPDX-License-Identifier: Apache-2.0
"""The world of a daemon - processes, files, interfaces, rules, disks - against what its documents say."""
import json
import os
import re
import subprocess

BUILD = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "build")
OF_DATA = re.compile(r"(instances|bases|templates|images|volumes|history|uploads|store\.db(-wal|-shm)?|audit.*|secret.*|cert.*|key.*|tls.*)$")
OF_RUN = re.compile(r"(i|n|api\.sock(\.lock)?|lock)$")
OF_INSTANCE = re.compile(r"(root\.qcow2|vmm\.log(\.1)?|console\.log(\.1)?|history.*)$")


def processes(node):
    """{number: (parent, words)} of those that have not ended and are NODE's: in its network namespace, or, as machines have
    one of their own, by their command line."""
    found, namespace = {}, os.readlink(f"/proc/{node.here.proc.pid}/ns/net")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as f:
                words = f.read().split("\0")
            if os.readlink(f"/proc/{pid}/ns/net") != namespace and not any(w.startswith(node.run + "/") for w in words):
                continue
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                state, parent = f.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state not in "ZX":
            found[int(pid)] = (int(parent), words)
    return found


def names(*parts):
    return sorted(os.listdir(os.path.join(*parts)))


class World:
    """All that a daemon (test_network.NetNode) has, and what is wrong with it, as sentences."""

    def __init__(self, node):
        self.node, self.wrong = node, []

    def complain(self, *words):
        self.wrong.append(" ".join(map(str, words)))

    def list(self, kind):
        return self.node.ask("GET", f"/v1/{kind}")["items"]

    def check(self):
        """What is wrong."""
        self.instances, self.networks = self.list("instances"), self.list("networks")
        self.check_processes()
        self.check_files()
        self.check_network()
        return self.wrong

    # --- processes ---

    def check_processes(self):
        found = processes(self.node)
        machines = {i["status"]["pid"]: i for i in self.instances if "pid" in i["status"]}
        for pid, (_, words) in found.items():
            if pid in (self.node.here.proc.pid, self.node.proc.pid) or self.machine_of(pid, found, machines):
                continue
            if not any(w.startswith(f"--conf-file={self.node.run}/n/") for w in words):
                self.complain("process", pid, "is nobody's:", *words[:4])
        for pid, i in machines.items():
            if pid not in found:
                self.complain("instance", i["name"], "has no process", pid)
        for i in self.instances:
            if i["status"]["state"] in ("running", "paused") and "pid" not in i["status"]:
                self.complain("instance", i["name"], "is running without a process")
        wanted = {n["uid"] for n in self.networks if n["spec"]["kind"] in ("nat", "host-only")}
        have = [w.split("/")[-2] for _, words in found.values() for w in words if w.startswith(f"--conf-file={self.node.run}/n/")]
        if sorted(have) != sorted(wanted):
            self.complain("dnsmasq of", sorted(have), "instead of", sorted(wanted))

    @staticmethod
    def machine_of(pid, found, machines):
        """The machine among PID and those above it; a passt whose machine has just ended has process 1 above it."""
        while pid in found and pid not in machines:
            pid = found[pid][0]
        return pid if pid in machines else None

    # --- files ---

    def check_files(self):
        data, run = self.node.data, self.node.run
        uids = {i["uid"]: i for i in self.instances}
        for folder, pattern in ((data, OF_DATA), (run, OF_RUN)):
            for name in names(folder):
                if not pattern.match(name):
                    self.complain("file", os.path.join(folder, name), "is nobody's")
        # Nothing of the workload asks for one.
        for name in names(data, "templates"):
            self.complain("template", name, "is nobody's")
        for folder in (os.path.join(data, "instances"), os.path.join(run, "i")):
            for name in set(names(folder)) - set(uids):
                self.complain("folder", os.path.join(folder, name), "is nobody's")
        for uid in set(names(data, "instances")) & set(uids):
            saved = {s["uid"] + ".memory" for s in self.list(f"instances/{uids[uid]['name']}/snapshots")
                     if s["spec"].get("memory") and s["status"].get("state") == "ready"}
            if saved - set(names(data, "instances", uid)):
                self.complain("memory of snapshots of", uids[uid]["name"], "is missing:", sorted(saved))
            for name in set(names(data, "instances", uid)) - saved:
                if not OF_INSTANCE.match(name):
                    self.complain("file", name, "of instance", uids[uid]["name"], "is nobody's")
            self.check_disk(uids[uid])
        self.check_volumes()
        bases = set(names(data, "bases")) if os.path.isdir(os.path.join(data, "bases")) else set()
        for base in bases:
            users = set(names(data, "bases", base, "users"))
            if not users or users - set(uids) - bases:
                self.complain("base", base, "is there for", sorted(users))
        images = {m["uid"] for m in self.list("images")}
        if set(names(data, "images")) != images:
            self.complain("images", names(data, "images"), "instead of", sorted(images))
        nets = {n["uid"] for n in self.networks if n["spec"]["kind"] in ("nat", "host-only")}
        if set(names(run, "n")) - nets:
            self.complain("folders of networks", names(run, "n"), "instead of", sorted(nets))

    def check_volumes(self):
        """Each is one file, in the pool that its document names."""
        volumes = self.list("volumes")
        for pool in self.list("pools"):
            folder = os.path.join(pool["spec"].get("path") or self.node.data, "volumes")
            there, wanted = names(folder), sorted(v["uid"] + ".qcow2" for v in volumes if v["spec"]["pool"] == pool["name"])
            if there != wanted:
                self.complain("volumes", there, "instead of", wanted, "in the pool", pool["name"])

    def check_disk(self, instance):
        """Of one that is off: nothing in it is damaged, and its snapshots are those of the documents."""
        path = os.path.join(self.node.data, "instances", instance["uid"], "root.qcow2")
        if "pid" in instance["status"] or not os.path.exists(path):
            return
        done = subprocess.run([os.path.join(BUILD, "viv"), "disk", "check", path], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 3):       # 3: space that nobody uses, which the next one who opens it takes back
            self.complain("the disk of", instance["name"], "is damaged:", done.stdout, done.stderr)
        listed = subprocess.run([os.path.join(BUILD, "viv"), "disk", "snapshot", "list", path, "--json"], capture_output=True,
                                text=True, check=False)
        inside = {s["name"] for s in json.loads(listed.stdout or "[]")}
        ready = {s["uid"] for s in self.list(f"instances/{instance['name']}/snapshots") if s["status"].get("state") == "ready"}
        if inside != ready:
            self.complain("the disk of", instance["name"], "has the snapshots", sorted(inside), "instead of", sorted(ready))

    # --- the host's network ---

    def check_network(self):
        here, managed = self.node.here, [n for n in self.networks if n["spec"]["kind"] in ("nat", "host-only")]
        bridges = {n["status"].get("bridge") for n in managed}
        links = json.loads(here.run("ip", "-j", "link"))
        taps = {p["tap"] for p in self.list("ports") if "tap" in p}
        ours = {k["ifname"] for k in links if k["ifname"].startswith("v")}
        if ours != bridges | taps:
            self.complain("interfaces", sorted(ours), "instead of", sorted(map(str, bridges | taps)))
        plugged = {f"vp{i['uid'][:10]}n{k}" for i in self.instances if "pid" in i["status"]
                   for k, n in enumerate(i["spec"]["networks"]) if n["kind"] == "network"
                   and n["network"] in {m["name"] for m in managed}}
        if taps != plugged:
            self.complain("taps", sorted(taps), "instead of", sorted(plugged))
        tables = [line.split()[1:] for line in here.run("nft", "list", "tables").splitlines()]
        if len(tables) != 2 * len(managed):
            self.complain("tables", tables, "for", len(managed), "networks")
