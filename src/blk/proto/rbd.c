/* SPDX-License-Identifier: Apache-2.0 */
/* rbd.c - disks of a Ceph cluster, over librbd: rbd://POOL/IMAGE.
 *
 * The cluster and the key to it are named by Ceph's own configuration and key ring. librbd has threads and connections
 * of its own and makes new ones when it wants to, so it does not work in a jail; its completions come by an eventfd. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <rados/librados.h>
#include <rbd/librbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "blk/proto/proto.h"
#include "util/checked.h"

enum { RBD_POLL = 32, RBD_IO_MAX = 4 << 20 };

struct rbd {
	struct blk *b;
	rados_t cluster;
	rados_ioctx_t pool;
	rbd_image_t image;
	bool has_cluster, has_pool, has_image;
	struct blk_watch watch;
	int event_fd;
	struct proto_ready ready;
};

static const struct blk_opt rbd_open_opts[] = {
	{ "conf", BLK_OPT_STRING, NULL, "Ceph's configuration (default: where Ceph looks for it)", 0, 0, NULL },
	{ "user", BLK_OPT_STRING, "admin", "who we are there: client.USER", 0, 0, NULL },
	{ "snapshot", BLK_OPT_STRING, NULL, "this snapshot of the image, for reading", 0, 0, NULL },
	{ "timeout", BLK_OPT_NUMBER, "30", "seconds that the cluster may be silent", 1, 3600, NULL },
	{ .name = NULL },
};

/* --- requests ----------------------------------------------------------------------------------- */

struct rbd_call { struct proto_wait wait; rbd_completion_t done; };

static void rbd_event(struct loop_fd *h, unsigned events)
{
	struct rbd *n = container_of(container_of(h, struct blk_watch, h), struct rbd, watch);
	rbd_completion_t done[RBD_POLL];
	uint64_t count;
	int got;

	(void)events;
	if (read(n->event_fd, &count, sizeof(count)) < 0)
		return;
	while ((got = rbd_poll_io_events(n->image, done, RBD_POLL)) > 0) {
		for (int i = 0; i < got; i++) {
			struct rbd_call *c = rbd_aio_get_arg(done[i]);

			proto_done(&n->ready, &c->wait, rbd_aio_get_return_value(done[i]));
		}
	}
	proto_wake(&n->ready);
}

static int rbd_begin(struct rbd_call *c)
{
	*c = (struct rbd_call){ .wait = proto_wait_init() };
	return rbd_aio_create_completion(c, NULL, &c->done);
}

/* STARTED: what the library said when it was asked to begin. */
static int64_t rbd_end(struct rbd *n, struct rbd_call *c, int started)
{
	int64_t r = started < 0 ? started : proto_wait(&n->ready, &c->wait);

	rbd_aio_release(c->done);
	return r;
}

static int rbd_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct rbd *n = b->priv;
	struct rbd_call c;
	int r = rbd_begin(&c);

	if (r < 0)
		return r;
	int64_t got = rbd_end(n, &c, rbd_aio_read(n->image, off, len, v.iov->iov_base, c.done));

	return got < 0 ? (int)got : (uint64_t)got == len ? 0 : -EIO;
}

static int rbd_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct rbd *n = b->priv;
	struct rbd_call c;
	int r = rbd_begin(&c);

	return r < 0 ? r : (int)rbd_end(n, &c, rbd_aio_write(n->image, off, len, v.iov->iov_base, c.done));
}

static int rbd_co_flush(struct blk *b)
{
	struct rbd *n = b->priv;
	struct rbd_call c;
	int r = rbd_begin(&c);

	return r < 0 ? r : (int)rbd_end(n, &c, rbd_aio_flush(n->image, c.done));
}

static int rbd_co_discard(struct blk *b, uint64_t off, uint64_t len)
{
	struct rbd *n = b->priv;
	struct rbd_call c;
	int r = rbd_begin(&c);

	return r < 0 ? r : (int)rbd_end(n, &c, rbd_aio_discard(n->image, off, len, c.done));
}

static int rbd_co_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap)
{
	struct rbd *n = b->priv;
	struct rbd_call c;
	int r = rbd_begin(&c), flags = may_unmap ? 0 : RBD_WRITE_ZEROES_FLAG_THICK_PROVISION;

	return r < 0 ? r : (int)rbd_end(n, &c, rbd_aio_write_zeroes(n->image, off, len, c.done, flags, 0));
}

/* --- opening: on a thread ------------------------------------------------------------------------- */

struct rbd_open {
	struct rbd *n;
	const struct blk_url *u;
	const struct blk_opts *opts;
	uint64_t size, object_size;
	struct err err;
};

static int rbd_open_failed(struct rbd_open *o, int r, const char *what)
{
	return err_set(&o->err, r, "cannot %s '%s': %s", what, o->u->plain, strerror(-r));
}

static int rbd_open_cluster(struct rbd_open *o)
{
	struct rbd *n = o->n;
	char seconds[16];
	int r = rados_create(&n->cluster, blk_opts_str(o->opts, "user"));

	n->has_cluster = !r;
	if (r < 0)
		return rbd_open_failed(o, r, "prepare to open");
	r = rados_conf_read_file(n->cluster, blk_opts_str(o->opts, "conf"));
	if (r < 0)
		return rbd_open_failed(o, r, "read Ceph's configuration for");
	snprintf(seconds, sizeof(seconds), "%" PRIu64, blk_opts_num(o->opts, "timeout"));
	rados_conf_set(n->cluster, "client_mount_timeout", seconds);
	rados_conf_set(n->cluster, "rados_mon_op_timeout", seconds);
	rados_conf_set(n->cluster, "rados_osd_op_timeout", seconds);
	r = rados_connect(n->cluster);
	return r < 0 ? rbd_open_failed(o, r, "connect to the cluster of") : 0;
}

static int rbd_open_image(struct rbd_open *o)
{
	const char *snapshot = blk_opts_str(o->opts, "snapshot");
	struct rbd *n = o->n;
	rbd_image_info_t info;
	int r = rados_ioctx_create(n->cluster, o->u->host, &n->pool);

	n->has_pool = !r;
	if (r < 0)
		return rbd_open_failed(o, r, "find the pool of");
	r = n->b->is_readonly ? rbd_open_read_only(n->pool, o->u->path + 1, &n->image, snapshot) :
	    rbd_open(n->pool, o->u->path + 1, &n->image, NULL);
	n->has_image = !r;
	if (r < 0)
		return rbd_open_failed(o, r, "open");
	r = rbd_stat(n->image, &info, sizeof(info));
	if (!r)
		r = rbd_set_image_notification(n->image, n->event_fd, EVENT_TYPE_EVENTFD);
	if (r < 0)
		return rbd_open_failed(o, r, "examine");
	o->size = info.size;
	o->object_size = info.obj_size;
	return 0;
}

static int64_t rbd_open_run(void *arg)
{
	struct rbd_open *o = arg;
	int r = rbd_open_cluster(o);

	return r ? r : rbd_open_image(o);
}

static int rbd_check(const struct blk *b, const struct blk_url *u, const struct blk_opts *opts, struct err *err)
{
	const char *name = u->path[0] ? u->path + 1 : "";

	if (!u->host[0] || !name[0] || strchr(name, '/') || u->port || u->query || u->user[0])
		return err_set(err, -EINVAL, "'%s' is no address of a Ceph disk: rbd://POOL/IMAGE", u->plain);
	if (blk_opts_str(opts, "snapshot") && !b->is_readonly)
		return err_set(err, -EROFS, "a snapshot can only be read: open '%s' with readonly=on", u->plain);
	return 0;
}

static int rbd_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	AUTO(blk_url_fini) struct blk_url u = { 0 };
	struct rbd *n = b->priv;
	struct rbd_open o = { .n = n, .u = &u, .opts = opts, .err = ERR_INIT };
	int r = blk_url_parse(&u, b->opening->path, err);

	n->b = b;
	n->event_fd = -1;
	if (!r)
		r = rbd_check(b, &u, opts, err);
	if (r < 0)
		return r;
	n->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = n->event_fd < 0 ? -errno : blk_watch_add(b, &n->watch, n->event_fd, LOOP_IN, rbd_event);
	if (r < 0) {
		if (n->event_fd >= 0)
			close(n->event_fd);
		n->event_fd = -1;
		return err_set(err, r, "cannot make an event: %s", strerror(-r));
	}
	r = (int)blk_co_call(b, rbd_open_run, &o);
	if (r < 0)
		return err_set(err, r, "%s", o.err.msg);
	b->size = o.size;
	b->io_max = RBD_IO_MAX;
	b->can_discard = !b->is_readonly;
	return 0;
}

static int64_t rbd_close_run(void *arg)
{
	struct rbd *n = arg;

	if (n->has_image)
		rbd_close(n->image);
	if (n->has_pool)
		rados_ioctx_destroy(n->pool);
	if (n->has_cluster)
		rados_shutdown(n->cluster);
	return 0;
}

static void rbd_co_close(struct blk *b)
{
	struct rbd *n = b->priv;

	blk_co_call(b, rbd_close_run, n);
	if (n->event_fd >= 0) {
		blk_watch_del(b, &n->watch);
		close(n->event_fd);
	}
}

static const struct blk_driver rbd_driver = {
	.name = "rbd",
	.title = "a disk of a Ceph cluster",
	.flags = BLK_DRIVER_PROTOCOL,
	.priv_size = sizeof(struct rbd),
	.open_opts = rbd_open_opts,
	.co_open = rbd_co_open,
	.co_close = rbd_co_close,
	.co_preadv = rbd_co_preadv,
	.co_pwritev = rbd_co_pwritev,
	.co_flush = rbd_co_flush,
	.co_discard = rbd_co_discard,
	.co_zeroes = rbd_co_zeroes,
	.submit = blk_proto_submit,
};

BLK_PLUGIN(rbd_driver);
