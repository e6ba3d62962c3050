# SPDX-License-Identifier: Apache-2.0
"""Machines as files: out of one, and into another; what is damaged, cut or hostile; and whoever is interrupted meanwhile."""
import hashlib
import io
import json
import os
import re
import select
import signal
import socket
import subprocess
import tarfile
import threading
import time

import pytest
from test_clone import herd                         # noqa: F401, pylint: disable=unused-import
from test_node import BUILD, Unix, guest, node      # noqa: F401, pylint: disable=unused-import

# Of this host, and so in no archive.
ONLY_HERE = ("kernel", "initrd", "engine")


def off(herd, name, word, **spec):                  # noqa: F811
    """A machine that has written WORD and is off."""
    herd.make(name, **spec)
    herd.write(name, word)
    herd.set(name, "stopped")


def same_host(node, herd, name):                    # noqa: F811
    """The guest of these tests is a kernel of this host."""
    node.ask("PATCH", f"/v1/instances/{name}", {"spec": {key: herd.spec[key] for key in ONLY_HERE}})


def names(node, kind):                              # noqa: F811
    return sorted(d["name"] for d in node.ask("GET", f"/v1/{kind}")["items"])


def all_names(node):                                # noqa: F811
    return [names(node, kind) for kind in ("instances", "images", "volumes")]


def wait_names(node, wanted):                       # noqa: F811
    end = time.monotonic() + 60
    while all_names(node) != wanted:
        assert time.monotonic() < end, (all_names(node), wanted)
        time.sleep(0.02)


def files_of(path):
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers()}


def write(path, files, manifest=True):
    """An archive of FILES, whose manifest is made to fit; members of other kinds come as TarInfo."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        if manifest:
            listed = [{"name": n, "size": len(d), "sha256": hashlib.sha256(d).hexdigest()}
                      for n, d in files.items() if isinstance(d, bytes) and n != "manifest.json"]
            head = json.loads(files["manifest.json"])
            files = {**files, "manifest.json": json.dumps({**head, "files": listed}).encode()}
        for name, data in files.items():
            if isinstance(data, bytes):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            else:
                tar.addfile(data)


def test_a_machine_comes_back_under_another_name(node, herd, tmp_path):     # noqa: F811
    out = tmp_path / "a.viv"
    node.viv("volume", "create", "data", "8M")
    off(herd, "a", "first", disks=[{"volume": "data"}], user_data="#!/bin/sh\n# s3cret", ssh_keys=["ssh-ed25519 AAAA me"])
    node.ask("PATCH", "/v1/instances/a", {"labels": {"tier": "web"}})
    node.viv("export", "--volumes", "a", str(out))
    assert sorted(os.listdir(tmp_path)) == ["a.viv", "raw"]
    assert names(node, "images") == ["base"]
    files = files_of(out)
    assert sorted(files) == ["disk-0.qcow2", "disk-1.qcow2", "machine.json", "manifest.json"]
    machine = json.loads(files["machine.json"])
    assert machine["labels"] == {"tier": "web"} and [d["size"] for d in machine["disks"]] == [1 << 20, 8 << 20]
    assert not {"user_data", "image", "state", *ONLY_HERE} & set(machine["spec"]) and b"s3cret" not in files["machine.json"]
    assert "is there already" in node.viv("export", "a", str(out), status=6)
    # Its disk stands alone: what it was made from may go.
    node.viv("rm", "a")
    node.viv("image", "rm", "base")
    assert json.loads(node.viv("import", str(out), "b", "--json"))["name"] == "b"
    made = node.ask("GET", "/v1/instances/b")
    assert made["labels"] == {"tier": "web"} and made["spec"]["state"] == "stopped" and made["spec"]["image"] == "b"
    assert [d["volume"] for d in made["spec"]["disks"]] == ["b-1"] and made["spec"]["ssh_keys"] == ["ssh-ed25519 AAAA me"]
    assert node.ask("GET", "/v1/images/b")["labels"] == {} and node.ask("GET", "/v1/volumes/b-1")["labels"] == {}
    same_host(node, herd, "b")
    herd.set("b", "running")
    herd.has("b", "nothing", "first")
    assert "already" in node.viv("import", str(out), "b", status=6)
    # As it was called, without what it cannot have twice.
    herd.set("b", "stopped")
    node.viv("import", str(out))
    assert names(node, "instances") == ["a", "b"] and node.ask("GET", "/v1/instances/a")["uid"] != made["uid"]


def test_what_cannot_be_exported_says_why(node, herd, tmp_path):    # noqa: F811
    out = str(tmp_path / "a.viv")
    herd.make("a")
    assert "viv clone a" in node.viv("export", "a", out, status=4)
    said = node.ask("POST", "/v1/images", {"name": "i", "spec": {"source": {"instance": "a"}}}, status=409)["error"]
    assert said["code"] == "busy" and "stop it" in said["message"]
    for name, word in (("nobody", "no instance"), ("diskless", "without an image")):
        if name == "diskless":
            node.ask("POST", "/v1/instances", {"name": name, "spec": {**{k: v for k, v in herd.spec.items() if k != "image"},
                                                                       "state": "stopped"}}, status=201)
            assert word in node.viv("export", name, out, status=9)
        else:
            node.viv("export", name, out, status=7)
        said = node.ask("POST", "/v1/images", {"name": "i", "spec": {"source": {"instance": name}}}, status=400)["error"]
        assert said["field"] == "spec.source.instance" and word in said["message"]
    # One that has not run yet is what its image is.
    node.ask("POST", "/v1/instances", {"name": "fresh", "spec": {**herd.spec, "state": "stopped"}}, status=201)
    node.viv("export", "fresh", out)
    node.viv("import", out, "b")
    same_host(node, herd, "b")
    herd.set("b", "running")
    herd.has("b", "nothing", "image")
    assert sorted(os.listdir(tmp_path)) == ["a.viv", "raw"]


def test_a_copy_of_a_disk_counts_and_is_one_s_own(node, herd):     # noqa: F811
    off(herd, "a", "first")
    node.viv("quota", "set", "default", "disk=1536K")
    body = {"name": "i", "spec": {"source": {"instance": "a"}}}
    assert node.ask("POST", "/v1/images", body, status=422)["error"]["code"] == "quota"
    node.viv("quota", "set", "default", "disk=none")
    node.viv("project", "create", "other")
    said = node.ask("POST", "/v1/images?project=other", body, status=400)["error"]
    assert said["field"] == "spec.source.instance" and "no instance 'a'" in said["message"]
    node.ask("POST", "/v1/images", body, status=201)
    node.wait("/v1/images/i", "ready")
    said = node.ask("PATCH", "/v1/images/i", {"spec": {"source": {"instance": "b"}}}, status=400)["error"]
    assert "cannot be changed" in said["message"]
    both = {"name": "j", "spec": {"source": {"instance": "a", "path": "/etc/passwd"}}}
    assert "either" in node.ask("POST", "/v1/images", both, status=400)["error"]["message"]
    # A machine can begin as it.
    node.viv("rm", "a")
    herd.make("c", image="i")
    herd.has("c", "nothing", "first")


def test_damaged_cut_and_hostile_archives_make_nothing(node, herd, tmp_path):   # noqa: F811
    good, bad = tmp_path / "a.viv", tmp_path / "bad.viv"
    off(herd, "a", "first")
    node.viv("export", "a", str(good))
    files, before = files_of(good), all_names(node)
    data, machine = good.read_bytes(), json.loads(files["machine.json"])

    def refused(word, status=1):
        assert word in node.viv("import", str(bad), "b", status=status)
        assert all_names(node) == before

    def change(word, status=1, **more):
        write(bad, {**files, "machine.json": json.dumps({**machine, **more}).encode()})
        refused(word, status)

    at = data.index(b"QFI\xfb") + len(files["disk-0.qcow2"]) // 2
    bad.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])
    refused("checksum of 'disk-0.qcow2'")
    for cut in (0, 511, 700, at, len(data) - 2048, len(data) - 3000):
        bad.write_bytes(data[:cut])
        refused("")
    bad.write_bytes(os.urandom(4096))
    refused("")
    for name in ("../evil", "/tmp/evil", "a/b", ".."):
        write(bad, {**files, name: b"x"})
        refused("")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE):
        info = tarfile.TarInfo("disk-1.qcow2")
        info.type, info.linkname = kind, "/etc/passwd"
        write(bad, {**files, "disk-1.qcow2": info})
        refused("where only files")
    write(bad, {**files, "more": b"x"})
    refused("other disks")
    write(bad, {**files, "more": b"x"}, manifest=False)
    refused("its manifest does not")
    write(bad, {**files, "manifest.json": json.dumps({"format": "vivarium-machine", "version": 3}).encode()})
    refused("another version", 9)
    # A disk that shows files of whoever reads it.
    layer = tmp_path / "layer.qcow2"
    subprocess.run([os.path.join(BUILD, "viv"), "disk", "create", "--backing", str(tmp_path / "raw"), "--backing-format", "raw", str(layer), "1M"],
                   check=True, timeout=60, stdout=subprocess.DEVNULL)
    write(bad, {**files, "disk-0.qcow2": layer.read_bytes()})
    refused("needs another")
    change("size", disks=[{"file": "disk-0.qcow2", "size": 1}])
    change("not in it", disks=[{"file": "../disk", "size": 1}])
    change("not in it", disks=[{"file": "manifest.json", "size": 1}])
    change("describes no machine", spec=[])
    change("network", spec={"networks": [{"kind": "network", "network": "x/../../v1"}]})
    change("is not here", status=7, spec={"networks": [{"kind": "network", "network": "none"}]})
    write(bad, {**files, "machine.json": json.dumps({**machine, "name": "../b?x"}).encode()})
    assert "called like that" in node.viv("import", str(bad), status=1)
    # What it says of the machine is the daemon's to judge; documents that were made for it go again.
    change("cpus", spec={"cpus": 10000})
    change("labels", labels={"a": 1})
    wait_names(node, before)
    # Paths of the host are not taken from anybody.
    write(bad, {**files, "machine.json": json.dumps({**machine, "spec": {**machine["spec"], "kernel": "/etc/passwd",
                                                                          "networks": []}}).encode()})
    node.viv("import", str(bad), "b")
    assert "kernel" not in node.ask("GET", "/v1/instances/b")["spec"]


def spawn(node, *args):     # noqa: F811
    return subprocess.Popen([os.path.join(BUILD, "viv"), *args, "--socket", node.socket], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("signo", [signal.SIGKILL, signal.SIGTERM])
def test_an_import_that_is_ended_leaves_nothing_half_made(node, herd, tmp_path, signo):     # noqa: F811
    out = tmp_path / "a.viv"
    node.viv("volume", "create", "data", "8M")
    off(herd, "a", "first", disks=[{"volume": "data"}])
    node.viv("export", "--volumes", "a", str(out))
    before = all_names(node)
    for turn in range(4):
        with spawn(node, "import", str(out), "b") as p:
            end = time.monotonic() + 60
            # At another moment each time: as soon as something is there, and then later and later.
            while names(node, "images") == before[1] and p.poll() is None:
                assert time.monotonic() < end
            time.sleep(turn * 0.02)
            p.send_signal(signo)
            p.wait(60)
        if "b" in names(node, "instances"):
            break
        if signo == signal.SIGTERM:
            wait_names(node, before)
    if "b" not in names(node, "instances"):
        node.viv("import", str(out), "b")
    same_host(node, herd, "b")
    herd.set("b", "running")
    herd.has("b", "nothing", "first")


class Between:
    """A socket before the daemon's. It counts requests that change something, and ends PROC at number AT: before the daemon hears of it, or
    (HEARD) when it has answered, which the client does not hear any more."""
    def __init__(self, node, path):     # noqa: F811
        self.node, self.at, self.heard, self.seen, self.proc = node, 0, False, [], None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        self.path = path
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, socket.socket(socket.AF_UNIX) as daemon:
            daemon.connect(self.node.socket)
            while True:
                for side in select.select([client, daemon], [], [])[0]:
                    try:
                        data = side.recv(1 << 20)
                    except OSError:
                        return
                    if not data or not self.passes(side is client, data):
                        return
                    (daemon if side is client else client).sendall(data)

    def passes(self, is_request, data):
        if is_request and (change := re.match(rb"(POST|PUT|PATCH|DELETE) (\S+) HTTP", data)):
            self.seen.append(change[0].decode())
        if not self.at or len(self.seen) < self.at or is_request == self.heard:
            return True
        self.proc.kill()
        return False

    def run(self, at, heard, *args):
        """What it has asked for."""
        self.at, self.heard, self.seen = at, heard, []
        with subprocess.Popen([os.path.join(BUILD, "viv"), *args, "--socket", self.path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
            self.proc = p
            assert p.wait(120) == (-signal.SIGKILL if at else 0), self.seen
        return self.seen


def test_an_import_that_is_killed_at_any_request_is_gone_on_with(node, tmp_path):       # noqa: F811
    raw, out = tmp_path / "raw", tmp_path / "a.viv"
    raw.write_bytes(b"image".ljust(1 << 20, b"\0"))
    node.viv("image", "import", str(raw), "base")
    node.viv("volume", "create", "data", "2M")
    node.ask("POST", "/v1/instances", {"name": "a", "spec": {"image": "base", "memory": "16M", "state": "stopped", "networks": [],
                                                             "disks": [{"volume": "data"}]}}, status=201)
    node.viv("export", "--volumes", "a", str(out))
    between = Between(node, str(tmp_path / "between"))
    steps = between.run(0, False, "import", str(out), "b")
    assert len(steps) >= 6 and steps[-1].startswith("POST /v1/instances?project"), steps

    def labels():
        return {d["name"]: d["labels"] for kind in ("images", "volumes") for d in node.ask("GET", f"/v1/{kind}")["items"]
                if d["name"] in ("b", "b-1")}

    def is_whole():
        """All that the machine has is its own."""
        assert node.ask("GET", "/v1/instances/b")["spec"]["disks"][0]["volume"] == "b-1" and labels() == {"b": {}, "b-1": {}}
        assert node.viv("import", str(out), "b", status=6)
        for kind, name in (("instances", "b"), ("volumes", "b-1"), ("images", "b")):
            node.ask("DELETE", f"/v1/{kind}/{name}", status=202)
            node.wait_gone(f"/v1/{kind}/{name}")

    is_whole()
    for at in range(1, len(steps) + 1):
        for heard in (False, True):
            between.run(at, heard, "import", str(out), "b")
            if heard and at == len(steps):
                is_whole()
                continue
            # Nobody takes what is there for anything else, nor has to know of it.
            assert "b" not in names(node, "instances") and all("viv-import" in own for own in labels().values()), (at, heard, labels())
            node.viv("import", str(out), "b")
            is_whole()
    # Whoever else comes to have it, has it.
    between.run(len(steps), False, "import", str(out), "b")
    node.ask("POST", "/v1/instances", {"name": "c", "spec": {"image": "base", "memory": "16M", "state": "stopped", "networks": [], "disks": [{"volume": "b-1"}]}},
             status=201)
    assert labels()["b-1"] == {} and labels()["b"] != {}
    assert "already" in node.viv("import", str(out), "b", status=6)


def test_a_daemon_that_is_killed_goes_on_with_both(node, herd, tmp_path):       # noqa: F811
    out = tmp_path / "a.viv"
    off(herd, "a", "first")
    task = {"name": "i", "spec": {"source": {"instance": "a"}}}
    node.ask("POST", "/v1/images", task, status=201)
    node.kill()
    node.start()
    node.wait("/v1/images/i", "ready")
    # Nobody holds the machine any more.
    herd.set("a", "running")
    herd.set("a", "stopped")
    node.viv("image", "rm", "i")
    for _ in range(3):
        with spawn(node, "export", "a", str(out)) as p:
            end = time.monotonic() + 60
            while len(names(node, "images")) == 1 and p.poll() is None:
                assert time.monotonic() < end
            p.send_signal(signal.SIGTERM)
            p.wait(60)
        wait_names(node, [["a"], ["base"], []])
        assert not [f for f in os.listdir(tmp_path) if "parts" in f]
        if out.exists():
            break
    if not out.exists():
        node.viv("export", "a", str(out))
    node.viv("import", str(out), "b")
    same_host(node, herd, "b")
    herd.set("b", "running")
    herd.has("b", "nothing", "first")


def with_kernel(node, herd, path):                  # noqa: F811
    """The image direct, whose machines are started with a kernel of its own: what a client sends behind a disk."""
    disk = os.path.join(path, "direct.qcow2")
    subprocess.run([os.path.join(BUILD, "viv"), "disk", "convert", "--source-format", "raw", os.path.join(path, "raw"), disk], check=True,
                   capture_output=True)
    with open(disk, "rb") as f:
        data = f.read()
    data += bytes(-len(data) % 512)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, key in (("vmlinuz", "kernel"), ("initrd.img", "initrd")):
            with open(herd.spec[key], "rb") as f:
                part = f.read()
            info = tarfile.TarInfo(name)
            info.size = len(part)
            tar.addfile(info, io.BytesIO(part))
    whole = data + archive.getvalue()
    upload = {"size": len(whole), "sha256": hashlib.sha256(whole).hexdigest(), "format": "qcow2", "kernel_at": len(data)}
    return whole, upload


def send(node, name, data):                         # noqa: F811
    conn = Unix(node.socket)
    conn.request("PUT", f"/v1/images/{name}/content", data)
    answer = conn.getresponse()
    answer.read()
    conn.close()
    assert answer.status == 200


def test_a_machine_takes_the_kernel_of_its_image_along(node, herd, tmp_path):       # noqa: F811
    whole, upload = with_kernel(node, herd, str(tmp_path))
    node.ask("POST", "/v1/images", {"name": "direct", "spec": {"source": {"upload": upload}}}, status=201)
    send(node, "direct", whole)
    assert node.wait("/v1/images/direct", "ready")["status"]["boots_directly"]
    for part, key in (("kernel", "kernel"), ("initrd", "initrd")):
        with open(herd.spec[key], "rb") as f:
            assert node.ask("GET", f"/v1/images/direct/{part}") == f.read()
        assert "of its own" in node.ask("GET", f"/v1/images/base/{part}", status=404)["error"]["message"]
    spec = {k: v for k, v in herd.spec.items() if k not in ("kernel", "initrd")}
    node.ask("POST", "/v1/instances", {"name": "a", "spec": {**spec, "image": "direct"}}, status=201)
    herd.begun("a")
    herd.write("a", "first")
    herd.set("a", "stopped")
    out = tmp_path / "a.viv"
    node.viv("export", "a", str(out))
    files = files_of(out)
    with tarfile.open(out) as tar:
        assert tar.getnames() == ["machine.json", "disk-0.qcow2", "vmlinuz", "initrd.img", "manifest.json"]
    assert json.loads(files["manifest.json"])["version"] == 2
    node.viv("rm", "a")
    node.viv("image", "rm", "direct")
    node.viv("import", str(out), "b")
    # Its engine is of this host, and in no archive.
    node.ask("PATCH", "/v1/instances/b", {"spec": {"engine": herd.spec["engine"]}})
    herd.set("b", "running")
    herd.has("b", "nothing", "first")
    # And once more, of what was imported.
    herd.set("b", "stopped")
    node.viv("export", "b", str(tmp_path / "b.viv"))
    again = files_of(tmp_path / "b.viv")
    assert again["vmlinuz"] == files["vmlinuz"] and again["initrd.img"] == files["initrd.img"]
    # One that has been put elsewhere, or belongs to nothing, is no part of a machine.
    for wrong, word in (({k: files[k] for k in ("machine.json", "vmlinuz", "disk-0.qcow2", "initrd.img", "manifest.json")}, "does not follow"),
                        ({k: v for k, v in files.items() if k != "vmlinuz"}, "no kernel")):
        write(tmp_path / "wrong.viv", wrong)
        assert word in node.viv("import", str(tmp_path / "wrong.viv"), "c", status=1)
    assert names(node, "instances") == ["b"]


def test_what_is_sent_behind_a_disk_is_a_kernel_or_refused(node, herd, tmp_path):   # noqa: F811
    whole, upload = with_kernel(node, herd, str(tmp_path))
    for change, words in (({"format": "raw"}, "qcow2"), ({"format": None}, "qcow2"), ({"kernel_at": 1000}, "multiple"),
                          ({"kernel_at": (len(whole) + 512) // 512 * 512}, "in the file")):
        wrong = {k: v for k, v in {**upload, **change}.items() if v is not None}
        said = node.ask("POST", "/v1/images", {"name": "x", "spec": {"source": {"upload": wrong}}}, status=400)["error"]
        assert said["field"] == "spec.source.upload.kernel_at" and words in said["message"], said
    said = node.ask("POST", "/v1/volumes", {"name": "x", "spec": {"size": 1 << 20, "source": {"upload": upload}}}, status=400)["error"]
    assert said["field"] == "spec.source.upload.kernel_at"
    at = upload["kernel_at"]
    for n, (data, words) in enumerate(((whole[:at] + b"x" * 1024, "no tar header"), (whole[:at] + whole[at:].replace(b"vmlinuz", b"vmlinux", 1), ""),
                                       (whole[:at] + bytes(1024), "no 'vmlinuz'"))):
        body = {**upload, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        node.ask("POST", "/v1/images", {"name": f"x{n}", "spec": {"source": {"upload": body}}}, status=201)
        send(node, f"x{n}", data)
        assert words in node.wait(f"/v1/images/x{n}", "failed")["status"]["reason"]
        node.viv("image", "rm", f"x{n}")
    assert [f for uid in os.listdir(os.path.join(node.data, "images")) for f in os.listdir(os.path.join(node.data, "images", uid))
            if f in ("vmlinuz", "initrd.img")] == []
