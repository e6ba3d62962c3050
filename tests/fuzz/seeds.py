#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""seeds.py - write the small seeds of tests/fuzz/corpus: inputs that mean something, to start from.

Each is a file corpus/TARGET/seed-NAME; the layout of an input stands at the head of its target."""
import gzip
import json
import lzma
import os
import struct

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def put(target, name, data):
    folder = os.path.join(CORPUS, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "seed-" + name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


# --- configuration and other texts ---------------------------------------------------------------

CONFIG = {
    "name": "m1", "engine": "interp", "memory": "256M", "cpus": 2,
    "kernel": "bzImage", "initrd": "initrd", "cmdline": "console=ttyS0",
    "disks": [{"path": "a.img", "format": "raw", "serial": "S1", "readonly": True, "direct": False}],
    "nets": [{"kind": "user", "hostfwd": ["tcp:2222:22"]}, {"kind": "tap", "ifname": "tap0",
                                                          "mac": "52:54:00:12:34:56"}],
    "consoles": [{"target": "stdio", "device": "uart"}, {"target": "file:x", "device": "virtio"}],
    "rng": True,
}


def texts():
    put("config_json", "full", json.dumps(CONFIG))
    put("config_json", "small", '{"kernel": "k", "memory": 268435456}')
    put("config_json", "unknown", '{"kernal": "k"}')
    for i, key in enumerate(CONFIG):
        put("config_json", f"one-{i}", json.dumps({"kernel": "k", key: CONFIG[key]}))
    put("config_cli", "full", "\n".join([
        "--kernel", "k", "--memory", "512M", "--cpus=2", "--disk", "path=a,format=raw,readonly=on",
        "--net", "user,hostfwd=tcp:2222:22", "--net=tap,ifname=t0,mac=52:54:00:12:34:56",
        "--console", "stdio,device=uart", "--rng", "off", "--no-reboot"]))
    put("config_cli", "help", "--help")
    put("config_cli", "wrong", "--kernle\nk")
    for i, text in enumerate(["0x1234", "4GiB", "off", "path=a,,b,format=raw", "kernelkernal",
                              "tcp:[::1]:2222:22", "52:54:00:12:34:56"]):
        put("parsers", text.split(":")[0].split("=")[0] or str(i), bytes([i]) + text.encode())


# --- kernels -------------------------------------------------------------------------------------

def luks():
    """A LUKS1 header with one slot, and the JSON of LUKS2."""
    def slot(i, state):
        return struct.pack(">II32sII", state, 1000 if i == 0 else 0, b"salt" * 8, 8 + i * 504, 4000)
    head = b"LUKS\xba\xbe\0\1" + struct.pack(">32s32s32sII20s32sI40s", b"aes", b"xts-plain64", b"sha256", 4096, 64,
                                               b"digest", b"salt" * 8, 1000, b"f7461c17-0e96-405c-b261-2f5361d1be7f")
    head += b"".join(slot(i, 0x00ac71f3 if i == 0 else 0xdead) for i in range(8))
    put("luks", "one", b"\0" + head)
    put("luks", "one-easy", b"\0" + head.replace(struct.pack(">I", 1000), struct.pack(">I", 10)))
    for name, kdf in [("pbkdf2", {"type": "pbkdf2", "hash": "sha256", "iterations": 10}),
                      ("argon2", {"type": "argon2id", "time": 4, "memory": 64, "cpus": 1})]:
        salt = "c2FsdHNhbHRzYWx0c2FsdHNhbHRzYWx0c2FsdHNhbHQ="
        put("luks", "two-" + name, b"\1" + json.dumps({
            "keyslots": {"0": {"type": "luks2", "key_size": 64, "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
                               "area": {"type": "raw", "offset": "32768", "size": "258048", "encryption": "aes-xts-plain64",
                                        "key_size": 64}, "kdf": dict(kdf, salt=salt)}},
            "tokens": {"0": {"type": "x", "keyslots": ["0"]}},
            "segments": {"0": {"type": "crypt", "offset": "16777216", "size": "dynamic", "iv_tweak": "0",
                               "encryption": "aes-xts-plain64", "sector_size": 512}},
            "digests": {"0": {"type": "pbkdf2", "keyslots": ["0"], "segments": ["0"], "hash": "sha256", "iterations": 10,
                              "salt": salt, "digest": salt}},
            "config": {"json_size": "12288", "keyslots_size": "16744448"}}, separators=(",", ":")).encode())


def ova():
    ns = "http://schemas.dmtf.org/ovf/envelope/1"
    text = (f'<Envelope xmlns="{ns}" xmlns:o="{ns}"><References><File o:id="f" o:href="one"/></References><DiskSection>'
            '<Disk o:diskId="d" o:fileRef="f" o:capacity="1" o:capacityAllocationUnits="byte * 2^20"/></DiskSection>'
            '<VirtualSystem o:id="m"><Item><AllocationUnits>MegaBytes</AllocationUnits><ResourceType>4</ResourceType>'
            '<VirtualQuantity>512</VirtualQuantity></Item></VirtualSystem></Envelope>')
    put("ova", "text", b"\1" + text.encode())
    put("ova", "doctype", b"\1" + b"<!DOCTYPE a [<!ENTITY x \"y\">]>" + text.encode())

    def member(name, data):
        head = bytearray(struct.pack("100s8s8s8s12s12s8sc100s8s", name, b"0000644", b"0000000", b"0000000", b"%011o" % len(data),
                                     b"00000000000", b" " * 8, b"0", b"", b"ustar\x0000").ljust(512, b"\0"))
        head[148:156] = b"%06o\0 " % sum(head)
        return bytes(head) + data + bytes(-len(data) % 512)
    put("ova", "archive", b"\0" + member(b"m.ovf", text.encode()) + member(b"one", bytes(1024)) +
        member(b"m.mf", b"SHA256(one)= " + b"00" * 32 + b"\n") + bytes(1024))


def vmdk_extents():
    """ESXi's kinds: a directory, a table with an entry of each type, a grain. Zeroes that end a file are left out."""
    cowd = struct.pack("<4sIIIIIII", b"COWD", 1, 3, 4096, 128, 4, 1, 4).ljust(2048, b"\0")
    cowd += struct.pack("<I", 8).ljust(2048, b"\0") + struct.pack("<2I", 40, 1)
    put("images", "vmdk-cowd", cowd.ljust(4096 + 16384, b"\0") + b"grain" * 100)
    put("vmdk_extent", "cowd", b"\1" + cowd)
    fields = [0] * 26
    fields[0:6] = [0xcafebabe, 0x200000001, 4096, 8, 64, 0]
    fields[10:12], fields[16:18], fields[18:20], fields[24:26] = [1, 1], [2, 1], [4, 64], [68, 8]
    sesparse = struct.pack("<26Q", *fields).ljust(512, b"\0") + struct.pack("<Q", 0xcafecafe).ljust(512, b"\0")
    sesparse += struct.pack("<Q", 1 << 60).ljust(1024, b"\0")
    entries = struct.pack("<5Q", 0, 1 << 60, 2 << 60, 3 << 60, 3 << 60 | 1 << 48)
    put("vmdk_extent", "sesparse", b"\0" + sesparse + entries)
    put("vmdk_extent", "sesparse-journal", b"\0" + sesparse[:512 + 24] + b"\1" + sesparse[512 + 25:] + entries)
    put("vmdk_extent", "sesparse-wrong", b"\x80" + sesparse + struct.pack("<2Q", 7 << 60, 1))
    head = struct.pack("<IIIQQQQIQQQB4s", 0x564d444b, 1, 3, 4096, 8, 0, 0, 512, 1, 6, 16, 0, b"\n \r\n").ljust(512, b"\0")
    tables = struct.pack("<I", 2).ljust(512, b"\0") + bytes(2048)
    again = struct.pack("<I", 7).ljust(512, b"\0") + struct.pack("<2I", 16, 1)
    put("vmdk_extent", "sparse", b"\2" + head + tables + again)
    put("vmdk_extent", "flat", b"\3" + b"flat" * 128)


def urls():
    for i, text in enumerate(["nbd://host:10809/a%20b#reconnect=5", "nbd+unix:///x?socket=%2Ftmp%2Fs",
                              "https://[2001:db8::1]:443/dir/disk.img#cache=/c\0a b#?", "nbds://me@h/x", "rbd://pool/a?b=c"]):
        put("url", str(i), text)


def requests():
    def message(text):
        return struct.pack("<I", len(text)) + text.encode()
    put("control", "info", message('{"request":"info","id":1}'))
    put("control", "two", message('{"request":"pause"}') + message('{"request":"events","params":{"on":false}}'))
    put("control", "descriptor", b"\xff\xff" + message('{"request":"save"}'))
    put("control", "wrong", message('{"request":"inf","id":null}') + message("[]") + b"\xff\xff\xff\xff")


def saved_states():
    put("saved_state", "good", b"\x02")
    put("saved_state", "other", b"\x02" + struct.pack("<HB", 60, 1))
    for way in (2, 6, 10, 14, 26, 30):
        put("saved_state", f"way-{way}", bytes([way]))
        put("saved_state", f"way-{way}-changed", bytes([way]) + struct.pack("<HB", 170, 1) + struct.pack("<HB", 420, 3))
    put("saved_state", "short", b"\x01VIVSTATE\x01\0\0\0" + b"\0" * 60)
    put("saved_state", "tag", b"\x02" + struct.pack("<HBHB", 120, 1, 300, 255))


def elf64(note=False):
    code = b"\xf4" * 16
    note_data = struct.pack("<III", 4, 4, 18) + b"Xen\0" + struct.pack("<I", 0x100000)
    n = 2 if note else 1
    body = 64 + 56 * n
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0x100000, 64, 0, 0, 64, 56, n, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, body, 0x100000, 0x100000, len(code), 0x1000, 0x1000)
    noted = struct.pack("<IIQQQQQQ", 4, 4, body + len(code), 0, 0, len(note_data), len(note_data), 4)
    return head + load + (noted if note else b"") + code + (note_data if note else b"")


def elf32():
    head = b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack(
        "<HHIIIIIHHHHHH", 2, 3, 1, 0x100000, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    load = struct.pack("<IIIIIIII", 1, 96, 0x100000, 0x100000, 32, 0x1000, 7, 4)
    return head + load + bytes(12) + multiboot(0) + bytes(20)


def multiboot(flags):
    return struct.pack("<III", 0x1badb002, flags, -(0x1badb002 + flags) & 0xffffffff)


def payload(packed, plain):
    return packed + struct.pack("<I", len(plain))


def bzimage(pack):
    plain = elf64()
    packed = payload(pack(plain), plain)
    setup = bytearray(512 * 2)
    setup[0x1f1] = 1                                    # setup_sects
    setup[0x1fe:0x200] = b"\x55\xaa"
    struct.pack_into("<HIH", setup, 0x200, 0x66eb, 0x53726448, 0x020f)
    setup[0x211] = 1                                    # LOADED_HIGH
    struct.pack_into("<I", setup, 0x22c, 0x7fffffff)    # initrd_addr_max
    struct.pack_into("<IBBHI", setup, 0x230, 0x200000, 1, 21, 3, 2047)
    struct.pack_into("<II", setup, 0x248, 0, len(packed))   # payload_offset, payload_length
    struct.pack_into("<QI", setup, 0x258, 0x1000000, 0x200000)
    return bytes(setup) + packed


def agents():
    put("agent", "answers", bytes([0, 0, 5, 20, 1, 2, 0, 0, 1, 5, 30, 1, 2]))
    said = b'{"error":{"class":"X","desc":"no\\n"}}\n'
    put("agent", "error", bytes([0, 0, 5, 20, 1, 3, len(said)]) + said)
    put("agent", "nonsense", bytes([0, 0, 5, 20, 1, 3, 9]) + b'{"return"' + bytes([3, 3]) + b"\xff[\n" + bytes([6, 5, 1, 14, 0, 1, 0xf5, 255]))


def migrations():
    page = struct.pack("<HBB", 1, 1, 0)
    put("migration", "zero", b"\x02\0\0" + page)
    put("migration", "raw", b"\x02" + struct.pack("<H", 4095) + struct.pack("<HBB", 3, 1, 1) + b"x" * 4095)
    put("migration", "packed", b"\x02\x10\0" + struct.pack("<HBB", 3, 1, 2) + b"\x28\xb5\x2f\xfd" + b"\0" * 12 +
        b"\x02\x10\0" + struct.pack("<HBB", 3, 1, 3) + b"\x1f\x00\x01\x00" + b"\xff" * 12)
    put("migration", "sections", b"\0\x0a\0\x05" + b"\x01a\0\0\0\0abcd" + b"\0\x05\0\x09sorry")
    put("migration", "plan", b"\0\x18\0\x0b" + b"0123456789abcdef" + struct.pack("<II", 3, 0) + b"\0\x14\0\x0c" +
        b"0123456789abcdef" + struct.pack("<I", 1) + b"\0\0\0\x0d\0\0\0\x0e")
    put("migration", "owed", b"\0\x18\0\x0f" + struct.pack("<QQQ", 2, 3, 1 << 63) + b"\0\x10\0\x0f" + struct.pack("<QQ", 9, 1))
    put("migration", "disks", b"\0\x60\0\x13" + struct.pack("<32sQII", b"root", 1 << 30, 1, 0) + struct.pack("<32sQII", b"cd", 512, 2, 0))
    put("migration", "raw-head", b"\x01\x0c\0" + struct.pack("<III", 5, 100, 0))


def kernels():
    put("boot", "elf64", b"\0" + elf64())
    put("boot", "pvh", b"\3" + elf64(True))
    put("boot", "multiboot-elf", b"\2" + elf32())
    put("boot", "multiboot-aout", b"\1" + multiboot(0x10000) + struct.pack(
        "<IIIII", 0x100000, 0x100000, 0x100040, 0x100080, 0x100020) + bytes(32))
    xz = lambda d: lzma.compress(d, check=lzma.CHECK_CRC32)
    alone = lambda d: lzma.compress(d, format=lzma.FORMAT_ALONE)
    lz4 = lambda d: b"\x02\x21\x4c\x18" + struct.pack("<I", len(d) + 3) + b"\xf0" + bytes([len(d) - 15]) + d + b""
    for name, pack in [("gzip", lambda d: gzip.compress(d, mtime=0)), ("xz", xz), ("lzma", alone),
                       ("lz4", lz4), ("none", lambda d: d)]:
        put("boot", "bzimage-" + name, b"\1" + bzimage(pack))
        put("unpack", name, payload(pack(elf64()), elf64()))
    put("unpack", "zstd", payload(b"\x28\xb5\x2f\xfd\x20\x04\x21\0\0abcd", b"abcd"))
    put("unpack", "lzo", payload(b"\x89LZO\0\r\n\x1a\n" + bytes(40), b"abcd"))


# --- devices -------------------------------------------------------------------------------------

def chain(queue, *buffers):
    """One well-formed chain: (page, is_write, length, first bytes) each; see rig_chain()."""
    out = bytes([5 | queue << 4, len(buffers) - 1, 0])
    for page, is_write, length, data in buffers:
        out += bytes([page | (0x80 if is_write else 0), length])
        out += b"" if is_write else data.ljust(17, b"\0")
    return out


def virtio():
    live = b"\x03" + b"\xff" * 8
    turn, outside = b"\x49", b"\x0b"
    header = lambda kind, sector: struct.pack("<IIQ", kind, 0, sector)
    io = lambda kind, sector, *data: chain(0, (0, False, 16, header(kind, sector)), *data, (2, True, 1, b""))
    put("virtio_rng", "read", live + chain(0, (1, True, 64, b"")) + turn + b"\x0d" + turn)
    put("virtio_balloon", "inflate", live + chain(0, (0, False, 12, struct.pack("<III", 0x80, 0x81, 0xfffff))) + turn + outside)
    put("virtio_balloon", "stats", live + chain(2, (0, False, 10, struct.pack("<HQ", 4, 99))) + turn + outside + b"\0" * 4 + turn)
    put("virtio_balloon", "report", live + chain(3, (1, True, 255, b"")) + turn)
    block = lambda kind, n: chain(0, (0, False, 17, struct.pack("<QQ", kind, 1 << 32) + bytes([n])), (1, True, 10, b""))
    put("virtio_mem", "plug", live + block(0, 2) + turn + block(3, 4) + block(1, 1) + turn + block(2, 0) + turn)
    put("virtio_blk", "read", live + io(0, 1, (1, True, 255, b"")) + turn + outside + b"\0" + turn)
    put("virtio_blk", "sector", live + io(0, 1, (0x41, True, 1, b"")) + turn + outside + b"\0" + turn)
    put("virtio_blk", "write", live + io(1, 0, (0x41, False, 1, b"x")) + turn + outside + b"\0" + turn)
    put("virtio_blk", "flush-id", live + io(4, 0) + io(8, 0, (1, True, 20, b"")) + turn + outside + b"\0\x0d")
    segment = struct.pack("<QII", 0, 8, 0)
    put("virtio_blk", "discard", live + io(11, 0, (1, False, 16, segment)) + turn + outside + b"\0" + turn)
    put("virtio_blk", "reset", live + io(0, 0, (0x41, True, 1, b"")) + turn + b"\x0e" + outside + b"\0" + turn)
    lun = b"\1\0\x40\0" + bytes(15)

    # A request's 51 bytes of header in four buffers, 108 of response, and room for data.
    def scsi(*cdb):
        h = lun + bytes(cdb).ljust(32, b"\0")
        return chain(2, *((n, False, min(17, len(h) - 17 * n), h[17 * n:17 * n + 17]) for n in range(3)), (4, True, 108, b""),
                     (5, True, 255, b""))
    ready = scsi(0) + turn
    put("virtio_scsi", "inquiry", live + scsi(0x12, 0, 0, 0, 96) + scsi(0x12, 1, 0x83, 0, 96) + turn + scsi(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16) + turn)
    put("virtio_scsi", "toc", live + ready + scsi(0x43, 2, 0, 0, 0, 0, 0, 0, 64) + scsi(0x51, 0, 0, 0, 0, 0, 0, 0, 64) + turn)
    put("virtio_scsi", "pages", live + ready + scsi(0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 64) + scsi(0x46, 0, 0, 0, 0, 0, 0, 0, 64) + turn)
    put("virtio_scsi", "read", live + ready + scsi(0x25) + scsi(0x28, 0, 0, 0, 0, 1, 0, 0, 1) + turn + outside + b"\0" + turn)
    put("virtio_scsi", "eject", live + ready + scsi(0x1b, 0, 0, 0, 2) + scsi(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8) + turn + outside + b"\xc1" + turn + ready)
    task = struct.pack("<II", 0, 5) + lun[:8] + bytes(8)
    put("virtio_scsi", "reset-unit", live + ready + chain(0, (0, False, 17, task[:17]), (1, False, 7, task[17:]), (2, True, 1, b"")) + turn +
        outside + b"\0" + turn)
    watch = struct.pack("<I", 2) + lun[:8] + struct.pack("<I", 16)
    put("virtio_scsi", "events", live + chain(0, (0, False, 16, watch), (1, True, 5, b"")) + chain(1, (2, True, 16, b"")) + turn + outside +
        b"\xe0" + turn)
    rx = chain(0, (1, True, 255, b""), (0x42, True, 8, b""))
    put("virtio_net", "receive", live + rx * 3 + turn + outside + b"\x03\x40\0" + b"\xff" * 26 + turn)
    put("virtio_net", "send", live + chain(1, (0, False, 12, b""), (1, False, 64, b"\xff" * 14)) + turn)
    put("virtio_net", "full", live + outside + b"\0" + chain(1, (0, False, 76, b"")) * 2 + turn + outside + b"\1" + turn)
    control = chain(2, (0, False, 3, b"\0\0\1"), (2, True, 1, b""))
    put("virtio_net", "control", live + control + turn)
    mac = chain(2, (0, False, 8, b"\1\1\x52\x54\0\1\2\3"), (2, True, 1, b""))
    put("virtio_net", "mac", live + mac + turn + b"\x0d")
    rx = chain(0, (4, True, 255, b"")) * 3

    def packet(op, port, payload=b""):
        h = struct.pack("<QQIIIHHIII", 3, 2, 1000, port, len(payload), 1, op, 3 if op == 4 else 0, 65536, 0)
        return chain(1, (0, False, 16, h[:16]), (1, False, 16, h[16:32]), (2, False, 12, h[32:]), (3, False, max(1, len(payload)), payload)) + turn
    put("virtio_vsock", "refused", live + rx + packet(1, 7) + packet(5, 7, b"x"))
    put("virtio_vsock", "accepted", live + rx + outside + b"\x01\x07" + packet(1, 7) + packet(5, 7, b"hello") + outside + b"\x06" + outside +
        b"\x04\x05" + turn + packet(4, 7) + b"\x0d")
    put("virtio_vsock", "connects", live + rx + outside + b"\x00\xe8" + turn + packet(2, 0x40000001) + outside + b"\x02" + turn)
    put("virtio_console", "write", live + chain(1, (0, False, 16, b"hello")) + turn)
    put("virtio_console", "type", live + chain(0, (1, True, 64, b"")) + turn + outside + b"\0\x20" + turn)
    ctrl = lambda port, event, value: chain(3, (0, False, 8, struct.pack("<IHH", port, event, value)))
    ready = ctrl(0xffffffff, 0, 1) + ctrl(0, 3, 1) + ctrl(1, 3, 1) + ctrl(1, 6, 1)
    put("virtio_console", "ports", live + chain(2, (1, True, 64, b"")) * 4 + ready + turn + turn + outside + b"\4\x50\x19")


def devices():
    port = lambda where, value: bytes([0, where]) + bytes([value])
    pic = b"".join(port(i, v) for i, v in [(0, 0x11), (14, 0x20), (14, 4), (14, 1), (14, 0)])
    put("devices", "pic", pic + b"\xbd\1" + b"\x09" + port(0, 0x20))
    pit = b"".join(port(i, v) for i, v in [(3 + 42, 0x34), (3, 0), (3, 0x10)])
    put("devices", "pit", pit + b"\x0c\0\0\0\x10" * 3)
    lapic = lambda off, v: b"\x04" + struct.pack("<H", off) + b"" + struct.pack("<I", v)
    put("devices", "lapic", lapic(0xf0, 0x1ff) + lapic(0x320, 0x20030) + lapic(0x3e0, 0xb) +
        lapic(0x380, 1000) + b"\x0c\0\x10\0\0\x09" + lapic(0xb0, 0) + lapic(0x310, 1 << 24) + lapic(0x300, 0x4030))
    put("devices", "ioapic", b"\x06\0\0\x12\0\0\0" + b"\x06\x10\0\x30\x80\0\0" + b"\xfd\1\x9d\1")
    put("devices", "msr", b"\x07\0" + struct.pack("<Q", 0xfee00d00) + b"\x07\1" + struct.pack("<Q", 1000))
    put("devices", "uart", port(10 + 14, 0x0f) + port(10 + 28, 1) + b"\x0dhello, guest 123\x2c\x0a\x0f")
    put("devices", "rtc", port(7, 0x0b) + port(7 + 14, 0x72) + b"\x0e\0\0\0\x40" * 2)


def buses():
    ecam = lambda dev, off, size, value: bytes([dev << 4, size.bit_length() - 1]) + struct.pack("<H", off) + \
        value.to_bytes(size, "little")
    put("pci_cfg", "bars", ecam(0, 4, 2, 6) + ecam(0, 0x10, 4, 0xffffffff) + ecam(0, 0x10, 4, 0xc0040000) +
        ecam(1, 0x14, 4, 2))
    put("pci_cfg", "msix", ecam(1, 0x4a, 2, 0x8000) + b"\x18\2\0\0\0\0\xe0\xfe\x18\2\x0c\0\0\0\0\0\x1b\0\0\0" +
        b"\x1e\0\0")
    shaken = bytes([4, 0, 0x02, 0x80]) + b"\x02\x04\x05\xb4" + bytes([0, 0x10, 0])      # a socket, SYN with its MSS, ACK
    answered = bytes([0, 0x18, 0x30]) + b"GET" + bytes([5, 0, 5, 0x40])                   # a request, which is read and answered
    put("net_service", "whole", shaken + answered + bytes([0, 0x10, 0, 5, 0x80, 0, 0x11, 0, 0, 0x10, 0]))
    put("net_service", "lost", shaken + answered + bytes([0xf7, 0xf7, 0, 0x50, 0]) + b"\xf8\xff" + bytes([0xb7, 0, 0x90, 0, 0, 0, 5, 0x60, 0xf7, 0xf7]))
    put("net_service", "busy", bytes([6]) + shaken + answered + bytes([0x0e]) + bytes([8, 0x02, 5]) * 9 + bytes([0xf6]))
    put("net_service", "raw", bytes([3, 0x2b]) + bytes(12) + bytes.fromhex("0806 0001 0800 0604 0001") + bytes([3, 0x37]) + bytes([3, 0xff, 3, 0x51]) +
        bytes(14) + b"\x45")
    put("net_user", "frames", b"\x41\0\0\0\x04abcd" + b"\x03\x40\0" + b"\x04\x40\0" + b"\x05\x06")
    put("net_user", "nonsense", b"\x20\xff\xff\xff\xff")


def code():
    for mode, text in [(2, "4889d8 0f05 c3"), (2, "660f6fc1 f30f1000 c5fc28c1"), (1, "c8100001 f3a4 9c 9d"),
                       (0, "67660f01d0 ea00000010 cd21")]:
        put("decode", "mode%d-%s" % (mode, text.replace(" ", "")[:6]), bytes([mode]) + bytes.fromhex(text))
    for i in range(14):
        put("fields", f"good-{i}", bytes([0x80 | i, 0xff, 0, 1]))
    # mode, options, CR0, CR4, flags, 16 registers, FPU words, 24 vector halves, disturbances, patches
    def guest(mode, text, options=0, disturb=0):
        return (bytes([mode, options]) + struct.pack("<III", 0, 0x600, 0x202) +
                bytes([17] * 16) + struct.pack("<HH", 0x37f, 0x1f80) + bytes(24) +
                struct.pack("<QB", disturb, 0) + bytes.fromhex(text))
    snippets = {
        "move": "b81000000089c348890748ffc048c7c1040000 00f3a4 9090",
        "sse": "660fefc0660f6f0f f30f5ac0 0fae07 0faee8",
        "x87": "d9e8 d9eb dec9 dd1f dbe3 9b",
        "string": "fc f3aa fd f3a5 f2ae f3a7 6c 6e",
        "system": "0f01d0 0fa2 0f31 0f20c0 0f22c0 0f01f8 0f08 0f3033c9",
        "far": "6a08 68000001 00 cb 9a00000100 0800 cf cd80 f4",
        "atomic": "f00fb10f f00fc107 480fc70f f0480fba2f05 87 07",
        "selfmod": "c605010000 0090 ebf7 90",
        "segment": "8ed8 8ee0 0f00d8 0f00d0 0f02c1 0f03c1 0f00e0 0fb417",
    }
    for name, text in snippets.items():
        for mode in (0, 1, 2, 4, 6, 8, 9, 10):
            put("interp", f"{name}-{mode}", guest(mode, text))
    put("interp", "traps", guest(0, snippets["move"], 8, 0x123412341234))
    put("interp", "init", guest(0, snippets["move"], 0, 0x55))


# --- what publishers of images say ---------------------------------------------------------------

def catalogues():
    digest = "0123456789abcdef" * 4
    image = {"version": "12", "release": "bookworm", "url": "https://a.example/{release}/debian-{version}-{arch}.qcow2",
             "sums": "https://a.example/SHA512SUMS", "signature": "https://a.example/SHA512SUMS.gpg", "tags": ["stable"]}
    item = {"ftype": "disk1.img", "path": "server/20260101/disk1.img", "sha256": digest, "size": 1048576}
    product = {"aliases": "24.04,n,default,ubuntu/noble", "arch": "amd64", "os": "Ubuntu", "release": "noble", "version": "24.04", "variant": "cloud",
               "versions": {"20260101": {"items": {"disk1.img": item}}, "20260102": {"items": {"disk1.img": {**item, "path": "../x"}}}}}
    listed = {"images": [{"system": "ubuntu", "version": v, "release": r, "reference": f"ubuntu:{v}", "tags": t} for v, r, t in
                         (("24.04", "noble", ["default"]), ("22.04", "jammy", []))]}
    for name, kind, text in (
            ("list", 0, json.dumps({"format": 1, "kind": "list", "systems": ["debian"], "arch": {"x86_64": "amd64"}, "images": [image]})),
            ("streams", 0, json.dumps({"format": 1, "kind": "simplestreams", "systems": ["a"], "url": "https://a.example/", "keyring": "/k"})),
            ("index", 1, json.dumps({"format": "index:1.0", "index": {"a": {"datatype": "image-downloads", "path": "streams/v1/a.json"}}})),
            ("index-up", 1, json.dumps({"format": "index:1.0", "index": {"a": {"datatype": "image-downloads", "path": "../a.json"}}})),
            ("products", 2, json.dumps({"format": "products:1.0", "products": {"a": product}})),
            ("inherited", 2, json.dumps({"format": "products:1.0", "os": "alpine", "arch": "x86_64", "products": {"a": {
                "release": "3.20", "versions": {"1": {"sha256": digest, "items": {"x": {"ftype": "disk-kvm.img", "path": "a/b"}}}}}}})),
            ("deep", 2, "[" * 40),
            ("sums", 3, f"{digest} *other.img\n{digest}  ./disk.img\n"),
            ("bsd", 3, f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# disk.img: 5 bytes\nSHA256 (disk.img) = {digest}\n"),
            ("alone", 3, digest * 2 + "\n"),
            ("reference", 4, "ubuntu:noble\n" + json.dumps(listed)),
            ("near", 4, "ubuntu:24.4\n" + json.dumps(listed)),
            ("unasked", 4, "ubuntu\n" + json.dumps(listed))):
        put("catalogue", name, bytes([kind]) + text.encode())


for make in (texts, catalogues, luks, urls, ova, vmdk_extents, requests, saved_states, agents, migrations, kernels, virtio, devices, buses, code):
    make()
