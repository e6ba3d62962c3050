# SPDX-License-Identifier: Apache-2.0
"""The certificate of a daemon that runs: replaced, refused, about to end."""
import hashlib
import json
import os
import re
import signal
import ssl
import subprocess
import time

from test_access import site  # noqa: F401 (a fixture)
from test_node import BUILD

PATIENCE = 60


def openssl(*words):
    return subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60).stdout


def make(folder, name, days=365, key=None):
    """A certificate for 127.0.0.1 and its key; (certificate, key)."""
    cert, csr = (os.path.join(folder, f"{name}.{kind}") for kind in ("pem", "csr"))
    if not key:
        key = os.path.join(folder, f"{name}.key")
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    openssl("req", "-new", "-key", key, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-out", csr)
    openssl("x509", "-req", "-in", csr, "-signkey", key, "-days", str(days), "-out", cert)
    return cert, key


def fingerprint_of(cert):
    with open(cert, encoding="ascii") as f:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(f.read())).hexdigest()


def shown(site):
    """SHA-256 of what comes when somebody connects."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", site.port)))).hexdigest()


def until(what, said=lambda: ""):
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end, said()
        time.sleep(0.05)
    return found


def certificate(site):
    return site.ask("GET", "/v1/node")["certificate"]


def put(site, cert, key):
    """In place of those that the daemon was started with."""
    for source, name in ((cert, "cert.pem"), (key, "key.pem")):
        with open(source, "rb") as f, open(os.path.join(site.folder, f"{name}.new"), "wb") as to:
            to.write(f.read())
        os.rename(os.path.join(site.folder, f"{name}.new"), os.path.join(site.folder, name))


def start_with(site, cert, key):
    site.kill()
    put(site, cert, key)
    site.start("--tls-cert", os.path.join(site.folder, "cert.pem"), "--tls-key", os.path.join(site.folder, "key.pem"))


def test_a_new_one_is_shown_without_a_restart(site):
    first, second, third = (make(site.folder, name) for name in ("first", "second", "third"))
    start_with(site, *first)
    assert shown(site) == certificate(site)["sha256"] == fingerprint_of(first[0])
    assert not certificate(site)["is_own"] and certificate(site)["problem"] == ""
    pid = site.proc.pid
    put(site, *second)
    site.proc.send_signal(signal.SIGHUP)
    until(lambda: shown(site) == fingerprint_of(second[0]), site.log)
    # And when nobody says that it has changed.
    put(site, *third)
    until(lambda: shown(site) == fingerprint_of(third[0]), site.log)
    assert site.proc.poll() is None and site.proc.pid == pid
    assert certificate(site)["sha256"] == fingerprint_of(third[0])


def test_a_bad_one_is_refused_and_the_one_before_stays(site):
    good, other = make(site.folder, "good"), make(site.folder, "other")
    ended = make(site.folder, "ended", days=-1)
    broken = os.path.join(site.folder, "broken.pem")
    with open(broken, "w", encoding="ascii") as f:
        f.write("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    start_with(site, *good)
    for cert, key, why in ((other[0], good[1], "is not that of the certificate"), (broken, other[1], "holds no certificate"),
                           (ended[0], ended[1], "has expired at"), (good[0], broken, "holds no private key")):
        put(site, cert, key)
        site.proc.send_signal(signal.SIGHUP)
        until(lambda w=why: w in certificate(site)["problem"], lambda: certificate(site))
        assert why in site.log() and shown(site) == fingerprint_of(good[0])
    assert "viv_tls_certificate_problem 1" in site.ask("GET", "/v1/metrics").decode()
    # One of the two files alone is judged when the other has had the time to come, too.
    put(site, *other)
    until(lambda: shown(site) == fingerprint_of(other[0]), site.log)
    until(lambda: certificate(site)["problem"] == "")
    assert "viv_tls_certificate_problem 0" in site.ask("GET", "/v1/metrics").decode()


def test_one_that_ends_soon_is_told(site):
    late, soon = make(site.folder, "late", days=20), make(site.folder, "soon", days=13)
    start_with(site, *late)
    assert certificate(site)["problem"] == ""
    token = site.user("vera", "viewer")
    with subprocess.Popen(["curl", "-sNk", "--max-time", str(PATIENCE), "--http1.1", "-H", f"Authorization: Bearer {token}",
                           "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
                           "-H", "Sec-WebSocket-Key: " + "x" * 22 + "==", f"{site.url}/v1/events"],
                          stdout=subprocess.PIPE) as client:
        assert b"hello" in client.stdout.read1(4096)
        put(site, *soon)
        site.proc.send_signal(signal.SIGHUP)
        said = b""
        while not (event := re.search(rb'\{"type":"certificate".*?\}\}', said)):
            more = client.stdout.read1(4096)
            assert more, said
            said += more
        client.kill()
    told = json.loads(event[0])["certificate"]
    assert "ends at" in told["problem"] and told["sha256"] == fingerprint_of(soon[0])
    metrics = site.ask("GET", "/v1/metrics").decode()
    ends = float(re.search(r"^viv_tls_certificate_end_time_seconds (\S+)$", metrics, re.M)[1])
    assert abs(ends - time.time() - 13 * 86400) < 3600 and "viv_tls_certificate_problem 1" in metrics


def test_the_own_one_is_made_anew_and_clients_know_it_still(site):
    env = {k: v for k, v in os.environ.items() if not k.startswith("VIV_")} | {"XDG_CONFIG_HOME": f"{site.folder}/config"}
    cert, key = (os.path.join(site.data, "tls", name) for name in ("cert.pem", "key.pem"))

    def viv(*words, stdin=""):
        return subprocess.run([os.path.join(BUILD, "viv"), *words, "--host", site.url], capture_output=True, text=True, env=env,
                              input=stdin, timeout=60, check=True).stdout

    viv("login", "root", "--fingerprint", fingerprint_of(cert), "--setup-token", "-",
        stdin=f"{site.setup_token()}\ncorrect horse\n")
    public = openssl("x509", "-in", cert, "-noout", "-pubkey")
    # While it runs: as if ten years had gone by.
    old = {fingerprint_of(cert)}
    soon = make(site.folder, "soon", days=20, key=key)[0]
    old.add(fingerprint_of(soon))
    os.rename(soon, cert)
    site.proc.send_signal(signal.SIGHUP)
    until(lambda: shown(site) not in old, site.log)
    assert shown(site) == fingerprint_of(cert)
    assert openssl("x509", "-in", cert, "-noout", "-pubkey") == public
    assert certificate(site)["is_own"] and certificate(site)["problem"] == ""
    assert "root, admin on the node" in viv("whoami")
    # And when it begins.
    site.kill()
    os.rename(make(site.folder, "later", days=20, key=key)[0], cert)
    site.start(port=site.port)
    assert openssl("x509", "-in", cert, "-noout", "-pubkey") == public and "root, admin" in viv("whoami")
    assert os.stat(key).st_mode & 0o777 == 0o600


def test_files_on_a_disk_that_hangs_disturb_nobody(site):
    """Reading a pipe that nobody writes to takes for ever, as a file on a server that is gone does."""
    good, other = make(site.folder, "good"), make(site.folder, "other")
    start_with(site, *good)
    pipe = os.path.join(site.folder, "pipe")
    os.mkfifo(pipe)
    os.rename(pipe, os.path.join(site.folder, "cert.pem"))
    site.proc.send_signal(signal.SIGHUP)
    end = time.monotonic() + 12         # two looks of the timer, too
    while time.monotonic() < end:
        began = time.monotonic()
        assert shown(site) == fingerprint_of(good[0]) and certificate(site)["sha256"] == fingerprint_of(good[0])
        assert time.monotonic() - began < 8
        time.sleep(0.2)
    # It comes back, without anything in it; and then there is another.
    with open(os.path.join(site.folder, "cert.pem"), "wb"):
        pass
    until(lambda: "holds no certificate" in certificate(site)["problem"], lambda: certificate(site))
    put(site, *other)
    site.proc.send_signal(signal.SIGHUP)
    until(lambda: shown(site) == fingerprint_of(other[0]) and not certificate(site)["problem"], site.log)
