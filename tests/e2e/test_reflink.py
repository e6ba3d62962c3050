# SPDX-License-Identifier: Apache-2.0
"""File systems on which files share blocks: what is made from an image, or cloned, takes no room of its own."""
import os
import random
import re
import shutil
import subprocess

import pytest
from test_node import Node

FILES = ("btrfs", "xfs")
SIZE, DATA = 512 << 20, 8 << 20


class Sharing(Node):
    """A daemon whose data and pool are on a file system of its own, which goes with it."""
    def __init__(self, folder, kind):
        super().__init__(folder)
        self.place, image = os.path.join(folder, "fs"), os.path.join(folder, "fs.img")
        os.mkdir(self.place, 0o755)
        with open(image, "wb") as f:
            f.truncate(SIZE)
        subprocess.run([f"mkfs.{kind}", "-q", image], check=True, timeout=60, stderr=subprocess.DEVNULL)
        self.data = os.path.join(self.place, "data")
        self.prefix = ["unshare", "--mount", "sh", "-c", 'mount -o loop "$1" "$2" && chmod 755 "$2" && shift 2 && exec "$@"', "sh",
                       image, self.place]

    def inside(self, *words):
        return subprocess.run(["nsenter", "-t", str(self.proc.pid), "--mount", *words], check=True, timeout=30,
                              capture_output=True, text=True).stdout

    def shared(self, path):
        """Bytes of the file PATH that are another's, too, and of all of them."""
        found = re.findall(r"^\s*\d+:\s+\d+\.\.\s*\d+:\s+\d+\.\.\s*\d+:\s+(\d+):.*?(?::\s*|\s)(\S*)$",
                           self.inside("filefrag", "-v", "-b1", path), re.M)
        sizes = [(int(size), "shared" in flags) for size, flags in found]
        assert sizes, path
        return sum(size for size, is_shared in sizes if is_shared), sum(size for size, _ in sizes)


@pytest.fixture(params=FILES)
def sharing(request):
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("file systems are mounted from files by root, with loop devices")
    if not shutil.which(f"mkfs.{request.param}"):
        pytest.skip(f"mkfs.{request.param} is not installed")
    folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o700)
    n = Sharing(folder, request.param)
    yield n.start()
    n.end()
    subprocess.run(["rm", "-rf", folder], check=True)


def test_disks_share_what_they_have_in_common(sharing, tmp_path):
    n, raw, pool = sharing, str(tmp_path / "disk.raw"), os.path.join(sharing.place, "pool")
    with open(raw, "wb") as f:
        f.write(os.urandom(DATA))
    n.inside("mkdir", "-m", "755", pool)
    n.viv("pool", "create", "fast", "--path", pool)
    n.wait("/v1/pools/fast", "ready")
    n.viv("image", "import", raw, "base")
    n.ask("POST", "/v1/instances", {"name": "a", "spec": {"image": "base", "pool": "fast", "engine": "interp"}}, status=201)
    n.wait("/v1/instances/a", "running")
    n.ask("PATCH", "/v1/instances/a", {"spec": {"state": "stopped", "shutdown_seconds": 0}})
    n.wait("/v1/instances/a", "stopped")
    n.viv("clone", "a", "b")
    n.wait("/v1/instances/b", "stopped")
    # The first lies in its pool, and one that is copied from it beside the store: both where the image is.
    disks = n.inside("find", n.place, "-name", "root.qcow2").split()
    assert len(disks) == 2 and any(d.startswith(pool) for d in disks), disks
    n.inside("sync", "-f", pool)
    for disk in disks:
        shared, size = n.shared(disk)
        assert size >= DATA and shared >= DATA, (disk, shared, size)
    # They are two all the same.
    n.viv("rm", "--force", "a")
    n.wait_gone("/v1/instances/a")
    left = n.inside("find", n.place, "-name", "root.qcow2").split()
    assert len(left) == 1 and left[0] in disks
    n.ask("PATCH", "/v1/instances/b", {"spec": {"state": "running"}})
    n.wait("/v1/instances/b", "running")
