# SPDX-License-Identifier: Apache-2.0
"""Machines over one small image whose guests do as they are told at their consoles; and those of them that tell what is on their two disks,
and by what serial number they know the second."""
import os
import time

import pytest
import vivguest
from test_node import guest, log_has, node   # noqa: F401, pylint: disable=unused-import

# Tells what is on its disks and how it knows the second; "vdX WORD" is written there, "count" writes rising numbers to both, the first
# one first; "boots" comes once per boot.
INIT = """
echo "boots"
put() { printf '%-16s' "$2" | dd of=/dev/$1 bs=16 conv=notrunc,fsync 2>/dev/null; }
has() { dd if=/dev/$1 bs=16 count=1 2>/dev/null | tr -d ' \\0'; }
while read -r next word; do
    case $next in
        tell*)
            echo 3 >/proc/sys/vm/drop_caches
            echo "$next: $(has vda) $(has vdb) $(cat /sys/block/vdb/serial)" ;;
        vd*) put $next "$word" && echo "written $word" || echo "refused $word" ;;
        count) (n=1; while :; do put vda $n; put vdb $n; n=$((n + 1)); done) & echo "counts" ;;
    esac
done
"""


class Machines:
    """Instances with a disk over the image called base. A class of them says by which script the guests live, and what their file is called."""
    init, initrd = "", ""

    def __init__(self, node, guest, raw):       # noqa: F811, pylint: disable=redefined-outer-name
        self.node, self.n = node, 0
        with open(raw, "wb") as f:
            f.write(b"image".ljust(1 << 20, b"\0"))
        node.viv("image", "import", raw, "base")
        self.spec = dict(guest, initrd=vivguest.initrd("bookworm", self.init, self.initrd), image="base",
                         networks=[{"kind": "none"}], shutdown_seconds=0)

    def make(self, name, **spec):
        self.node.ask("POST", "/v1/instances", {"name": name, "spec": {**self.spec, **spec}}, status=201)
        self.begun(name)

    def begun(self, name):
        self.node.wait(f"/v1/instances/{name}", "running")
        log_has(self.node, name, "boots")

    def boots(self, name):
        return self.node.ask("GET", f"/v1/instances/{name}/log").count(b"boots")

    def set(self, name, state):
        """What starts has booted."""
        before, end = self.boots(name), time.monotonic() + 120
        self.node.ask("PATCH", f"/v1/instances/{name}", {"spec": {"state": state}})
        self.node.wait(f"/v1/instances/{name}", state)
        while state == "running" and self.boots(name) == before:
            assert time.monotonic() < end, name
            time.sleep(0.05)

    def clone(self, name, to, then=lambda: None, how="done", **body):
        task = self.node.ask("POST", f"/v1/instances/{name}/clone", {"name": to, **body}, status=202)
        then()
        return self.node.wait(f"/v1/tasks/{task['name']}", how)


class Herd(Machines):
    init, initrd = INIT, "node-clone-volumes"

    def put(self, name, disk, word, how="written"):
        self.node.viv("console", name, stdin=f"{disk} {word}\n")
        log_has(self.node, name, f"{how} {word}")

    def told(self, name):
        """The words on both disks, and the serial number of the second. A guest that is just beginning hears it later."""
        end = time.monotonic() + 120
        self.node.wait(f"/v1/instances/{name}", "running")
        while True:
            self.n += 1
            self.node.viv("console", name, stdin=f"tell{self.n}\n")
            again = time.monotonic() + 10
            while time.monotonic() < again:
                lines = [line for line in self.node.ask("GET", f"/v1/instances/{name}/log").decode(errors="replace").split("\n")
                         if f"tell{self.n}: " in line and line.endswith("\r")]
                if lines:
                    return lines[-1].split(": ")[1].split()
                time.sleep(0.02)
            assert time.monotonic() < end, name

    def volumes(self, name):
        return [d["volume"] for d in self.node.ask("GET", f"/v1/instances/{name}")["spec"]["disks"]]

    def file(self, volume, pool=None):
        """Where the file of a volume is."""
        uid = self.node.ask("GET", f"/v1/volumes/{volume}")["uid"]
        return os.path.join(pool or self.node.data, "volumes", uid + ".qcow2")

    def wait_linked(self, volume, is_linked):
        end = time.monotonic() + 60
        while self.node.ask("GET", f"/v1/volumes/{volume}")["status"].get("linked", False) != is_linked:
            assert time.monotonic() < end, volume
            time.sleep(0.02)

    def world(self):
        """Files of volumes and instances, and the users of bases, must be those of the documents. How many bases there are."""
        of = {v["uid"] for v in self.node.ask("GET", "/v1/volumes")["items"]}
        instances = {i["uid"] for i in self.node.ask("GET", "/v1/instances")["items"]}
        assert sorted(os.listdir(os.path.join(self.node.data, "volumes"))) == sorted(u + ".qcow2" for u in of)
        assert set(os.listdir(os.path.join(self.node.data, "instances"))) == instances
        folder = os.path.join(self.node.data, "bases")
        bases = os.listdir(folder) if os.path.isdir(folder) else []
        for base in bases:
            users = set(os.listdir(os.path.join(folder, base, "users")))
            assert users and not users - of - instances - set(bases), (base, users)
        return len(bases)


@pytest.fixture
def herd(node, guest, tmp_path):        # noqa: F811, pylint: disable=redefined-outer-name
    return Herd(node, guest, str(tmp_path / "raw"))


@pytest.fixture
def pair(node, herd):                   # noqa: F811, pylint: disable=redefined-outer-name
    """The machine a with words on its disk and on its volume data."""
    node.viv("volume", "create", "data", "8M")
    herd.make("a", disks=[{"volume": "data"}])
    herd.put("a", "vda", "root")
    herd.put("a", "vdb", "first")
    return herd
