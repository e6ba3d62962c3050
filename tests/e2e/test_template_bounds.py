# SPDX-License-Identifier: Apache-2.0
"""How many templates are kept, and which of them go: by number, by size, and when the pool is full."""
import os
import signal

import pytest
from test_node import node   # noqa: F401, pylint: disable=unused-import
from test_template import until
from warm_guest import make_tool

MIB = 1 << 20
FIRST, SECOND, THIRD = 96, 100, 104     # MiB: shapes differ by their memory


class Keeper:
    """A daemon with the image debian of warm_guest.py."""
    def __init__(self, node):       # noqa: F811
        self.node, self.tool = node, make_tool(node.folder)
        self.restart()
        node.ask("POST", "/v1/images", {"name": "debian", "spec": {"source": {"build": "debian"}}}, status=201)
        node.wait("/v1/images/debian", "ready")

    def restart(self, *args):
        self.node.kill()
        self.node.start("--image-tool", self.tool, *args)

    def warm(self, mib):
        task = self.node.ask("POST", "/v1/images/debian/warm", {"engine": "bt", "memory": mib * MIB}, status=202)["name"]
        self.node.wait(f"/v1/tasks/{task}", "done", 180)

    def use(self, name, mib):
        self.node.ask("POST", "/v1/instances", {"name": name, "spec": {"image": "debian", "engine": "bt", "memory": mib * MIB, "template": "auto",
                                                                       "shutdown_seconds": 0}}, status=201)
        self.node.wait(f"/v1/instances/{name}", "running", 180)
        assert "began as the template" in self.node.viv("why", name)

    def kept(self):
        """MiB of memory of those that are there, which are those in the folder."""
        templates = self.node.ask("GET", "/v1/images/debian")["status"]["templates"]
        assert all(t["bytes"] > MIB for t in templates)
        if sorted(t["uid"] for t in templates) != sorted(os.listdir(os.path.join(self.node.data, "templates"))):
            return None
        return sorted(t["memory"] // MIB for t in templates)


@pytest.fixture
def keeper(node):       # noqa: F811
    return Keeper(node)


@pytest.mark.long
def test_the_ones_used_least_go_first(keeper):
    keeper.restart("--templates", "2")
    keeper.warm(FIRST)
    keeper.warm(SECOND)
    keeper.use("a", FIRST)
    # The second has not been used, and the next daemon knows that as well.
    keeper.restart("--templates", "2")
    assert keeper.kept() == [FIRST, SECOND]
    keeper.warm(THIRD)
    until(lambda: keeper.kept() == [FIRST, THIRD])
    # The one that was just made has not been used, but is newer than the last use of the other.
    keeper.use("b", THIRD)
    keeper.use("c", FIRST)
    keeper.warm(SECOND)
    until(lambda: keeper.kept() == [FIRST, SECOND])
    # Fewer than before: at once, and who began as one that goes has all of it.
    keeper.use("d", SECOND)
    keeper.restart("--templates", "1")
    until(lambda: keeper.kept() == [SECOND])
    keeper.node.viv("guest", "c")
    # By size: one of them is more than is allowed, so none stays; the task says so by what is there.
    keeper.restart("--templates-size", "1M")
    until(lambda: keeper.kept() == [])
    keeper.warm(FIRST)
    until(lambda: keeper.kept() == [])
    for name in "abcd":
        keeper.node.viv("rm", "-f", name)
    # Nothing of the machines that they were made of is left either.
    assert os.listdir(os.path.join(keeper.node.run, "i")) == [] and keeper.node.processes() == []


@pytest.mark.long
def test_a_full_pool_takes_them_one_by_one_and_makes_no_more(keeper):
    node = keeper.node      # noqa: F811
    keeper.warm(FIRST)
    keeper.warm(SECOND)
    keeper.use("a", SECOND)
    seen = []
    node.ask("PATCH", "/v1/pools/default", {"spec": {"warn_percent": 1, "limit_percent": 1}})

    def look():
        if (kept := keeper.kept()) is not None and kept not in seen[-1:]:
            seen.append(kept)
        return kept == []
    until(look)
    # The one that was used last went last, if anybody saw it in between.
    assert seen[-1] == [] and all(kept in ([FIRST, SECOND], [SECOND], []) for kept in seen), seen
    assert node.ask("GET", "/v1/pools/default")["status"]["state"] == "full"
    # Making another waits for nothing: it fails, and says why; so does an instance.
    task = node.ask("POST", "/v1/images/debian/warm", {"engine": "bt", "memory": FIRST * MIB}, status=202)["name"]
    assert "nothing new is put there" in node.wait(f"/v1/tasks/{task}", "failed")["status"]["reason"]
    assert os.listdir(os.path.join(node.data, "templates")) == []
    # The machine that began as one goes on.
    node.viv("guest", "a")
    node.ask("PATCH", "/v1/pools/default", {"spec": {"warn_percent": 99, "limit_percent": 100}})
    until(lambda: node.ask("GET", "/v1/pools/default")["status"]["state"] == "ready")
    keeper.warm(FIRST)
    assert keeper.kept() == [FIRST]


def test_one_whose_image_goes_meanwhile_goes_too(keeper):
    node = keeper.node      # noqa: F811
    task = node.ask("POST", "/v1/images/debian/warm", {"engine": "bt", "memory": FIRST * MIB}, status=202)["name"]
    node.wait(f"/v1/tasks/{task}", "running")
    node.ask("DELETE", "/v1/images/debian", status=202)
    until(lambda: node.ask("GET", f"/v1/tasks/{task}")["status"]["state"] in ("failed", "cancelled", "done"))
    node.wait_gone("/v1/images/debian")
    until(lambda: os.listdir(os.path.join(node.data, "templates")) == [] and not node.processes())


def test_a_machine_that_ends_while_it_boots_is_not_waited_for(keeper):
    node = keeper.node      # noqa: F811
    task = node.ask("POST", "/v1/images/debian/warm", {"engine": "bt", "memory": FIRST * MIB}, status=202)["name"]
    os.kill(until(node.processes)[0], signal.SIGKILL)
    assert "machine has ended" in node.wait(f"/v1/tasks/{task}", "failed", 60)["status"]["reason"]
    until(lambda: os.listdir(os.path.join(node.data, "templates")) == [] and os.listdir(os.path.join(node.run, "i")) == [])
