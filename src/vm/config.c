/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "blk/blk.h"
#include "cpu/x86/model.h"
#include "mem/gmem.h"
#include "net/net.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/unixsock.h"
#include "virtio/blk.h"
#include "virtio/mem.h"
#include "virtio/vsock.h"
#include "vm/agent.h"
#include "vm/cpu_limit.h"

/* The order of enum log_level. */
static const char *const log_levels[] = { "error", "warn", "info", "debug" };

enum { IFNAME_MAX = 15, SOCKET_PATH_MAX = UNIXSOCK_PATH_MAX, NAME_MAX_LEN = 63 };

static bool config_is(const char *a, const char *b)
{
	return a && !strcmp(a, b);
}

/* May TEXT be a file's name: printable ASCII without space and '/'? */
static bool config_is_plain(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x21 || (unsigned char)*text > 0x7e || *text == '/')
			return false;
	}
	return true;
}

enum log_level config_log_level(const struct config *c)
{
	for (size_t i = 0; i < ARRAY_LEN(log_levels); i++) {
		if (config_is(c->log_level, log_levels[i]))
			return (enum log_level)i;
	}
	return LOG_WARN;
}

int config_parse_mac(uint8_t mac[6], const char *text, struct err *err)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t m[6], any = 0;

	for (int i = 0; i < 17; i++) {
		const char *d = text[i] ? strchr(digits, text[i] | 0x20) : NULL;

		if (i % 3 == 2 ? text[i] != ':' : !d)
			return err_set(err, -EINVAL, "'%s' is not an address like 52:54:00:12:34:56", text);
		if (i % 3 == 0)
			m[i / 3] = (uint8_t)((d - digits) << 4);
		else if (i % 3 == 1)
			any |= m[i / 3] |= (uint8_t)(d - digits);
	}
	if (text[17])
		return err_set(err, -EINVAL, "'%s' is not an address like 52:54:00:12:34:56", text);
	if (m[0] & 1)
		return err_set(err, -EINVAL, "'%s' is a group address; the second digit must be even", text);
	if (!any)
		return err_set(err, -EINVAL, "'%s' cannot be an interface's address", text);
	memcpy(mac, m, 6);
	return 0;
}

void config_net_mac_of(const struct config *c, unsigned number, uint8_t mac[6])
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a: the same machine keeps its addresses */

	for (const char *p = c->name; *p; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3u;
	h = (h ^ number) * 0x100000001b3u;
	mac[0] = 0x02; /* locally administered */
	for (int b = 1; b < 6; b++)
		mac[b] = (uint8_t)(h >> (8 * b));
}

void config_net_mac(const struct config *c, unsigned i, uint8_t mac[6])
{
	if (!c->nets[i].mac || config_parse_mac(mac, c->nets[i].mac, NULL) < 0)
		config_net_mac_of(c, i, mac);
}

int config_net_forwards(const struct config_net *n, struct net_forward *f, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < n->hostfwd.n; i++)
		r = net_forward_parse(&f[i], n->hostfwd.v[i], err);
	return r < 0 ? r : (int)n->hostfwd.n;
}

static int config_keep(char **to, const char *text, struct err *err)
{
	if (!*to)
		*to = strdup(text);
	return *to ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int config_settle(struct config *c, struct err *err)
{
	char buf[CONFIG_DISK_NAME_MAX + 1];
	int r = 0;

	for (unsigned i = 0; !r && i < c->n_disks; i++)
		r = config_keep(&c->disks[i].name, config_disk_name(c, i, buf), err);
	for (unsigned i = 0; !r && i < c->n_cdroms; i++)
		r = config_keep(&c->cdroms[i].name, config_cdrom_name(c, i, buf), err);
	for (unsigned i = 0; !r && i < c->n_nets; i++) {
		uint8_t mac[6];
		char text[18];

		config_net_mac(c, i, mac);
		snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
		r = config_keep(&c->nets[i].mac, text, err);
		if (!r)
			r = config_keep(&c->nets[i].name, config_net_name(c, i, buf), err);
	}
	return r;
}

uint64_t config_memory(const struct config *c, uint64_t *added)
{
	uint64_t low = c->memory < GMEM_LOW_MAX ? c->memory : GMEM_LOW_MAX;
	uint64_t at = c->memory_max > c->memory ? low + align_up(c->memory - low, VIRTIO_MEM_ALIGN) : c->memory;

	if (added)
		*added = at;
	return c->memory_max > c->memory ? at + c->memory_max - c->memory : c->memory;
}

unsigned config_cpus(const struct config *c)
{
	return (unsigned)(c->cpus_max ? c->cpus_max : c->cpus);
}

static int config_check_basics(const struct config *c, struct err *err)
{
	size_t name_len = strlen(c->name);

	if (!name_len || name_len > NAME_MAX_LEN)
		return err_set(err, -EINVAL, "name: must have 1 to %d characters", NAME_MAX_LEN);
	if (!config_is_plain(c->name))
		return err_set(err, -EINVAL, "name: '%s' has a character other than printable ASCII without '/'", c->name);
	if (c->cpus < 1 || c->cpus > CONFIG_CPUS_MAX)
		return err_set(err, -EINVAL, "cpus: %" PRIu64 " is not possible; a machine has 1 to %d processors",
			       c->cpus, CONFIG_CPUS_MAX);
	if (c->cpus_max && (c->cpus_max < c->cpus || c->cpus_max > CONFIG_CPUS_MAX))
		return err_set(err, -EINVAL, "cpus_max: %" PRIu64 " is not possible; there are %" PRIu64 " at the start, and %d at most",
			       c->cpus_max, c->cpus, CONFIG_CPUS_MAX);
	if (c->memory < CONFIG_MEMORY_MIN)
		return err_set(err, -EINVAL, "memory: %" PRIu64 " bytes is too little; the least is %" PRIu64
			       "M (did you forget the suffix, as in 512M?)", c->memory, (uint64_t)(CONFIG_MEMORY_MIN >> 20));
	if (c->memory > GMEM_MAX_SIZE)
		return err_set(err, -EINVAL, "memory: %" PRIu64 "G is too much; the most is %" PRIu64 "G",
			       c->memory >> 30, (uint64_t)(GMEM_MAX_SIZE >> 30));
	if (c->memory % GMEM_PAGE_SIZE)
		return err_set(err, -EINVAL, "memory: %" PRIu64 " is not a multiple of 4096 bytes", c->memory);
	if (c->memory_max && (c->memory_max < c->memory || (c->memory_max - c->memory) % VIRTIO_MEM_ALIGN ||
			      c->memory_max > GMEM_MAX_SIZE / 2))
		return err_set(err, -EINVAL, "memory_max: %" PRIu64 "M is not possible; it is what there is at the start, %" PRIu64
			       "M, and a multiple of 128M more, at most %" PRIu64 "G", c->memory_max >> 20, c->memory >> 20,
			       (uint64_t)(GMEM_MAX_SIZE / 2 >> 30));
	if (c->code_cache < CONFIG_CODE_CACHE_MIN || c->code_cache > CONFIG_CODE_CACHE_MAX)
		return err_set(err, -EINVAL, "code_cache: %" PRIu64 " bytes is not possible; it takes 1M to 1G (did you "
			       "forget the suffix, as in 64M?)", c->code_cache);
	unsigned limit;
	int r = x86_model_check(c->cpu, err);

	if (r < 0)
		return err_wrap(err, r, "cpu");
	r = c->cpu_limit ? cpu_limit_parse(&limit, c->cpu_limit, err) : 0;
	return r < 0 ? err_wrap(err, r, "cpu_limit") : 0;
}

static int config_check_boot(const struct config *c, struct err *err)
{
	if (c->firmware && !*c->firmware)
		return err_set(err, -EINVAL, "firmware: the path is empty");
	if (c->firmware && (c->kernel || c->initrd))
		return err_set(err, -EINVAL, "firmware: it finds what to start by itself; leave --kernel and --initrd out");
	if (c->firmware_log && !c->firmware)
		return err_set(err, -EINVAL, "firmware_log: there is no firmware to write one; name it with --firmware");
	if (!c->firmware && (!c->kernel || !*c->kernel))
		return err_set(err, -EINVAL, "kernel: none given; name a bzImage, an ELF vmlinux or a multiboot kernel with --kernel");
	if (c->initrd && !*c->initrd)
		return err_set(err, -EINVAL, "initrd: the path is empty; leave it out when there is none");
	if (c->cmdline && strlen(c->cmdline) > CONFIG_CMDLINE_MAX)
		return err_set(err, -EINVAL, "cmdline: has %zu characters; a kernel takes at most %d",
			       strlen(c->cmdline), CONFIG_CMDLINE_MAX);
	return 0;
}

static int config_check_format(const char *list, unsigned i_list, const char *format, struct err *err)
{
	char known[256] = "auto";
	bool is_known = !format || !strcmp(format, "auto");

	for (unsigned i = 0; blk_format_name(i); i++) {
		size_t n = strlen(known);

		is_known |= format && !strcmp(format, blk_format_name(i));
		snprintf(known + n, sizeof(known) - n, " %s", blk_format_name(i));
	}
	return is_known ? 0 : err_set(err, -EINVAL, "%s[%u].format: '%s' is none of: %s", list, i_list, format, known);
}

const char *config_disk_name(const struct config *c, unsigned i, char buf[CONFIG_DISK_NAME_MAX + 1])
{
	if (c->disks[i].name)
		return c->disks[i].name;
	snprintf(buf, CONFIG_DISK_NAME_MAX + 1, "disk%u", i);
	return buf;
}

const char *config_net_name(const struct config *c, unsigned i, char buf[CONFIG_DISK_NAME_MAX + 1])
{
	if (c->nets[i].name)
		return c->nets[i].name;
	snprintf(buf, CONFIG_DISK_NAME_MAX + 1, "net%u", i);
	return buf;
}

const char *config_cdrom_name(const struct config *c, unsigned i, char buf[CONFIG_DISK_NAME_MAX + 1])
{
	if (c->cdroms[i].name)
		return c->cdroms[i].name;
	snprintf(buf, CONFIG_DISK_NAME_MAX + 1, "cdrom%u", i);
	return buf;
}

static int config_check_name(const char *list, unsigned i, const char *name, struct err *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
	size_t n = strlen(name);

	if (!n || n > CONFIG_DISK_NAME_MAX || strspn(name, allowed) != n)
		return err_set(err, -EINVAL, "%s[%u].name: '%s' is not 1 to %d letters, digits, '-' and '_'", list, i, name,
			       CONFIG_DISK_NAME_MAX);
	return 0;
}

/* One name is one thing, be it a disk or an interface. */
static int config_check_net_name(const struct config *c, unsigned i, struct err *err)
{
	char mine[CONFIG_DISK_NAME_MAX + 1], other[CONFIG_DISK_NAME_MAX + 1];
	const char *name = config_net_name(c, i, mine);
	int r = config_check_name("nets", i, name, err);

	for (unsigned j = 0; !r && j < i; j++)
		if (!strcmp(config_net_name(c, j, other), name))
			r = err_set(err, -EINVAL, "nets[%u].name: interface %u is '%s' already", i, j, name);
	for (unsigned j = 0; !r && j < c->n_disks; j++)
		if (!strcmp(config_disk_name(c, j, other), name))
			r = err_set(err, -EINVAL, "nets[%u].name: disk %u is '%s' already", i, j, name);
	return r;
}

static int config_check_disk_name(const struct config *c, unsigned i, struct err *err)
{
	char mine[CONFIG_DISK_NAME_MAX + 1], other[CONFIG_DISK_NAME_MAX + 1];
	const char *name = config_disk_name(c, i, mine);
	int r = config_check_name("disks", i, name, err);

	if (r < 0)
		return r;
	for (unsigned j = 0; j < i; j++)
		if (!strcmp(config_disk_name(c, j, other), name))
			return err_set(err, -EINVAL, "disks[%u].name: disk %u is '%s' already", i, j, name);
	return 0;
}

static int config_check_disks(const struct config *c, struct err *err)
{
	for (unsigned i = 0; i < c->n_disks; i++) {
		const struct config_disk *d = &c->disks[i];

		if (!d->path || !*d->path)
			return err_set(err, -EINVAL, "disks[%u].path: missing; every disk needs the path of its image", i);
		if (d->is_created && !c->is_incoming)
			return err_set(err, -EINVAL, "disks[%u].create: only with --incoming, for a disk that comes with its machine", i);
		int r = config_check_format("disks", i, d->format, err);

		if (r < 0)
			return r;
		r = config_check_disk_name(c, i, err);
		if (!r) {
			r = blk_limits_check(&d->limits, err);
			if (r < 0)
				err_wrap(err, r, "disks[%u]", i);
		}
		if (r < 0)
			return r;
		if (d->serial && strlen(d->serial) > VIRTIO_BLK_SERIAL_MAX)
			return err_set(err, -EINVAL, "disks[%u].serial: '%s' is longer than %d characters", i,
				       d->serial, VIRTIO_BLK_SERIAL_MAX);
		for (unsigned j = 0; j < i; j++) {
			if (!strcmp(c->disks[j].path, d->path) && !(d->is_readonly && c->disks[j].is_readonly))
				return err_set(err, -EINVAL, "disks[%u].path: '%s' is disk %u already; "
					       "only read-only disks may share an image", i, d->path, j);
		}
	}
	return 0;
}

static int config_check_net(const struct config *c, unsigned i, struct err *err)
{
	const struct config_net *n = &c->nets[i];
	uint8_t mac[6], other[6];
	int r;

	if (!n->kind)
		return err_set(err, -EINVAL, "nets[%u].kind: missing; it is 'user', 'tap' or 'none'", i);
	if (n->hostfwd.n && strcmp(n->kind, "user"))
		return err_set(err, -EINVAL, "nets[%u].hostfwd: only a 'user' network forwards ports, this is '%s'",
			       i, n->kind);
	if (n->has_metadata && strcmp(n->kind, "user"))
		return err_set(err, -EINVAL, "nets[%u].metadata: only a 'user' network has the service in the machine, this is '%s'", i, n->kind);
	if (n->ifname && strcmp(n->kind, "tap"))
		return err_set(err, -EINVAL, "nets[%u].ifname: only a 'tap' network has an interface, this is '%s'",
			       i, n->kind);
	if (n->ifname && (!*n->ifname || strlen(n->ifname) > IFNAME_MAX))
		return err_set(err, -EINVAL, "nets[%u].ifname: '%s' must have 1 to %d characters", i, n->ifname, IFNAME_MAX);
	for (unsigned f = 0; f < n->hostfwd.n; f++) {
		struct net_forward fwd;

		r = net_forward_parse(&fwd, n->hostfwd.v[f], err);
		if (r < 0)
			return err_wrap(err, r, "nets[%u].hostfwd[%u]", i, f);
	}
	if (n->mac) {
		r = config_parse_mac(mac, n->mac, err);
		if (r < 0)
			return err_wrap(err, r, "nets[%u].mac", i);
	}
	config_net_mac(c, i, mac);
	for (unsigned j = 0; j < i; j++) {
		config_net_mac(c, j, other);
		if (!memcmp(mac, other, sizeof(mac)))
			return err_set(err, -EINVAL, "nets[%u].mac: interface %u has the same address", i, j);
	}
	return 0;
}

static int config_check_target(unsigned i, const char *t, struct err *err)
{
	static const char *const words[] = { "stdio", "none", "pty" };
	static const char *const prefixes[] = { "file:", "socket:" };

	for (size_t w = 0; w < ARRAY_LEN(words); w++) {
		if (config_is(t, words[w]))
			return 0;
	}
	for (size_t p = 0; p < ARRAY_LEN(prefixes); p++) {
		size_t n = strlen(prefixes[p]);

		if (!t || strncmp(t, prefixes[p], n))
			continue;
		if (!t[n])
			return err_set(err, -EINVAL, "consoles[%u].target: there is no path after '%s'", i, prefixes[p]);
		if (p == 1 && strlen(t + n) > SOCKET_PATH_MAX)
			return err_set(err, -EINVAL, "consoles[%u].target: the path of a socket has at most %d characters",
				       i, SOCKET_PATH_MAX);
		return 0;
	}
	return err_set(err, -EINVAL, "consoles[%u].target: '%s' is not 'stdio', 'none', 'pty', 'file:PATH' or 'socket:PATH'",
		       i, t ? t : "");
}

static int config_check_port_name(const struct config *c, unsigned i, struct err *err)
{
	const char *name = c->consoles[i].name;

	if (!name)
		return 0;
	if (!config_is(c->consoles[i].device, "virtio"))
		return err_set(err, -EINVAL, "consoles[%u].name: only a console with device=virtio has one", i);
	if (!*name || strlen(name) > CONFIG_PORT_NAME_MAX)
		return err_set(err, -EINVAL, "consoles[%u].name: must have 1 to %d characters", i, CONFIG_PORT_NAME_MAX);
	if (!config_is_plain(name))
		return err_set(err, -EINVAL, "consoles[%u].name: '%s' has a character other than printable ASCII without '/'",
			       i, name);
	for (unsigned j = 0; j < i; j++) {
		if (config_is(c->consoles[j].name, name))
			return err_set(err, -EINVAL, "consoles[%u].name: console %u is '%s' already", i, j, name);
	}
	return 0;
}

/* Console I must not write where an earlier one does. */
static int config_check_same_target(const struct config *c, unsigned i, struct err *err)
{
	const char *t = c->consoles[i].target;

	if (config_is(t, "none") || config_is(t, "pty"))
		return 0;
	for (unsigned j = 0; j < i; j++) {
		if (config_is(c->consoles[j].target, t))
			return err_set(err, -EINVAL, "consoles[%u].target: console %u has '%s' already", i, j, t);
	}
	return 0;
}

bool config_has_device(const struct config *c, const char *name)
{
	char buf[CONFIG_DISK_NAME_MAX + 1];
	bool has = false;

	for (unsigned i = 0; i < c->n_disks; i++)
		has |= !strcmp(config_disk_name(c, i, buf), name);
	for (unsigned i = 0; i < c->n_cdroms; i++)
		has |= !strcmp(config_cdrom_name(c, i, buf), name);
	for (unsigned i = 0; i < c->n_nets; i++)
		has |= !strcmp(config_net_name(c, i, buf), name);
	for (unsigned i = 0; i < c->n_consoles; i++)
		has |= config_is(c->consoles[i].id, name);
	return has;
}

static int config_check_cdrom(const struct config *c, unsigned i, struct err *err)
{
	const struct config_cdrom *d = &c->cdroms[i];
	char buf[CONFIG_DISK_NAME_MAX + 1];
	const char *name = config_cdrom_name(c, i, buf);
	struct config others = *c;

	if (d->path && !*d->path)
		return err_set(err, -EINVAL, "cdroms[%u].path: is empty; 'none' is a drive without a medium", i);
	int r = config_check_format("cdroms", i, d->format, err);

	if (!r)
		r = config_check_name("cdroms", i, name, err);
	others.n_cdroms = i;
	if (!r && config_has_device(&others, name))
		r = err_set(err, -EINVAL, "cdroms[%u].name: another device is '%s' already", i, name);
	for (unsigned j = 0; !r && d->path && j < c->n_disks; j++)
		if (!strcmp(c->disks[j].path, d->path) && !c->disks[j].is_readonly)
			r = err_set(err, -EINVAL, "cdroms[%u].path: '%s' is written as disk %u", i, d->path, j);
	return r;
}

/* Console I is a device of its own. */
static int config_check_own_console(const struct config *c, unsigned i, struct err *err)
{
	const struct config_console *mine = &c->consoles[i];
	struct config others = *c;
	unsigned n_own = 0;

	if (!config_is(mine->device, "virtio"))
		return err_set(err, -EINVAL, "consoles[%u].id: only a console with device=virtio is a device of its own", i);
	int r = config_check_name("consoles", i, mine->id, err);
	if (r < 0)
		return r;
	for (unsigned j = 0; j <= i; j++)
		n_own += c->consoles[j].id != NULL;
	if (n_own > CONFIG_OWN_CONSOLES_MAX)
		return err_set(err, -E2BIG, "consoles[%u].id: at most %d consoles are devices of their own", i, CONFIG_OWN_CONSOLES_MAX);
	others.n_consoles = i;
	if (config_has_device(&others, mine->id))
		return err_set(err, -EINVAL, "consoles[%u].id: another device is '%s' already", i, mine->id);
	return 0;
}

static int config_check_consoles(const struct config *c, struct err *err)
{
	unsigned n_uarts = 0, n_ports = 0;
	bool has_hvc = false, is_agent_port = c->has_agent && !c->has_agent_device;
	unsigned max = CONFIG_PORTS_MAX - is_agent_port;

	if (is_agent_port && !c->has_hvc)
		return err_set(err, -EINVAL, "agent_device: off needs the console device, and hvc is off");
	for (unsigned i = 0; i < c->n_consoles; i++) {
		bool is_uart = config_is(c->consoles[i].device, "uart");
		int r = config_check_target(i, c->consoles[i].target, err);

		if (!r)
			r = config_check_same_target(c, i, err);
		if (!r)
			r = config_check_port_name(c, i, err);
		if (r < 0)
			return r;
		if (c->has_agent && config_is(c->consoles[i].name, AGENT_PORT_NAME))
			return err_set(err, -EINVAL, "consoles[%u].name: with agent on, this port is the guest agent's", i);
		if (c->consoles[i].id) {
			r = config_check_own_console(c, i, err);
			if (r < 0)
				return r;
			continue;
		}
		if (!is_uart && !c->has_hvc)
			return err_set(err, -EINVAL, "consoles[%u].device: without the console device (hvc: off) a virtio console needs an id, and is a "
				       "device of its own", i);
		has_hvc |= !is_uart && !c->consoles[i].name;
		n_uarts += is_uart;
		n_ports += !is_uart;
		if (n_uarts > CONFIG_UARTS_MAX)
			return err_set(err, -EINVAL, "consoles[%u].device: a machine has at most %d serial ports; "
				       "use device=virtio for more consoles", i, CONFIG_UARTS_MAX);
		/* Port 0 is a console even when all others have names. */
		if (n_ports + !has_hvc > max)
			return err_set(err, -EINVAL, "consoles[%u].device: a machine has at most %d virtio ports, "
				       "%d of them with names", i, (int)max, (int)max - 1);
	}
	return 0;
}

static int config_check_control(const struct config *c, struct err *err)
{
	if (c->control && (!*c->control || strlen(c->control) > UNIXSOCK_PATH_MAX))
		return err_set(err, -EINVAL, "control: the path of a socket has 1 to %d characters", UNIXSOCK_PATH_MAX);
	if (c->vsock && (!*c->vsock || strlen(c->vsock) > UNIXSOCK_PATH_MAX))
		return err_set(err, -EINVAL, "vsock: the path of a socket has 1 to %d characters", UNIXSOCK_PATH_MAX);
	if (c->vsock_cid < VIRTIO_VSOCK_CID_MIN || c->vsock_cid >= UINT32_MAX)
		return err_set(err, -EINVAL, "vsock_cid: is from %d to %u", VIRTIO_VSOCK_CID_MIN, UINT32_MAX - 1);
	if (c->starts_paused && !c->control)
		return err_set(err, -EINVAL, "paused: nobody could resume the machine without a control socket (--control)");
	if (c->takes_changed_disks && (!c->saved || c->is_incoming))
		return err_set(err, -EINVAL, "changed_disks: only a saved machine (--restore) can find its disks changed");
	if (c->is_copy && (!c->saved || c->is_incoming))
		return err_set(err, -EINVAL, "copy: only a saved machine (--restore) can be continued as a copy");
	if (c->reverts_disks && (!c->saved || c->takes_changed_disks))
		return err_set(err, -EINVAL, "revert_disks: only with --restore, and not with --changed-disks");
	return 0;
}

int config_validate(const struct config *c, struct err *err)
{
	int r = config_check_basics(c, err);

	if (!r)
		r = config_check_control(c, err);

	if (!r)
		r = config_check_boot(c, err);
	if (!r)
		r = config_check_disks(c, err);
	for (unsigned i = 0; !r && i < c->n_cdroms; i++)
		r = config_check_cdrom(c, i, err);
	for (unsigned i = 0; !r && i < c->n_nets; i++) {
		r = config_check_net_name(c, i, err);
		if (!r)
			r = config_check_net(c, i, err);
	}
	return r ? r : config_check_consoles(c, err);
}
