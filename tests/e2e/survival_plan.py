# SPDX-License-Identifier: Apache-2.0
"""What is to be done to the machine of survival.py: steps, each with all that is chance in it, from a seed alone. Nothing that a
run finds out goes into it, so a seed is the same steps on every host; those of a shorter run are the beginning of a longer one's."""
import random

MIB = 1 << 20
DISK_MIB = 4                # what is written to a disk that is plugged, and compared
DISKS_MAX = 3
SECRET = "secret"           # an encrypted qcow2, there from the start
CPUS = ("host", "base", "x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v2,vendor=intel", "x86-64-v3,vendor=amd")

MOVES = ("save", "migrate", "migrate_streams", "migrate_tls", "migrate_post", "migrate_disks")     # these choose an engine
SLOW_STEPS = 2

# Weights. The first five lines are what moves a machine as a whole.
OPERATIONS = {
    "save": 4, "save_and_go_on": 1,
    "migrate": 2, "migrate_streams": 1, "migrate_tls": 1, "migrate_post": 1, "migrate_disks": 1, "migrate_cancelled": 1,
    "migrate_broken": 1,
    "upgrade": 3, "upgrade_refused": 1, "upgrade_broken": 1,
    "fork": 2,
    "disk": 4, "net": 2, "user_net": 1, "console": 2, "entropy": 1, "medium": 2, "cpus": 2, "memory": 2, "balloon": 1, "limits": 1, "pause": 1,
    "single": 2, "terminal": 1, "waits": 1,
    "disk_snapshot": 1, "disk_stream": 1, "disk_mirror": 1, "disk_backup": 1, "disk_inside": 1, "disk_resize": 1,
}

# The requests of the control socket, and which operation does them; "-": none, for the reason that follows.
REQUESTS = {
    "info": "settle", "stats": "balloon", "events": "-: test_hotplug.py, test_disk_jobs.py", "pause": "pause", "resume": "pause",
    "powerdown": "finish", "reset": "-: the guest notices; test_matrix.py", "save": "save", "set": "limits",
    "disk-info": "disk_stream", "image-add": "disk_snapshot", "image-drop": "-: nothing of the machine; test_disk_jobs.py",
    "disk-snapshot": "disk_snapshot", "disk-resize": "disk_resize", "disk-stream": "disk_stream", "disk-commit": "disk_snapshot",
    "disk-mirror": "disk_mirror", "disk-backup": "disk_backup", "bitmap-add": "disk_inside", "bitmap-remove": "disk_inside",
    "bitmap-clear": "disk_inside", "snapshot-create": "disk_inside", "snapshot-delete": "disk_inside", "jobs": "disk_stream",
    "job-pause": "disk_mirror", "job-resume": "disk_mirror", "job-cancel": "disk_mirror", "job-complete": "disk_mirror",
    "job-set": "disk_mirror", "agent-ping": "finish", "agent-info": "-: test_agent.py", "agent-addresses": "-: test_agent.py",
    "agent-shutdown": "-: test_agent.py", "agent-set-time": "-: the clock is set by the watcher; test_agent.py",
    "agent-exec": "-: test_agent.py", "agent-read": "-: test_agent.py", "agent-write": "-: test_agent.py",
    "agent-freeze": "disk_snapshot", "agent-thaw": "disk_snapshot", "migrate": "migrate", "migrate-start-postcopy": "migrate_post",
    "migrate-recover": "-: needs a connection cut in post-copy; test_migration_post.py", "upgrade": "upgrade",
    "migration": "migrate_cancelled", "migrate-set": "migrate_cancelled", "migrate-cancel": "migrate_cancelled", "plug": "disk",
    "waiting": "waits", "waiting-cancel": "waits", "unplug": "disk", "eject": "medium", "insert": "medium", "quit": "-: an end; test_usage.py",
    "net-metadata": "-: of kind user alone; test_metadata_user.py", "describe": "-: a text",
}


class Plan:
    """Knows what there is after each step, because what can be done next depends on it."""

    def __init__(self, seed, slow_engine=True):
        self.seed, self.slow_engine = seed, slow_engine
        self.cpu = random.Random(f"{seed}/cpu").choice(CPUS)
        self.engine, self.cpus, self.memory, self.root = "bt", 2, 512, "raw"
        self.disks, self.n_disks = {}, 0        # serial -> format
        self.nets, self.has_console, self.has_rng, self.medium, self.n_media = set(), False, True, None, 0
        self.has_terminal = True
        self.random = None

    def steps(self, n):
        """N steps, (name, parameters): each operation once in an order of this seed's, then by weight. The slow engine is left after
        SLOW_STEPS, by one more step."""
        order, names = random.Random(f"{self.seed}/order"), list(OPERATIONS)
        order.shuffle(names)
        names += order.choices(list(OPERATIONS), list(OPERATIONS.values()), k=max(0, n - len(names)))
        names, slow = names[::-1], 0
        for i in range(n):
            slow = slow + 1 if self.engine != "bt" else 0
            name = "migrate" if slow > SLOW_STEPS and names[-1] not in MOVES else names.pop()
            self.random = random.Random(f"{self.seed}/{i}/{name}")      # so that a new operation leaves the parameters of others alone
            yield name, getattr(self, "draw_" + name)()

    def next_engine(self):
        """Mostly the fast one."""
        slow = self.random.random() < 0.12
        self.engine = "interp" if slow and self.slow_engine and self.engine == "bt" else "bt"
        return self.engine

    # --- the machine as a whole ---

    def draw_save(self):
        return {**self.draw_save_and_go_on(), "engine": self.next_engine()}

    def draw_save_and_go_on(self):
        return {"packing": self.random.choice(["raw", "raw", "lz4", "zstd"]), "encrypted": self.random.random() < 0.3}

    def draw_migrate(self, **fixed):
        r = self.random
        how = {"via": r.choice(["unix", "tcp"]), "tls": r.random() < 0.25, "packing": r.choice(["none", "zstd", "lz4"]),
               "streams": r.choice([1, 1, 2, 4, 8]), "postcopy": r.choice(["off", "off", "off", "round", "asked"]),
               "disks": r.choice(["shared", "shared", "shared", "plugged"]), "engine": self.next_engine()}
        return {**how, **fixed}

    def draw_migrate_streams(self):
        return self.draw_migrate(streams=self.random.choice([2, 3, 4, 8]))

    def draw_migrate_tls(self):
        return self.draw_migrate(tls=True)

    def draw_migrate_post(self):
        return self.draw_migrate(postcopy=self.random.choice(["round", "asked"]))

    def draw_migrate_disks(self):
        return self.draw_migrate(disks=self.random.choice(["plugged", "all"]))

    def draw_migrate_cancelled(self):
        before = self.engine
        how = self.draw_migrate(postcopy="off")
        self.engine = before
        return how

    def draw_migrate_broken(self):
        return {"at": self.random.choice(["MACHINE", "BUILT", "PAGES", "STATE", "READY"]),
                "packing": self.random.choice(["none", "zstd", "lz4"]), "streams": self.random.choice([1, 2])}

    def draw_upgrade(self):
        return {}

    def draw_upgrade_refused(self):
        return {"program": self.random.choice(["exit 1", 'exec "$VIV_REAL" "$@" --memory 128M', 'exec "$VIV_REAL" "$@" --nonsense',
                                               'exec "$VIV_REAL" "$@" --disk path=/nonexistent'])}

    def draw_upgrade_broken(self):
        return {"at": self.random.choice(["MACHINE", "HANDS", "BUILT", "STATE", "READY", "COMMIT"])}

    def draw_fork(self):
        return {"copies": self.random.choice([1, 2])}

    def draw_pause(self):
        return {"seconds": self.random.choice([0.1, 0.5, 2])}

    # --- devices that come and go ---

    def draw_disk(self):
        r = self.random
        if len(self.disks) == DISKS_MAX or (self.disks and r.random() < 0.5):
            serial = r.choice(list(self.disks))
            del self.disks[serial]
            return {"unplug": serial}
        serial, kind = f"d{self.n_disks}", r.choice(["raw", "qcow2", "encrypted", "backed"])
        self.n_disks += 1
        self.disks[serial] = "raw" if kind == "raw" else "qcow2"
        return {"plug": serial, "kind": kind, "key": r.randrange(1 << 30)}

    def toggle(self, name):
        self.nets ^= {name}
        return {"plug": name in self.nets}

    def draw_net(self):
        return self.toggle("extra")

    def draw_user_net(self):
        return self.toggle("passt")

    def draw_console(self):
        self.has_console = not self.has_console
        return {"plug": self.has_console, "word": f"{self.random.randrange(1 << 40):x}"}

    def draw_entropy(self):
        self.has_rng = not self.has_rng
        return {"plug": self.has_rng}

    def draw_single(self):
        """It goes, and comes back."""
        return {"device": self.random.choice(["balloon", "agent", "vsock"])}

    def draw_terminal(self):
        self.has_terminal = not self.has_terminal
        return {"plug": self.has_terminal}

    def draw_waits(self):
        """Requests behind a migration that is cancelled: which of them is taken back."""
        return {"share": self.random.choice(["1.2", "1.7"]), "cancel": self.random.choice(["save", "set"])}

    def draw_medium(self):
        if self.medium is not None:
            number, self.medium = self.medium, None
            return {"eject": number}
        self.medium, self.n_media = self.n_media, self.n_media + 1
        return {"insert": self.medium, "key": self.random.randrange(1 << 30)}

    def draw_cpus(self):
        self.cpus = self.random.choice([n for n in (1, 2, 3, 4) if n != self.cpus])
        return {"n": self.cpus}

    def draw_memory(self):
        self.memory = self.random.choice([n for n in (512, 640, 768, 1024) if n != self.memory])
        return {"mib": self.memory}

    def draw_balloon(self):
        return {"mib": self.random.choice([0, 32, 64, 96])}

    def draw_limits(self):
        r = self.random
        return {"iops": r.choice([0, 100, 500]), "bps": r.choice(["0", "20M", "100M"]), "share": r.choice(["none", "1", "1.5"])}

    # --- jobs on disks ---

    def some_disk(self):
        """disk0 or one that was plugged."""
        return self.random.choice(["disk0", *self.disks, *self.disks])

    def set_format(self, disk, form):
        if disk == "disk0":
            self.root = form
        else:
            self.disks[disk] = form

    def draw_disk_snapshot(self):
        disks = sorted({"disk0", self.some_disk()}) if self.random.random() < 0.5 else [self.some_disk()]
        return {"disks": disks, "quiesce": self.random.random() < 0.5}

    def draw_disk_stream(self):
        disk = self.some_disk()
        self.set_format(disk, "qcow2")
        return {"disk": disk}

    def draw_disk_mirror(self):
        disk, form, r = self.some_disk(), self.random.choice(["raw", "qcow2"]), self.random
        how = {"disk": disk, "format": form, "mode": r.choice(["auto", "background", "blocking"]),
               "end": r.choice(["at once", "completed", "completed", "cancelled"]), "rest": r.random() < 0.3}
        if how["end"] != "cancelled":
            self.set_format(disk, form)
        return how

    def draw_disk_backup(self):
        return {"disk": self.some_disk(), "format": self.random.choice(["raw", "qcow2"]), "quiesce": self.random.random() < 0.5}

    def draw_disk_inside(self):
        """Snapshots and bitmaps in images that can have them."""
        able = [SECRET, *(d for d, form in self.disks.items() if form == "qcow2"), *(["disk0"] if self.root == "qcow2" else [])]
        return {"disks": sorted(self.random.sample(able, self.random.randint(1, len(able))))}

    def draw_disk_resize(self):
        return {"disk": self.random.choice([SECRET, *self.disks]), "more": self.random.choice([1, 2]) * MIB}
