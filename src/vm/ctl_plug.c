/* SPDX-License-Identifier: Apache-2.0 */
/* The files and interfaces of devices that are plugged, opened by the client: the machine in its jail opens nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "blk/url.h"
#include "net/net.h"
#include "vm/ctl_priv.h"

static int plug_open_disk(const struct config_disk *d, json_t *params, int *fd, struct err *err)
{
	const char *path = d->path ? d->path : "";

	if (blk_url_is(path))
		return 0;
	path += strncmp(path, "file:", 5) ? 0 : 5;
	AUTO_FD int own = open(path, (d->is_readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);

	if (own < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	AUTO(free) char *real = realpath(path, NULL);
	json_t *v = real ? json_string(real) : NULL;

	if (!v || json_object_set_new_nocheck(params, "image-path", v) < 0)
		return err_set(err, -EINVAL, "cannot tell the path of '%s' in UTF-8", path);
	*fd = take_fd(&own);
	return 0;
}

static int plug_open_net(const struct config_net *n, int *fd, struct err *err)
{
	if (!n->kind || strcmp(n->kind, "tap"))
		return 0;
	int r = net_open_tap(n->ifname, err);

	if (r < 0)
		return r;
	*fd = r;
	return 0;
}

int ctl_plug_open(json_t *params, int *fd, struct err *err)
{
	const char *kind = control_get_string(params, "type", ""), *settings = control_get_string(params, "settings", "");
	bool is_disk = !strcmp(kind, "disk");
	struct config c;
	int r = config_init(&c, err);

	*fd = -1;
	if (!r)
		r = config_set(&c, is_disk ? "--disk" : "--net", settings, err);
	if (!r)
		r = is_disk ? plug_open_disk(&c.disks[0], params, fd, err) : plug_open_net(&c.nets[0], fd, err);
	config_fini(&c);
	return r;
}
