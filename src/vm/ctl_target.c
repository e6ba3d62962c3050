/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_target.c - a process that connects to an NBD server for a machine, which may not: now and when a connection is lost. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "blk/nbd_socket.h"
#include "blk/proto/dial.h"
#include "blk/url.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "vm/ctl_priv.h"

enum { NBD_PORT = 10809 };

static int target_dial(const struct blk_url *u, struct err *err)
{
	struct blk_dialer *d = NULL;
	AUTO(free) char *socket = NULL;
	bool is_unix = !strcmp(u->scheme, "nbd+unix");
	int r = blk_url_query(u, "socket", &socket, err);

	if (r < 0)
		return r;
	if (is_unix != (r == 1) || is_unix != !u->host[0])
		return err_set(err, -EINVAL, "'%s' is no address of an NBD server: nbd://HOST[:PORT]/EXPORT or "
			       "nbd+unix:///EXPORT?socket=PATH", u->plain);
	r = blk_dialer_new(&d, &(struct blk_dial){ .host = is_unix ? NULL : u->host, .port = u->port ? u->port : NBD_PORT,
						   .path = socket }, err);
	return r < 0 ? r : blk_dialer_part(d);
}

int ctl_target_connect(const char *address, struct err *err)
{
	AUTO(blk_url_fini) struct blk_url u = { 0 };
	int r = blk_nbd_socket_check(address, err);

	if (!r)
		r = blk_url_parse(&u, address, err);
	return r < 0 ? r : target_dial(&u, err);
}
