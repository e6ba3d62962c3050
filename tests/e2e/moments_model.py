# SPDX-License-Identifier: Apache-2.0
"""What a random workload asks of a daemon, drawn from dice, and what must be true because the daemon has said yes."""
from moments_more import RATE, MoreRequests, Request

STATES = ("running", "running", "running", "stopped")
POOLS = ("default", "side")
# How often each kind of request is drawn.
WEIGHTS = {"make_instance": 6, "set_state": 6, "restart": 1, "remove_instance": 3, "make_snapshot": 4, "remove_snapshot": 2,
           "revert": 2, "clone": 5, "flatten": 1.5, "make_volume": 2, "grow_volume": 1, "move_volume": 2, "remove_volume": 2,
           "clone_volume": 1.5, "flatten_volume": 0.5, "rename_volume": 1, "rename_image": 0.5, "rename_network": 0.5,
           "make_network": 2, "remove_network": 1, "plug": 2, "make_image": 1, "remove_image": 2,
           "make_profile": 2, "change_profile": 3, "use_profiles": 3, "remove_profile": 1, "rename_profile": 1,
           "rename": 2, "set_limits": 2, "make_fork": 1, "warm": 1, "cool": 0.5, "cancel": 3, "limit_network": 1, "set_quota": 1,
           "make_upload": 1, "send_part": 4, "make_download": 1, "make_from_catalogue": 0.5, "refresh": 0.5, "export": 1, "import_": 2}


class Model(MoreRequests):
    """Things by name, as the answers have told. NAMES are few, so that requests meet each other."""

    def __init__(self, dice, folder, web, has_warm, small):
        self.dice, self.folder, self.web, self.has_warm = dice, folder, web, has_warm
        self.image_path = f"{folder}/base.raw"
        self.count = 4 if small else 6
        self.instances = {}             # name -> {"state", "volumes", "networks"}
        self.snapshots = set()          # (instance, name)
        self.memories = set()           # the same, of those with memory
        self.volumes = {}               # name -> size
        self.pools = {}                 # name of a volume -> that of its pool; None: it is a clone's, and nobody has looked yet
        self.cloned = {}                # volume -> the task that makes it
        self.networks = set()
        self.images = set()
        self.profiles = {}              # name -> its labels
        self.tasks = {}                 # name of a task -> (operation, instance, body)
        self.restarted = {}             # instance -> the process that shall have gone
        self.touched = set()            # instances whose process may be another one now
        self.taken = set()              # names of clones to be, which others have taken meanwhile
        self.begin_more()

    def draw(self):
        """A request; most of them are possible."""
        while True:
            kind = self.dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            request = getattr(self, kind)()
            if request:
                return request

    # --- helpers ---

    def name(self, letter, taken, free):
        """One that is there, or one that is not; now and then the other, which is refused."""
        names = [f"{letter}{i}" for i in range(self.count)]
        good = [n for n in names if (n in taken) != free]
        return self.dice.choice(good if good and self.dice.random() < 0.9 else names)

    def some(self, things):
        return self.dice.choice(sorted(things)) if things else None

    def nets(self):
        kind = self.dice.choice(["none", "none", "user", "network", "network"])
        forwards = self.dice.choice([[], [f"tcp:{20000 + self.dice.randrange(8)}:80"]])
        limit = self.dice.choice([None, None, 2 * RATE + 1])
        if kind == "network" and self.networks:
            return [{"kind": "network", "network": self.some(self.networks), "forwards": forwards, **({"limit_out": limit} if limit else {})}]
        return [{"kind": "none" if kind == "network" else kind}]

    # --- what can be asked ---

    def make_instance(self):
        name, state, nets = self.name("i", self.instances, True), self.dice.choice(STATES), self.nets()
        used = {v for i in self.instances.values() for v in i["volumes"]}
        free = [v for v in sorted(self.whole_volumes()) if v not in used]
        volumes = [self.dice.choice(free)] if free and self.dice.random() < 0.7 else []
        spec = {"image": "base", "engine": "bt", "memory": "16M", "state": state, "networks": nets, "agent": False,
                "profiles": (profiles := self.some_profiles()), "disks": [{"volume": v} for v in volumes],
                "shutdown_seconds": self.dice.choice([0, 0, 0, 1])}
        if self.dice.random() < 0.25:
            spec["pool"] = "side"
        return Request("POST", "/v1/instances", {"name": name, "spec": spec}, self.made(name, state, volumes, nets, profiles=profiles))

    def made(self, name, state, volumes, nets, **more):
        """What follows when there is such an instance."""
        def then():
            if self.is_awaited(name):
                self.taken.add(name)
            self.instances[name] = {"state": state, "volumes": volumes, "networks": [n["network"] for n in nets if "network" in n],
                                    **more}
            self.touched.add(name)
        return then

    def change(self, name, spec, **known):
        def then():
            if name in self.instances:
                self.instances[name].update(known)
                self.touched.add(name)
        return Request("PATCH", f"/v1/instances/{name}", {"spec": spec}, then)

    def set_state(self):
        state = self.dice.choice(["running", "running", "stopped", "stopped", "paused"])
        return self.change(self.name("i", self.instances, False), {"state": state}, state=state)

    def plug(self):
        nets = self.nets()
        return self.change(self.name("i", self.instances, False), {"networks": nets},
                           networks=[n["network"] for n in nets if "network" in n])

    def some_profiles(self):
        names = sorted(self.profiles)
        return self.dice.sample(names, self.dice.randrange(0, min(len(names), 3) + 1)) if self.dice.random() < 0.6 else []

    def use_profiles(self):
        """No machine stops or starts by that."""
        name, profiles = self.name("i", self.instances, False), self.some_profiles()

        def then():
            if name in self.instances:
                self.instances[name]["profiles"] = profiles
                # One that has ended by itself is wanted again, as after any change.
                self.touched.add(name)
        return Request("PATCH", f"/v1/instances/{name}", {"spec": {"profiles": profiles}}, then)

    def restart(self):
        name = self.some([n for n, i in self.instances.items() if i["state"] == "running"])

        def then(pid):
            self.touched.add(name)
            if pid:
                self.restarted[name] = pid
        request = name and Request("POST", f"/v1/instances/{name}/restart", None, then)
        if request:
            request.wants_pid = name
        return request

    def remove_instance(self):
        name = self.name("i", self.instances, False)

        def then():
            self.instances.pop(name, None)
            self.gone.add(name)
            self.restarted.pop(name, None)
            self.snapshots = {s for s in self.snapshots if s[0] != name}
        return Request("DELETE", f"/v1/instances/{name}", None, then)

    def make_snapshot(self):
        i, name = self.name("i", self.instances, False), self.name("s", set(), True)
        on = self.some([n for n, known in self.instances.items() if known["state"] != "stopped"])
        has_memory = on and self.dice.random() < 0.4

        def then():
            self.snapshots.add((i, name))
            if has_memory:
                self.memories.add((i, name))
        i = on if has_memory else i
        return Request("POST", f"/v1/instances/{i}/snapshots", {"name": name, "spec": {"memory": bool(has_memory)}}, then)

    def remove_snapshot(self):
        s = self.some(self.snapshots)
        return s and Request("DELETE", f"/v1/instances/{s[0]}/snapshots/{s[1]}", None, lambda: self.snapshots.discard(s))

    def revert(self):
        # One with memory starts what is stopped, unless something else is wanted by then.
        s = self.some([s for s in self.snapshots if s not in self.memories or self.instances.get(s[0], {}).get("state") != "stopped"])

        def then(task):
            self.tasks[task] = ("revert", s[0], s[1])
            self.touched.add(s[0])
        return s and Request("POST", f"/v1/instances/{s[0]}/snapshots/{s[1]}/revert", None, then)

    def is_awaited(self, name):
        return any(operation == "clone" and to == name for operation, _, to in self.tasks.values())

    def clone(self):
        with_volumes = [n for n, i in self.instances.items() if i["volumes"]]
        source = self.some(with_volumes if with_volumes and self.dice.random() < 0.7 else self.instances)
        name, state = self.name("i", self.instances, True), self.dice.choice(["running", "stopped"])
        is_off, is_special = source and self.instances[source]["state"] == "stopped", self.dice.random() < 0.4
        how = {"linked": True} if is_special and is_off else {"memory": True} if is_special and state == "running" else {}

        had = self.instances[source]["volumes"] if source else []
        new = self.free_volumes(len(had))

        def then(task):
            self.tasks[task] = ("clone", source, name)
            self.instances[name] = {"state": state, "volumes": new, "networks": list(self.instances[source]["networks"]), "clone": task}
            self.touched.add(name)
            for old, copy in zip(had, new):
                self.volumes[copy], self.pools[copy], self.cloned[copy] = self.volumes[old], None, task
        volumes = {"volumes": [{"volume": v, "name": n} for v, n in zip(had, new)]} if had else {}
        return source and len(new) == len(had) and not self.is_awaited(name) and Request(
            "POST", f"/v1/instances/{source}/clone", {"name": name, "state": state, **how, **volumes}, then)

    def flatten(self):
        name = self.some(self.instances)
        return name and Request("POST", f"/v1/instances/{name}/flatten", {"image": self.dice.random() < 0.3},
                                lambda task: self.tasks.update({task: ("flatten", name, None)}))

    def make_volume(self):
        name, size = self.name("v", self.volumes, True), self.dice.randrange(1, 9) << 20
        pool, how = self.dice.choice(POOLS), self.dice.choice([{}, {}, {"format": "raw"}])

        def then():
            self.volumes[name], self.pools[name] = size, pool
            # That was to be the name of a clone's.
            self.taken |= {to for task, (_, _, to) in self.tasks.items() if self.cloned.get(name) == task}
            self.cloned.pop(name, None)
        return Request("POST", "/v1/volumes", {"name": name, "spec": {"size": size, "pool": pool, **how}}, then)

    def move_volume(self):
        name, pool, how = self.some(self.whole_volumes()), self.dice.choice(POOLS), self.dice.choice([{}, {}, {"format": "raw"}, {"format": "qcow2"}])

        def then(task):
            self.tasks[task] = ("move", name, pool)
        return name and Request("POST", f"/v1/volumes/{name}/move", {"pool": pool, **how}, then)

    def moved(self, name, pool):
        """The volume NAME has been moved to POOL, if it is still the one that was asked for."""
        if pool:
            self.pools[name] = pool

    def grow_volume(self):
        name = self.some(self.whole_volumes())
        size = name and self.volumes[name] + (1 << 20)
        return name and Request("PATCH", f"/v1/volumes/{name}", {"spec": {"size": size}}, lambda: self.volumes.update({name: size}))

    def remove_volume(self):
        # Whether one that is only being cloned was deleted could not be told when there is no answer.
        there = [v for v in self.volumes if v not in self.cloned]
        name = self.some(there) if self.dice.random() < 0.5 else self.name("v", there, False)

        def then():
            self.volumes.pop(name, None)
            self.uploads.pop(("volumes", name), None)
            # A move of it ends one way or the other, and is that of no later one.
            for task, (operation, of, _) in self.tasks.items():
                if operation == "move" and of == name:
                    self.tasks[task] = (operation, of, None)
        return name not in self.cloned and Request("DELETE", f"/v1/volumes/{name}", None, then)

    def make_network(self):
        name = self.name("n", self.networks, True)

        def then():
            self.networks.add(name)
            self.limits[name] = None
        return Request("POST", "/v1/networks", {"name": name, "spec": {"kind": self.dice.choice(["nat", "host-only"])}}, then)

    def remove_network(self):
        name = self.name("n", self.networks, False)
        return Request("DELETE", f"/v1/networks/{name}", None, lambda: self.networks.discard(name))

    def profile(self, method, path, name):
        said = str(self.dice.randrange(1000))
        labels = {name: said, "last": f"{name}={said}"}
        spec = {"labels": labels, "limits": {"cpu_weight": 50 + int(said) % 100}}
        # Those of a name that it had stay when it is changed.
        return Request(method, path, {"spec": spec, **({"name": name} if method == "POST" else {})},
                       lambda: self.profiles.update({name: {**(self.profiles.get(name, {}) if method == "PATCH" else {}), **labels}}))

    def make_profile(self):
        return self.profile("POST", "/v1/profiles", self.name("p", self.profiles, True))

    def change_profile(self):
        name = self.name("p", self.profiles, False)
        return self.profile("PATCH", f"/v1/profiles/{name}", name)

    def remove_profile(self):
        name = self.name("p", self.profiles, False)
        return Request("DELETE", f"/v1/profiles/{name}", None, lambda: self.profiles.pop(name, None))

    def labels_of(self, profiles):
        """Of an instance that has these."""
        labels = {}
        for name in profiles:
            labels |= self.profiles.get(name, {name: None})
        return labels

    def make_image(self):
        name = self.name("m", self.images, True)
        return Request("POST", "/v1/images", {"name": name, "spec": {"source": {"path": self.image_path}}},
                       lambda: self.images.add(name))

    def remove_image(self):
        name = self.some(self.images)

        def then():
            self.images.discard(name)
            self.uploads.pop(("images", name), None)
        return name and Request("DELETE", f"/v1/images/{name}", None, then)
