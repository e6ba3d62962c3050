# SPDX-License-Identifier: Apache-2.0
"""What stands between the two sides of a migration or an upgrade, and breaks what comes by (docs/formats/migration.md)."""
import json
import os
import socket
import struct
import threading

# Types of records.
HELLO, MACHINE, BUILT, PAGES, STATE, READY, COMMIT, DONE, FAIL, HANDS, PLAN, JOIN, END = range(1, 14)


class Wire(threading.Thread):
    """Stands between source and destination, and does something when a record of one type (None: any) comes by."""

    def __init__(self, tmp_path, target, at_type, action):
        super().__init__(daemon=True)
        self.path, self.target, self.type, self.action = str(tmp_path / "wire"), target, at_type, action
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        self.start()

    def run(self):
        while True:
            a, _ = self.listener.accept()
            b = socket.socket(socket.AF_UNIX)
            b.connect(self.target)
            threading.Thread(target=self.between, args=(a, b), daemon=True).start()

    def between(self, a, b):
        """Both ways, until both have ended; descriptors that nobody has taken go with the sockets."""
        with a, b:
            back = threading.Thread(target=self.pump, args=(b, a), daemon=True)
            back.start()
            self.pump(a, b)
            back.join()

    @staticmethod
    def take(s, n):
        data = b""
        while len(data) < n:
            more = s.recv(n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def pump(self, source, sink):
        try:
            while True:
                head = self.take(source, 12)
                kind, length, _ = struct.unpack("<III", head)
                record = head + self.take(source, length)
                if self.type in (kind, None):
                    record = self.action(record)
                if record is None:
                    break
                sink.sendall(record)
        except (EOFError, OSError):
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def flipped(record):
    return record[:-1] + bytes([record[-1] ^ 4])


class HandWire(Wire):
    """Hands descriptors on, too."""

    def hand_on(self, source, sink):
        """One record; False: that was the last."""
        head, fds, _, _ = socket.recv_fds(source, 12, 96)
        try:
            if not head:
                return False
            head += self.take(source, 12 - len(head))
            record = head + self.take(source, struct.unpack("<III", head)[1])
            if struct.unpack("<III", head)[0] == self.type:
                record = self.action(record)
            if record is not None:
                sent = socket.send_fds(sink, [record], fds) if fds else 0
                sink.sendall(record[sent:])
            return record is not None
        finally:
            for fd in fds:
                os.close(fd)

    def pump(self, source, sink):
        try:
            while self.hand_on(source, sink):
                pass
        except (EOFError, OSError):
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def ask_upgrade(sock, path):
    """The request as `ctl upgrade` sends it, of a viv-vmm that listens on PATH."""
    with socket.socket(socket.AF_UNIX) as wire, socket.socket(socket.AF_UNIX) as control:
        wire.connect(path)
        control.connect(sock)
        control.settimeout(90)
        text = json.dumps({"request": "upgrade"}).encode()
        socket.send_fds(control, [struct.pack("<I", len(text)) + text], [wire.fileno()])
        return control.recv(65536)[4:].decode()
