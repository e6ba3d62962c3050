# SPDX-License-Identifier: Apache-2.0
"""Certificates for migrations through TLS."""
import subprocess


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True)


class Authority:
    """Signs certificates; each gets a folder as --incoming-tls wants it."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=authority",
                "-days", "2", "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem")

    def issue(self, name, names, days="2"):
        to = self.folder / name
        to.mkdir()
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-addext",
                f"subjectAltName={names}", "-keyout", f"{to}/key.pem", "-out", f"{to}/request.pem")
        openssl("x509", "-req", "-in", f"{to}/request.pem", "-CA", f"{self.folder}/ca.pem", "-CAkey", f"{self.folder}/ca.key",
                "-CAcreateserial", "-days", days, "-copy_extensions", "copy", "-out", f"{to}/cert.pem")
        (to / "ca.pem").write_bytes((self.folder / "ca.pem").read_bytes())
        return to
