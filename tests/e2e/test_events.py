# SPDX-License-Identifier: Apache-2.0
"""viv events: what changes, a line each, without a gap."""
import json
import os
import signal
import subprocess

import pytest
from test_node import BUILD, node  # noqa: F401


class Watch:
    """`viv events` in the background."""

    def __init__(self, node, *args):  # noqa: F811
        self.proc = subprocess.Popen([os.path.join(BUILD, "viv"), "events", *args, "--socket", node.socket], stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True)

    def end(self):
        """(status, lines, complaint) as soon as it has ended by itself."""
        out, complaint = self.proc.communicate(timeout=60)
        return self.proc.returncode, out.splitlines(), complaint


@pytest.fixture
def start(node):  # noqa: F811
    node.ask("POST", "/v1/volumes", {"name": "first", "spec": {"size": "1M"}}, status=201)
    return node.wait("/v1/volumes/first", "ready")["revision"]


def test_every_change_is_told_once_and_in_order(node, start):  # noqa: F811
    node.ask("POST", "/v1/volumes", {"name": "v", "spec": {"size": "1M"}}, status=201)
    node.wait("/v1/volumes/v", "ready")
    node.ask("POST", "/v1/projects", {"name": "other", "spec": {}}, status=201)
    node.ask("DELETE", "/v1/volumes/v", status=202)
    status, lines, complaint = Watch(node, "--json", "--kind", "volume", "--name", "v", "--from", str(start), "--count", "3").end()
    assert (status, complaint) == (0, "")
    told = [json.loads(line) for line in lines]
    assert {t["key"] for t in told} == {"volume/default/v"} and told[0]["type"] == "put"
    revisions = [t["revision"] for t in told]
    assert revisions == sorted(set(revisions)) and revisions[0] > start
    # It goes on behind any of them, with the same ones.
    after = Watch(node, "--json", "--kind", "volume", "--name", "v", "--from", str(revisions[0]), "--count", "2").end()
    assert [json.loads(line)["revision"] for line in after[1]] == revisions[1:3]


def test_what_changes_while_one_watches(node, start):  # noqa: F811
    live = Watch(node, "--kind", "volume", "--name", "w", "--from", str(start))
    node.ask("POST", "/v1/volumes", {"name": "w", "spec": {"size": "1M"}}, status=201)
    node.wait("/v1/volumes/w", "ready")
    seen = []
    while not any("ready" in line for line in seen):
        seen.append(live.proc.stdout.readline())
        assert seen[-1], live.proc.stderr.read()
    assert all("volume" in line and "default/w" in line for line in seen)
    assert seen[0].split()[1] == "set"
    node.ask("PATCH", "/v1/volumes/w", {"spec": {"size": "2M"}})
    while seen[-1].split()[1] != "state":
        seen.append(live.proc.stdout.readline())
    node.ask("DELETE", "/v1/volumes/w", status=202)
    while "gone" not in seen[-1]:
        seen.append(live.proc.stdout.readline())
    # A daemon that ends says so, and where to go on.
    node.proc.send_signal(signal.SIGTERM)
    status, _, complaint = live.end()
    assert status != 0 and "go on with --from" in complaint


def test_what_cannot_be_watched(node):  # noqa: F811
    node.proc.kill()
    node.proc.wait()
    assert "no daemon serves" in node.viv("events", status=1, timeout=30)
