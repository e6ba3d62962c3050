/* SPDX-License-Identifier: Apache-2.0 */
/* plugin.c - which protocol an address has, and the plug-in that speaks it.
 *
 * Plug-ins stay loaded: libraries behind them have threads and state that do not survive unloading. */
#include "blk/core_priv.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "blk/proto/dial.h"
#include "blk/proto/proto.h"
#include "util/checked.h"

/* Functions of proto.h that only plug-ins call: here, so that they are linked. */
__attribute__((used)) static const void *const plugin_needs[] = { (void *)blk_proto_submit, (void *)blk_dialer_new };

static const struct { const char *scheme, *plugin; } protos[] = {
	{ "nbd", "nbd" }, { "nbds", "nbd" }, { "nbd+unix", "nbd" },
	{ "http", "http" }, { "https", "http" },
	{ "nfs", "nfs" }, { "iscsi", "iscsi" }, { "rbd", "rbd" },
};

const char *blk_proto_scheme(unsigned i)
{
	return i < ARRAY_LEN(protos) ? protos[i].scheme : NULL;
}

/* Where NAME's plug-in is. VIV_PLUGINS is for programs that are not installed, as in tests. */
static void plugin_path(char *path, size_t cap, const char *name)
{
	const char *dir = getenv("VIV_PLUGINS");

	snprintf(path, cap, "%s/viv-blk-%s.so", dir ? dir : VIV_PLUGIN_DIR, name);
}

bool blk_proto_is_installed(unsigned i)
{
	char path[4096];

	plugin_path(path, sizeof(path), protos[i].plugin);
	return !access(path, R_OK);
}

static const char *plugin_find(const char *scheme, struct err *err)
{
	char known[128] = "";

	for (size_t i = 0; i < ARRAY_LEN(protos); i++) {
		size_t n = strlen(known);

		if (!strcmp(protos[i].scheme, scheme))
			return protos[i].plugin;
		snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "", protos[i].scheme);
	}
	err_set(err, -ENOTSUP, "protocol '%s' is not known; known are: %s", scheme, known);
	return NULL;
}

struct plugin_load {
	const char *scheme;
	const struct blk_driver *drv;
	struct err err;
};

static int64_t plugin_load(void *arg)
{
	struct plugin_load *l = arg;
	const char *name = plugin_find(l->scheme, &l->err);
	char path[4096];

	if (!name)
		return -ENOTSUP;
	plugin_path(path, sizeof(path), name);
	if (access(path, F_OK) < 0)
		return err_set(&l->err, -ENOTSUP, "protocol '%s' needs the plug-in '%s', which is not installed",
			       l->scheme,
			       path);
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		return err_set(&l->err, -ENOTSUP, "cannot load the plug-in of protocol '%s': %s", l->scheme, dlerror());
	const struct blk_plugin *p = dlsym(handle, "viv_blk_plugin");

	if (!p || p->abi != BLK_PROTO_ABI || strcmp(p->version, VIV_VERSION))
		return err_set(&l->err, -ENOTSUP, "the plug-in '%s' is of another version than this program", path);
	l->drv = p->drv;
	return 0;
}

/* Libraries run code when they are loaded, some of it with more stack than a coroutine has. */
static int plugin_co_load(const struct blk_driver **out, struct blk_ctx *c, const char *scheme, struct err *err)
{
	struct plugin_load l = { .scheme = scheme, .err = ERR_INIT };
	struct blk in = { .ctx = c };
	int r = (int)blk_co_call(&in, plugin_load, &l);

	if (r < 0)
		return err_set(err, r, "%s", l.err.msg);
	*out = l.drv;
	return 0;
}

static int plugin_co_open(struct blk *b, const struct blk_url *u, const struct blk_options *o, struct err *err)
{
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	struct blk_options with = *o;
	int r = blk_opts_init(&opts, b->drv->open_opts, err);

	if (!r && u->options)
		r = blk_opts_parse(&opts, u->options, err);
	if (r < 0)
		return err_wrap(err, r, "options of '%s'", u->plain);
	if (!b->is_readonly && !b->drv->co_pwritev)
		return err_set(err, -EROFS, "disks at '%s' addresses can only be read: open '%s' with readonly=on, "
			       "or as the "
			       "backing image of another", u->scheme, u->plain);
	with.path = u->plain;
	b->opening = &with;
	r = b->drv->co_open(b, &opts, err);
	b->opening = NULL;
	b->is_open = !r;
	b->may_grow = true;
	if (!b->block_size)
		b->block_size = 4096;
	return r;
}

int blk_proto_co_open(struct blk **out, struct blk_ctx *c, const struct blk_options *o, struct err *err)
{
	AUTO(blk_url_fini) struct blk_url u = { 0 };
	const struct blk_driver *drv = NULL;
	struct blk *b = NULL;
	int r = blk_url_parse(&u, o->path, err);

	if (!r)
		r = plugin_co_load(&drv, c, u.scheme, err);
	if (!r)
		r = blk_node_new(&b, c, drv, u.plain, o, err);
	if (r < 0)
		return r;
	r = plugin_co_open(b, &u, o, err);
	if (r < 0)
		blk_co_close(b);
	else
		*out = b;
	return r;
}
