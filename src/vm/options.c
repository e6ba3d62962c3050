/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options. options_value.c, options_args.c, options_json.c and options_saved.c fill a configuration by it;
 * options_doc.c prints it for people. */
#include "vm/config.h"

#include <stddef.h>
#include "util/checked.h"
#include "vm/options_priv.h"

#define DISK(m) offsetof(struct config_disk, m)
#define CDROM(m) offsetof(struct config_cdrom, m)
#define NET(m) offsetof(struct config_net, m)
#define CON(m) offsetof(struct config_console, m)
#define CFG(m) offsetof(struct config, m)
#define LIST(m) .offset = CFG(m), .n_offset = CFG(n_##m), .elem_size = sizeof(((struct config *)0)->m[0]), \
		.max = ARRAY_LEN(((struct config *)0)->m)

/* One kind of limit: three keys of a disk. */
#define LIMIT(arg_, key_, kind, opt, metavar_, n, nn, what)                                                            \
	{ arg_, key_, opt, DISK(limits.v[kind].rate), metavar_, "0", what " per second at most; 0: no limit",          \
	  .example = "path=root.img," arg_ "=" n },                                                                    \
	{ arg_ "-burst", key_ "_burst", opt, DISK(limits.v[kind].burst), metavar_, "0",                                \
	  "the same in a burst, after the disk was idle; 0: none",                                                     \
	  .example = "path=root.img," arg_ "=" n "," arg_ "-burst=" nn },                                              \
	{ arg_ "-burst-seconds", key_ "_burst_seconds", OPT_UINT, DISK(limits.v[kind].burst_s), "N", "0",              \
	  "how long a burst lasts; 0: one second",                                                                     \
	  .example = "path=root.img," arg_ "=" n "," arg_ "-burst=" nn "," arg_ "-burst-seconds=10" }

static const struct option disk_options[] = {
	{ "path", "path", OPT_STRING, DISK(path), "FILE", NULL, "image file or block device", .is_path = true,
	  .more = "Its size must be a multiple of 512 bytes. The file is locked: a second machine may "
		  "use it only when both have readonly=on.",
	  .example = "path=/srv/vm/root.img" },
	{ "format", "format", OPT_STRING, DISK(format), "FORMAT", "auto", "format of the image: auto, raw, qcow2, vmdk, ...",
	  .more = "auto looks at the content. A writable image that looks like none is raw, and the guest cannot write "
		  "to it what would make it look like another; format=raw lets it write anything.",
	  .example = "path=root.img,format=raw" },
	{ "readonly", "readonly", OPT_BOOL, DISK(is_readonly), NULL, "off", "the guest cannot write",
	  .example = "path=data.img,readonly=on" },
	{ "direct", "direct", OPT_BOOL, DISK(is_direct), NULL, "off", "bypass the host's page cache",
	  .example = "path=/dev/vg0/web1,direct=on" },
	{ "create", "create", OPT_BOOL, DISK(is_created), NULL, "off", "with --incoming: make the image, unless it is there",
	  .more = "For a disk that comes with its machine ('migrate --with-disks'), as large as it is there; raw unless format says "
		  "otherwise, encrypted with key-file.",
	  .example = "path=/srv/vm/root.qcow2,format=qcow2,create=on" },
	{ "serial", "serial", OPT_STRING, DISK(serial), "TEXT", NULL, "serial number that the guest sees",
	  .more = "At most 20 characters. Linux shows it as /sys/block/vda/serial.",
	  .example = "path=root.img,serial=web1-root" },
	{ "key-file", "key_file", OPT_STRING, DISK(key_file), "FILE", NULL, "file with the passphrase of an encrypted image",
	  .is_path = true,
	  .more = "Of formats luks and qcow2. Every byte counts, a newline at the end too. Its backing images are tried with "
		  "it as well.",
	  .example = "path=root.qcow2,key-file=/etc/vm/root.key" },
	{ "name", "name", OPT_STRING, DISK(name), "NAME", NULL, "what control requests call it; default: disk0, disk1, ...",
	  .more = "1 to 31 letters, digits, '-' and '_'.", .example = "path=root.img,name=root" },
	LIMIT("iops", "iops", BLK_LIMIT_IOPS, OPT_UINT, "N", "500", "2000", "requests"),
	LIMIT("iops-read", "iops_read", BLK_LIMIT_IOPS_READ, OPT_UINT, "N", "500", "2000", "reads"),
	LIMIT("iops-write", "iops_write", BLK_LIMIT_IOPS_WRITE, OPT_UINT, "N", "500", "2000", "changes (writes, discards, zeroes)"),
	LIMIT("bps", "bps", BLK_LIMIT_BPS, OPT_SIZE, "SIZE", "20M", "100M", "bytes"),
	LIMIT("bps-read", "bps_read", BLK_LIMIT_BPS_READ, OPT_SIZE, "SIZE", "20M", "100M", "bytes read"),
	LIMIT("bps-write", "bps_write", BLK_LIMIT_BPS_WRITE, OPT_SIZE, "SIZE", "20M", "100M", "bytes written"),
	{ .arg = NULL },
};

static const struct option cdrom_options[] = {
	{ "path", "path", OPT_STRING, CDROM(path), "FILE|none", NULL, "the medium: an image file, as of --disk; none: the drive is empty",
	  .is_path = true, .none = "none",
	  .more = "It is only read, and may be used by other machines that only read it. 'viv-vmm ctl PATH eject NAME' and "
		  "'insert NAME FILE' change it while the machine runs.",
	  .example = "/srv/iso/debian.iso" },
	{ "format", "format", OPT_STRING, CDROM(format), "FORMAT", "auto", "format of the image: auto, raw, qcow2, vmdk, ...",
	  .example = "/srv/iso/debian.iso,format=raw" },
	{ "name", "name", OPT_STRING, CDROM(name), "NAME", NULL, "what control requests call the drive; default: cdrom0, cdrom1, ...",
	  .more = "1 to 31 letters, digits, '-' and '_', and no other device's name. It is the drive's serial number, too.",
	  .example = "none,name=cd" },
	{ .arg = NULL },
};

static const struct option net_options[] = {
	{ "kind", "kind", OPT_CHOICE, NET(kind), NULL, NULL, "how frames reach the outside", .choices = "user tap none",
	  .more = "user: by a passt process, which needs no privilege. tap: by a tap interface of the host. "
		  "none: frames are swallowed.",
	  .example = "user" },
	{ "ifname", "ifname", OPT_STRING, NET(ifname), "NAME", NULL, "tap: the host's interface",
	  .more = "Without it the kernel chooses a name, which takes the right to make interfaces.",
	  .example = "tap,ifname=tap0" },
	{ "mac", "mac", OPT_STRING, NET(mac), "MAC", NULL, "address; default: derived from the name",
	  .example = "tap,ifname=tap0,mac=52:54:00:12:34:56" },
	{ "hostfwd", "hostfwd", OPT_STRINGS, NET(hostfwd), "tcp:[ADDR:]HOSTPORT:PORT", NULL,
	  "user: forward a port of the host (repeatable)",
	  .more = "'udp:' forwards datagrams.",
	  .example = "user,hostfwd=tcp:2222:22,hostfwd=udp:127.0.0.1:5353:53" },
	{ "metadata", "metadata", OPT_BOOL, NET(has_metadata), NULL, "off", "user: the metadata service at 169.254.169.254 is in the machine",
	  .more = "Whoever hands over connections by the request net-metadata answers there, as HTTP at port 80; without any, connections are "
		  "refused. Nothing that the guest sends to this address leaves the machine, so what a cloud tells the host there is not told "
		  "to the guest.",
	  .example = "user,metadata=on" },
	{ "name", "name", OPT_STRING, NET(name), "NAME", NULL, "what control requests call it; default: net0, net1, ...",
	  .more = "1 to 31 letters, digits, '-' and '_', and no disk's name.", .example = "tap,ifname=tap0,name=lan" },
	{ .arg = NULL },
};

static const struct option console_options[] = {
	{ "target", "target", OPT_STRING, CON(target), "stdio|none|pty|file:PATH|socket:PATH", NULL, "the host's end",
	  .more = "stdio: the terminal or pipe that viv-vmm was started with. pty: a new pseudo-terminal, "
		  "whose name is told on standard error. file: output only, the file is made or emptied. "
		  "socket: a Unix socket that takes one client at a time.",
	  .example = "socket:/run/user/1000/web1.console" },
	{ "device", "device", OPT_CHOICE, CON(device), NULL, "uart", "the guest's end: a serial port or a virtio port",
	  .choices = "uart virtio", .example = "stdio,device=virtio",
	  .more = "uart: ttyS0, the second time ttyS1. virtio: hvc0, hvc1 and so on, up to 16 ports with those that "
		  "have a name. Only a virtio console learns the size of the terminal." },
	{ "name", "name", OPT_STRING, CON(name), "TEXT", NULL, "virtio: a named stream of bytes instead of a console",
	  .more = "Programs in the guest find it as /dev/virtio-ports/TEXT. They see when the client of a socket "
		  "comes and goes.",
	  .example = "socket:/run/user/1000/web1.agent,device=virtio,name=org.example.agent" },
	{ "id", "id", OPT_STRING, CON(id), "NAME", NULL, "virtio: a device of its own, which 'unplug NAME' takes away",
	  .more = "As 'plug console' makes them; at most 8. 1 to 31 letters, digits, '-' and '_', and no disk's or interface's name.",
	  .example = "socket:/run/user/1000/web1.log,device=virtio,name=org.example.log,id=log" },
	{ .arg = NULL },
};

const struct option options[] = {
	{ "--name", "name", OPT_STRING, CFG(name), "NAME", "vm", "name of the machine",
	  .more = "1 to 63 printable ASCII characters other than space and '/'. Messages carry it, and "
		  "network addresses that are not given are derived from it.",
	  .example = "--name web1" },
	{ "--engine", "engine", OPT_CHOICE, CFG(engine), NULL, "auto",
	  "what executes guest instructions; --list-engines tells which work here", .choices = "auto kvm bt interp lockstep",
	  .is_host = true,
	  .more = "auto takes the first that works. A kvm that would only emulate guest kernels by "
		  "instruction is passed over by auto and used when named; bt translates, interp interprets. "
		  "lockstep is for tests: bt, with interp repeating every instruction; the first difference ends the "
		  "machine with status 1. One processor, three times the memory.",
	  .example = "--engine interp" },
	{ "--cpu", "cpu", OPT_STRING, CFG(cpu), "MODEL[,FEATURE=on|off]...", "host",
	  "what the processors announce; --list-cpus prints models and features",
	  .more = "host: all that the engine and this host can. base, x86-64-v1, -v2, -v3, -v4 are the same "
		  "everywhere, so that a saved machine finds its features on another host. What the engine "
		  "or the host lacks is refused, not left out. With an engine in software, vendor=intel or vendor=amd "
		  "tells what the processors call themselves.",
	  .example = "--cpu x86-64-v3,aes=on,avx2=off" },
	{ "--code-cache", "code_cache", OPT_SIZE, CFG(code_cache), "SIZE", "64M", "memory of each processor for translations",
	  .more = "Engines bt and lockstep: 1M to 1G, for translated code, what describes it, and translations of addresses. "
		  "It is taken as it comes into use; below 20M, up to 10M more are. More helps guests that run many big programs. "
		  "--stats tells how much is in use.",
	  .is_host = true, .example = "--engine bt --code-cache 128M" },
	{ "--windows", "windows", OPT_BOOL, CFG(windows), NULL, "on", "user programs find their memory by the host's MMU",
	  .more = "Engine bt: for programs that run for some time, translated code accesses memory without checks of its own. "
		  "Compression, ciphers and compilers are faster, making processes is slower. Machines that were restored do without.",
	  .is_host = true, .example = "--engine bt --windows off" },
	{ "--memory", "memory", OPT_SIZE, CFG(memory), "SIZE[,max=SIZE]", "256M", "guest RAM",
	  .more = "A multiple of 4 KiB, at least 4M; suffixes K, M, G and T count in powers of 1024. With max, a multiple of 128M more, "
		  "memory can come and go while the machine runs: 'viv-vmm ctl PATH set memory=SIZE'.",
	  .max_offset = CFG(memory_max), .example = "--memory 1G,max=4G" },
	{ "--memory-max", "memory_max", OPT_SIZE, CFG(memory_max), "SIZE", "0", "guest RAM that there can be; 0: as much as at the start",
	  .example = "--memory 1G --memory-max 4G" },
	{ "--cpus", "cpus", OPT_UINT, CFG(cpus), "N[,max=N]", "1", "processors",
	  .more = "At most 64. With max more can come while the machine runs: 'viv-vmm ctl PATH set vcpus=N'.",
	  .max_offset = CFG(cpus_max), .example = "--cpus 2,max=8" },
	{ "--cpus-max", "cpus_max", OPT_UINT, CFG(cpus_max), "N", "0", "processors that there can be; 0: as many as at the start",
	  .example = "--cpus 2 --cpus-max 8" },
	{ "--kernel", "kernel", OPT_STRING, CFG(kernel), "FILE", NULL,
	  "bzImage, ELF vmlinux, PVH or multiboot kernel",
	  .more = "Required, unless there is firmware. The kind is told by the content, also in a gzip file. It is read again when the guest resets.",
	  .is_path = true, .example = "--kernel /boot/vmlinuz" },
	{ "--initrd", "initrd", OPT_STRING, CFG(initrd), "FILE", NULL, "initial RAM disk",
	  .is_path = true, .example = "--initrd /boot/initrd.img" },
	{ "--cmdline", "cmdline", OPT_STRING, CFG(cmdline), "TEXT", "console=ttyS0", "kernel command line",
	  .more = "At most 2047 characters.",
	  .example = "--cmdline \"console=ttyS0 root=/dev/vda rw\"" },
	{ "--firmware", "firmware", OPT_STRING, CFG(firmware), "FILE", NULL,
	  "start a firmware's ROM image instead of a kernel",
	  .more = "64 KiB to 8 MiB, entered at the reset vector, as SeaBIOS's bios.bin. Its console is the first serial "
		  "port; there is no display.",
	  .is_path = true, .example = "--firmware /usr/share/seabios/bios-256k.bin" },
	{ "--firmware-log", "firmware_log", OPT_STRING, CFG(firmware_log), "FILE", NULL,
	  "what firmware writes to port 0x402", .is_path = true, .example = "--firmware-log bios.log" },
	{ "--disk", "disks", OPT_LIST, .metavar = "path=FILE,...", .help = "add a virtio disk (repeatable)",
	  .more = "At most 16. The first is /dev/vda in Linux. Keys:", .sub = disk_options, LIST(disks) },
	{ "--cdrom", "cdroms", OPT_LIST, .metavar = "FILE|none,...", .help = "add a drive for CDs and DVDs (repeatable)",
	  .more = "At most 4, each with a virtio SCSI host of its own. The first is /dev/sr0 in Linux, whose modules are virtio_scsi and "
		  "sr_mod. Keys; that of the first value may be left out:",
	  .sub = cdrom_options, .positional = "path", LIST(cdroms) },
	{ "--net", "nets", OPT_LIST, .metavar = "KIND,...", .help = "add a virtio network interface (repeatable)",
	  .more = "At most 8. Without it the guest has no network. Keys; that of the first value may be left out:",
	  .sub = net_options, .positional = "kind", LIST(nets) },
	{ "--console", "consoles", OPT_LIST, .metavar = "TARGET,...",
	  .help = "add a console (repeatable; default: stdio,device=uart)",
	  .more = "At most one per device. Keys; that of the first value may be left out:",
	  .sub = console_options, .positional = "target", LIST(consoles) },
	{ "--cpu-limit", "cpu_limit", OPT_STRING, CFG(cpu_limit), "SHARE", NULL, "host processor time that all processors may use together",
	  .more = "0.01 to 64 processors of the host; none: no limit. 'viv-vmm ctl PATH set cpu-limit=SHARE' changes it.",
	  .example = "--cpu-limit 0.5" },
	{ "--balloon", "balloon", OPT_BOOL, CFG(has_balloon), NULL, "off", "virtio memory balloon",
	  .more = "'viv-vmm ctl PATH set balloon=SIZE' takes memory from the guest and gives it back. With it a guest also tells which "
		  "pages are free, and they take no memory of the host.", .example = "--balloon on" },
	{ "--hvc", "hvc", OPT_BOOL, CFG(has_hvc), NULL, "on", "virtio console device that consoles with device=virtio and without id are ports of",
	  .more = "It is there although nobody asks for one.", .example = "--hvc off" },
	{ "--rng", "rng", OPT_BOOL, CFG(has_rng), NULL, "on", "virtio entropy device", .more = "'viv-vmm ctl PATH plug rng' and 'unplug rng' as well.",
	  .example = "--rng off" },
	{ "--agent", "agent", OPT_BOOL, CFG(has_agent), NULL, "off", "a port for the guest agent, which requests agent-* ask",
	  .more = "The package qemu-guest-agent in the guest speaks there, at /dev/virtio-ports/org.qemu.guest_agent.0.", .example = "--agent on" },
	{ "--agent-device", "agent_device", OPT_BOOL, CFG(has_agent_device), NULL, "on", "that port is a device of its own, which can come and go",
	  .more = "off: a port of the console device, which it was in earlier versions, and is in machines that they have saved.",
	  .example = "--agent on --agent-device off" },
	{ "--vsock", "vsock", OPT_STRING, CFG(vsock), "PATH", NULL, "virtio socket device; a Unix socket where the host's programs reach the guest's",
	  .more = "A program connects to PATH and says the line 'CONNECT PORT', upon which it is answered 'OK PORT' by a program that listens in "
		  "the guest; or 'LISTEN PORT', and is answered 'CONNECTED PORT' when one in the guest has connected to port PORT of address 2.",
	  .is_path = true, .is_socket = true, .example = "--vsock /run/user/1000/web1.vsock" },
	{ "--vsock-cid", "vsock_cid", OPT_UINT, CFG(vsock_cid), "N", "3", "the guest's address on that device", .more = "3 to 4294967294.",
	  .example = "--vsock web1.vsock --vsock-cid 42" },
	{ "--no-reboot", "no_reboot", OPT_FLAG, CFG(is_no_reboot), NULL, "off",
	  "end when the guest resets, instead of starting it again",
	  .more = "After a triple fault the exit status is 1.", .example = "--no-reboot" },
	{ "--exit-port", "exit_port", OPT_FLAG, CFG(has_exit_port), NULL, "off",
	  "port 0xf4 ends the process with a status, for test kernels",
	  .more = "Writing V gives the status (V << 1 | 1) & 255.", .example = "--exit-port" },
	{ "--test-device", "test_device", OPT_FLAG, CFG(has_test_device), NULL, "off",
	  "interrupt, port and memory testing device, for test kernels",
	  .more = "Ports 0xe0 to 0xe3 and 0x2000 to 0x2017, and 64 KiB of memory at 0xff000000.",
	  .example = "--exit-port --test-device" },
	{ "--control", "control", OPT_STRING, CFG(control), "PATH", NULL, "listen on a Unix socket for requests",
	  .more = "'viv-vmm ctl PATH REQUEST' sends one: info, pause, resume, powerdown and others; 'viv-vmm ctl --help' "
		  "has the list. Only this user and root are served.",
	  .is_host = true, .example = "--control /run/user/1000/web1.sock" },
	{ "--end-file", "end_file", OPT_STRING, CFG(end_file), "FILE", NULL, "write there why the machine has ended",
	  .more = "One line, as the event 'stopped' says it: power off, reset, crash, error, exit port, quit, signal, saved or migrated. The file is "
		  "emptied at the start, and stays empty when the process is killed. It goes along when another program takes the machine over.",
	  .is_host = true, .example = "--end-file web1.end" },
	{ "--paused", "paused", OPT_FLAG, CFG(starts_paused), NULL, "off", "build the machine but run nothing until 'resume'",
	  .is_host = true, .example = "--control web1.sock --paused" },
	{ "--changed-disks", "changed_disks", OPT_FLAG, CFG(takes_changed_disks), NULL, "off",
	  "with --restore: accept disks that have been written since the save",
	  .more = "What the guest remembers of its disks is then wrong: unless their contents of then have been brought "
		  "back, for instance from a copy, it destroys its file systems.",
	  .is_host = true, .example = "--changed-disks" },
	{ "--revert-disks", "revert_disks", OPT_FLAG, CFG(reverts_disks), NULL, "off",
	  "with --restore: bring disks back to the snapshots that were taken with the save",
	  .more = "For a machine that was saved with snapshot=NAME. What was written to its disks since is gone. Without it a disk that "
		  "has changed is refused.",
	  .is_host = true, .example = "--revert-disks" },
	{ "--restore-key-file", "restore_key_file", OPT_STRING, CFG(restore_key), "FILE", NULL,
	  "file with the passphrase of a machine that was saved encrypted",
	  .more = "Taken byte for byte, as that of an encrypted disk; fd:N is an open descriptor. It may stand before or behind --restore. A file "
		  "that is not encrypted is refused: it might have been put in the place of one that was.",
	  .is_host = true, .example = "--restore-key-file web1.key" },
	{ "--copy", "copy", OPT_FLAG, CFG(is_copy), NULL, "off", "with --restore: the machine is a copy of one that may go on",
	  .more = "Network addresses that were saved are derived from the name instead, which should be another one, and the network "
		  "cables are pulled for two seconds. See the section about fork in the page about the control socket.",
	  .is_host = true, .example = "--name web2 --copy" },
	{ "--incoming-tls", "incoming_tls", OPT_STRING, CFG(incoming_tls), "DIR", NULL,
	  "with --incoming: through TLS, from who shows a certificate",
	  .more = "DIR has ca.pem (whose signature counts), cert.pem (what this side shows) and key.pem. The other side says `tls=DIR`. Without it "
		  "whoever reaches the address can send a machine, and whoever sits on the way reads the guest's memory and can change it: then "
		  "nobody but the two hosts may reach that network.",
	  .is_host = true, .example = "--incoming-tls /etc/viv/tls" },
	{ "--jail", "jail", OPT_BOOL, CFG(has_jail), NULL, "on", "give up all rights that a running machine does not need",
	  .more = "A guest that takes over this process finds no file, no network and no program that it could open, connect "
		  "to or start. Run by root, it is the user 'nobody' in namespaces of its own. Off: it has all rights of the user.",
	  .is_host = true, .example = "--jail off" },
	{ "--pid-namespace", "pid_namespace", OPT_CHOICE, CFG(pid_namespace), NULL, "auto", "run by root: a PID namespace of its own",
	  .choices = "auto off front detached",
	  .more = "The machine is process 1 there, and sees nobody else. front: the process that was started waits in front of it, passes signals on and "
		  "ends as it does; with it the machine is killed. `info` has both numbers. auto: front, if root starts it and the jail is on. detached, "
		  "for daemons: the process that was started ends with 0, and the machine's, a child of the same parent, writes its number into the "
		  "file that is standard input, which its starter may have locked; not with --incoming.",
	  .is_host = true, .example = "--pid-namespace front" },
	{ "--cgroup", "cgroup", OPT_CHOICE, CFG(cgroup), NULL, "auto", "run by root: a control group of its own",
	  .choices = "auto off",
	  .more = "It is below the one of whoever starts the machine, has passt and the other helpers in it, bounds their threads where it has the "
		  "controller, and goes with the last of them. Off: the machine is in the group of who starts it, as it is where none can be "
		  "made, with --jail off, and with --pid-namespace detached, whose starter has put it where it belongs.",
	  .is_host = true, .example = "--cgroup off" },
	{ "--stats", "stats", OPT_FLAG, CFG(wants_stats), NULL, "off", "print the engine's counters at the end",
	  .is_host = true, .example = "--stats" },
	{ "--profile", "profile", OPT_FLAG, CFG(wants_profile), NULL, "off", "print where the guest's time went at the end",
	  .more = "Software engines. Processors are sampled every millisecond: what they are doing, and at which guest address "
		  "they next look up, which for translated code is the end of a loop or a jump to another page. "
		  "Instructions are counted.",
	  .is_host = true, .example = "--engine bt --profile" },
	{ "--profile-symbols", "profile_symbols", OPT_STRING, CFG(profile_symbols), "FILE", NULL,
	  "names for the addresses of --profile: a System.map",
	  .more = "Addresses are those of a kernel that does not move itself (nokaslr).",
	  .is_host = true, .example = "--profile --profile-symbols System.map" },
	{ "--perf-map", "perf_map", OPT_FLAG, CFG(wants_perf_map), NULL, "off",
	  "write /tmp/perf-PID.map, by which perf(1) names translated code",
	  .more = "Engine bt. Names are guest_kernel_ADDRESS and guest_user_ADDRESS.", .is_host = true, .example = "--engine bt --perf-map" },
	{ "--log-level", "log_level", OPT_CHOICE, CFG(log_level), NULL, "warn", "what is told on standard error",
	  .choices = "error warn info debug",
	  .more = "info adds state changes and the choice of the engine, debug the memory map.",
	  .is_host = true, .example = "--log-level info" },
	{ .arg = NULL },
};

const struct option_action option_actions[] = {
	{ "--config", "FILE", "read options from a JSON document first; later ones win", CONFIG_RUN, config_load_file },
	{ "--restore", "FILE", "continue the machine saved in FILE; lists that follow replace its own", CONFIG_RUN, config_load_saved },
	{ "--incoming", "ADDRESS", "wait for a machine that another viv-vmm sends; lists that follow replace its own", CONFIG_RUN,
	  config_load_incoming },
	{ "--takeover", "ADDRESS", "the same, of a viv-vmm of this host, with all that it has open: see the request 'upgrade'",
	  CONFIG_RUN, config_load_takeover },
	{ "--check", NULL, "judge the options and open all files, but start nothing", CONFIG_CHECK, NULL },
	{ "--list-engines", NULL, "print the engines and whether they work here", CONFIG_LIST_ENGINES, NULL },
	{ "--list-cpus", NULL, "print the CPU models and the names of features", CONFIG_LIST_CPUS, NULL },
	{ "--version", NULL, "print the version", CONFIG_VERSION, NULL },
	{ "--help", NULL, "print this", CONFIG_HELP, NULL },
	{ "--print-api", NULL, "print the page about the control socket as Markdown", CONFIG_API, NULL },
	{ "--print-man", NULL, "print the manual page as roff", CONFIG_MAN, NULL },
	{ .arg = NULL },
};
