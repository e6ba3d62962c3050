# SPDX-License-Identifier: Apache-2.0
"""Catalogues of images: publishers of our own, whose trees, sums and signatures are made here, on a server that stops, lies and is gone."""
import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time

import pytest
from authority import Authority
from test_download import Web, folder_of
from test_node import log_has, node  # noqa: F401
from test_upload import MIB

ARCH = platform.machine()
DEBIAN_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(ARCH, ARCH)
# A boot sector that says something on the first serial line: xor ax,ax; mov ds,ax; mov si,7c15h; mov dx,3f8h; 1: lodsb; test al,al;
# jz 2f; out dx,al; jmp 1b; 2: hlt; jmp 2b
BOOT = bytes.fromhex("31c08ed8be157cbaf803ac84c07403eeebf8f4ebfd")


def bootable(says):
    return (BOOT + says.encode() + b"\0").ljust(510, b"\0") + b"\x55\xaa" + os.urandom(MIB - 512)


class Signer:
    """A publisher's key."""

    def __init__(self):
        self.home = tempfile.mkdtemp(prefix="vg-")
        self.gpg("--passphrase", "", "--quick-gen-key", "Publisher <publisher@example.org>", "ed25519", "sign", "never")
        self.ring = os.path.join(self.home, "ring.gpg")
        self.gpg("--output", self.ring, "--export")

    def gpg(self, *args, data=b""):
        return subprocess.run(["gpg", "--homedir", self.home, "--batch", "--quiet", *args], input=data, check=True, capture_output=True, timeout=60).stdout

    def inline(self, data):
        return self.gpg("--clearsign", data=data)

    def detached(self, data):
        return self.gpg("--detach-sign", data=data)

    def end(self):
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "all"], check=False, timeout=60)
        subprocess.run(["rm", "-rf", self.home], check=True)


@pytest.fixture(scope="module")
def signer():
    s = Signer()
    yield s
    s.end()


class Publisher(Web):
    """What it publishes is in its own folder; what this node is told of it, in CATALOGUES."""

    def __init__(self, folder, cert):
        super().__init__(folder, cert)
        self.catalogues = folder / "catalogues"
        self.catalogues.mkdir()

    def describe(self, name, **description):
        (self.catalogues / f"{name}.json").write_text(json.dumps({"format": 1, **description}))

    def streams(self, name="tiny", **more):
        self.describe(name, title="Tiny", kind="simplestreams", url=f"{self.https}/{name}/", systems=[name], **more)

    def listed(self, name, images, **more):
        self.describe(name, kind="list", systems=[name], images=images, arch={ARCH: DEBIAN_ARCH}, **more)

    def write(self, path, data):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data if isinstance(data, bytes) else data.encode())

    def publish(self, versions, name="tiny", sign=None, change=None):
        """A tree of simplestreams: {(version, serial): content}. CHANGE(products) has the last word."""
        products = {}
        for (version, serial), data in versions.items():
            path = f"server/{version}/{serial}/disk.img"
            self.write(f"{name}/{path}", data)
            product = products.setdefault(f"org.example:{version}:{DEBIAN_ARCH}", {
                "aliases": f"{version},r{version.replace('.', '')},{name}/{version}" + (",default" if version == "2.0" else ""), "os": name.title(),
                "release": f"r{version.replace('.', '')}", "version": version, "arch": DEBIAN_ARCH, "versions": {}})
            product["versions"][serial] = {"items": {
                "root.tar.xz": {"ftype": "root.tar.xz", "path": f"server/{version}/{serial}/root.tar.xz", "sha256": "0" * 64, "size": 1},
                "disk1.img": {"ftype": "disk1.img", "path": path, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}}}
        products["org.example:9.9:other"] = {**next(iter(products.values())), "arch": "other", "version": "9.9"}
        if change:
            change(products)
        tail = "sjson" if sign else "json"
        index = {"format": "index:1.0", "index": {
            "org.example:aws": {"datatype": "image-ids", "path": "streams/v1/aws.json", "format": "products:1.0"},
            "org.example:download": {"datatype": "image-downloads", "path": f"streams/v1/download.{tail}", "format": "products:1.0"}}}
        for path, doc in (("index", index), ("download", {"format": "products:1.0", "datatype": "image-downloads", "products": products})):
            text = json.dumps(doc).encode()
            self.write(f"{name}/streams/v1/{path}.{tail}", sign.inline(text) if sign else text)


@pytest.fixture
def web(tmp_path):
    w = Publisher(tmp_path / "web", Authority(tmp_path / "ca").issue("server", "IP:127.0.0.1,IP:127.0.0.2"))
    yield w.start()
    w.stop()


def restart(node, web, *more):  # noqa: F811
    node.kill()
    node.start("--catalogues", str(web.catalogues), "--fetch-ca", str(web.cert / "ca.pem"), "--fetch-from", "127.0.0.1/32", *more)
    node.ask("PATCH", "/v1/pools/default", {"spec": {"warn_percent": 99, "limit_percent": 100}})


def create(node, name, reference, status=201):  # noqa: F811
    return node.ask("POST", "/v1/images", {"name": name, "spec": {"source": {"catalogue": reference}}}, status=status)


def fails(node, name, reference, *words):  # noqa: F811
    create(node, name, reference)
    reason = node.wait(f"/v1/images/{name}", "failed")["status"]["reason"]
    assert all(word in reason for word in words), reason
    assert not [file for file in os.listdir(folder_of(node, name)) if file.startswith(("fetched", "upload", "disk"))]
    node.viv("image", "rm", name)


def make_old(node, name="tiny"):  # noqa: F811
    """As if a day had gone by since it was looked at."""
    path = os.path.join(node.data, "catalogues", f"{name}.json")
    with open(path, encoding="utf-8") as f:
        doc = json.load(f)
    doc["time"] -= 24 * 3600
    with open(path, "w", encoding="utf-8") as f:
        json.dump(doc, f)


def test_from_a_name_to_a_machine_that_has_started(node, web):  # noqa: F811
    one, two, new = bootable("this is one"), bootable("this is two"), bootable("this is new")
    web.streams()
    web.publish({("1.0", "20260101"): one, ("2.0", "20260101"): two, ("2.0", "20260102.1"): new, ("3.0", "20260101"): two})
    restart(node, web)
    assert "never" in node.viv("image", "catalogue", "ls")
    # The publisher says which one is meant unasked, and the newest of that is taken.
    name = node.viv("run", "-d", "--name", "vm", "--memory", "64M", "tiny").strip()
    assert name == "vm" and node.ask("GET", "/v1/instances/vm")["spec"]["image"] == "tiny-2-0"
    log_has(node, "vm", "this is new")
    origin = node.ask("GET", "/v1/images/tiny-2-0")["status"]["origin"]
    assert origin["reference"] == "tiny:2.0" and origin["serial"] == "20260102.1" and origin["verified"] == "https", origin
    assert origin["sha256"] == hashlib.sha256(new).hexdigest() and origin["url"].startswith(f"{web.https}/tiny/server/2.0/")
    assert sorted(os.listdir(folder_of(node, "tiny-2-0"))) == ["disk.qcow2", "log", "origin", "process", "progress"]
    # What is there is used, and nobody is asked for it.
    asked = len(web.asked())
    node.viv("run", "-d", "--memory", "64M", "tiny:2.0")
    assert len(web.asked()) == asked
    # By version, by the name of a release, by another name; an image of one's own comes first.
    node.viv("image", "create", "first", "--from", "tiny:r10")
    assert node.ask("GET", "/v1/images/first")["status"]["origin"]["sha256"] == hashlib.sha256(one).hexdigest()
    rows = json.loads(node.viv("image", "catalogue", "ls", "tiny", "--json"))
    assert [row["reference"] for row in rows] == ["tiny:3.0", "tiny:2.0", "tiny:1.0"] and rows[1]["size"] == MIB
    raw = os.path.join(node.folder, "own")
    with open(raw, "wb") as f:
        f.write(bootable("this is mine"))
    node.viv("image", "import", raw, "tiny-3-0")
    node.viv("run", "-d", "--name", "mine", "--memory", "64M", "tiny:3.0")
    log_has(node, "mine", "this is mine")
    # 'viv run debian' stays what is built here.
    assert "origin" not in node.ask("GET", "/v1/images/tiny-3-0")["status"]


def test_what_is_signed_is_checked(node, web, signer):  # noqa: F811
    data, other = bootable("signed"), Signer()
    web.streams(keyring=signer.ring)
    web.publish({("1.0", "1"): data}, sign=signer)
    restart(node, web)
    node.viv("image", "create", "good", "--from", "tiny")
    origin = node.ask("GET", "/v1/images/good")["status"]["origin"]
    assert origin["verified"] == "signature" and len(origin["signer"]) == 40, origin
    assert node.ask("GET", "/v1/catalogues/tiny")["status"]["signer"] == origin["signer"]
    # Somebody changes a sum, or signs with another key, or does not sign: refused, and what was known does not come in its place.
    good = (web.root / "tiny/streams/v1/download.sjson").read_bytes()
    plain = json.dumps({"format": "products:1.0", "products": {}}).encode()
    for bad, words in ((good.replace(b'"size": 1048576', b'"size": 1048577'), "not what was signed"), (other.inline(plain), "not in the keyring"),
                       (plain, "no signature")):
        web.write("tiny/streams/v1/download.sjson", bad)
        make_old(node)
        fails(node, "bad", "tiny", "signature is not good", words)
        assert words in node.viv("image", "catalogue", "refresh", "tiny", status=1)
    # What is before and behind what is signed is not read.
    web.write("tiny/streams/v1/download.sjson", b"{}\n" + good + b"\n{}")
    node.viv("image", "catalogue", "refresh", "tiny")
    # A signed index names what is not.
    web.write("tiny/streams/v1/index.sjson", signer.inline(json.dumps({"format": "index:1.0", "index": {
        "a": {"datatype": "image-downloads", "path": "streams/v1/download.json"}}}).encode()))
    assert "not signed" in node.viv("image", "catalogue", "refresh", "tiny", status=1)
    # Without the keys it is refused, or, when the description says so, not checked; and told.
    web.publish({("1.0", "1"): data})
    web.streams(keyring="/nowhere/keys.gpg", package="tiny-keyring")
    fails(node, "bad", "tiny", "/nowhere/keys.gpg", "install the package 'tiny-keyring'")
    web.streams(keyring="/nowhere/keys.gpg", signature="when-possible")
    node.viv("image", "create", "unsigned", "--from", "tiny")
    assert node.ask("GET", "/v1/images/unsigned")["status"]["origin"]["verified"] == "https"
    other.end()


def test_publishers_without_a_catalogue_have_files_of_sums(node, web, signer):  # noqa: F811
    data = {f"tiny-{version}-{DEBIAN_ARCH}.img": bootable(version) for version in ("1", "2", "3", "4")}
    for name, content in data.items():
        web.write(f"l/{name}", content)
    sums = {kind: {name: hashlib.new(kind, content).hexdigest() for name, content in data.items()} for kind in ("sha256", "sha512")}
    url = f"{web.https}/l/tiny-{{version}}-{{arch}}.img"
    text = "".join(f"{digest} *{name}\n" for name, digest in sums["sha512"].items())
    web.write("l/SHA512SUMS", text)
    web.write("l/SHA512SUMS.gpg", signer.detached(text.encode()))
    bsd = "".join(f"# {name}: {MIB} bytes\nSHA256 ({name}) = {digest}\n" for name, digest in sums["sha256"].items())
    web.write("l/CHECKSUM", signer.inline(bsd.encode()))
    alone = f"tiny-3-{DEBIAN_ARCH}.img"
    web.write(f"l/{alone}.sha512", sums["sha512"][alone] + "\n")
    images = [{"version": "1", "url": url, "sums": f"{web.https}/l/SHA512SUMS", "signature": f"{web.https}/l/SHA512SUMS.gpg"},
              {"version": "2", "url": url, "sums": f"{web.https}/l/CHECKSUM", "tags": ["second"]},
              {"version": "5", "url": url, "sums": f"{web.https}/l/CHECKSUM"}, {"version": "6", "url": url, "sums": f"{web.https}/l/none"}]
    web.listed("signed", images, keyring=signer.ring)
    web.listed("plain", [{"version": "3", "url": url, "sums": url + ".sha512"}, *images[:2]])
    restart(node, web)
    for name, reference, kind, digest, how in (("a", "signed:1", "sha512", sums["sha512"][f"tiny-1-{DEBIAN_ARCH}.img"], "signature"),
                                               ("b", "signed:second", "sha256", sums["sha256"][f"tiny-2-{DEBIAN_ARCH}.img"], "signature"),
                                               ("c", "plain", "sha512", sums["sha512"][alone], "https")):
        node.viv("image", "create", name, "--from", reference)
        origin = node.ask("GET", f"/v1/images/{name}")["status"]["origin"]
        assert origin[kind] == digest and origin["verified"] == how, origin
    # What the publisher does not have any more is not there; the rest is.
    assert [row["version"] for row in node.ask("GET", "/v1/catalogues/signed")["images"]] == ["2", "1"]
    # The image is not what its sum says; one that was replaced is found when it is tried again.
    web.write(f"l/{alone}", bootable("changed"))
    create(node, "d", "plain:3")
    assert "its sha512 is another" in node.wait("/v1/images/d", "failed")["status"]["reason"]
    assert sorted(os.listdir(folder_of(node, "d"))) == ["log", "process", "progress"]
    web.write(f"l/{alone}", changed := bootable("changed again"))
    web.write(f"l/{alone}.sha512", hashlib.sha512(changed).hexdigest())
    make_old(node, "plain")
    node.ask("PATCH", "/v1/images/d", {"labels": {"again": "1"}})
    assert node.wait("/v1/images/d", "ready")["status"]["origin"]["sha512"] == hashlib.sha512(changed).hexdigest()
    # Sums that are not what was signed, and a signature that has gone.
    web.write("l/SHA512SUMS", text.replace("0", "1"))
    assert "not what was signed" in node.viv("image", "catalogue", "refresh", "signed", status=1)
    web.write("l/SHA512SUMS", text)
    (web.root / "l/SHA512SUMS.gpg").unlink()
    web.write("l/CHECKSUM", bsd)
    assert "no signature" in node.viv("image", "catalogue", "refresh", "signed", status=1)


def test_without_a_network_it_tells_what_was_known(node, web, tmp_path):  # noqa: F811
    away = Publisher(tmp_path / "away", web.cert).start()
    data = bootable("from elsewhere")
    away.write("disk.img", data)
    web.write("sums", f"{hashlib.sha256(data).hexdigest()}  disk.img\n")
    web.listed("tiny", [{"version": version, "url": f"{away.https}/disk.img", "sums": f"{web.https}/sums"} for version in ("1.0", "1.1")])
    restart(node, web)
    web.stop()
    says = node.viv("run", "-d", "tiny", status=1)
    assert "no network" in says and "'tiny'" in says and "before" in says, says
    fails(node, "a", "tiny", "no network", "before")
    web.start()
    node.viv("image", "catalogue", "refresh", "tiny")
    web.stop()
    # It is fresh enough; then it is not, and is still better than nothing.
    node.viv("image", "create", "b", "--from", "tiny:1.0")
    make_old(node)
    seen = node.ask("GET", "/v1/catalogues/tiny")["status"]
    assert seen["state"] == "old" and 86000 < seen["age_seconds"] < 100000 and seen["images"] == 2, seen
    node.viv("image", "create", "c", "--from", "tiny:1.0")
    node.viv("run", "-d", "--name", "vm", "--memory", "64M", "tiny")
    log_has(node, "vm", "from elsewhere")
    date = seen["fetched"]
    fails(node, "d", "tiny:7", "no network", date, "tiny:1.0")
    says = node.viv("image", "catalogue", "refresh", "tiny", status=1)
    assert date in says and "tiny:1.1, tiny:1.0" in says, says
    away.stop()


def test_near_names_are_told(node, web):  # noqa: F811
    web.streams()
    web.publish({("1.0", "1"): bootable("x"), ("1.1", "1"): bootable("y"), ("24.04", "1"): bootable("z")})
    web.listed("forest", [])
    web.write("catalogues-are-not-here", "")
    (web.catalogues / "odd.json").write_text('{"format": 1, "kind": "list"}')
    (web.catalogues / "README").write_text("not one")
    restart(node, web)
    error = create(node, "a", "tinny", 400)["error"]
    assert error["field"] == "spec.source.catalogue" and "did you mean 'tiny'" in error["message"], error
    assert "'forest', 'tiny'" in create(node, "a", "elephant", 400)["error"]["message"]
    for bad in ("", "Tiny", "tiny:", "tiny:a/b", "../tiny", "tiny:1.0:2", "x" * 90, "tiny:" + "1" * 60, "tiny 1"):
        assert create(node, "a", bad, 400)["error"]["field"] == "spec.source.catalogue"
    says = node.viv("run", "-d", "nope", status=7)
    assert "no image 'nope'" in says and "'tiny'" in says, says
    # What is not known yet is looked at, and then told at once.
    says = node.viv("run", "-d", "tiny:24.4", status=7)
    assert "has no 'tiny:24.4'" in says and "did you mean 'tiny:24.04'" in says, says
    error = create(node, "a", "tiny:1.9", 400)["error"]
    assert "'tiny:1.1', 'tiny:1.0'" in error["message"], error
    broken = {c["name"]: c["status"] for c in node.ask("GET", "/v1/catalogues")["items"]}
    assert sorted(broken) == ["forest", "odd", "tiny"] and broken["odd"]["state"] == "broken" and "systems" in broken["odd"]["reason"], broken
    assert node.ask("GET", "/v1/catalogues?image=tiny:1.0")["items"][0]["images"][0]["name"] == "tiny-1-0"
    node.ask("GET", "/v1/catalogues?image=elephant", status=404)
    for name in ("none", "..", "a%2fb", "odd.json"):
        node.ask("GET", f"/v1/catalogues/{name}", status=404)
        node.ask("POST", f"/v1/catalogues/{name}/refresh", status=404)
    # A plan alone asks nobody.
    asked = len(web.asked())
    assert node.ask("POST", "/v1/catalogues/tiny/refresh?dry-run=1")["operation"] == "refreshCatalogue" and len(web.asked()) == asked
    node.ask("POST", "/v1/images", {"name": "x", "spec": {"source": {"catalogue": "tiny", "build": "debian"}}}, status=400)


def test_what_publishers_say_is_not_believed(node, web):  # noqa: F811
    data = bootable("x")
    web.streams()
    restart(node, web)

    def refused(*words, **publish):
        if publish:
            web.publish({("1.0", "1"): data}, **publish)
        says = node.viv("image", "catalogue", "refresh", "tiny", status=1)
        assert all(word in says for word in words), says
        assert node.ask("GET", "/v1/catalogues/tiny")["status"]["state"] == "never"

    def item(**change):
        def fn(products):
            for product in products.values():
                product["versions"]["1"]["items"]["disk1.img"].update(change)
        return fn

    for path in ("../../x.img", "/etc/passwd", "a/../../b", "https://evil.example/x", "a//b", "a\\..\\b", "a%2e%2e/b", "x?y", "./x", ""):
        refused("no path that is taken", change=item(path=path))
    refused("no SHA-256", change=item(sha256="0" * 63))
    refused("no SHA-256", change=item(sha256=None))
    refused("nothing for this kind of processor", change=lambda p: [product.update(arch="vax") for product in p.values()])
    for index, words in ((b"[" * 100000, "deep"), (b'{"format": "index:1.0"', "JSON"), (b"[]", "object"), (b'{"format": "index:2.0"}', "index:1.0"),
                         (json.dumps({"format": "index:1.0", "index": {"a": {"datatype": "image-downloads", "path": "../../up.json"}}}).encode(), "path"),
                         (b'{"a": "' + b"x" * (50 * MIB) + b'"}', "may have 16777216")):
        web.write("tiny/streams/v1/index.json", index)
        refused(words)
    (web.root / "tiny/streams/v1/index.json").unlink()
    refused("404")
    # Where it sends one has to be as safe, and not a place that only this host can reach.
    web.publish({("1.0", "1"): data})
    for how, words in (("down", "https://"), ("away", "127.0.0.2"), ("file", "no address of a file")):
        web.describe("tiny", kind="simplestreams", url=f"{web.https}/{how}/tiny/", systems=["tiny"])
        refused(words)
    web.describe("tiny", kind="simplestreams", url=f"http://127.0.0.1:{web.plain}/tiny/", systems=["tiny"])
    assert "http://" in node.ask("GET", "/v1/catalogues/tiny")["status"]["reason"]
    # It is what it was all the time.
    web.streams()
    node.viv("image", "catalogue", "refresh", "tiny")


def test_one_look_at_a_time_and_it_can_be_stopped(node, web):  # noqa: F811
    web.streams()
    web.publish({("1.0", "1"): bootable("x")})
    web.write("tiny/streams/v1/index.json", json.dumps({"format": "index:1.0", "index": {"pad": {"path": "x" * (2 * MIB)}}}))
    restart(node, web)
    web.stop()
    web.start("limit_rate 1k;")
    names = [node.ask("POST", "/v1/catalogues/tiny/refresh", status=202)["name"] for _ in range(2)]
    states, end = [], time.monotonic() + 60
    while states != ["queued", "running"]:
        assert time.monotonic() < end, states
        states = sorted(node.ask("GET", f"/v1/tasks/{name}").get("status", {}).get("state", "") for name in names)
        assert states != ["running", "running"]
    for name in names:
        node.ask("POST", f"/v1/tasks/{name}/cancel", status=202)
        node.wait(f"/v1/tasks/{name}", "cancelled")
    web.stop()
    web.start()
    web.publish({("1.0", "1"): bootable("x")})
    end = time.monotonic() + 60
    while node.wait(f"/v1/tasks/{node.ask('POST', '/v1/catalogues/tiny/refresh', status=202)['name']}", "done")["status"]["result"]["images"] != 1:
        assert time.monotonic() < end
