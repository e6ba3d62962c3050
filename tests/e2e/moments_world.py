# SPDX-License-Identifier: Apache-2.0
"""The world of a daemon - processes, files, interfaces, rules, disks - against what its documents say."""
import json
import os
import re
import subprocess

from groups import groups, members, places

BUILD = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "build")
BESIDE = ("viv-janitor", "viv-keeper")     # programs of a machine that are not below it
OF_DATA = re.compile(r"(instances|bases|templates|images|catalogues|volumes|history|uploads|store\.db(-wal|-shm)?|audit.*|secret.*|cert.*|key.*|tls.*)$")
OF_RUN = re.compile(r"(i|n|boot|api\.sock(\.lock)?|lock)$")
OF_INSTANCE = re.compile(r"(root\.qcow2|vmlinuz|initrd\.img|vmm\.log(\.1)?|console\.log(\.1)?|history.*)$")


def processes(node):
    """{number: (parent, words)} of those that have not ended and are NODE's: in its network namespace, or, as machines have
    one of their own, by their command line. The first word of those of BESIDE is that."""
    found, namespace = {}, os.readlink(f"/proc/{node.here.proc.pid}/ns/net")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as f:
                words = f.read().split("\0")
            if os.readlink(f"/proc/{pid}/ns/net") != namespace and not any(w.startswith(node.run + "/") for w in words):
                continue
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                comm, _, rest = f.read().rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if comm.endswith(BESIDE):
            words[0] = comm.partition("(")[2]
        if state not in "ZX":
            found[int(pid)] = (int(parent), words)
    return found


def attributes(pid):
    """Niceness, and which the kernel kills first."""
    try:
        with open(f"/proc/{pid}/oom_score_adj", encoding="utf-8") as f:
            return os.getpriority(os.PRIO_PROCESS, pid), int(f.read())
    except OSError:
        return None


def nice_of(weight):
    """Each step is a quarter more or less; 100 is 0."""
    share, nice = 100, 0
    while nice > -20 and weight >= share * 1.118:
        share, nice = share * 1.25, nice - 1
    while nice < 19 and weight < share / 1.118:
        share, nice = share / 1.25, nice + 1
    return nice


def wanted_of(own, limits):
    """The same of a machine with LIMITS, whose daemon has OWN."""
    nice = nice_of(limits.get("cpu_weight", 100))
    return max(-20, min(19, own[0] + nice)), max(-1000, min(1000, own[1] + {"first": 500, "normal": 0, "last": -500}[limits.get("oom", "normal")]))


def names(*parts):
    return sorted(os.listdir(os.path.join(*parts)))


class World:
    """All that a daemon (test_network.NetNode) has, and what is wrong with it, as sentences."""

    def __init__(self, node):
        self.node, self.wrong = node, []

    def complain(self, *words):
        self.wrong.append(" ".join(map(str, words)))

    def list(self, kind):
        """Those of an instance that has just gone are none."""
        return self.node.get_any(f"/v1/{kind}").get("items", []) if kind.startswith("instances/") else self.node.ask("GET", f"/v1/{kind}")["items"]

    def check(self):
        """What is wrong."""
        self.instances, self.networks = self.list("instances"), self.list("networks")
        self.check_processes()
        self.check_groups()
        self.check_files()
        self.check_network()
        return self.wrong

    # --- processes ---

    def check_processes(self):
        found = processes(self.node)
        own = attributes(self.node.proc.pid)
        machines = {i["status"]["pid"]: i for i in self.instances if "pid" in i["status"]}
        for pid, (_, words) in found.items():
            if pid in (self.node.here.proc.pid, self.node.proc.pid, *self.node.helpers) or self.machine_of(pid, found, machines):
                continue
            if not any(w.startswith(f"--conf-file={self.node.run}/n/") for w in words):
                self.complain("process", pid, "is nobody's:", *words[:4])
        for pid, i in machines.items():
            if pid not in found:
                self.complain("instance", i["name"], "has no process", pid)
            else:
                self.check_limits(i, attributes(pid), wanted_of(own, i["spec"].get("limits", {})))
        for i in self.instances:
            if i["status"]["state"] in ("running", "paused") and "pid" not in i["status"]:
                self.complain("instance", i["name"], "is running without a process")
        wanted = {n["uid"] for n in self.networks if n["spec"]["kind"] in ("nat", "host-only")}
        have = [w.split("/")[-2] for _, words in found.values() for w in words if w.startswith(f"--conf-file={self.node.run}/n/")]
        if sorted(have) != sorted(wanted):
            self.complain("dnsmasq of", sorted(have), "instead of", sorted(wanted))

    def check_limits(self, instance, has, wanted):
        """What the host refuses is told."""
        is_refused = "limits.oom" in instance["status"].get("limits", {}).get("reason", "")
        if has and has != wanted and not (is_refused and has[0] == wanted[0]):
            self.complain("instance", instance["name"], "has niceness and oom_score_adj", has, "and not", wanted)

    def check_groups(self):
        """Each machine that runs is in its group with what it has started, and no other group is left of those of this daemon."""
        there = groups(self.node)
        runs = {i["uid"]: i["status"]["pid"] for i in self.instances if "pid" in i["status"]}
        if set(there) != set(runs) and places():
            self.complain("control groups of", sorted(there), "instead of", sorted(runs))
        for uid in set(there) & set(runs):
            for folder in there[uid]:
                if runs[uid] not in members(folder):
                    self.complain("instance", uid, "is not in its control group", folder)

    def machine_of(self, pid, found, machines):
        """The machine among PID and those above it, or which the topmost was started beside; a passt whose machine has just ended has process 1
        above it."""
        while pid in found and pid not in machines:
            top, pid = pid, found[pid][0]
        if pid in machines:
            return pid
        words = found[top][1]
        if not words[0].endswith(BESIDE):
            return None
        return next((number for number, i in machines.items() if any(w.startswith(f"{self.node.run}/i/{i['uid']}/") for w in words)), None)

    # --- files ---

    def check_files(self):
        data, run = self.node.data, self.node.run
        uids = {i["uid"]: i for i in self.instances}
        for folder, pattern in ((data, OF_DATA), (run, OF_RUN)):
            for name in names(folder):
                if not pattern.match(name):
                    self.complain("file", os.path.join(folder, name), "is nobody's")
        templates = sorted(t["uid"] for m in self.list("images") for t in m["status"].get("templates", []))
        if names(data, "templates") != templates:
            self.complain("templates", names(data, "templates"), "instead of", templates)
        for folder in (os.path.join(data, "instances"), os.path.join(run, "i")):
            for name in set(names(folder)) - set(uids):
                self.complain("folder", os.path.join(folder, name), "is nobody's")
        for uid in set(names(data, "instances")) & set(uids):
            saved = {s["uid"] + ".memory" for s in self.list(f"instances/{uids[uid]['name']}/snapshots")
                     if s["spec"].get("memory") and s["status"].get("state") == "ready"}
            if saved - set(names(data, "instances", uid)):
                self.complain("memory of snapshots of", uids[uid]["name"], "is missing:", sorted(saved))
            for name in set(names(data, "instances", uid)) - saved:
                # One that was stopped before it was told that it is no template keeps its mark: its next start makes it anew.
                if not OF_INSTANCE.match(name) and not (name == "fork" and uids[uid]["status"]["state"] == "stopped"):
                    self.complain("file", name, "of instance", uids[uid]["name"], "is nobody's")
            self.check_disk(uids[uid])
        self.check_volumes()
        images = {m["uid"] for m in self.list("images")}
        # One that waits for its content may have nothing yet.
        empty = {m["uid"] for m in self.list("images") if m["status"]["state"] == "waiting"} - set(names(data, "images"))
        if set(names(data, "images")) != images - empty:
            self.complain("images", names(data, "images"), "instead of", sorted(images))
        nets = {n["uid"] for n in self.networks if n["spec"]["kind"] in ("nat", "host-only")}
        if set(names(run, "n")) - nets:
            self.complain("folders of networks", names(run, "n"), "instead of", sorted(nets))

    def copies(self, volumes):
        """Files beside raw ones that are their snapshots."""
        ready = [s["uid"] for i in self.instances for s in self.list(f"instances/{i['name']}/snapshots") if s["status"].get("state") == "ready"]
        return {f"{v['uid']}.at.{uid}.raw" for v in volumes for uid in ready if v["spec"]["format"] == "raw"}

    def check_volumes(self):
        """Each is one file, in the pool that its document names."""
        volumes, busy = self.list("volumes"), {d["volume"] for i in self.instances if "pid" in i["status"] for d in i["spec"]["disks"]}
        for pool in self.list("pools"):
            folder = os.path.join(pool["spec"].get("path") or self.node.data, "volumes")
            # One that waits for its content has at most what has come of it.
            waiting = {v["uid"] + ".sent" for v in volumes if v["status"]["state"] == "waiting"}
            there = sorted(set(names(folder)) - waiting - self.copies(volumes))
            here = [v for v in volumes if v["spec"]["pool"] == pool["name"] and v["status"]["state"] != "waiting"]
            wanted = sorted(f"{v['uid']}.{v['spec']['format']}" for v in here)
            if there != wanted:
                self.complain("volumes", there, "instead of", wanted, "in the pool", pool["name"])
            for v in here:
                if v["name"] not in busy and v["spec"]["format"] == "qcow2" and v["status"]["state"] == "ready":
                    self.check_image(os.path.join(folder, v["uid"] + ".qcow2"), "the volume " + v["name"])
            self.check_pool(folder[:-len("/volumes")], pool["name"])

    def check_pool(self, folder, name):
        """First disks in it, and what linked clones share."""
        uids = {i["uid"]: i for i in self.instances}
        disks = set(uids) | {v["uid"] for v in self.list("volumes")}
        bases = set(names(folder, "bases")) if os.path.isdir(os.path.join(folder, "bases")) else set()
        for base in bases:
            users = set(names(folder, "bases", base, "users"))
            if not users or users - disks - bases:
                self.complain("base", base, "is there for", sorted(users))
        for uid in names(folder, "instances") if name != "default" else []:
            of = uids.get(uid)
            if not of or of["spec"].get("pool") != name or set(names(folder, "instances", uid)) - {"root.qcow2"}:
                self.complain("folder", os.path.join(folder, "instances", uid), "is nobody's:", *names(folder, "instances", uid))

    def root_of(self, instance):
        pool = instance["spec"].get("pool", "default")
        folder = self.node.data if pool == "default" else next(p["spec"]["path"] for p in self.list("pools") if p["name"] == pool)
        return os.path.join(folder, "instances", instance["uid"], "root.qcow2")

    def check_image(self, path, what):
        done = subprocess.run([os.path.join(BUILD, "viv"), "disk", "check", path], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 3):       # 3: space that nobody uses, which the next one who opens it takes back
            self.complain(what, "is damaged:", done.stdout, done.stderr)

    def check_disk(self, instance):
        """Of one that is off: nothing in it is damaged, and its snapshots are those of the documents."""
        path = self.root_of(instance)
        if "pid" in instance["status"] or not os.path.exists(path):
            return
        self.check_image(path, "the disk of " + instance["name"])
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
        self.check_rules(managed)
        tables = [line.split()[1:] for line in here.run("nft", "list", "tables").splitlines()]
        if len(tables) != 2 * len(managed):
            self.complain("tables", tables, "for", len(managed), "networks")

    def check_rules(self, managed):
        """Limits and forwarded ports are those of the documents."""
        rules = self.node.here.run("nft", "-j", "list", "ruleset")
        by_name = {n["name"]: n for n in managed}
        plugged = [(i, net, by_name[net["network"]]) for i in self.instances if "pid" in i["status"] for net in i["spec"]["networks"]
                   if net.get("network") in by_name]
        wanted = sorted(int(f.split(":")[1]) for _, net, n in plugged if n["spec"]["kind"] == "nat" for f in net.get("forwards", []))
        nats = [e["rule"] for e in json.loads(rules)["nftables"] if "rule" in e and e["rule"]["chain"] == "incoming"]
        there = sorted(x["match"]["right"] for rule in nats for x in rule["expr"] if x.get("match", {}).get("left", {}).get("payload", {}).get(
            "field") == "dport")
        if there != wanted:
            self.complain("ports", there, "are forwarded instead of", wanted)
        rates = sorted(x["limit"]["rate"] for e in json.loads(rules)["nftables"] for x in e.get("rule", {}).get("expr", [])
                       if x.get("limit", {}).get("rate_unit") == "bytes" and x["limit"]["rate"] > 1000000)
        limits = sorted(v for _, net, n in plugged for v in (net.get("limit_in", n["spec"].get("limit_in")), net.get(
            "limit_out", n["spec"].get("limit_out"))) if v)
        if rates != limits:
            self.complain("rates", rates, "are limited instead of", limits)
