/* SPDX-License-Identifier: Apache-2.0 */
/* nbd.c - disks of NBD servers, over libnbd: nbd://HOST[:PORT]/EXPORT, nbds:// with TLS,
 * nbd+unix:///EXPORT?socket=PATH.
 *
 * The connection is served by its descriptor in the loop. It is lost when it ends, or when the server's host confirms nothing
 * for a while (the kernel ends it then). When it is lost, commands wait while it is made anew, for a
 * bounded time, and are sent again: all of them may be done twice. Sockets come from a dialer (dial.h), so that this
 * works in a jail, too. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <libnbd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "blk/proto/dial.h"
#include "blk/proto/proto.h"
#include "util/checked.h"
#include "util/log.h"

enum {
	NBD_PORT_DEFAULT = 10809,
	NBD_STEP_MS = 10000,            /* of the handshake: how long the server may be silent, if "timeout" is no less */
	NBD_PAUSE_MS = 500,             /* between tries */
	NBD_TRIES = 3,                  /* of one command */
	NBD_GIVEN_UP_NS = 5000000000ll, /* after a failed reconnection: commands fail at once for so long */
	NBD_RANGE_MAX = 1 << 30,        /* bytes to zero or discard in one command */
	NBD_STATUS_MAX = 1 << 30,
};
#define NBD_CONTEXT "base:allocation"

struct nbd {
	struct blk *b;
	struct nbd_handle *h;
	struct blk_watch watch;
	bool is_watched;
	struct proto_ready ready;
	struct blk_dialer *dialer;
	char *export_name;
	bool has_tls;
	char *certificates, *psk_file, *tls_host, *tls_user;    /* NULL: none */
	char tls_port[8];
	unsigned reconnect_s, timeout_s;
	int step_ms;
	struct co_mutex lock;           /* one reconnection at a time */
	unsigned generation;            /* of connections */
	uint64_t given_up_ns;           /* until then nothing is tried; 0: all is well */
	bool has_unflushed;             /* writes that no flush has covered */
};

static const struct blk_opt nbd_open_opts[] = {
	{ "reconnect", BLK_OPT_NUMBER, "30", "seconds to try to connect anew when the connection is lost", 0, 86400,
	  NULL },
	{ "timeout", BLK_OPT_NUMBER, "20", "seconds of silence after which the server's host is taken for gone (TCP)", 1, 3600, NULL },
	{ "tls-certificates", BLK_OPT_STRING, NULL, "nbds: folder with ca-cert.pem, client-cert.pem, client-key.pem",
	  0, 0, NULL },
	{ "tls-psk-file", BLK_OPT_STRING, NULL, "nbds: file of the key that both sides share", 0, 0, NULL },
	{ .name = NULL },
};

/* --- connecting: on a thread -------------------------------------------------------------------- */

struct nbd_connect {
	struct nbd *n;
	struct nbd_handle *h;           /* made */
	unsigned seconds;               /* to go on trying */
	char why[300];
};

static int nbd_failed(struct nbd_connect *c)
{
	int e = nbd_get_errno();

	snprintf(c->why, sizeof(c->why), "%s", nbd_get_error());
	return e ? -e : -EIO;
}

static int nbd_prepare(struct nbd_connect *c, struct nbd_handle *h)
{
	const struct nbd *n = c->n;
	bool is_good = !nbd_set_export_name(h, n->export_name) && !nbd_add_meta_context(h, NBD_CONTEXT);

	if (n->has_tls && nbd_supports_tls(h) != 1) {
		snprintf(c->why, sizeof(c->why), "it needs TLS, and this libnbd was built without");
		return -ENOTSUP;
	}
	if (is_good && n->has_tls)
		is_good = !nbd_set_tls(h, LIBNBD_TLS_REQUIRE) && !nbd_set_tls_verify_peer(h, true) &&
			  (!n->certificates || !nbd_set_tls_certificates(h, n->certificates)) &&
			  (!n->psk_file || !nbd_set_tls_psk_file(h, n->psk_file)) &&
			  (!n->tls_user || !nbd_set_tls_username(h, n->tls_user));
	return is_good ? 0 : nbd_failed(c);
}

/* The library compares a certificate with the name of the host only when it connects itself. */
static int nbd_begin(struct nbd_connect *c, struct nbd_handle *h)
{
	if (c->n->certificates)
		return nbd_aio_connect_tcp(h, c->n->tls_host, c->n->tls_port) < 0 ? nbd_failed(c) : 0;
	int fd = blk_dialer_connect(c->n->dialer, c->n->step_ms);

	if (fd < 0) {
		snprintf(c->why, sizeof(c->why), "%s", strerror(-fd));
		return fd;
	}
	return nbd_aio_connect_socket(h, fd) < 0 ? nbd_failed(c) : 0;
}

static int nbd_handshake(struct nbd_connect *c, struct nbd_handle *h)
{
	int r = nbd_begin(c, h);

	if (r < 0)
		return r;
	while (nbd_aio_is_connecting(h) == 1) {
		r = nbd_poll(h, c->n->step_ms);
		if (r < 0)
			return nbd_failed(c);
		if (!r) {
			snprintf(c->why, sizeof(c->why), "the server says nothing");
			return -ETIMEDOUT;
		}
	}
	if (nbd_aio_is_ready(h) != 1)
		return nbd_failed(c);
	if (c->n->certificates)
		blk_dialer_keep(nbd_aio_get_fd(h), c->n->timeout_s);
	return 0;
}

static int nbd_try(struct nbd_connect *c)
{
	struct nbd_handle *h = nbd_create();
	int r = h ? nbd_prepare(c, h) : nbd_failed(c);

	if (!r)
		r = nbd_handshake(c, h);
	if (r < 0)
		nbd_close(h);
	else
		c->h = h;
	return r;
}

static int64_t nbd_connect_run(void *arg)
{
	struct nbd_connect *c = arg;
	uint64_t deadline = loop_now_ns() + c->seconds * 1000000000ull;
	int r = nbd_try(c);

	while (r < 0 && loop_now_ns() < deadline) {
		usleep(NBD_PAUSE_MS * 1000);
		r = nbd_try(c);
	}
	return r;
}

/* --- events ------------------------------------------------------------------------------------- */

static void nbd_unwatch(struct nbd *n)
{
	if (n->is_watched)
		blk_watch_del(n->b, &n->watch);
	n->is_watched = false;
}

static bool nbd_is_lost(const struct nbd *n)
{
	return !n->h || nbd_aio_is_dead(n->h) == 1 || nbd_aio_is_closed(n->h) == 1;
}

/* After every call into the library: what to wait for may have changed. */
static void nbd_update(struct nbd *n)
{
	unsigned dir, events;

	if (!n->is_watched)
		return;
	if (nbd_is_lost(n)) {
		nbd_unwatch(n);
		return;
	}
	dir = nbd_aio_get_direction(n->h);
	events = (dir & LIBNBD_AIO_DIRECTION_READ ? LOOP_IN : 0u) | (dir & LIBNBD_AIO_DIRECTION_WRITE ? LOOP_OUT : 0u);
	if (events != n->watch.h.events)
		blk_watch_mod(n->b, &n->watch, events);
}

static void nbd_event(struct loop_fd *h, unsigned events)
{
	struct nbd *n = container_of(container_of(h, struct blk_watch, h), struct nbd, watch);
	unsigned dir = nbd_aio_get_direction(n->h);

	if (events & (LOOP_IN | LOOP_HUP) && dir & LIBNBD_AIO_DIRECTION_READ)
		nbd_aio_notify_read(n->h);
	else if (dir & LIBNBD_AIO_DIRECTION_WRITE)
		nbd_aio_notify_write(n->h);
	nbd_update(n);
	proto_wake(&n->ready);
}

static int nbd_watch(struct nbd *n)
{
	int r = blk_watch_add(n->b, &n->watch, nbd_aio_get_fd(n->h), LOOP_IN, nbd_event);

	n->is_watched = !r;
	return r;
}

/* --- losing the connection ---------------------------------------------------------------------- */

static int nbd_co_reconnect_locked(struct nbd *n)
{
	struct nbd_connect c = { .n = n, .seconds = n->reconnect_s };

	nbd_unwatch(n);
	log_warn("disk '%s': the connection is lost; trying for %u s to make it anew", n->b->name, n->reconnect_s);
	int r = (int)blk_co_call(n->b, nbd_connect_run, &c);

	if (!r && (uint64_t)nbd_get_size(c.h) != n->b->size) {
		snprintf(c.why, sizeof(c.why), "the disk has another size now");
		nbd_close(c.h);
		r = -EIO;
	}
	if (r < 0) {
		log_error("disk '%s': cannot connect anew: %s", n->b->name, c.why);
		n->given_up_ns = loop_now_ns() + NBD_GIVEN_UP_NS;
		return -EIO;
	}
	nbd_close(n->h);
	n->h = c.h;
	n->generation++;
	n->given_up_ns = 0;
	log_warn("disk '%s' is connected again%s", n->b->name, n->has_unflushed ?
		 "; if the server's machine has crashed, what it had not flushed is lost" : "");
	return nbd_watch(n);
}

static int nbd_co_reconnect(struct nbd *n, unsigned generation)
{
	int r = 0;

	co_mutex_lock(&n->lock);
	if (n->generation == generation)
		r = n->given_up_ns > loop_now_ns() || !n->reconnect_s ? -EIO : nbd_co_reconnect_locked(n);
	co_mutex_unlock(&n->lock);
	return r;
}

/* --- commands ----------------------------------------------------------------------------------- */

struct nbd_cmd {
	struct nbd *n;
	struct proto_wait wait;
	enum blk_op op;
	void *buf;
	uint64_t off, len;
	uint32_t flags;
	bool is_status;
	struct blk_extent *extent;
};

static int nbd_completed(void *arg, int *error)
{
	struct nbd_cmd *c = arg;

	proto_done(&c->n->ready, &c->wait, -*error);
	return 1;                       /* the library forgets it */
}

static int nbd_extent(void *arg, const char *context, uint64_t off, uint32_t *e, size_t n, int *error)
{
	struct nbd_cmd *c = arg;
	struct blk_extent *x = c->extent;

	if (strcmp(context, NBD_CONTEXT) || off != c->off || n < 2)
		return 0;
	x->len = 0;
	for (size_t i = 0; i + 1 < n && (!i || (e[i + 1] & LIBNBD_STATE_ZERO) == (e[1] & LIBNBD_STATE_ZERO)); i += 2)
		x->len += e[i];
	x->flags = BLK_EXT_ALLOCATED | (e[1] & LIBNBD_STATE_ZERO ? BLK_EXT_ZERO : BLK_EXT_DATA);
	return 0;
}

static int64_t nbd_issue(struct nbd_cmd *c)
{
	nbd_completion_callback done = { .callback = nbd_completed, .user_data = c };
	nbd_extent_callback extent = { .callback = nbd_extent, .user_data = c };
	struct nbd_handle *h = c->n->h;

	if (c->is_status)
		return nbd_aio_block_status(h, c->len, c->off, extent, done, 0);
	switch (c->op) {
	case BLK_READ:
		return nbd_aio_pread(h, c->buf, c->len, c->off, done, 0);
	case BLK_WRITE:
		return nbd_aio_pwrite(h, c->buf, c->len, c->off, done, 0);
	case BLK_FLUSH:
		return nbd_aio_flush(h, done, 0);
	case BLK_DISCARD:
		return nbd_aio_trim(h, c->len, c->off, done, 0);
	case BLK_ZEROES:
		return nbd_aio_zero(h, c->len, c->off, done, c->flags);
	}
	return -1;
}

static int nbd_co_once(struct nbd_cmd *c)
{
	struct nbd *n = c->n;

	c->wait = proto_wait_init();
	int64_t cookie = nbd_issue(c);
	/* One that is refused has not called back, and is no loss of the connection. */
	int e = cookie < 0 ? nbd_get_errno() : 0;

	nbd_update(n);
	return cookie < 0 && !c->wait.is_over ? (e ? -e : -EIO) : (int)proto_wait(&n->ready, &c->wait);
}

static int nbd_co_cmd(struct blk *b, struct nbd_cmd *c)
{
	int r = -EIO;

	c->n = b->priv;
	for (int i = 0; i < NBD_TRIES; i++) {
		unsigned generation = c->n->generation;

		if (!nbd_is_lost(c->n))
			r = nbd_co_once(c);
		/* Another one may have made a new connection while this waited for its end. */
		if (c->n->generation == generation && !nbd_is_lost(c->n))
			return r;
		if (!r && c->wait.is_over)
			return r;
		r = nbd_co_reconnect(c->n, generation);
		if (r < 0)
			return r;
		r = -EIO;
	}
	return r;
}

static int nbd_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct nbd_cmd c = { .op = BLK_READ, .buf = v.iov->iov_base, .off = off, .len = len };

	return nbd_co_cmd(b, &c);
}

static int nbd_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct nbd_cmd c = { .op = BLK_WRITE, .buf = v.iov->iov_base, .off = off, .len = len };

	((struct nbd *)b->priv)->has_unflushed = true;
	return nbd_co_cmd(b, &c);
}

static int nbd_co_flush(struct blk *b)
{
	struct nbd *n = b->priv;
	struct nbd_cmd c = { .op = BLK_FLUSH };

	if (nbd_can_flush(n->h) != 1)
		return 0;               /* the server keeps nothing back */
	n->has_unflushed = false;
	int r = nbd_co_cmd(b, &c);

	n->has_unflushed |= r < 0;
	return r;
}

static int nbd_co_range(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, uint32_t flags)
{
	int r = 0;

	for (uint64_t n; !r && len; off += n, len -= n) {
		n = len < NBD_RANGE_MAX ? len : NBD_RANGE_MAX;
		struct nbd_cmd c = { .op = op, .off = off, .len = n, .flags = flags };

		r = nbd_co_cmd(b, &c);
	}
	return r == -EOPNOTSUPP ? -ENOTSUP : r;
}

static int nbd_co_discard(struct blk *b, uint64_t off, uint64_t len)
{
	int r = nbd_co_range(b, BLK_DISCARD, off, len, 0);

	return r == -ENOTSUP ? 0 : r;
}

static int nbd_co_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap)
{
	struct nbd *n = b->priv;

	if (nbd_can_zero(n->h) != 1)
		return -ENOTSUP;
	n->has_unflushed = true;
	return nbd_co_range(b, BLK_ZEROES, off, len, may_unmap ? 0 : LIBNBD_CMD_FLAG_NO_HOLE);
}

static int nbd_co_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	struct nbd *n = b->priv;
	struct blk_extent found = { .len = 0 };
	struct nbd_cmd c = { .is_status = true, .off = off, .len = len < NBD_STATUS_MAX ? len : NBD_STATUS_MAX,
			     .extent = &found };

	if (nbd_can_meta_context(n->h, NBD_CONTEXT) != 1 || nbd_co_cmd(b, &c) < 0 || found.len < BLK_SECTOR)
		return 0;               /* as if all were data */
	out->flags = found.flags;
	found.len &= ~(uint64_t)(BLK_SECTOR - 1);
	out->len = found.len < len ? found.len : len;
	return 0;
}

static int nbd_co_info(struct blk *b, json_t *out, struct err *err)
{
	struct nbd *n = b->priv;

	json_object_set_new(out, "export", json_string(n->export_name));
	json_object_set_new(out, "tls", json_boolean(n->has_tls));
	json_object_set_new(out, "block-status", json_boolean(nbd_can_meta_context(n->h, NBD_CONTEXT) == 1));
	return 0;
}

/* --- opening ------------------------------------------------------------------------------------ */

static int nbd_address(struct nbd *n, const struct blk_url *u, char **socket, struct err *err)
{
	bool is_unix = !strcmp(u->scheme, "nbd+unix");
	int r = blk_url_query(u, "socket", socket, err);

	if (r < 0)
		return r;
	if (is_unix != (r == 1) || is_unix != !u->host[0])
		return err_set(err, -EINVAL, "'%s' is no address of an NBD server: nbd://HOST[:PORT]/EXPORT or "
			       "nbd+unix:///EXPORT?socket=PATH", u->plain);
	n->has_tls = !strcmp(u->scheme, "nbds");
	n->export_name = strdup(u->path[0] ? u->path + 1 : "");
	return n->export_name ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int nbd_copy(char **to, const char *from)
{
	*to = from && from[0] ? strdup(from) : NULL;
	return from && from[0] && !*to ? -ENOMEM : 0;
}

static int nbd_options(struct nbd *n, const struct blk_url *u, const struct blk_opts *o, struct err *err)
{
	bool has_tls_option = blk_opts_str(o, "tls-certificates") || blk_opts_str(o, "tls-psk-file");

	if (has_tls_option && !n->has_tls)
		return err_set(err, -EINVAL, "options of TLS need an address that begins with nbds://: '%s'", u->plain);
	if (n->has_tls && !has_tls_option)
		return err_set(err, -EINVAL, "say how to know the server of '%s': tls-certificates or tls-psk-file",
			       u->plain);
	if (blk_opts_str(o, "tls-certificates")) {
		/* libnbd goes on without what is not there, and the server says something about it that nobody understands. */
		AUTO(free) char *ca = NULL;

		if (asprintf(&ca, "%s/ca-cert.pem", blk_opts_str(o, "tls-certificates")) < 0)
			return err_set(err, -ENOMEM, "out of memory");
		if (access(ca, R_OK) < 0)
			return err_set(err, -errno, "cannot read the certificates for '%s': '%s': %s", u->plain, ca,
				       strerror(errno));
	}
	n->reconnect_s = (unsigned)blk_opts_num(o, "reconnect");
	n->timeout_s = (unsigned)blk_opts_num(o, "timeout");
	n->step_ms = n->timeout_s < NBD_STEP_MS / 1000 ? (int)n->timeout_s * 1000 : NBD_STEP_MS;
	snprintf(n->tls_port, sizeof(n->tls_port), "%u", u->port ? u->port : NBD_PORT_DEFAULT);
	if (nbd_copy(&n->certificates, blk_opts_str(o, "tls-certificates")) < 0 ||
	    nbd_copy(&n->psk_file, blk_opts_str(o, "tls-psk-file")) < 0 ||
	    nbd_copy(&n->tls_host, u->host) < 0 || nbd_copy(&n->tls_user, u->user) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

/* What the server has said about the disk. */
static int nbd_take(struct blk *b, struct nbd *n, struct err *err)
{
	int64_t size = nbd_get_size(n->h), min = nbd_get_block_size(n->h, LIBNBD_SIZE_MINIMUM),
		preferred = nbd_get_block_size(n->h, LIBNBD_SIZE_PREFERRED),
		max = nbd_get_block_size(n->h, LIBNBD_SIZE_MAXIMUM);

	if (size < 0)
		return err_set(err, -EINVAL, "the server of '%s' does not say how large it is", b->name);
	if (!b->is_readonly && nbd_is_read_only(n->h) == 1)
		return err_set(err, -EROFS, "the server gives '%s' for reading only; open it with readonly=on",
			       b->name);
	if (min > 1 && (!is_pow2((uint64_t)min) || min > 64 << 10))
		return err_set(err, -ENOTSUP, "the server of '%s' wants blocks of %" PRId64 " bytes", b->name, min);
	b->size = (uint64_t)size;
	b->io_align = min > 1 ? (unsigned)min : 1;
	b->io_max = max > 0 ? (uint64_t)max : 32 << 20;
	b->block_size = preferred >= BLK_SECTOR && preferred <= 1 << 20 && is_pow2((uint64_t)preferred) ?
			(unsigned)preferred : 4096;
	b->can_discard = !b->is_readonly && nbd_can_trim(n->h) == 1;
	return 0;
}

struct nbd_dial { struct nbd *n; const struct blk_url *u; const char *socket; struct err err; };

static int64_t nbd_dial(void *arg)
{
	struct nbd_dial *d = arg;

	struct blk_dial to = { .host = d->socket ? NULL : d->u->host, .port = d->u->port ? d->u->port : NBD_PORT_DEFAULT,
			       .path = d->socket, .silent_s = d->n->timeout_s };

	return blk_dialer_new(&d->n->dialer, &to, &d->err);
}

static int nbd_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	AUTO(blk_url_fini) struct blk_url u = { 0 };
	AUTO(free) char *socket = NULL;
	struct nbd *n = b->priv;
	struct nbd_dial d = { .n = n, .u = &u, .err = ERR_INIT };
	struct nbd_connect c = { .n = n };
	int r = blk_url_parse(&u, b->opening->path, err);

	n->b = b;
	if (!r)
		r = nbd_address(n, &u, &socket, err);
	if (!r)
		r = nbd_options(n, &u, opts, err);
	if (r < 0)
		return r;
	d.socket = socket;
	r = (int)blk_co_call(b, nbd_dial, &d);
	if (r < 0)
		return err_set(err, r, "cannot connect to '%s': %s", u.plain, d.err.msg);
	r = (int)blk_co_call(b, nbd_connect_run, &c);
	if (r < 0)
		return err_set(err, r, "cannot connect to '%s': %s", u.plain, c.why);
	n->h = c.h;
	r = nbd_watch(n);
	return r < 0 ? err_set(err, r, "cannot watch the connection to '%s': %s", u.plain, strerror(-r)) : nbd_take(b,
		n, err);
}

static void nbd_co_close(struct blk *b)
{
	struct nbd *n = b->priv;

	nbd_unwatch(n);
	if (n->h && !nbd_is_lost(n))
		nbd_aio_disconnect(n->h, 0);
	nbd_close(n->h);
	blk_dialer_free(n->dialer);
	free(n->export_name);
	free(n->certificates);
	free(n->psk_file);
	free(n->tls_host);
	free(n->tls_user);
}

static const struct blk_driver nbd_driver = {
	.name = "nbd",
	.title = "a disk of an NBD server",
	.flags = BLK_DRIVER_PROTOCOL,
	.priv_size = sizeof(struct nbd),
	.open_opts = nbd_open_opts,
	.co_open = nbd_co_open,
	.co_close = nbd_co_close,
	.co_preadv = nbd_co_preadv,
	.co_pwritev = nbd_co_pwritev,
	.co_flush = nbd_co_flush,
	.co_discard = nbd_co_discard,
	.co_zeroes = nbd_co_zeroes,
	.co_map = nbd_co_map,
	.co_info = nbd_co_info,
	.submit = blk_proto_submit,
};

BLK_PLUGIN(nbd_driver);
