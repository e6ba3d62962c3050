/* SPDX-License-Identifier: Apache-2.0 */
/* The files, sockets and interfaces of devices that are plugged, opened by the client: the machine in its jail opens nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "blk/url.h"
#include "net/net.h"
#include "util/checked.h"
#include "util/unixsock.h"
#include "vm/ctl_priv.h"
#include "vm/plug.h"
#include "vm/vsock_host.h"

/* As KEY. Whoever opens it after a restore may stand in another folder. */
static int plug_say_path(const char *path, const char *key, json_t *params, struct err *err)
{
	AUTO(free) char *real = realpath(path, NULL);
	json_t *v = real ? json_string(real) : NULL;

	if (!v || json_object_set_new_nocheck(params, key, v) < 0)
		return err_set(err, -EINVAL, "cannot tell the path of '%s' in UTF-8", path);
	return 0;
}

/* An address is left to the machine. */
static int plug_open_image(const char *path, bool is_readonly, const char *key, json_t *params, int *fd, struct err *err)
{
	if (blk_url_is(path))
		return 0;
	path += strncmp(path, "file:", 5) ? 0 : 5;
	AUTO_FD int own = open(path, (is_readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);

	if (own < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	int r = plug_say_path(path, key, params, err);

	if (!r)
		*fd = take_fd(&own);
	return r;
}

static int plug_open_disk(const struct config_disk *d, json_t *params, int *fd, struct err *err)
{
	return plug_open_image(d->path ? d->path : "", d->is_readonly, "image-path", params, fd, err);
}

int ctl_medium_open(json_t *params, int *fd, struct err *err)
{
	AUTO(free) char *path = strdup(control_get_string(params, "path", ""));

	return path ? plug_open_image(path, true, "path", params, fd, err) : err_set(err, -ENOMEM, "out of memory");
}

static int plug_open_net(const struct config_net *n, int *fd, struct err *err)
{
	struct net_forward forward[CONFIG_FORWARDS_MAX];

	if (!n->kind || !strcmp(n->kind, "none"))
		return 0;
	int r = config_net_forwards(n, forward, err);
	if (r >= 0)
		r = strcmp(n->kind, "tap") ? net_open_user(forward, (unsigned)r, err) : net_open_tap(n->ifname, err);

	if (r < 0)
		return r;
	*fd = r;
	return 0;
}

/* A socket is made here, and its name is removed by 'ctl unplug'. */
static int plug_open_console(const struct config_console *c, json_t *params, int *fd, char **made, struct err *err)
{
	const char *t = c->target ? c->target : "", *path = strchr(t, ':') ? strchr(t, ':') + 1 : t;
	AUTO_FD int own = -1;

	if (!strncmp(t, "socket:", 7)) {
		own = unixsock_listen(path, 0, 1, err);
		if (own < 0)
			return own;
		*made = strdup(path);
	} else if (!strncmp(t, "file:", 5)) {
		own = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
		if (own < 0)
			return err_set(err, -errno, "cannot open console file '%s': %s", path, strerror(errno));
	} else {
		return 0;       /* none; what else there may be is refused */
	}
	int r = plug_say_path(path, "image-path", params, err);

	if (!r)
		*fd = take_fd(&own);
	return r;
}

/* The same. */
static int plug_open_vsock(json_t *params, int *fd, char **made, struct err *err)
{
	char path[UNIXSOCK_PATH_MAX + 1];
	uint64_t cid;
	int r = plug_parse_vsock(control_get_string(params, "settings", ""), path, &cid, err);
	AUTO_FD int own = r < 0 ? r : vsock_host_listen(path, err);

	if (own < 0)
		return own;
	*made = strdup(path);
	r = plug_say_path(path, "image-path", params, err);
	if (!r)
		*fd = take_fd(&own);
	return r;
}

static const struct {
	const char *word, *arg;
} plug_kinds[] = { { "disk", "--disk" }, { "cdrom", "--cdrom" }, { "net", "--net" }, { "console", "--console" } };

static int plug_open(const struct config *c, const char *kind, json_t *params, int *fd, char **made, struct err *err)
{
	if (!strcmp(kind, "disk"))
		return plug_open_disk(&c->disks[0], params, fd, err);
	if (!strcmp(kind, "cdrom"))
		return c->cdroms[0].path ? plug_open_image(c->cdroms[0].path, true, "image-path", params, fd, err) : 0;
	return !strcmp(kind, "net") ? plug_open_net(&c->nets[0], fd, err) : plug_open_console(&c->consoles[0], params, fd, made, err);
}

int ctl_plug_open(json_t *params, int *fd, char **made, struct err *err)
{
	const char *kind = control_get_string(params, "type", ""), *settings = control_get_string(params, "settings", "");
	const char *arg = NULL;
	struct config c;
	int r = config_init(&c, err);

	*fd = -1;
	for (unsigned i = 0; i < ARRAY_LEN(plug_kinds); i++)
		if (!strcmp(plug_kinds[i].word, kind))
			arg = plug_kinds[i].arg;
	if (!r && arg)
		r = config_set(&c, arg, settings, err);
	if (!r && arg)
		r = plug_open(&c, kind, params, fd, made, err);
	else if (!r && !strcmp(kind, "vsock"))
		r = plug_open_vsock(params, fd, made, err);
	config_fini(&c);
	return r;
}

/* Does one in the list KEY of INFO have that name? */
static bool plug_has_name(const json_t *info, const char *key, const char *name)
{
	json_t *one;
	size_t i;

	json_array_foreach(json_object_get(info, key), i, one) {
		const char *its = json_string_value(json_object_get(one, "name"));

		if (its && !strcmp(its, name))
			return true;
	}
	return false;
}

/* Add the sockets of the consoles of DEVICE, or of those that are its ports. */
static void plug_console_sockets(const json_t *info, const char *device, json_t *paths)
{
	static const char prefix[] = "socket:";
	bool is_hvc = !strcmp(device, "hvc");
	json_t *c;
	size_t i;

	json_array_foreach(json_object_get(info, "consoles"), i, c) {
		const char *id = json_string_value(json_object_get(c, "id")), *t = json_string_value(json_object_get(c, "target"));
		const char *kind = json_string_value(json_object_get(c, "device"));
		bool is_its = id ? !strcmp(id, device) : is_hvc && kind && !strcmp(kind, "virtio");

		if (is_its && t && !strncmp(t, prefix, strlen(prefix)))
			json_array_append_new(paths, json_string(t + strlen(prefix)));
	}
}

json_t *ctl_plug_sockets(const char *socket, const char *device)
{
	json_t *info = NULL, *paths = json_array();

	if (ctl_ask(socket, "info", NULL, -1, &info, NULL) < 0)
		return paths;
	/* Others may be called as those of which there is one. */
	if (!plug_has_name(info, "disks", device) && !plug_has_name(info, "cdroms", device) && !plug_has_name(info, "nets", device)) {
		json_t *path = json_object_get(json_object_get(info, "vsock"), "path");

		plug_console_sockets(info, device, paths);
		if (path && !strcmp(device, "vsock"))
			json_array_append(paths, path);
	}
	json_decref(info);
	return paths;
}
