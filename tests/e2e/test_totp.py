# SPDX-License-Identifier: Apache-2.0
"""Codes of authenticators beside passwords."""
import base64
import concurrent.futures
import contextlib
import hashlib
import hmac
import json
import os
import re
import signal
import sqlite3
import struct
import subprocess
import time
import urllib.parse

from test_access import site  # noqa: F401 (a fixture)
from test_node import BUILD

PASSWORD = "battery staple"
STEP = 30


def code_of(secret, offset=0, at=None):
    """What an authenticator shows (RFC 6238), OFFSET steps from now."""
    counter = int((time.time() if at is None else at) // STEP) + offset
    digest = hmac.new(base64.b32decode(secret), struct.pack(">Q", counter), hashlib.sha1).digest()
    start = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[start:start + 4])[0] & 0x7fffffff) % 1000000:06d}"


class Person:
    """A user and a browser."""
    def __init__(self, at, name, role="none"):
        self.site, self.name, self.headers = at, name, {}
        at.ask("POST", "/v1/users", {"name": name, "spec": {"role": role}}, status=201)
        at.ask("POST", f"/v1/users/{name}/password", {"password": PASSWORD}, status=204)

    def log_in(self, code=None, password=PASSWORD):
        body = {"user": self.name, "password": password} | ({"code": code} if code is not None else {})
        status, doc, headers = self.site.far("POST", "/v1/login", body)
        if status == 200:
            self.headers = {"Cookie": headers["Set-Cookie"].split(";")[0], "X-Viv-Csrf": doc["csrf"]}
        return status, doc

    def ask(self, method, path, body=None):
        return self.site.far(method, path, body, headers=self.headers)[:2]

    def totp(self, what="", body=None, method="POST"):
        return self.ask(method, f"/v1/users/{self.name}/totp{what}", body)

    def enrol(self):
        """The secret and the recovery codes. The code of now is used up, that of the next step is taken already."""
        assert self.log_in()[0] == 200
        status, key = self.totp(body={"password": PASSWORD})
        assert status == 201, key
        status, doc = self.totp("/confirm", {"code": code_of(key["secret"])})
        assert status == 200, doc
        return key["secret"], doc["recovery_codes"]


def wait_for_step_with_room():
    """Not at the end of a step: what was computed must not be too old when it arrives."""
    rest = STEP - time.time() % STEP
    if rest < 10:
        time.sleep(rest)


def test_a_code_is_needed_and_lets_in_once(site):
    wait_for_step_with_room()
    alice = Person(site, "alice")
    assert alice.log_in()[0] == 200
    assert alice.totp(method="GET") == (200, {"is_on": False})
    # Without the password nobody begins, and what is not confirmed does not count.
    status, doc = alice.totp(body={"password": "guess"})
    assert status == 403 and doc["error"]["field"] == "password", doc
    status, key = alice.totp(body={"password": PASSWORD})
    assert status == 201 and set(key) == {"uri", "secret"}
    uri = urllib.parse.urlparse(key["uri"])
    asked = urllib.parse.parse_qs(uri.query)
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp") and uri.path.startswith("/Vivarium:alice%40")
    assert asked["secret"] == [key["secret"]] and asked["period"] == ["30"] and asked["digits"] == ["6"]
    assert alice.log_in()[0] == 200
    status, doc = alice.totp("/confirm", {"code": f"{(int(code_of(key['secret'])) + 1) % 1000000:06d}"})
    assert status == 403 and doc["error"]["field"] == "code", doc
    # Sessions that began with the password alone end when it is no longer enough.
    before = dict(alice.headers)
    assert alice.log_in()[0] == 200
    status, doc = alice.totp("/confirm", {"code": code_of(key["secret"], -1)})
    assert status == 200 and len(set(doc["recovery_codes"])) == 10, doc
    assert site.far("GET", "/v1/session", headers=before)[0] == 401
    assert alice.ask("GET", "/v1/session")[0] == 200
    status, on = alice.totp(method="GET")
    assert status == 200 and on["is_on"] and on["recovery_left"] == 10, on
    assert alice.totp(body={"password": PASSWORD})[0] == 409
    # The password alone; both; the same again; an earlier one; the next.
    status, doc = alice.log_in()
    assert status == 401 and doc["error"]["field"] == "code", doc
    assert "password is wrong" in alice.log_in(code_of(key["secret"]), "guess")[1]["error"]["message"]
    now = time.time()
    assert alice.log_in(code_of(key["secret"], at=now))[0] == 200
    for offset in (0, -1):
        status, doc = alice.log_in(code_of(key["secret"], offset, now))
        assert status == 401 and "has been used" in doc["error"]["message"], doc
    assert alice.log_in(code_of(key["secret"], 1, now))[0] == 200
    # It is known still after a crash: what was used stays used.
    site.kill()
    site.start(port=site.port)
    assert alice.log_in(code_of(key["secret"], 1, now))[0] == 401


def test_one_code_lets_one_of_many_in(site):
    alice = Person(site, "alice")
    secret, recovery = alice.enrol()
    for code in (code_of(secret, 1), recovery[0]):
        body = {"user": "alice", "password": PASSWORD, "code": code}
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            seen = sorted(pool.map(lambda _, b=body: site.far("POST", "/v1/login", b)[0], range(4)))
        assert seen == [200, 401, 401, 401], seen


def test_recovery_codes_are_good_once(site):
    alice = Person(site, "alice")
    _, recovery = alice.enrol()
    assert all(re.fullmatch(r"([a-z2-7]{4}-){3}[a-z2-7]{4}", code) for code in recovery)
    assert alice.log_in(recovery[3].upper().replace("-", " "))[0] == 200
    assert alice.log_in(recovery[3])[0] == 401
    assert alice.totp(method="GET")[1]["recovery_left"] == 9
    assert "recovery code; 9 are left" in site.log()
    last = site.ask("GET", "/v1/audit?limit=30")["items"]
    assert [r.get("how") for r in last if r["operation"] == "logIn" and r["status"] == 200] == [
        "password", "password, recovery code"]
    assert [r["status"] for r in last if r["operation"] in ("beginTotp", "confirmTotp")] == [201, 200]


def test_codes_are_not_guessed_by_trying(site):
    alice = Person(site, "alice")
    secret, _ = alice.enrol()
    wrong = f"{(int(code_of(secret)) + 1) % 1000000:06d}"
    seen = [alice.log_in(wrong)[0] for _ in range(7)]
    assert seen[:5] == [401] * 5 and 429 in seen, seen
    assert alice.log_in(code_of(secret, 1))[0] == 429


def test_it_is_taken_away_by_who_has_it_or_an_administrator(site):
    alice, root = Person(site, "alice"), Person(site, "root", "admin")
    secret, recovery = alice.enrol()
    # A session is not enough, and neither are other users or a token.
    assert alice.totp("/remove", {})[0] == 403
    assert alice.totp("/remove", {"password": PASSWORD})[0] == 403
    bob = site.user("bob", "operator")
    assert site.far("POST", "/v1/users/alice/totp/remove", {}, bob)[0] == 403
    assert site.far("GET", "/v1/users/alice/totp", token=bob)[0] == 403
    own = site.ask("POST", "/v1/tokens?user=alice", {"name": "own", "spec": {}}, status=201)["token"]
    for path in ("", "/confirm", "/remove"):
        body = {"password": PASSWORD, "code": recovery[0]}
        body = {k: body[k] for k in {"": ["password"], "/confirm": ["code"]}.get(path, body)}
        assert site.far("POST", f"/v1/users/alice/totp{path}", body, own)[0] == 403
    assert alice.totp("/remove", {"password": PASSWORD, "code": recovery[0]})[0] == 204
    assert alice.log_in()[0] == 200
    # An administrator takes it away from others, but makes none for them, and needs a proof for the own one.
    secret, recovery = alice.enrol()
    assert root.log_in()[0] == 200
    assert root.ask("POST", "/v1/users/alice/totp", {"password": PASSWORD})[0] == 403
    assert root.ask("POST", "/v1/users/alice/totp/remove", {})[0] == 204
    assert root.ask("POST", "/v1/users/alice/totp/remove", {})[0] == 404
    assert alice.log_in()[0] == 200
    secret, recovery = root.enrol()
    assert root.totp("/remove", {"password": PASSWORD})[0] == 403
    # Whoever has just shown a code need not show another.
    assert root.log_in(recovery[0])[0] == 200
    assert root.totp("/remove", {"password": "guess"})[0] == 403
    assert root.totp("/remove", {"password": PASSWORD})[0] == 204


def test_nothing_of_it_is_shown(site):
    alice = Person(site, "alice", "admin")
    secret, recovery = alice.enrol()
    said = [json.dumps(alice.ask("GET", path)[1]) for path in
            ("/v1/users", "/v1/users/alice", "/v1/users/alice/totp", "/v1/session", "/v1/audit", "/v1/tokens")]
    raw = base64.b64encode(base64.b32decode(secret)).decode()
    for text in [*said, site.log()]:
        assert not any(word in text for word in (secret, raw, recovery[0]))
    with open(os.path.join(site.data, "store.db"), "rb") as f:
        assert recovery[0].replace("-", "").encode() not in f.read()
    for folder, _, files in os.walk(site.data):
        for name in files:
            with open(os.path.join(folder, name), "rb") as f:
                assert raw.encode() not in (all_of_it := f.read()) and base64.b32decode(secret) not in all_of_it, name
    # A later user of the same name does not have it.
    site.ask("DELETE", "/v1/users/alice", status=204)
    again = Person(site, "alice")
    assert again.log_in()[0] == 200 and again.totp(method="GET")[1] == {"is_on": False}


def stored(site, name, change=None):
    """The document that is kept of NAME's authenticator, while no daemon runs; CHANGE is made to it."""
    db = sqlite3.connect(os.path.join(site.data, "store.db"))
    with contextlib.closing(db), db:
        key = f"secret/totp/_/{name}"
        doc = json.loads(db.execute("SELECT value FROM docs WHERE key = ?", (key,)).fetchone()[0])
        if change:
            doc |= change
            db.execute("UPDATE docs SET value = ? WHERE key = ?", (json.dumps(doc).encode(), key))
    return doc


def again(site, *args):
    """The daemon ends, and another begins."""
    site.kill(signal.SIGTERM)
    site.start(*args, port=site.port)


def test_keys_are_sealed_and_those_of_old_stores_become_so(site):
    alice, bob = Person(site, "alice"), Person(site, "bob")
    secret, _ = alice.enrol()
    bob.enrol()
    site.kill(signal.SIGTERM)
    sealed = stored(site, "alice")["key"]
    assert sealed.startswith("v1:")
    raw = base64.b64encode(base64.b32decode(secret)).decode()
    stored(site, "alice", {"key": raw})         # as before there were seals
    site.start(port=site.port)
    assert "have been sealed" in site.log()
    assert alice.log_in(code_of(secret, 1))[0] == 200
    site.kill(signal.SIGTERM)
    assert stored(site, "alice")["key"].startswith("v1:")
    with open(os.path.join(site.data, "store.db"), "rb") as f:
        assert raw.encode() not in f.read()
    # One user's key does not open for another.
    stored(site, "bob", {"key": stored(site, "alice")["key"], "step": 0})
    site.start(port=site.port)
    status, doc = bob.log_in(code_of(secret, 1))
    assert status == 401 and "not the code" in doc["error"]["message"], doc


def test_a_key_is_replaced_and_one_that_is_lost_can_be_lived_with(site):
    alice = Person(site, "alice")
    secret, recovery = alice.enrol()
    keys = os.path.join(site.data, "secrets.key")
    assert os.stat(keys).st_mode & 0o777 == 0o600
    with open(keys, encoding="ascii") as f:
        first = f.read()
    again(site, "--rotate-secrets")
    site.ask("GET", "/v1/users/alice/totp")
    again(site)
    with open(keys, encoding="ascii") as f:
        second = f.read()
    assert len(second) == len(first) and second != first
    assert alice.log_in(code_of(secret, 1))[0] == 200
    # A copy of the store alone is worth nothing, and its owner is told.
    os.rename(keys, keys + ".aside")
    again(site)
    assert "authenticators of 'alice'" in site.log() and keys in site.log()
    status, doc = alice.log_in(code_of(secret, 1))
    assert status == 401 and "lost the key" in doc["error"]["message"] and "recovery code" in doc["error"]["message"], doc
    assert alice.log_in(recovery[0])[0] == 200
    # The line comes back; or it is gone for good, and alice takes a new authenticator.
    with open(keys, "a", encoding="ascii") as to:
        to.write(second)
    again(site)
    status, doc = alice.log_in(code_of(secret, 1))
    assert status == 200 or "has been used" in doc["error"]["message"], doc
    os.remove(keys)
    again(site)
    site.ask("POST", "/v1/users/alice/totp/remove", {}, status=204)
    assert alice.enrol()


def test_viv_asks_for_the_code(site):
    Person(site, "alice")
    env = {k: v for k, v in os.environ.items() if not k.startswith("VIV_")} | {"XDG_CONFIG_HOME": f"{site.folder}/config"}
    fingerprint = re.findall(r"SHA-256 is (\w{64})", site.log())[-1]

    def viv(*words, stdin="", status=0, where=("--host", site.url)):
        done = subprocess.run([os.path.join(BUILD, "viv"), *words, *where], capture_output=True, text=True, env=env,
                              input=stdin, timeout=60, check=False)
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    viv("login", "alice", "--fingerprint", fingerprint, stdin=f"{PASSWORD}\n")
    assert "alone is enough" in viv("totp", "show", "alice")
    with subprocess.Popen([os.path.join(BUILD, "viv"), "totp", "enable", "alice", "--host", site.url], env=env, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as enabling:
        enabling.stdin.write(f"{PASSWORD}\n")
        enabling.stdin.flush()
        said = ""
        while not (secret := re.search(r"^    ([A-Z2-7]{32})$", said, re.M)):
            line = enabling.stdout.readline()
            assert line, enabling.stderr.read()
            said += line
        said = enabling.communicate(f"{code_of(secret[1])}\n", timeout=60)[0]
        recovery = re.findall(r"^    ([a-z2-7-]{19})$", said, re.M)
    assert enabling.returncode == 0 and len(recovery) == 10, said
    assert "10 recovery codes are left" in viv("totp", "show", "alice")
    code = code_of(secret[1], 1)
    viv("login", "alice", stdin=f"{PASSWORD}\n{code}\n")
    assert "has been used" in viv("login", "alice", stdin=f"{PASSWORD}\n{code}\n", status=8)
    viv("totp", "disable", "alice", stdin=f"{PASSWORD}\n{recovery[0]}\n")
    assert "alone is enough" in viv("totp", "show", "alice")
    # At the socket, the daemon's own user has no authenticator, and takes others' away.
    there = ("--socket", site.socket)
    assert "only 'alice'" in viv("totp", "enable", "alice", stdin=f"{PASSWORD}\n", status=8, where=there)
    assert "has no authenticator" in viv("totp", "disable", "alice", status=7, where=there)
