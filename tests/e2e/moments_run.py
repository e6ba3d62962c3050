# SPDX-License-Identifier: Apache-2.0
"""Kills of a daemon, its machines and its helpers at moments of a random workload, drawn from a seed and written to a log."""
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time

from moments_model import Model
from moments_more import CATALOGUE, Wrong
from moments_web import Web
from moments_world import BUILD, World, processes
from test_network import NetNode, Netns
from warm_guest import make_tool

SETTLE_S = 300         # a guest boots for a template, beside all else
# Reads a sector, writes others 18 times a second by the BIOS, without an end: assembled from
#   xor ax,ax; mov ds,ax; mov ss,ax; mov sp,7c00h; mov [7c40h],dl
#   1: inc word [7c58h]; and word [7c58h],7ffh; or word [7c58h],8; mov si,7c50h; mov dl,[7c40h]; mov ax,4300h; int 13h; sti; hlt; jmp 1b
BOOT = bytes.fromhex("31c08ed88ed0bc007c8816407cff06587c8126587cff07810e587c0800be507c8a16407cb80043cd13fbf4ebde")
PACKET = bytes.fromhex("10000100008000000000000000000000")


# Why a volume may stay where it is.
MOVES_NOT = ("there are snapshots in it", "has another disk in its place", "it was cancelled", "the machine has ended")
CLONES_NOT = ("does not run", "is not off", "snapshots in its disk", "(its quota", "has been moved meanwhile", "has got the volume", "has lost the volume",
              "cannot share blocks")
FLATTENS_NOT = ("there are snapshots in", "has gone", "the machine has ended")
WEB_BYTES = 3 << 20


def write_image(path):
    boot = BOOT.ljust(0x50, b"\0") + PACKET
    with open(path, "wb") as f:
        f.write(boot.ljust(510, b"\0") + b"\x55\xaa")
        f.truncate(2 << 20)


class Run:
    def __init__(self, folder, seed, log, small):
        self.folder, self.seed, self.dice = folder, seed, random.Random(seed)
        self.here, self.n = Netns(), 0
        # passt wants a way out, which nobody needs to answer on.
        for words in ("link add up0 type veth peer name up1", "addr add 198.51.100.1/24 dev up0", "link set up0 up", "link set up1 up",
                      "route add default via 198.51.100.2"):
            self.here.run("ip", *words.split(), check=False)
        self.node = NetNode(folder, self.here, None)
        self.build = BUILD
        self.web = Web(folder, self.here.words(), CATALOGUE, WEB_BYTES)
        self.node.helpers = {self.web.proc.pid}
        self.options = [*self.web.options, "--image-tool", make_tool(folder)]
        self.log_file, self.began = open(log, "a", encoding="utf-8"), time.monotonic()
        write_image(os.path.join(folder, "base.raw"))
        self.model = Model(self.dice, folder, self.web, not small, small)
        self.killed = {}                # what: how often
        self.requests = {"done": 0, "refused": 0, "repeated": 0}
        self.struck = set()             # what was killed since all was last quiet
        self.key, self.is_struck = 0, False
        self.dead = set()               # processes that were killed since all was last quiet

    def say(self, *words):
        self.log_file.write(f"{time.monotonic() - self.began:9.3f} " + " ".join(map(str, words)) + "\n")
        self.log_file.flush()

    # --- requests ---

    def send(self, request, key, data=None, headers=None):
        """(status, document) of REQUEST with its body, or DATA. OSError: nobody can tell."""
        conn = http.client.HTTPConnection("viv", timeout=60)
        conn.sock = socket.socket(socket.AF_UNIX)
        conn.sock.settimeout(60)
        try:
            conn.sock.connect(self.node.socket)
            headers = headers or ({"Idempotency-Key": key} if request.method == "POST" else {})
            conn.request(request.method, request.path, data if data or request.body is None else json.dumps(request.body), headers)
            answer = conn.getresponse()
            text = answer.read()
        except http.client.HTTPException as why:
            raise OSError(str(why)) from None
        finally:
            conn.close()
        return answer.status, json.loads(text) if text else None

    def ask(self, request):
        """Until there is an answer: as a client does whose connection has broken, with the same key."""
        self.key += 1
        is_repeated, pid = False, None
        while True:
            try:
                if hasattr(request, "wants_pid") and pid is None:
                    pid = self.node.get_any(f"/v1/instances/{request.wants_pid}").get("status", {}).get("pid", 0)
                status, doc = request.go(self, f"{self.seed}-{self.key}")
                if status != 503:       # "try again"
                    break
                time.sleep(0.02)
            except (OSError, http.client.HTTPException) as why:
                self.say("  no answer to", request, why)
                is_repeated = True
                self.revive()
        is_there = status < 300 or (is_repeated and request.method == "DELETE" and status == 404)
        self.requests["done" if is_there else "refused"] += 1
        self.requests["repeated"] += is_repeated
        self.say(" ", status, request, "" if is_there else doc["error"]["message"])
        if status >= 500:
            raise Wrong(f"{request}: {status} {doc}")
        if is_there and request.then:
            if hasattr(request, "wants_pid"):
                request.then(pid)
            elif hasattr(request, "wants_run"):
                request.then(self)
            elif (doc or {}).get("kind") == "task":
                request.then(doc["name"])
            else:
                request.then()

    # --- kills ---

    def note(self, what):
        self.killed[what] = self.killed.get(what, 0) + 1
        self.struck.add(what)
        self.say("KILL", what)

    def revive(self):
        """The daemon runs (again)."""
        if not self.is_struck:
            return
        self.is_struck = False
        while True:
            self.node.proc.wait(60)
            self.node.proc = subprocess.Popen(
                [*self.node.prefix, os.path.join(BUILD, "vivd"), "--data", self.node.data, "--run", self.node.run, *self.options],
                stdin=subprocess.DEVNULL, stdout=self.vivd_log, stderr=self.vivd_log)
            if self.dice.random() < 0.15:
                time.sleep(self.dice.random() * 0.06)
                self.node.proc.kill()
                self.note("vivd, at its start")
                continue
            end = time.monotonic() + 30
            while time.monotonic() < end:
                try:
                    self.node.ask("GET", "/v1/setup")
                    return
                except (OSError, http.client.HTTPException):
                    if self.node.proc.poll() is not None:
                        raise Wrong(f"the daemon ends with {self.node.proc.returncode}") from None
                    time.sleep(0.005)
            raise Wrong("the daemon does not serve")

    def strike(self):
        """Kill something."""
        what = self.dice.choices(["vivd", "viv-vmm", "dnsmasq", "passt", "viv"], [10, 4, 2, 1, 1])[0]
        if what == "vivd":
            self.is_struck = True
            self.node.proc.kill()
            self.note(what)
            return
        found = processes(self.node)
        pids = sorted(p for p, (parent, words) in found.items() if os.path.basename(words[0]) == what
                      and os.path.basename(found.get(parent, (0, [""]))[1][0]) != what)
        if not pids:
            return
        pid = self.dice.choice(pids)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.note(what)
        self.dead.add(pid)
        for name, seen in self.model.pids.items():
            if seen == pid:
                self.model.touched.add(name)

    # --- checks ---

    def quiet(self, kind, doc):
        """Is nothing under way for DOC?"""
        status = doc.get("status")
        if doc.get("deleting") or not status:
            return False
        state = status["state"]
        if kind == "tasks":
            return state in ("done", "failed", "cancelled")
        if kind == "instances":
            # One that was killed may take long to end on a host whose disks are busy, and is its machine's until then.
            if status.get("pid") in self.dead | {self.model.restarted.get(doc["name"], 0)}:
                return False
            return state == {"running": "running", "paused": "paused", "stopped": "stopped"}[doc["spec"]["state"]] and \
                ("pid" in status) == (state != "stopped")
        if kind == "profiles":
            return state == "ready" and status["applied"] == doc["version"]
        if kind == "snapshots":
            return state == "ready" or (state == "failed" and any(
                why in status["reason"] for why in ("not made yet", "has no memory", "cannot share blocks")))
        if kind == "volumes" and state == "ready" and status["size"] < doc["spec"]["size"]:
            return False
        if state == "waiting":
            return ({"image": "images", "volume": "volumes"}[doc["kind"]], doc["name"]) in self.model.incomplete()
        # A volume that a machine has open grows when that is off.
        return state == "ready" or (kind == "volumes" and state == "failed" and "in use" in status["reason"])

    def documents(self):
        world = World(self.node)
        found = {kind: world.list(kind) for kind in ("instances", "volumes", "networks", "images", "profiles", "tasks")}
        found["snapshots"] = [s for i in found["instances"] for s in world.list(f"instances/{i['name']}/snapshots")]
        return found

    def settle(self):
        """All is as it is wanted, for two looks."""
        end, calm = time.monotonic() + SETTLE_S, 0
        while True:
            docs = self.documents()
            busy = [(kind, d["name"], d.get("spec", {}), d.get("status")) for kind, all_ in docs.items() for d in all_
                    if not self.quiet(kind, d)]
            calm = 0 if busy else calm + 1
            if calm == 2:
                return docs
            if time.monotonic() > end:
                raise Wrong(f"not quiet after {SETTLE_S} s: {busy}")
            time.sleep(0.05)

    def check(self):
        """The model, the documents and the world."""
        docs, wrong = self.settle(), []
        self.check_tasks(docs, wrong)
        for kind, known in (("instances", self.model.instances), ("volumes", self.model.volumes), ("networks", self.model.networks),
                            ("profiles", self.model.profiles),
                            ("images", set(self.model.images) | {"base"} | ({"warm"} if self.model.has_warm else set()))):
            there = {d["name"] for d in docs[kind]}
            if there != set(known):
                wrong.append(f"{kind} {sorted(there)} instead of {sorted(known)}")
        snapshots = {(s["instance"], s["name"]) for s in docs["snapshots"]}
        if snapshots != self.model.snapshots:
            wrong.append(f"snapshots {sorted(snapshots)} instead of {sorted(self.model.snapshots)}")
        for v in docs["volumes"]:
            if v["name"] in self.model.pools and self.model.pools[v["name"]] is None:
                self.model.pools[v["name"]] = v["spec"]["pool"]
            if v["spec"]["pool"] != self.model.pools.get(v["name"]):
                wrong.append(f"volume {v['name']} is in the pool {v['spec']['pool']} instead of {self.model.pools.get(v['name'])}")
            if v["status"]["state"] == "ready" and v["status"]["size"] < self.model.volumes.get(v["name"], 0):
                wrong.append(f"volume {v['name']} has {v['status']['size']} bytes instead of {self.model.volumes[v['name']]}")
        self.check_instances(docs["instances"], wrong)
        self.check_usage(docs, wrong)
        self.check_networks(docs["networks"], wrong)
        wrong += self.check_world()
        self.struck.clear()
        if wrong:
            raise Wrong("\n".join(wrong))

    def check_tasks(self, docs, wrong):
        by_name = {t["name"]: t for t in docs["tasks"]}
        for name, (operation, of, to) in self.model.tasks.items():
            task = by_name.get(name)
            if not task:
                wrong.append(f"the task {name} ({operation} {of} {to}) has gone")
            elif operation == "move" and task["status"]["state"] == "done":
                self.model.moved(of, to)
            elif task["status"]["state"] != "done":
                reason = task["status"].get("reason", "")
                if operation == "clone":
                    self.model.unclone(name, to)
                is_excused = operation == "revert" and ((of, to) not in self.model.snapshots or "not made yet" in reason
                                                        or "has come after" in reason)
                is_excused |= operation == "clone" and to in self.model.taken and "has come in between" in reason
                is_excused |= operation == "move" and (not to or any(why in reason for why in MOVES_NOT))
                # What was so when it was asked for is not so when it begins.
                is_excused |= operation == "revert" and "what they were when" in reason
                is_excused |= operation == "clone" and any(w in reason for w in CLONES_NOT)
                is_excused |= operation == "clone" and of in self.model.gone and "has gone" in reason
                is_excused |= operation == "clone" and any(f"network '{was}'" in reason for was in self.model.renamed)
                is_excused |= operation == "flatten" and any(w in reason for w in FLATTENS_NOT)
                is_excused |= name in self.model.cancelled and task["status"]["state"] == "cancelled"
                # Its machine, what that had not yet begun with, or the program that looks at a catalogue, was killed.
                is_excused |= operation == "warm" and bool(self.struck & {"viv-vmm", "passt"}) and task["status"]["state"] == "failed"
                is_excused |= operation == "refresh" and "viv" in self.struck and task["status"]["state"] == "failed"
                self.say("  task", operation, of, to, "failed:", reason)
                if not is_excused:
                    wrong.append(f"{operation} {of} {to}: {task['status']}")
        for known in (self.model.tasks, self.model.taken, self.model.cancelled, self.model.gone, self.model.cloned, self.model.renamed):
            known.clear()

    def check_instances(self, instances, wrong):
        for i in instances:
            name, pid, known = i["name"], i["status"].get("pid"), self.model.instances.get(i["name"])
            if known and i["spec"]["state"] != known["state"]:
                wrong.append(f"instance {name} shall be {i['spec']['state']} instead of {known['state']}")
            if known and known.get("profiles", i["spec"]["profiles"]) != i["spec"]["profiles"]:
                wrong.append(f"instance {name} has the profiles {i['spec']['profiles']} instead of {known['profiles']}")
            # An archive has what the machine was in the end: whoever comes out of one says itself what it had of profiles.
            own = i["own"].get("labels", {}) if self.model.has_imported else {}
            if i["labels"] != {**self.model.labels_of(i["spec"]["profiles"]), **own}:
                wrong.append(f"instance {name} has the labels {i['labels']} of its profiles {i['spec']['profiles']} instead of "
                             f"{self.model.labels_of(i['spec']['profiles'])}")
            if name in self.model.pids and name not in self.model.touched and self.model.pids[name] != pid:
                wrong.append(f"instance {name} was stopped or started: process {self.model.pids[name]} has become {pid}")
            if known and known.get("limits", {}).items() - i["spec"].get("limits", {}).items():
                wrong.append(f"instance {name} has the limits {i['spec'].get('limits')} instead of {known['limits']}")
            if name in self.model.restarted and pid == self.model.restarted[name]:
                wrong.append(f"instance {name} was not restarted: its process is still {pid}")
        self.model.pids = {i["name"]: i["status"].get("pid") for i in instances}
        self.model.touched.clear()
        self.dead.clear()
        self.model.restarted.clear()

    def check_usage(self, docs, wrong):
        """What counts against a quota is what there is."""
        used = self.node.ask("GET", "/v1/projects/default/usage")
        for what, of in (("cpus", "cpus"), ("memory", "memory")):
            there = sum(i["spec"][of] for i in docs["instances"])
            if used[what]["used"] != there:
                wrong.append(f"{used[what]['used']} {what} are counted, and there are {there}")
        if used["instances"]["used"] != len(docs["instances"]):
            wrong.append(f"{used['instances']['used']} instances are counted of {len(docs['instances'])}")
        least = sum(v["spec"]["size"] for v in docs["volumes"])
        if used["disk"]["used"] < least:
            wrong.append(f"{used['disk']['used']} bytes of disks are counted, and volumes alone have {least}")

    def check_networks(self, networks, wrong):
        for n in networks:
            if n["spec"].get("limit_in") != self.model.limits.get(n["name"]):
                wrong.append(f"network {n['name']} has the limit {n['spec'].get('limit_in')} instead of {self.model.limits.get(n['name'])}")

    def check_world(self):
        """What ends or begins just now gets its time."""
        end = time.monotonic() + SETTLE_S
        while True:
            wrong = World(self.node).check()
            if not wrong or time.monotonic() > end:
                return wrong
            time.sleep(0.3)

    # --- the whole ---

    def moment(self):
        self.n += 1
        requests = self.dice.randrange(1, 8)
        wait, pauses = self.dice.random() ** 2 * 0.6, [self.dice.random() ** 3 * 0.15 for _ in range(requests)]
        self.say("MOMENT", self.n)
        killer = threading.Timer(wait, self.strike)
        killer.start()
        for pause in pauses:
            self.ask(self.model.draw())
            time.sleep(pause)
        killer.join()
        self.revive()
        if self.dice.random() < 0.5:
            self.check()

    def go(self, moments):
        with open(os.path.join(self.folder, "vivd.log"), "ab") as self.vivd_log:
            self.node.start(*self.options)
            self.node.ask("POST", "/v1/images", {"name": "base", "spec": {"source": {"path": self.model.image_path}}}, status=201)
            self.node.wait("/v1/images/base", "ready")
            side = os.path.join(self.folder, "side")
            os.mkdir(side, 0o755)
            self.node.ask("POST", "/v1/pools", {"name": "side", "spec": {"path": side}}, status=201)
            if self.model.has_warm:
                self.node.ask("POST", "/v1/images", {"name": "warm", "spec": {"source": {"build": "debian"}}}, status=201)
                self.node.wait("/v1/images/warm", "ready")
                self.ask(self.model.warm())
            while self.n < moments:
                self.moment()
            self.check()
            self.node.ask("PATCH", "/v1/projects/default", {"spec": {"quota": None}})
            self.remove_all()

    def remove_all(self):
        """Nothing is left of anything."""
        def left(kind):
            return [d for d in World(self.node).list(kind) if (kind, d["name"]) != ("pools", "default")]
        for kind in ("instances", "profiles", "volumes", "networks", "images", "pools"):
            for doc in left(kind):
                self.node.ask("DELETE", f"/v1/{kind}/{doc['name']}", status=202)
            end = time.monotonic() + SETTLE_S
            while left(kind):
                if time.monotonic() > end:
                    raise Wrong(f"{kind} do not go: {left(kind)}")
                time.sleep(0.05)
        wrong = self.check_world()
        if wrong:
            raise Wrong("\n".join(wrong))

    def end(self):
        self.node.end()
        self.web.end()
        self.here.close()
        self.log_file.close()


def moments(seed, count, logs=None, small=False):
    """COUNT moments; Wrong, and the logs stay, when something is. What was done, as a sentence."""
    folder = tempfile.mkdtemp(prefix="vm-", dir="/tmp")   # paths of sockets are short
    log = os.path.join(logs or folder, "moments.log")
    run = Run(folder, seed, log, small)
    try:
        run.go(count)
    except BaseException as why:
        run.say("WRONG", why)
        raise Wrong(f"seed {seed}, moment {run.n}: {why}\nsee {log} and {folder}") from why
    finally:
        run.end()
    subprocess.run(["rm", "-rf", folder], check=True)
    kills = ", ".join(f"{n} of {what}" for what, n in sorted(run.killed.items()))
    return f"seed {seed}: {count} moments, kills: {kills}; requests: {run.requests}"
