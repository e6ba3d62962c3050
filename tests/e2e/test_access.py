# SPDX-License-Identifier: Apache-2.0
"""Who may what: the network, users, roles, tokens, sessions, and the audit log."""
import http.client
import json
import os
import random
import re
import socket
import ssl
import subprocess
import time

import pytest
from test_node import BUILD, Node
from who_may import WHO_MAY

ROLES = ["anyone", "viewer", "operator", "admin"]


class Site(Node):
    """A daemon that listens on loopback."""
    def start(self, *args, port=0):
        seen = len(self.log()) if self.proc else 0
        super().start("--listen", f"https://127.0.0.1:{port}", *args)
        end = time.monotonic() + 30
        while not re.search(r"certificate's SHA-256 is \w{64}", self.log()[seen:]):
            assert time.monotonic() < end, self.log()
            time.sleep(0.01)
        self.port = int(re.findall(r"serving https://127\.0\.0\.1:(\d+)", self.log())[-1])
        return self

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"

    def setup_token(self):
        end = time.monotonic() + 30
        while not (printed := re.findall(r"^    ([0-9a-f]{64})$", self.log(), re.M)):
            assert time.monotonic() < end, self.log()
            time.sleep(0.01)
        return printed[-1]

    def far(self, method, path, body=None, token=None, headers=None):
        """(status, document, headers) of a request by the network."""
        context = ssl.create_default_context(cafile=os.path.join(self.data, "tls/cert.pem"))
        conn = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context)
        sent = dict(headers or {}, **({"Authorization": f"Bearer {token}"} if token else {}))
        conn.request(method, path, None if body is None else json.dumps(body), sent)
        answer = conn.getresponse()
        text = answer.read()
        conn.close()
        is_json = (answer.getheader("content-type") or "").startswith("application/json")
        return answer.status, json.loads(text) if text and is_json else text or None, answer.headers

    def first_message(self, path, token=None):
        """What a WebSocket begins with, the reason of its end included."""
        context = ssl.create_default_context(cafile=os.path.join(self.data, "tls/cert.pem"))
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as plain, \
             context.wrap_socket(plain, server_hostname="127.0.0.1") as s:
            lines = [f"GET {path} HTTP/1.1", "Host: viv", "Connection: Upgrade", "Upgrade: websocket",
                     "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + "x" * 22 + "=="]
            s.sendall("\r\n".join(lines + ([f"Authorization: Bearer {token}"] if token else []) + ["", ""]).encode())
            said = b""
            while len(said.partition(b"\r\n\r\n")[2]) < 4:
                more = s.recv(4096)
                if not more:
                    break
                said += more
            return said.partition(b"\r\n\r\n")[2]

    def user(self, name, role="none", **projects):
        """Make a user with these roles; a token of it."""
        self.ask("POST", "/v1/users", {"name": name, "spec": {"role": role}}, status=201)
        for project, of in projects.items():
            self.ask("POST", f"/v1/roles?project={project}", {"name": name, "spec": {"role": of}}, status=201)
        return self.ask("POST", f"/v1/tokens?user={name}", {"name": "t", "spec": {}}, status=201)["token"]


@pytest.fixture
def site():
    folder = f"/tmp/viv-{os.getpid()}-{random.randrange(1 << 32):x}"
    os.mkdir(folder, 0o700)
    n = Site(folder)
    yield n.start()
    n.end()
    subprocess.run(["rm", "-rf", folder], check=True)


def fill_path(path):
    """Names that are nobody's stand for the parts of PATH, but for projects."""
    return re.sub(r"\{(\w+)\}", lambda m: "a" if m.group(1) == "project" else "nothing", path)


def test_every_route_is_written_down(site):
    """What nobody has written down in who_may.py, or otherwise, is not served."""
    table = site.ask("GET", "/v1/openapi.json")
    served = {op["operationId"]: (op["x-role"], op["x-scope"]) for ops in table["paths"].values() for op in ops.values()}
    written = {name: who for who, names in WHO_MAY.items() for name in names.split()}
    assert served == written
    # Nothing that changes anything is for whoever looks only, but for what is the caller's own.
    changes = {op["operationId"] for ops in table["paths"].values() for verb, op in ops.items() if verb != "get"}
    assert {name for name in changes if served[name][0] == "viewer"} <= {name for name, who in served.items() if who == ("viewer", "self")}


def test_every_route_asks_for_its_role(site):
    """Each operation, by everybody: refused exactly to those who lack its role where it is needed."""
    for project in ("a", "b"):
        site.ask("POST", "/v1/projects", {"name": project, "spec": {}}, status=201)
    callers = {("nobody", "-"): None}
    for role in ROLES[1:]:
        callers[role, "node"] = site.user(f"node-{role}", role)
        for project in ("a", "b"):
            callers[role, project] = site.user(f"{project}-{role}", **{project: role})
    callers["stranger", "-"] = site.user("stranger")
    table = site.far("GET", "/v1/openapi.json")[1]
    checked = 0
    for path, operations in table["paths"].items():
        for verb, operation in operations.items():
            needed, scope = ROLES.index(operation["x-role"]), operation["x-scope"]
            for (role, where), token in callers.items():
                has = ROLES.index(role) if role in ROLES else 0
                if needed == 0:
                    continue
                if token is None:
                    want = 401
                elif where == "node" and has == 3:
                    want = None
                elif scope == "self":
                    # About somebody else in the path; about oneself, tokens only look.
                    want = 403 if "{user}" in path or verb != "get" else None
                else:
                    there = where == "node" or (scope == "project" and where == "a")
                    want = None if there and has >= needed else 403
                known = [p["name"] for p in operation["parameters"] if p["in"] == "query"]
                query = ["project=a"] * ("project" in known) + ["dry-run"] * (verb != "get")
                url = fill_path(path) + ("?" + "&".join(query) if query else "")
                if "101" in operation["responses"]:
                    said = site.first_message(url, token)
                    refused = b"may not do this" in said or b"say who you are" in said
                    assert refused == (want is not None), (url, role, where, said)
                    checked += 1
                    continue
                status, doc, _ = site.far(verb.upper(), url, {} if "requestBody" in operation else None, token)
                if want:
                    assert status == want, (verb, url, role, where, status, doc)
                else:
                    assert status not in (401, 403) and status < 500, (verb, url, role, where, status, doc)
                checked += 1
    assert checked > 300


def test_every_route_refuses_parameters_that_it_does_not_have(site):
    token = site.user("root1", "admin")
    site.ask("POST", "/v1/projects", {"name": "a", "spec": {}}, status=201)
    checked = 0
    for path, operations in site.far("GET", "/v1/openapi.json")[1]["paths"].items():
        for verb, operation in operations.items():
            url = fill_path(path) + "?unheard-of=1"
            known = [p["name"] for p in operation["parameters"] if p["in"] == "query"]
            if "101" in operation["responses"]:
                said = site.first_message(url, token)
                assert b"has no parameter 'unheard-of'" in said, (url, said)
                continue
            status, doc, _ = site.far(verb.upper(), url, {} if "requestBody" in operation else None, token)
            if status == 403 and operation["x-scope"] == "self":
                continue                # a token does not change what its user comes in by
            assert (status, doc["error"].get("field")) == (400, "unheard-of"), (verb, url, status, doc)
            assert all(name in doc["error"]["message"] for name in known), (doc, known)
            checked += 1
    assert checked > 100
    # Nobody is told what there is who may not ask.
    assert site.far("GET", "/v1/instances?unheard-of=1")[0] == 401


def test_what_one_may_not_see_is_not_shown(site):
    site.ask("POST", "/v1/projects", {"name": "a", "spec": {}}, status=201)
    alice, bob = site.user("alice", a="viewer"), site.user("bob", default="operator")
    assert [p["name"] for p in site.far("GET", "/v1/projects", token=alice)[1]["items"]] == ["a"]
    assert [p["name"] for p in site.far("GET", "/v1/projects", token=bob)[1]["items"]] == ["default"]
    # Whether a project is there is not for strangers to know.
    refused = [site.far("GET", f"/v1/instances?project={p}", token=bob)[:2] for p in ("a", "nowhere", "a/../b", "A")]
    assert all(status == 403 for status, _ in refused), refused
    assert site.far("GET", "/v1/instances?project=nowhere", token=site.user("root2", "admin"))[0] == 404
    # Files of the node are for its administrators.
    status, doc, _ = site.far("POST", "/v1/images", {"name": "s", "spec": {"source": {"path": "/etc/shadow"}}}, bob)
    assert status == 403 and doc["error"]["field"] == "spec.source.path", doc
    who = site.far("GET", "/v1/session", token=bob)[1]
    assert (who["user"], who["role"], who["projects"]) == ("bob", "none", {"default": "operator"})


def test_who_looks_is_told_no_secrets(site):
    """Passwords and keys stand in 'user_data': who may change a machine and asks for it sees them; lists, filters, events and viewers do not."""
    spec = {"kernel": "/nowhere", "state": "stopped", "networks": [], "user_data": "#!/bin/sh\n# s3cret\n"}
    site.ask("POST", "/v1/instances", {"name": "web", "labels": {"user": "data"}, "spec": spec}, status=201)
    site.ask("POST", "/v1/profiles", {"name": "p", "spec": {"user_data": "#cloud-config\n# s3cret\n"}}, status=201)
    begun = site.ask("POST", "/v1/bulk", {"kind": "instance", "names": ["web"], "action": "patch", "patch": {"spec": {"user_data": "#!/bin/sh\n# s3cret too\n"}}},
                     status=202)["name"]
    site.wait(f"/v1/tasks/{begun}", "done")
    viewer, operator = site.user("vera", default="viewer"), site.user("otto", default="operator")
    for path in ("/v1/instances/web", "/v1/profiles/p", f"/v1/tasks/{begun}"):
        status, doc, _ = site.far("GET", path, token=operator)
        assert status == 200 and "s3cret" in json.dumps(doc), (path, doc)
        status, doc, _ = site.far("GET", path, token=viewer)
        assert status == 200 and doc["name"] and "s3cret" not in json.dumps(doc), (path, doc)
        for asked in ("", "?sort=name", "?fields=name,spec,params"):
            status, doc, _ = site.far("GET", os.path.dirname(path) + asked, token=operator)
            assert status == 200 and doc["items"] and "s3cret" not in json.dumps(doc), (path, doc)
    assert site.far("GET", "/v1/instances/web", token=viewer)[1]["labels"] == {"user": "data"}
    # Nor is it found out by asking which have it.
    assert site.far("GET", "/v1/instances?filter=spec.user_data%3C0", token=operator)[1]["items"] == []
    client = subprocess.Popen(["curl", "-sN", "--max-time", "30", "--http1.1", "--cacert", os.path.join(site.data, "tls/cert.pem"),
                               "-H", f"Authorization: Bearer {operator}", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket",
                               "-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: " + "x" * 22 + "==",
                               f"{site.url}/v1/events"], stdout=subprocess.PIPE)
    text = client.stdout.read1(4096)
    site.ask("PATCH", "/v1/instances/web", {"labels": {"changed": "now"}})
    while b"changed" not in text:
        text += client.stdout.read1(4096)
    assert b"/nowhere" in text and b"s3cret" not in text
    client.kill()
    client.wait()


def test_a_token_has_its_bounds(site):
    site.ask("POST", "/v1/projects", {"name": "a", "spec": {}}, status=201)
    site.user("carol", "operator", a="admin")
    ask = lambda spec, name: site.ask("POST", "/v1/tokens?user=carol", {"name": name, "spec": spec}, status=201)["token"]
    look, there = ask({"role": "viewer"}, "look"), ask({"project": "a"}, "there")
    volume = {"name": "v", "spec": {"size": "1M"}}
    assert site.far("GET", "/v1/volumes", token=look)[0] == 200
    assert site.far("POST", "/v1/volumes?dry-run", volume, look)[0] == 403
    assert site.far("POST", "/v1/volumes?dry-run&project=a", volume, there)[0] == 200
    assert site.far("GET", "/v1/volumes", token=there)[0] == 403
    # What was made once is never shown again, nor its hash.
    listed = json.dumps(site.ask("GET", "/v1/tokens?user=carol"))
    assert "viv_" not in listed and "hash" not in listed
    with open(os.path.join(site.data, "store.db"), "rb") as f:
        assert look[21:].encode() not in f.read()
    site.ask("DELETE", "/v1/tokens/look?user=carol", status=204)
    assert site.far("GET", "/v1/volumes", token=look)[0] == 401
    # A later user of the same name has nothing of the former's.
    site.ask("DELETE", "/v1/users/carol", status=204)
    site.ask("POST", "/v1/users", {"name": "carol", "spec": {}}, status=201)
    assert site.far("GET", "/v1/volumes?project=a", token=there)[0] == 401
    assert site.ask("GET", "/v1/roles?project=a")["items"] == []


def test_the_first_administrator_needs_the_token(site):
    assert site.far("GET", "/v1/setup")[1] == {"needed": True}
    body = {"token": "0" * 64, "user": "root", "password": "correct horse"}
    assert site.far("POST", "/v1/setup", body)[0] == 401
    status, doc, headers = site.far("POST", "/v1/setup", dict(body, token=site.setup_token()))
    assert status == 201 and doc["csrf"]
    cookie = headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"))
    assert site.far("GET", "/v1/setup")[1] == {"needed": False}
    assert site.far("POST", "/v1/setup", dict(body, token=site.setup_token(), user="other"))[0] == 409
    # It is not asked for again.
    site.kill()
    site.start()
    assert site.far("GET", "/v1/setup")[1] == {"needed": False}
    assert site.far("GET", "/v1/users", headers={"Cookie": cookie.split(";")[0]})[0] == 200


def test_the_token_ends_when_an_administrator_is_made_at_the_socket(site):
    site.ask("POST", "/v1/users", {"name": "root", "spec": {"role": "viewer"}}, status=201)
    assert site.far("GET", "/v1/setup")[1] == {"needed": True}
    site.ask("PATCH", "/v1/users/root", {"spec": {"role": "admin"}})
    assert site.far("GET", "/v1/setup")[1] == {"needed": False}
    body = {"token": site.setup_token(), "user": "other", "password": "correct horse"}
    assert site.far("POST", "/v1/setup", body)[0] == 409


def log_in(site, name, password):
    status, doc, headers = site.far("POST", "/v1/login", {"user": name, "password": password})
    return status, doc, {"Cookie": headers["Set-Cookie"].split(";")[0]} if status == 200 else headers


def test_a_browser_is_not_led_astray(site):
    site.ask("POST", "/v1/users", {"name": "dora", "spec": {"role": "admin"}}, status=201)
    site.ask("POST", "/v1/users/dora/password", {"password": "battery staple"}, status=204)
    status, doc, cookie = log_in(site, "dora", "battery staple")
    assert status == 200, doc
    volume = {"name": "v", "spec": {"size": "1M"}}
    ask = lambda **more: site.far("POST", "/v1/volumes?dry-run", volume, headers=dict(cookie, **more))[0]
    csrf = {"X-Viv-Csrf": doc["csrf"]}
    assert ask() == 403 and ask(**{"X-Viv-Csrf": "0" * 64}) == 403 and ask(**csrf) == 200
    assert ask(Origin="https://evil.example", **csrf) == 403
    assert ask(Origin=site.url, **csrf) == 200
    assert site.far("GET", "/v1/volumes", headers=cookie)[0] == 200
    # A new password ends the session; so does logging out.
    _, second, other = log_in(site, "dora", "battery staple")
    assert site.far("POST", "/v1/users/dora/password", {"password": "something else"},
                    headers=dict(cookie, **csrf))[0] == 403
    assert site.far("POST", "/v1/users/dora/password", {"password": "something else", "old": "battery staple"},
                    headers=dict(cookie, **csrf))[0] == 204
    assert site.far("GET", "/v1/volumes", headers=other)[0] == 401, second
    assert site.far("POST", "/v1/logout", headers=dict(cookie, **csrf))[0] == 204
    assert site.far("GET", "/v1/volumes", headers=cookie)[0] == 401


def test_a_page_of_others_begins_no_session(site):
    """A form on another page can send JSON as text: its visitors would be logged in as whom that page likes."""
    site.ask("POST", "/v1/users", {"name": "mallory", "spec": {}}, status=201)
    site.ask("POST", "/v1/users/mallory/password", {"password": "battery staple"}, status=204)
    body = {"user": "mallory", "password": "battery staple"}
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{site.port}", f"{site.url}0"):
        status, doc, headers = site.far("POST", "/v1/login", body, headers={"Origin": origin})
        assert status == 403 and "Set-Cookie" not in headers, (origin, doc)
        first = {"token": site.setup_token(), "user": "mallory2", "password": "battery staple"}
        assert site.far("POST", "/v1/setup", first, headers={"Origin": origin})[0] == 403
    assert site.far("POST", "/v1/login", body, headers={"Origin": site.url})[0] == 200


def test_what_is_done_is_no_dry_run(site):
    """What has no dry run is neither done nor left out of the log when one asks for that."""
    token = site.user("ivy", "admin")
    status, doc, _ = site.far("POST", "/v1/users/ivy/password?dry-run", {"password": "battery staple"}, token)
    assert status == 422 and "no dry run" in doc["error"]["message"], doc
    assert log_in(site, "ivy", "battery staple")[0] == 401
    assert site.far("POST", "/v1/users/ivy/password?dry-run=false", {"password": "battery staple"}, token)[0] == 204
    assert log_in(site, "ivy", "battery staple")[0] == 200
    done = [r["status"] for r in site.ask("GET", "/v1/audit")["items"] if r["operation"] == "setPassword"]
    assert done == [422, 204]


def test_passwords_are_not_guessed_by_trying(site):
    site.ask("POST", "/v1/users", {"name": "eve", "spec": {}}, status=201)
    site.ask("POST", "/v1/users/eve/password", {"password": "battery staple"}, status=204)
    seen = [log_in(site, "eve", f"guess {i}")[0] for i in range(7)]
    assert seen[:5] == [401] * 5 and 429 in seen, seen
    status, doc, headers = log_in(site, "eve", "battery staple")
    assert status == 429 and int(headers["Retry-After"]) >= 1, doc
    # Nobody learns who is a user.
    assert log_in(site, "nobody", "guess")[1] == {"error": {"code": "unauthenticated",
                                                           "message": "the name or the password is wrong"}}


def test_the_audit_log_shows_what_was_altered(site):
    token = site.user("frank", "admin")
    site.far("POST", "/v1/volumes", {"name": "v", "spec": {"size": "1M"}}, token)
    site.far("DELETE", "/v1/volumes/v", token=token)
    site.far("GET", "/v1/users")
    last = site.ask("GET", "/v1/audit?limit=3")["items"]
    assert [(r["user"], r["operation"], r["status"]) for r in last] == [
        ("frank", "createVolume", 201), ("frank", "deleteVolume", 202), ("", "listUsers", 401)]
    assert last[0]["target"] == "v" and last[0]["token"] == "t" and last[0]["address"] == "127.0.0.1"
    whole = site.ask("GET", "/v1/audit/verify")
    assert whole["is_whole"] and whole["records"] == last[2]["seq"]
    site.kill(15)
    log = os.path.join(site.data, "audit", os.listdir(os.path.join(site.data, "audit"))[0])
    with open(log, encoding="utf-8") as f:
        lines = f.readlines()

    def verdict(changed, tail=""):
        with open(log, "w", encoding="utf-8") as f:
            f.write("".join(changed) + tail)
        site.start()
        answer = site.ask("GET", "/v1/audit/verify")
        site.kill(15)
        return answer["is_whole"], answer.get("bad")

    altered = [line.replace("frank", "alice") if "deleteVolume" in line else line for line in lines]
    assert verdict(altered) == (False, len(lines) - 1)
    assert verdict(lines[:2] + lines[3:]) == (False, 3)
    assert verdict(lines[:-2]) == (False, len(lines) - 1)
    assert verdict(lines, "half a rec") == (True, None)


def test_who_loses_the_right_loses_the_connection(site):
    token = site.user("gina", default="operator")
    client = subprocess.Popen(["curl", "-sN", "--max-time", "30", "--http1.1", "--cacert", os.path.join(site.data, "tls/cert.pem"),
                               "-H", f"Authorization: Bearer {token}", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket",
                               "-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: " + "x" * 22 + "==",
                               f"{site.url}/v1/events"], stdout=subprocess.PIPE)
    assert b"hello" in client.stdout.read1(4096)
    site.ask("POST", "/v1/users", {"name": "hidden", "spec": {}}, status=201)
    site.ask("POST", "/v1/volumes", {"name": "shown", "spec": {"size": "1M"}}, status=201)
    text = b""
    while b"shown" not in text:
        text += client.stdout.read1(4096)
    assert b"hidden" not in text
    site.ask("DELETE", "/v1/tokens/t?user=gina", status=204)
    assert b"no longer" in client.stdout.read()
    client.kill()
    client.wait()


def test_certificates_of_ones_own(site):
    site.kill()
    cert, key = (os.path.join(site.folder, name) for name in ("c.pem", "k.pem"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                    "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert], check=True,
                   capture_output=True)
    site.start("--tls-cert", cert, "--tls-key", key)
    served = ssl.get_server_certificate(("127.0.0.1", site.port))
    with open(cert, encoding="utf-8") as f:
        assert served.strip() == f.read().strip()
    site.kill()
    refused = subprocess.run([os.path.join(BUILD, "vivd"), "--data", site.data, "--run", site.run, "--listen",
                              "https://127.0.0.1:0", "--tls-cert", "/nonexistent"], capture_output=True, text=True, timeout=30,
                             check=False)
    assert refused.returncode == 1 and "cannot read the certificate" in refused.stderr


def test_viv_from_elsewhere(site):
    """The commands, from a host that the daemon does not know."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("VIV_")} | {"XDG_CONFIG_HOME": f"{site.folder}/config"}
    fingerprint = re.findall(r"SHA-256 is (\w{64})", site.log())[-1]

    def viv(*words, stdin="", status=0):
        done = subprocess.run([os.path.join(BUILD, "viv"), *words, "--host", site.url], capture_output=True, text=True, env=env,
                              input=stdin, timeout=60, check=False)
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    assert "viv login" in viv("ls", status=8)
    assert fingerprint in viv("login", "root", stdin="correct horse\n", status=8)
    assert "another certificate" in viv("login", "root", "--fingerprint", "0" * 64, stdin="x\n", status=8)
    viv("login", "root", "--fingerprint", fingerprint, "--setup-token", "-", stdin=f"{site.setup_token()}\ncorrect horse\n")
    assert os.stat(f"{site.folder}/config/viv/hosts.json").st_mode & 0o777 == 0o600
    assert "root, admin on the node" in viv("whoami")
    viv("project", "create", "shop")
    viv("user", "add", "alice", "--password", stdin="battery staple\n")
    viv("role", "grant", "alice", "viewer", "--project", "shop")
    viv("role", "grant", "alice", "operator", "--project", "shop")
    assert "operator" in viv("role", "ls", "--project", "shop")
    viv("volume", "create", "data", "1M")
    assert "data" in viv("volume", "ls")
    assert viv("token", "create", "ci", "--user", "alice", "--days", "1").startswith("viv_")
    assert "createVolume" in viv("audit", "ls")
    assert "as they were written" in viv("audit", "verify")
    viv("logout")
    assert "say who you are" in viv("ls", status=8)
    viv("login", "alice", stdin="battery staple\n")
    assert "shop" in viv("whoami")
    viv("volume", "create", "data", "1M", "--project", "shop")
    assert "needs the role" in viv("volume", "ls", status=8)
    assert "cannot change what lets" in viv("token", "create", "more", status=8)
    # The daemon gets another key: nothing is sent to it.
    site.kill()
    subprocess.run(["rm", "-r", f"{site.data}/tls"], check=True)
    site.start(port=site.port)
    assert "another key" in viv("whoami", status=8)
