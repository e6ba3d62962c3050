/* SPDX-License-Identifier: Apache-2.0 */
/* network_apply.c - makes the host as a plan says: bridge, rules, taps, in that order, so no frame passes before the rules are
 * there. Each step looks first, and may be repeated after a crash at any point. Worker threads. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "node/files.h"
#include "node/network_priv.h"
#include "node/program.h"
#include "util/err.h"
#include "util/log.h"

enum { PATH_CAP = 128 };

struct links {
	struct link *items;
	size_t n;
};

static void links_clear(struct links *l)
{
	free(l->items);
	*l = (struct links){ .n = 0 };
}

static int links_again(struct links *l, struct err *err)
{
	links_clear(l);
	return links_read(&l->items, &l->n, err);
}

/* --- settings of the kernel ---------------------------------------------------- */

static int write_setting(const char *path, const char *text, struct err *err)
{
	AUTO_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return err_set(err, -errno, "cannot write '%s' to '%s': %s", text, path, strerror(errno));
	return 0;
}

static bool reads(const char *path, char first)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	char c = 0;

	return fd >= 0 && read(fd, &c, 1) == 1 && c == first;
}

/* A host that forwards does not listen to routers any more, unless it is told to (Documentation/networking/ip-sysctl):
 * who did before goes on. */
static void keep_routers(const struct links *links)
{
	char path[PATH_CAP];

	for (size_t i = 0; i < links->n; i++) {
		snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_ra", links->items[i].name);
		if (reads(path, '1') && write_setting(path, "2", NULL) < 0)
			log_warn("'%s' may lose its IPv6 routes: '%s' cannot be written", links->items[i].name, path);
	}
}

static int allow_forwarding(const struct network_conf *c, const struct links *links, struct err *err)
{
	static const char four[] = "/proc/sys/net/ipv4/ip_forward", six[] = "/proc/sys/net/ipv6/conf/all/forwarding";
	int r = reads(four, '1') ? 0 : write_setting(four, "1", err);

	if (r < 0 || !c->six.family || !reads(six, '0'))
		return r;
	keep_routers(links);
	return write_setting(six, "1", err);
}

/* --- bridge ---------------------------------------------------- */

/* It must not be somebody else's, of whatever name. */
static int check_own(const struct network_plan *p, const struct link *k, struct err *err)
{
	if (k->alias[0] && strncmp(k->alias, p->own_prefix, strlen(p->own_prefix)) != 0)
		return err_set(err, -EEXIST, "the host's interface '%s' is '%s', and none of this node", k->name, k->alias);
	return 0;
}

static int need_own_bridge(const struct network_plan *p, struct links *links, struct err *err)
{
	const struct network_conf *c = &p->conf;
	const struct link *k = links_find(links->items, links->n, c->bridge);
	int r = k ? 0 : link_add_bridge(c->bridge, c->mac, err);

	if (!r && !k)
		r = links_again(links, err);
	if (!r && !k && !(k = links_find(links->items, links->n, c->bridge)))
		r = err_set(err, -ENODEV, "the bridge '%s' has gone again", c->bridge);
	if (!r)
		r = check_own(p, k, err);
	if (!r && (!k->is_up || strcmp(k->alias, c->alias) != 0))
		r = link_set(k->index, c->alias, 0, err);
	if (!r)
		r = link_add_address(k->index, &c->four, err);
	if (!r && c->six.family)
		r = link_add_address(k->index, &c->six, err);
	if (!r && c->type == NETWORK_NAT)
		r = allow_forwarding(c, links, err);
	return r;
}

static int need_bridge(const struct network_plan *p, struct links *links, struct err *err)
{
	const struct link *k = links_find(links->items, links->n, p->conf.bridge);

	if (p->conf.type != NETWORK_BRIDGE)
		return need_own_bridge(p, links, err);
	if (!k)
		return err_set(err, -ENODEV, "the host has no interface '%s'; make the bridge, or delete this network", p->conf.bridge);
	return !k->is_bridge ? err_set(err, -EINVAL, "the host's interface '%s' is no bridge", p->conf.bridge) : 0;
}

/* --- rules ---------------------------------------------------- */

static int run_nft(const char *text, struct err *err)
{
	AUTO(free) char *nft = NULL;
	int r = program_find(&nft, "nft", "nftables", err);
	char *argv[] = { nft, (char[]){ "-f" }, (char[]){ "-" }, NULL };

	return r < 0 ? r : program_run(argv, text, NULL, NULL, err);
}

/* Are the tables there that P has? */
static bool has_tables(const struct network_plan *p)
{
	AUTO(free) char *nft = NULL;
	AUTO(free) char *said = NULL;
	char line[NETWORK_TABLE_LEN + 16];
	size_t len;

	if (program_find(&nft, "nft", "nftables", NULL) < 0)
		return false;
	char *argv[] = { nft, (char[]){ "list" }, (char[]){ "tables" }, NULL };
	if (program_run(argv, NULL, &said, &len, NULL) < 0)
		return false;
	snprintf(line, sizeof(line), "table bridge %s\n", p->conf.table);
	bool has_bridge = strstr(said, line);
	snprintf(line, sizeof(line), "table inet %s\n", p->conf.table);
	return has_bridge && (!p->conf.four.family || strstr(said, line));
}

/* --- taps ---------------------------------------------------- */

static int need_tap(const struct network_plan *p, const struct network_port *port, int bridge, struct links *links,
		    struct err *err)
{
	const struct link *k = links_find(links->items, links->n, port->ifname);
	char path[PATH_CAP];
	int r = 0;

	if (!k) {
		r = link_add_tap(port->ifname, p->conf.alias, err);
		if (!r)
			r = links_again(links, err);
		k = r < 0 ? NULL : links_find(links->items, links->n, port->ifname);
		if (!r && !k)
			r = err_set(err, -ENODEV, "the tap '%s' has gone again", port->ifname);
	}
	if (!r)
		r = check_own(p, k, err);
	if (r < 0 || (k->is_up && k->master == bridge && !strcmp(k->alias, p->conf.alias)))
		return r;
	/* The host itself has no business on that cable. */
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", port->ifname);
	(void)write_setting(path, "1", NULL);
	return link_set(k->index, p->conf.alias, bridge, err);
}

static bool is_others(const struct network_plan *p, const char *ifname)
{
	for (size_t i = 0; i < p->n_others; i++)
		if (!strcmp(p->others[i], ifname))
			return true;
	return false;
}

/* Taps of this network that nobody wants. */
static int drop_taps(const struct network_plan *p, const struct links *links, struct err *err)
{
	int r = 0;

	for (size_t i = 0; !r && i < links->n; i++) {
		const struct link *k = &links->items[i];

		if (!strcmp(k->alias, p->conf.alias) && strcmp(k->name, p->conf.bridge) != 0 && !network_plan_port(p, k->name) &&
		    !is_others(p, k->name))
			r = link_delete(k->name, err);
	}
	return r;
}

/* --- the whole ---------------------------------------------------- */

int network_apply(const struct network_plan *p, bool has_changed, struct err *err)
{
	struct links links = { .n = 0 };
	int r = links_again(&links, err), bridge;

	if (!r)
		r = files_make_dir(p->dir, err);
	if (!r)
		r = need_bridge(p, &links, err);
	const struct link *k = r < 0 ? NULL : links_find(links.items, links.n, p->conf.bridge);
	bridge = k ? k->index : 0;
	if (!r && (has_changed || !has_tables(p)))
		r = run_nft(p->rules, err);
	for (size_t i = 0; !r && i < p->n_ports; i++)
		r = need_tap(p, &p->ports[i], bridge, &links, err);
	if (!r)
		r = drop_taps(p, &links, err);
	links_clear(&links);
	return r;
}

/* Of the network, or its bridge, made by a daemon that was killed before it could write into it whose it is. */
static bool is_of(const struct network_conf *c, const struct link *k)
{
	return !strcmp(k->alias, c->alias) || (c->type != NETWORK_BRIDGE && !k->alias[0] && !strcmp(k->name, c->bridge));
}

int network_remove(const struct network_conf *conf, const char *dir, struct err *err)
{
	struct links links = { .n = 0 };
	int r = links_again(&links, err);

	for (size_t i = 0; !r && i < links.n; i++)
		if (is_of(conf, &links.items[i]))
			r = link_delete(links.items[i].name, err);
	AUTO(free) char *rules = network_no_rules(conf);
	if (!r)
		r = rules ? run_nft(rules, err) : err_set(err, -ENOMEM, "out of memory");
	if (!r)
		r = files_remove(dir, err);
	links_clear(&links);
	return r;
}
