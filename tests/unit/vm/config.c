/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/unixsock.h"
#include "vm/config.h"
#include "vm/state_file.h"

/* Parse ARGS (NULL-terminated, without the program's name), then validate. */
static int parse(struct config *c, struct err *e, const char *const *args)
{
	enum config_action action;
	char *argv[64] = { (char *)"viv-vmm" };
	int argc = 1;

	while (*args)
		argv[argc++] = (char *)*args++;
	CHECK_EQ(config_init(c, NULL), 0);
	int r = config_parse_args(c, &action, argc, argv, e);
	return r < 0 ? r : config_validate(c, e);
}

#define PARSE(c, e, ...) parse((c), (e), (const char *const[]){ __VA_ARGS__, NULL })

TEST(defaults_and_a_kernel_make_a_machine)
{
	struct err e = ERR_INIT;
	struct config c;

	CHECK_EQ(PARSE(&c, &e, "--kernel", "k"), 0);
	CHECK_EQ(c.memory, 256ull << 20);
	CHECK_EQ(c.code_cache, 64ull << 20);
	CHECK_EQ(c.cpus, 1);
	CHECK(c.has_rng && !c.is_no_reboot);
	CHECK_STR(c.engine, "auto");
	CHECK_STR(c.cmdline, "console=ttyS0");
	config_fini(&c);
}

TEST(every_option_lands_in_its_place)
{
	struct err e = ERR_INIT;
	struct config c;

	CHECK_EQ(PARSE(&c, &e, "--name=web", "--kernel=k", "--initrd", "i", "--memory", "2G", "--cpus", "4",
		       "--disk", "path=/a,,b.img,readonly=on,direct,serial=s1", "--disk", "path=c",
		       "--net", "user,hostfwd=tcp:2222:22,hostfwd=udp:127.0.0.1:53:53,mac=52:54:00:12:34:56",
		       "--net", "tap,ifname=tap0", "--console", "pty,device=virtio", "--console", "file:/tmp/x=y",
		       "--rng", "off", "--no-reboot", "--stats", "--engine", "interp", "--log-level", "debug",
		       "--cmdline", "a=b c,d"), 0);
	CHECK_STR(c.disks[0].path, "/a,b.img");
	CHECK(c.disks[0].is_readonly && c.disks[0].is_direct);
	CHECK_STR(c.disks[0].serial, "s1");
	CHECK_STR(c.disks[1].format, "auto");
	CHECK_EQ(c.nets[0].hostfwd.n, 2);
	CHECK_STR(c.nets[0].hostfwd.v[1], "udp:127.0.0.1:53:53");
	CHECK_STR(c.nets[1].ifname, "tap0");
	CHECK_STR(c.consoles[0].device, "virtio");
	CHECK_STR(c.cmdline, "a=b c,d");
	CHECK(!c.has_rng && c.is_no_reboot && c.wants_stats);
	CHECK_EQ(config_log_level(&c), LOG_DEBUG);
	config_fini(&c);
}

TEST(every_refusal_names_its_object)
{
	static const struct { const char *option, *value, *says; } bad[] = {
		{ "--memroy", "512M", "unknown option '--memroy'; did you mean '--memory'?" },
		{ "--chek", NULL, "did you mean '--check'?" },
		{ "--frobnicate-everything-in-sight-now", "1", "unknown option" },
		{ "kernel", NULL, "options begin with '--'" },
		{ "--memory", NULL, "--memory needs a value" },
		{ "--memory", "0", "memory: 0 bytes is too little" },
		{ "--memory", "512", "did you forget the suffix" },
		{ "--memory", "999999G", "memory: 999999G is too much" },
		{ "--memory", "99999999999T", "too large" },
		{ "--memory", "lots", "--memory: 'lots' is not a number" },
		{ "--memory", "16777217", "not a multiple of 4096" },
		{ "--code-cache", "64", "code_cache: 64 bytes is not possible; it takes 1M to 1G (did you forget the suffix" },
		{ "--code-cache", "2G", "code_cache: 2147483648 bytes is not possible" },
		{ "--code-cache", "big", "--code-cache: 'big' is not a number" },
		{ "--cpus", "0", "cpus: 0 is not possible" },
		{ "--cpus", "10000", "cpus: 10000 is not possible; a machine has 1 to 64" },
		{ "--cpus", "-1", "--cpus: '-1' is not a number" },
		{ "--engine", "warp", "--engine: 'warp' is none of: auto kvm bt interp" },
		{ "--cpu", "x86-64-v9", "cpu: there is no CPU model 'x86-64-v9'; there are: host, base, x86-64-v1" },
		{ "--cpu", "host,aess=on", "cpu: unknown CPU feature 'aess'; did you mean 'aes'?" },
		{ "--cpu", "host,aes=perhaps", "cpu: aes: 'perhaps' is neither" },
		{ "--kernel", "", "kernel: none given" },
		{ "--firmware", "bios.bin", "firmware: it finds what to start by itself" },
		{ "--firmware-log", "x", "firmware_log: there is no firmware" },
		{ "--initrd", "", "initrd: the path is empty" },
		{ "--name", "a b", "name: 'a b' has a character" },
		{ "--name", "", "name: must have" },
		{ "--rng", "maybe", "--rng: 'maybe' is neither 'on' nor 'off'" },
		{ "--log-level", "loud", "'loud' is none of" },
		{ "--no-reboot=perhaps", NULL, "neither 'on' nor 'off'" },
		{ "--check=1", NULL, "--check takes no value" },
		{ "--disk", "pth=/x", "--disk: unknown key 'pth'; did you mean 'path'?" },
		{ "--disk", "format=raw", "disks[0].path: missing" },
		{ "--disk", "path=a,format=qcow9", "disks[0].format: 'qcow9' is none of: auto" },
		{ "--disk", "path=a,readonly=x", "readonly: 'x' is neither" },
		{ "--disk", "path", "'path' needs a value" },
		{ "--disk", "path=a,", "nothing after the last comma" },
		{ "--disk", "path=a,serial=123456789012345678901", "disks[0].serial" },
		{ "--net", "carrier-pigeon", "kind: 'carrier-pigeon' is none of" },
		{ "--net", "mac=52:54:00:12:34:56", "nets[0].kind: missing" },
		{ "--net", "none,hostfwd=tcp:1:2", "nets[0].hostfwd: only a 'user' network" },
		{ "--net", "user,ifname=x", "nets[0].ifname: only a 'tap' network" },
		{ "--net", "tap,ifname=averyveryverylongname", "nets[0].ifname" },
		{ "--net", "user,hostfwd=tcp:99999:22", "nets[0].hostfwd[0]" },
		{ "--net", "user,mac=52:54:00:12:34", "nets[0].mac" },
		{ "--net", "user,mac=52:54:00:12:34:5g", "nets[0].mac" },
		{ "--net", "user,mac=52:54:00:12:34:567", "nets[0].mac" },
		{ "--net", "user,mac=53:54:00:12:34:56", "group address" },
		{ "--net", "user,mac=00:00:00:00:00:00", "cannot be an interface's address" },
		{ "--console", "teletype", "consoles[0].target: 'teletype' is not" },
		{ "--console", "file:", "there is no path after 'file:'" },
		{ "--console", "stdio,device=lpt", "device: 'lpt' is none of: uart virtio" },
		{ "--console", "none,name=agent", "consoles[0].name: only a console with device=virtio has one" },
		{ "--console", "none,device=virtio,name=", "consoles[0].name: must have 1 to 63 characters" },
		{ "--console", "none,device=virtio,name=a/b", "consoles[0].name: 'a/b' has a character" },
		{ "--console", "none,device=virtio,name=0123456789012345678901234567890123456789012345678901234567890123",
		  "consoles[0].name: must have 1 to 63 characters" },
		{ "--config", "/nonexistent.json", "cannot open configuration '/nonexistent.json'" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;
		struct config c;

		CHECK(PARSE(&c, &e, "--kernel", "k", bad[i].option, bad[i].value) < 0);
		CHECK_HAS(e.msg, bad[i].says);
		config_fini(&c);
	}
}

TEST(conflicts_between_options_are_refused)
{
	struct err e = ERR_INIT;
	struct config c;

	CHECK(PARSE(&c, &e, "--kernel", "k", "--disk", "path=a", "--disk", "path=a,readonly=on") < 0);
	CHECK_HAS(e.msg, "/a' is disk 0 already");
	config_fini(&c);
	CHECK_EQ(PARSE(&c, &e, "--kernel", "k", "--disk", "path=a,readonly", "--disk", "path=a,readonly=on"), 0);
	config_fini(&c);
	CHECK(PARSE(&c, &e, "--kernel", "k", "--console", "stdio", "--console", "stdio,device=virtio") < 0);
	CHECK_HAS(e.msg, "has 'stdio' already");
	config_fini(&c);
	CHECK(PARSE(&c, &e, "--kernel", "k", "--net", "none,mac=52:54:00:12:34:56", "--net", "none,mac=52:54:00:12:34:56") < 0);
	CHECK_HAS(e.msg, "interface 0 has the same address");
	config_fini(&c);
	CHECK(PARSE(&c, &e, "--kernel", "k", "--console", "file:a", "--console", "file:a,device=virtio") < 0);
	CHECK_HAS(e.msg, "consoles[1].target: console 0 has 'file:a' already");
	config_fini(&c);
	CHECK(PARSE(&c, &e, "--kernel", "k", "--console", "none", "--console", "none", "--console", "none") < 0);
	CHECK_HAS(e.msg, "consoles[2].device: a machine has at most 2 serial ports; use device=virtio");
	config_fini(&c);
	CHECK(PARSE(&c, &e, "--kernel", "k", "--console", "none,device=virtio,name=a",
		    "--console", "pty,device=virtio,name=a") < 0);
	CHECK_HAS(e.msg, "consoles[1].name: console 0 is 'a' already");
	config_fini(&c);
}

/* N virtio ports, the first N_NAMED with names. */
static int parse_ports(unsigned n, unsigned n_named, struct err *e)
{
	char text[CONFIG_CONSOLES_MAX][64];
	char *argv[3 + 2 * CONFIG_CONSOLES_MAX] = { (char *)"viv-vmm", (char *)"--kernel=k" };
	enum config_action action;
	struct config c;

	CHECK(n <= CONFIG_CONSOLES_MAX);
	for (unsigned i = 0; i < n; i++) {
		snprintf(text[i], sizeof(text[i]), i < n_named ? "none,device=virtio,name=p%u" : "none,device=virtio", i);
		argv[2 + 2 * i] = (char *)"--console";
		argv[3 + 2 * i] = text[i];
	}
	CHECK_EQ(config_init(&c, NULL), 0);
	CHECK_EQ(config_parse_args(&c, &action, 2 + 2 * (int)n, argv, e), 0);
	int r = config_validate(&c, e);
	config_fini(&c);
	return r;
}

TEST(consoles_that_are_devices_of_their_own_have_names_that_nobody_else_has)
{
	static const struct { const char *settings, *says; } bad[] = {
		{ "none,device=uart,id=a", "consoles[1].id: only a console with device=virtio" },
		{ "none,device=virtio,id=a", "consoles[1].id: another device is 'a' already" },
		{ "none,device=virtio,id=net0", "consoles[1].id: another device is 'net0' already" },
		{ "none,device=virtio,id=a b", "'a b' is not 1 to 31" },
	};
	struct err e = ERR_INIT;
	struct config c;

	CHECK_EQ(PARSE(&c, &e, "--kernel", "k", "--net", "none", "--console", "none,device=virtio,id=a", "--console",
		       "none,device=virtio,name=p,id=b"), 0);
	CHECK(config_has_device(&c, "b") && config_has_device(&c, "net0") && !config_has_device(&c, "p"));
	config_fini(&c);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		e = (struct err)ERR_INIT;
		CHECK(PARSE(&c, &e, "--kernel", "k", "--net", "none", "--console", "none,device=virtio,id=a", "--console",
			    bad[i].settings) < 0);
		CHECK_HAS(e.msg, bad[i].says);
		config_fini(&c);
	}
}

TEST(the_virtio_console_has_sixteen_ports_and_the_first_has_no_name)
{
	struct err e = ERR_INIT;

	CHECK_EQ(parse_ports(16, 0, &e), 0);
	CHECK_EQ(parse_ports(16, 15, &e), 0);
	CHECK_EQ(parse_ports(15, 15, &e), 0);
	CHECK_EQ(parse_ports(17, 0, &e), -EINVAL);
	CHECK_HAS(e.msg, "consoles[16].device: a machine has at most 16 virtio ports, 15 of them with names");
	e = (struct err)ERR_INIT;
	CHECK_EQ(parse_ports(16, 16, &e), -EINVAL);
	CHECK_HAS(e.msg, "consoles[15].device: a machine has at most 16 virtio ports, 15 of them with names");
}

TEST(a_command_line_longer_than_a_kernel_takes_is_refused)
{
	static char text[CONFIG_CMDLINE_MAX + 2];
	struct err e = ERR_INIT;
	struct config c;

	memset(text, 'x', CONFIG_CMDLINE_MAX + 1);
	CHECK(PARSE(&c, &e, "--kernel", "k", "--cmdline", text) < 0);
	CHECK_HAS(e.msg, "cmdline: has 2048 characters");
	config_fini(&c);
	text[CONFIG_CMDLINE_MAX] = '\0';
	CHECK_EQ(PARSE(&c, &e, "--kernel", "k", "--cmdline", text), 0);
	config_fini(&c);
}

/* In its jail this process has no folder, and 'ctl', a restore and a fork stand in another. */
TEST(what_is_named_from_where_one_stands_is_known_from_everywhere)
{
	char dir[] = "/tmp/viv-config-XXXXXX", want[64], deep[UNIXSOCK_PATH_MAX] = "";
	struct err e = ERR_INIT;
	struct config c;

	CHECK(mkdtemp(dir) && !chdir(dir));
	snprintf(want, sizeof(want), "%s/sub/a.img", dir);
	memset(deep, 'd', sizeof(deep) - 1);
	CHECK_EQ(PARSE(&c, &e, "--kernel", "/boot/k", "--disk", "path=sub/a.img,key-file=sub/a.img", "--disk", "path=file:sub/b", "--disk",
		       "path=nbd://h/x,readonly=on", "--cdrom", "none", "--vsock", "s"), 0);
	CHECK_STR(c.kernel, "/boot/k");
	CHECK_STR(c.disks[0].path, want);
	CHECK_STR(c.disks[0].key_file, want);
	CHECK(!strncmp(c.disks[1].path, want, strlen(dir) + 5) && !strcmp(c.disks[1].path + strlen(dir), "/sub/b"));
	CHECK_STR(c.disks[2].path, "nbd://h/x");
	CHECK(!c.cdroms[0].path);
	CHECK(!strncmp(c.vsock, dir, strlen(dir)) && !strcmp(c.vsock + strlen(dir), "/s"));
	config_fini(&c);
	CHECK_EQ(PARSE(&c, &e, "--kernel", "k", "--vsock", deep), 0);
	CHECK_STR(c.vsock, deep);       /* a socket with its whole name could not be */
	config_fini(&c);
	CHECK(!chdir("/") && !rmdir(dir));
}

static int load(struct config *c, struct err *e, const char *text)
{
	CHECK_EQ(config_init(c, NULL), 0);
	return config_load_text(c, text, strlen(text), e);
}

TEST(a_document_fills_the_same_structure)
{
	struct err e = ERR_INIT;
	struct config c;

	CHECK_EQ(load(&c, &e, "{\"kernel\": \"k\", \"memory\": \"1G\", \"cpus\": 2, \"rng\": false, \"no_reboot\": true,"
		      "\"disks\": [{\"path\": \"a\", \"readonly\": true}],"
		      "\"nets\": [{\"kind\": \"user\", \"hostfwd\": [\"tcp:2222:22\"]}],"
		      "\"consoles\": [{\"target\": \"none\"}, {\"target\": \"pty\"},"
		      "{\"target\": \"socket:s\", \"device\": \"virtio\", \"name\": \"org.viv.agent\"}]}"), 0);
	CHECK_EQ(config_validate(&c, &e), 0);
	CHECK_EQ(c.memory, 1ull << 30);
	CHECK(c.disks[0].is_readonly && !c.has_rng && c.is_no_reboot);
	CHECK_STR(c.consoles[0].device, "uart");
	CHECK_EQ(c.n_consoles, 3);
	CHECK_STR(c.consoles[2].name, "org.viv.agent");
	config_fini(&c);
	CHECK_EQ(load(&c, &e, "{\"memory\": 536870912}"), 0);
	CHECK_EQ(c.memory, 512ull << 20);
	config_fini(&c);
}

TEST(a_bad_document_is_refused_with_the_path)
{
	static const struct { const char *text, *says; } bad[] = {
		{ "{", "line 1" },
		{ "", "line 1" },
		{ "[]", "the document: must be an object" },
		{ "{\"kernel\": \"a\", \"kernel\": \"b\"}", "duplicate" },
		{ "{\"disks\": [{\"path\": \"a\"}, {\"pathh\": \"x\"}]}", "disks[1].pathh: unknown key 'pathh'; did you mean 'path'?" },
		{ "{\"memroy\": \"1G\"}", "memroy: unknown key" },
		{ "{\"memory\": 1.5}", "memory: must be a number of bytes" },
		{ "{\"memory\": -1}", "memory: '-1' is not a number" },
		{ "{\"cpus\": \"2\"}", "cpus: must be a number" },
		{ "{\"kernel\": 1}", "kernel: must be a string" },
		{ "{\"kernel\": null}", "kernel: must be a string" },
		{ "{\"rng\": \"on\"}", "rng: must be true or false" },
		{ "{\"disks\": {}}", "disks: must be an array" },
		{ "{\"disks\": [1]}", "disks[0]: must be an object" },
		{ "{\"disks\": [{\"readonly\": 1}]}", "disks[0].readonly: must be true or false" },
		{ "{\"nets\": [{\"hostfwd\": \"x\"}]}", "nets[0].hostfwd: must be an array" },
		{ "{\"nets\": [{\"hostfwd\": [1]}]}", "nets[0].hostfwd[0]: must be a string" },
		{ "{\"engine\": \"warp\"}", "engine: 'warp' is none of" },
		{ "{\"consoles\": [{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},"
		  "{},{},{},{},{},{},{},{}]}", "consoles: there can be at most 26" },
		{ "{\"consoles\": [{\"name\": true}]}", "consoles[0].name: must be a string" },
		{ "{\"kernel\": \"a\\u0000b\"}", "line 1" },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;
		struct config c;

		CHECK(load(&c, &e, bad[i].text) < 0);
		CHECK_HAS(e.msg, bad[i].says);
		config_fini(&c);
	}
}

/* A machine that comes or was saved, as whoever made it says: the jail of this process, its sockets and files are not its to choose. */
TEST(what_a_machine_says_of_this_process_is_left_out)
{
	static const char text[] = "{\"name\": \"evil\", \"jail\": false, \"control\": \"/run/x\", \"perf_map\": true, \"log_level\": \"error\","
		"\"profile_symbols\": \"/etc/shadow\", \"engine\": \"lockstep\", \"incoming_tls\": \"/tmp\", \"memory\": 67108864, \"cpu\": \"x86-64-v2\"}";
	char *argv[] = { (char *)"viv-vmm", (char *)"--paused", (char *)"--incoming", (char *)"tcp:localhost:1", (char *)"--cpu", (char *)"base" };
	struct state_sections s = { .len = 0 };
	struct state_file *f = NULL;
	struct err e = ERR_INIT;
	struct config c;

	state_sections_add(&s, "config", text, strlen(text));
	CHECK_EQ(state_file_of_sections(&f, s.buf, s.len, 64 << 20, "the machine that comes", &e), 0);
	CHECK_EQ(config_parse_incoming(&c, ARRAY_LEN(argv), argv, f, NULL, &e), 0);
	CHECK_STR(c.name, "evil");
	CHECK_EQ(c.memory, 64 << 20);
	CHECK(c.has_jail && !c.control && !c.wants_perf_map && !c.profile_symbols && !c.incoming_tls);
	CHECK_STR(c.log_level, "warn");
	CHECK_STR(c.engine, "auto");
	CHECK(c.starts_paused);                 /* what this process was told stays */
	CHECK_STR(c.cpu, "x86-64-v2");          /* but for what the guest has seen */
	config_fini(&c);
	state_sections_fini(&s);
}

TEST(addresses_are_derived_from_the_name_and_stay)
{
	struct config a, b;
	uint8_t m0[6], m1[6], again[6], other[6];

	CHECK_EQ(PARSE(&a, NULL, "--kernel", "k", "--name", "one", "--net", "none", "--net", "none"), 0);
	CHECK_EQ(PARSE(&b, NULL, "--kernel", "k", "--name", "two", "--net", "none"), 0);
	config_net_mac(&a, 0, m0);
	config_net_mac(&a, 1, m1);
	config_net_mac(&a, 0, again);
	config_net_mac(&b, 0, other);
	CHECK_MEM(m0, again, 6);
	CHECK(memcmp(m0, m1, 6) && memcmp(m0, other, 6));
	CHECK_EQ(m0[0], 2);
	config_fini(&a);
	config_fini(&b);
}

static char *printed(void (*print)(FILE *to))
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	CHECK(f != NULL);
	print(f);
	fclose(f);
	return text;
}

TEST(help_and_manual_name_every_option)
{
	static const char *const names[] = { "kernel", "memory", "hostfwd", "readonly", "config", "log" };
	char *help = printed(config_print_help), *man = printed(config_print_man);

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		CHECK_HAS(help, names[i]);
		CHECK_HAS(man, names[i]);
	}
	CHECK_HAS(help, "auto|kvm|bt|interp");
	CHECK_HAS(man, "\n.TH VIV");
	free(help);
	free(man);
}
