/* SPDX-License-Identifier: Apache-2.0 */
/* nfs.c - disks that are files on NFS servers, over libnfs: nfs://HOST[:PORT]/FOLDER/FILE.
 *
 * Version 4 (RFC 7530) or 3 (RFC 1813). The folder of the file is what is mounted. A file that is written is locked
 * with version 4; version 3 has no locks here. libnfs connects anew by itself, which a jail forbids: then, errors. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <nfsc/libnfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include "blk/proto/events.h"
#include "util/checked.h"

enum { NFS_PORT = 2049, NFS_RETRIES = 5, NFS_TIMEOUT_MS = 30000, NFS_TICK_S = 1, NFS_IO_MAX = 1 << 20,
       NFS_WRITE_MIN = 512 };

struct nfs {
	struct blk *b;
	struct nfs_context *c;
	struct nfsfh *file;
	struct proto_poll poll;
	struct proto_ready ready;
	unsigned version;
	bool is_locked;
	uint64_t write_max;             /* bytes that the library takes in one write */
};

static const struct blk_opt nfs_open_opts[] = {
	{ "version", BLK_OPT_NUMBER, "4", "3 or 4", 3, 4, NULL },
	{ "uid", BLK_OPT_NUMBER, NULL, "user to be on the server (default: as this process)", 0, UINT32_MAX, NULL },
	{ "gid", BLK_OPT_NUMBER, NULL, "group to be on the server", 0, UINT32_MAX, NULL },
	{ .name = NULL },
};

/* --- events ------------------------------------------------------------------------------------- */

static int nfs_poll_fd(void *lib) { return nfs_get_fd(((struct nfs *)lib)->c); }
static int nfs_poll_events(void *lib) { return nfs_which_events(((struct nfs *)lib)->c); }

static void nfs_poll_serve(void *lib, int revents)
{
	struct nfs *n = lib;

	if (revents || nfs_queue_length(n->c))
		(void)nfs_service(n->c, revents);
}

/* --- requests ----------------------------------------------------------------------------------- */

struct nfs_call {
	struct nfs *n;
	struct proto_wait wait;
	void *into;                     /* reading: where to */
	uint64_t len;
};

static void nfs_done(int status, struct nfs_context *c, void *data, void *arg)
{
	struct nfs_call *call = arg;

	(void)c;
	if (call->into && status > 0)
		memcpy(call->into, data, (uint64_t)status < call->len ? (size_t)status : call->len);
	proto_done(&call->n->ready, &call->wait, status);
}

/* STARTED: what the library said when it was asked to begin. */
static int64_t nfs_co_wait(struct nfs_call *c, int started)
{
	if (started < 0)
		return -EIO;
	proto_poll_update(&c->n->poll);
	return proto_wait(&c->n->ready, &c->wait);
}

static struct nfs_call nfs_call(struct blk *b, void *into, uint64_t len)
{
	return (struct nfs_call){ .n = b->priv, .wait = proto_wait_init(), .into = into, .len = len };
}

static int nfs_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	uint8_t *to = v.iov->iov_base;

	while (len) {
		struct nfs_call c = nfs_call(b, to, len);
		int64_t got = nfs_co_wait(&c, nfs_pread_async(c.n->c, c.n->file, off, len, nfs_done, &c));

		if (got <= 0 || (uint64_t)got > len)
			return got < 0 ? (int)got : -EIO;
		to += got;
		off += (uint64_t)got;
		len -= (uint64_t)got;
	}
	return 0;
}

static int nfs_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	const uint8_t *from = v.iov->iov_base;

	while (len) {
		struct nfs_call c = nfs_call(b, NULL, 0);
		uint64_t piece = len < c.n->write_max ? len : c.n->write_max;
		int started = nfs_pwrite_async(c.n->c, c.n->file, off, piece, from, nfs_done, &c);

		/* libnfs 4.0.0 has buffers for small writes only with version 4, and says so by refusing. */
		if (started < 0 && piece > NFS_WRITE_MIN) {
			c.n->write_max = piece / 2;
			continue;
		}
		int64_t done = nfs_co_wait(&c, started);

		if (done <= 0 || (uint64_t)done > piece)
			return done < 0 ? (int)done : -EIO;
		from += done;
		off += (uint64_t)done;
		len -= (uint64_t)done;
	}
	if (off > b->size)
		b->size = off;
	return 0;
}

static int nfs_co_flush(struct blk *b)
{
	struct nfs_call c = nfs_call(b, NULL, 0);

	return (int)nfs_co_wait(&c, nfs_fsync_async(c.n->c, c.n->file, nfs_done, &c));
}

static int nfs_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	struct nfs_call c = nfs_call(b, NULL, 0);
	int r = (int)nfs_co_wait(&c, nfs_ftruncate_async(c.n->c, c.n->file, size, nfs_done, &c));

	if (prealloc == BLK_PREALLOC_FALLOC || prealloc == BLK_PREALLOC_FULL)
		return err_set(err, -ENOTSUP, "space cannot be reserved at '%s'", b->name);
	if (r < 0)
		return err_set(err, r, "cannot make '%s' %" PRIu64 " bytes long: %s", b->name, size, strerror(-r));
	b->size = size;
	return 0;
}

static int nfs_co_info(struct blk *b, json_t *out, struct err *err)
{
	const struct nfs *n = b->priv;

	json_object_set_new(out, "nfs-version", json_integer((json_int_t)n->version));
	json_object_set_new(out, "locked", json_boolean(n->is_locked));
	return 0;
}

/* --- opening: on a thread ------------------------------------------------------------------------- */

struct nfs_open { struct nfs *n; const struct blk_url *u; const struct blk_opts *opts; struct err err; uint64_t size; };

static int nfs_open_failed(struct nfs_open *o, int r, const char *what)
{
	const char *why = nfs_get_error(o->n->c);

	return err_set(&o->err, r < 0 ? r : -EIO, "cannot %s '%s': %s", what, o->u->plain, why && why[0] ? why :
		       strerror(-r));
}

static int nfs_open_context(struct nfs_open *o)
{
	struct nfs *n = o->n;
	char args[400];
	int port = o->u->port ? o->u->port : NFS_PORT;

	n->version = (unsigned)blk_opts_num(o->opts, "version");
	n->c = nfs_init_context();
	if (!n->c)
		return err_set(&o->err, -ENOMEM, "out of memory");
	/* Ports can be given in addresses only. Of version 4 there is one; of version 3 the port mapper tells. */
	if (n->version == 4 || o->u->port) {
		snprintf(args, sizeof(args), "nfs://%s/?version=%u&nfsport=%d", o->u->host, n->version, port);
		struct nfs_url *url = nfs_parse_url_incomplete(n->c, args);

		if (!url)
			return nfs_open_failed(o, -EINVAL, "use the address");
		nfs_destroy_url(url);
	}
	nfs_set_version(n->c, (int)n->version);
	nfs_set_timeout(n->c, NFS_TIMEOUT_MS);
	nfs_set_autoreconnect(n->c, NFS_RETRIES);
	if (blk_opts_is_set(o->opts, "uid"))
		nfs_set_uid(n->c, (int)blk_opts_num(o->opts, "uid"));
	if (blk_opts_is_set(o->opts, "gid"))
		nfs_set_gid(n->c, (int)blk_opts_num(o->opts, "gid"));
	return 0;
}

static int nfs_open_file(struct nfs_open *o)
{
	struct nfs *n = o->n;
	AUTO(free) char *dir = strdup(o->u->path);
	char *slash = dir ? strrchr(dir, '/') : NULL;
	struct nfs_stat_64 st;

	if (!dir)
		return err_set(&o->err, -ENOMEM, "out of memory");
	if (!slash || !slash[1])
		return err_set(&o->err, -EINVAL, "'%s' names no file: nfs://HOST/FOLDER/FILE", o->u->plain);
	*slash = '\0';
	int r = nfs_mount(n->c, o->u->host, dir[0] ? dir : "/");

	if (r < 0)
		return nfs_open_failed(o, r, "mount the folder of");
	*slash = '/';
	r = nfs_open(n->c, slash, n->b->is_readonly ? O_RDONLY : O_RDWR, &n->file);
	if (r < 0)
		return nfs_open_failed(o, r, "open");
	if (n->version == 4 && !n->b->is_readonly) {
		r = nfs_lockf(n->c, n->file, NFS4_F_TLOCK, 0);
		if (r == -EACCES || r == -EAGAIN || r == -EBUSY)
			return err_set(&o->err, -EBUSY, "'%s' is in use by another process; stop it, or use a copy",
				       o->u->plain);
		n->is_locked = !r;
	}
	r = nfs_fstat64(n->c, n->file, &st);
	if (r < 0)
		return nfs_open_failed(o, r, "examine");
	o->size = st.nfs_size;
	return 0;
}

static int64_t nfs_open_run(void *arg)
{
	struct nfs_open *o = arg;
	int r = nfs_open_context(o);

	return r ? r : nfs_open_file(o);
}

static int nfs_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	AUTO(blk_url_fini) struct blk_url u = { 0 };
	struct nfs *n = b->priv;
	struct nfs_open o = { .n = n, .u = &u, .opts = opts, .err = ERR_INIT };
	int r = blk_url_parse(&u, b->opening->path, err);

	n->b = b;
	if (r < 0)
		return r;
	if (u.user[0] || u.query || !u.host[0])
		return err_set(err, -EINVAL, "'%s' is no address of a file: nfs://HOST[:PORT]/FOLDER/FILE", u.plain);
	r = (int)blk_co_call(b, nfs_open_run, &o);
	if (r < 0)
		return err_set(err, r, "%s", o.err.msg);
	b->size = o.size;
	b->io_max = nfs_get_readmax(n->c) < nfs_get_writemax(n->c) ? nfs_get_readmax(n->c) : nfs_get_writemax(n->c);
	if (!b->io_max || b->io_max > NFS_IO_MAX)
		b->io_max = NFS_IO_MAX;
	n->write_max = b->io_max;
	n->poll = (struct proto_poll){ .get_fd = nfs_poll_fd, .get_events = nfs_poll_events, .serve = nfs_poll_serve, .lib = n,
					.ready = &n->ready };
	r = proto_poll_start(&n->poll, b, NFS_TICK_S);
	return r < 0 ? err_set(err, r, "cannot watch the connection to '%s': %s", u.plain, strerror(-r)) : 0;
}

static int64_t nfs_close_run(void *arg)
{
	struct nfs *n = arg;

	if (n->file)
		nfs_close(n->c, n->file);
	nfs_destroy_context(n->c);
	return 0;
}

static void nfs_co_close(struct blk *b)
{
	struct nfs *n = b->priv;

	proto_poll_stop(&n->poll);
	if (n->c)
		blk_co_call(b, nfs_close_run, n);
}

static const struct blk_driver nfs_driver = {
	.name = "nfs",
	.title = "a file on an NFS server",
	.flags = BLK_DRIVER_PROTOCOL,
	.priv_size = sizeof(struct nfs),
	.open_opts = nfs_open_opts,
	.co_open = nfs_co_open,
	.co_close = nfs_co_close,
	.co_preadv = nfs_co_preadv,
	.co_pwritev = nfs_co_pwritev,
	.co_flush = nfs_co_flush,
	.co_truncate = nfs_co_truncate,
	.co_info = nfs_co_info,
	.submit = blk_proto_submit,
};

BLK_PLUGIN(nfs_driver);
