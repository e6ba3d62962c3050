# SPDX-License-Identifier: Apache-2.0
"""Requests of a random workload that are more than one document: content that is sent in parts, commands of the client, tasks that somebody
cancels, other names, limits, quotas, templates. What must be true because the daemon has said yes: see moments_model.py."""
import hashlib
import os
import random
import signal
import subprocess

MIB = 1 << 20
# Not a multiple of what nft(8) would rather print.
RATE = 1000003
CATALOGUE = "tiny"


class Wrong(Exception):
    """The store and the world do not agree, or something that was promised is not there."""


class Request:
    def __init__(self, method, path, body=None, then=None):
        self.method, self.path, self.body, self.then = method, path, body, then

    def __str__(self):
        return f"{self.method} {self.path} {self.body if self.body is not None else ''}"

    def go(self, run, key):
        """(status, document) of one try. OSError: nobody can tell."""
        return run.send(self, key)


def content_of(name, size):
    """The bytes of an upload that is called so: the same for whoever asks."""
    return random.Random(name).randbytes(size)


class Part(Request):
    """The next bytes of an upload, up to END, behind those that the daemon says it has."""

    def __init__(self, model, key, end):
        super().__init__("PUT", f"/v1/{key[0]}/{key[1]}/content", f"up to {end}")
        self.model, self.key, self.end = model, key, end

    def go(self, run, key):
        upload, path = self.model.uploads[self.key], "/".join(self.path.split("/")[:-1])
        doc = run.node.get_any(path)
        if "error" in doc:
            return 404, doc
        has = doc.get("status", {}).get("upload", {}).get("received")
        if has is None:
            # It is just being looked at, or has all of it.
            return (503, doc) if doc.get("status", {}).get("state") not in ("making", "ready") else (409, {"error": {"message": "it is there"}})
        if has < upload["received"]:
            raise Wrong(f"{path}: {has} bytes are there, and {upload['received']} were acknowledged")
        if has >= self.end:
            upload["received"] = has
            return 200, None
        data = content_of(self.key[1], upload["size"])[has:self.end]
        status, answer = run.send(self, None, data, {"Content-Range": f"bytes {has}-{self.end - 1}/{upload['size']}"})
        if status == 200:
            upload["received"] = answer["received"]
        return status, answer


class Command(Request):
    """A command of the client, which is repeated when it, or the daemon, was killed."""

    def __init__(self, words, then, clear=None):
        super().__init__("viv", " ".join(words), None, then)
        self.words, self.clear = words, clear

    def go(self, run, key):
        was_struck = run.is_struck
        done = subprocess.Popen([os.path.join(run.build, "viv"), *self.words, "--socket", run.node.socket], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while done.poll() is None:
            was_struck |= run.is_struck
            run.revive()
            try:
                done.wait(0.02)
            except subprocess.TimeoutExpired:
                pass
        said = done.stderr.read()
        if done.returncode == 0:
            return 200, None
        if self.clear:
            self.clear(run, said)
        if done.returncode == -signal.SIGKILL or was_struck or run.is_struck or "try again" in said:
            raise OSError(f"ended with {done.returncode}: {said.strip()}")
        return 409, {"error": {"message": said.strip()}}


class MoreRequests:
    """Of a Model, whose members these are."""

    def begin_more(self):
        self.uploads = {}               # ("images" or "volumes", name) -> {"size", "received"}
        self.cancelled = set()          # tasks that somebody does not want any more
        self.gone = set()               # names that instances have had, and have no more
        self.limits = {}                # network -> bytes a second, or None
        self.renamed = set()            # names that networks have had
        self.has_imported = False       # what was in an archive has labels of its own
        self.pids = {}                  # of instances, when all was last quiet

    # --- instances ---

    def rename(self):
        old, new = self.name("i", self.instances, False), self.name("i", self.instances, True)

        def then():
            if old == new or old not in self.instances:
                return
            if self.is_awaited(new):
                self.taken.add(new)
            self.instances[new] = self.instances.pop(old)
            self.gone.add(old)
            for known in (self.snapshots, self.memories):
                of_it = {s for s in known if s[0] == old}
                known -= of_it
                known |= {(new, s[1]) for s in of_it}
            for known in (self.pids, self.restarted):
                known.pop(new, None)
                if old in known:
                    known[new] = known.pop(old)
            self.touched.discard(new)
            if old in self.touched:
                self.touched.add(new)
        return Request("POST", f"/v1/instances/{old}/rename", {"name": new}, then)

    def set_limits(self):
        limits = {"cpu_weight": self.dice.choice([50, 100, 200]), "oom": self.dice.choice(["first", "normal", "last"]),
                  "iops": self.dice.choice([None, 1000, 5000])}
        name = self.name("i", self.instances, False)

        def then():
            if name in self.instances:
                self.instances[name]["limits"] = {k: v for k, v in limits.items() if v is not None}
        return Request("PATCH", f"/v1/instances/{name}", {"spec": {"limits": limits}}, then)

    def make_fork(self):
        """One that begins as a template, if there is one."""
        name = self.name("i", self.instances, True)
        spec = {"image": "warm", "engine": "bt", "memory": "96M", "template": "auto", "networks": [{"kind": "user"}], "shutdown_seconds": 0}
        return self.has_warm and Request("POST", "/v1/instances", {"name": name, "spec": spec}, self.made(name, "running", [], [{}]))

    def warm(self):
        return self.has_warm and Request("POST", "/v1/images/warm/warm", {"engine": "bt", "memory": "96M"},
                                         lambda task: self.tasks.update({task: ("warm", "warm", None)}))

    def cool(self):
        return self.has_warm and Request("POST", "/v1/images/warm/cool", None, lambda: None)

    def cancel(self):
        task = self.some(self.tasks)

        def then(*_):
            self.cancelled.add(task)
        return task and Request("POST", f"/v1/tasks/{task}/cancel", None, then)

    # --- volumes that are copied, and other names ---

    def free_volumes(self, count):
        free = [f"v{i}" for i in range(self.count) if f"v{i}" not in self.volumes]
        return self.dice.sample(free, count) if len(free) >= count else []

    def clone_volume(self):
        source, new = self.some(self.whole_volumes()), self.free_volumes(1)
        how = self.dice.choice([{}, {"pool": "side"}, {"format": "raw"}, {"format": "qcow2", "pool": "default"}])

        def then(task):
            self.tasks[task] = ("clone", source, new[0])
            self.volumes[new[0]], self.pools[new[0]], self.cloned[new[0]] = self.volumes[source], None, task
        return source and new and Request("POST", f"/v1/volumes/{source}/clone", {"name": new[0], **how}, then)

    def flatten_volume(self):
        name = self.some(self.whole_volumes())
        return name and Request("POST", f"/v1/volumes/{name}/flatten", None, lambda task: self.tasks.update({task: ("flatten", name, None)}))

    def unclone(self, task, name):
        """The clone TASK, of an instance called NAME or of a volume, has not come to be."""
        if self.instances.get(name, {}).get("clone") == task:
            del self.instances[name]
        for volume in [v for v, of in self.cloned.items() if of == task]:
            self.volumes.pop(volume, None)
            del self.cloned[volume]

    def rename_volume(self):
        old, new = self.name("v", self.volumes, False), self.name("v", self.volumes, True)

        def then():
            self.volumes[new], self.pools[new] = self.volumes.pop(old), self.pools.pop(old)
            self.taken |= {to for task, (_, _, to) in self.tasks.items() if self.cloned.get(new) == task}
            self.cloned.pop(new, None)
            if old in self.cloned:
                self.cloned[new] = self.cloned.pop(old)
            for i in self.instances.values():
                i["volumes"] = [new if v == old else v for v in i["volumes"]]
            for task, (operation, of, to) in self.tasks.items():
                if operation == "move" and of == old:
                    self.tasks[task] = (operation, new, to)
        return old != new and Request("POST", f"/v1/volumes/{old}/rename", {"name": new}, then)

    def rename_image(self):
        old = self.some([m for m in self.images if m[0] != "i"])
        new = old and self.name(old[0], self.images, True)

        def then():
            self.images.discard(old)
            self.images.add(new)
            self.uploads.pop(("images", old), None)
        return old and old != new and Request("POST", f"/v1/images/{old}/rename", {"name": new}, then)

    def rename_network(self):
        old, new = self.some(self.networks), self.name("n", self.networks, True)

        def then():
            self.networks.discard(old)
            self.networks.add(new)
            self.limits[new] = self.limits.pop(old)
            self.renamed.add(old)
        return old and old != new and Request("POST", f"/v1/networks/{old}/rename", {"name": new}, then)

    def rename_profile(self):
        old, new = self.name("p", self.profiles, False), self.name("p", self.profiles, True)

        def then():
            self.profiles[new] = self.profiles.pop(old)
            for i in self.instances.values():
                if "profiles" in i:
                    i["profiles"] = [new if p == old else p for p in i["profiles"]]
        return old != new and Request("POST", f"/v1/profiles/{old}/rename", {"name": new}, then)

    # --- networks and quotas ---

    def limit_network(self):
        name, rate = self.some(self.networks), self.dice.choice([None, RATE])
        return name and Request("PATCH", f"/v1/networks/{name}", {"spec": {"limit_in": rate}}, lambda: self.limits.update({name: rate}))

    def set_quota(self):
        # Most often there is none, so that not all ends there.
        quota = {"instances": self.dice.choice([None, None, 3, 5]), "memory": self.dice.choice([None, None, "80M"]),
                 "disk": self.dice.choice([None, None, "40M"])}
        return Request("PATCH", "/v1/projects/default", {"spec": {"quota": quota}}, lambda: None)

    # --- content ---

    def make_upload(self):
        kind = self.dice.choice(["images", "volumes"])
        name, size = self.name("u" if kind == "images" else "w", self.images | set(self.volumes), True), self.dice.randrange(2, 13) * MIB
        source = {"upload": {"size": size, "sha256": hashlib.sha256(content_of(name, size)).hexdigest(), "format": "raw"}}

        def then():
            self.uploads[kind, name] = {"size": size, "received": 0}
            if kind == "images":
                self.images.add(name)
            else:
                self.volumes[name], self.pools[name] = size, "default"
        return Request("POST", f"/v1/{kind}", {"name": name, "spec": {"source": source, **({"size": size} if kind == "volumes" else {})}}, then)

    def incomplete(self):
        return {key for key, u in self.uploads.items() if u["received"] < u["size"]}

    def whole_volumes(self):
        unfit = {name for kind, name in self.uploads if kind == "volumes" and (kind, name) in self.incomplete()}
        return [v for v in self.volumes if v not in unfit]

    def send_part(self):
        key = self.some(self.incomplete())
        if not key:
            return None
        upload = self.uploads[key]
        end = self.dice.choice([upload["size"], self.dice.randrange(upload["received"], upload["size"]) + 1])
        return Part(self, key, end)

    def make_download(self):
        name, slow = self.name("d", self.images, True), self.dice.random() < 0.5
        url = f"{self.web.url}/{'slow/' if slow else ''}disk"
        return Request("POST", "/v1/images", {"name": name, "spec": {"source": {"download": {"url": url, "sha256": self.web.sum}}}},
                       lambda: self.images.add(name))

    def make_from_catalogue(self):
        name = self.name("k", self.images, True)
        return Request("POST", "/v1/images", {"name": name, "spec": {"source": {"catalogue": CATALOGUE}}}, lambda: self.images.add(name))

    def refresh(self):
        return Request("POST", f"/v1/catalogues/{CATALOGUE}/refresh", None,
                       lambda task: self.tasks.update({task: ("refresh", CATALOGUE, None)}))

    # --- commands ---

    def export(self):
        name = self.some([n for n, i in self.instances.items() if i["state"] == "stopped" and not i["volumes"]])
        path = f"{self.folder}/x{self.dice.randrange(3)}.viv"

        def clear(run, said):
            """What a command that was killed cannot take away, as the next one says."""
            subprocess.run(f"rm -rf {path}.parts-*", shell=True, check=True)
            if "exported already" in said:
                image = said.split("'viv image rm ")[1].split("'")[0]
                status, doc = run.send(Request("DELETE", f"/v1/images/{image}"), None)
                # The command that was killed may have asked for that still.
                if status not in (202, 404):
                    raise Wrong(f"{image}: {status} {doc}")
        return name and not os.path.exists(path) and Command(["export", name, path], lambda: None, clear)

    def import_(self):
        path, name = f"{self.folder}/x{self.dice.randrange(3)}.viv", self.name("i", self.instances, True)
        networks = self.networks and ["--network", self.some(self.networks)]

        def then(run):
            if self.is_awaited(name):
                self.taken.add(name)
            spec = run.node.get_any(f"/v1/instances/{name}")["spec"]
            nets = [n["network"] for n in spec["networks"] if "network" in n]
            self.instances[name] = {"state": spec["state"], "volumes": [], "networks": nets}
            self.touched.add(name)
            self.images.add(name)
            self.has_imported = True
            os.unlink(path)
        command = os.path.exists(path) and name not in self.images and Command(["import", path, name, *(networks or [])], then)
        if command:
            command.wants_run = True
        return command
