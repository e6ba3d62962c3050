/* SPDX-License-Identifier: Apache-2.0 */
/* iscsi.c - disks of iSCSI targets, over libiscsi: iscsi://[USER@]HOST[:PORT]/TARGET-NAME/LUN.
 *
 * RFC 7143 and SBC-3. CHAP with USER and a secret from key-file or key-fd. libiscsi connects anew by itself, which a
 * jail forbids: then, errors. */
#include <errno.h>
#include <inttypes.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "blk/proto/events.h"
#include "blk/secret.h"
#include "util/checked.h"

enum { ISCSI_PORT = 3260, ISCSI_RETRIES = 5, ISCSI_TIMEOUT_S = 30, ISCSI_TICK_S = 1, ISCSI_IO_MAX = 1 << 20,
       ISCSI_LUN_MAX = 16383, ISCSI_TRIES = 4, ISCSI_BLOCKS_MAX = 1 << 16 };

struct iscsi {
	struct blk *b;
	struct iscsi_context *c;
	struct proto_poll poll;
	struct proto_ready ready;
	int lun;
	unsigned block;                 /* bytes */
	bool can_unmap, reads_zero;
	char *target;
};

static const struct blk_opt iscsi_open_opts[] = {
	BLK_SECRET_OPTS,
	{ "initiator", BLK_OPT_STRING, "iqn.2026-01.org.vivarium:initiator", "the name by which the target knows us",
	 0, 0, NULL },
	{ .name = NULL },
};

/* --- events ------------------------------------------------------------------------------------- */

static int iscsi_poll_fd(void *lib) { return iscsi_get_fd(((struct iscsi *)lib)->c); }
static int iscsi_poll_events(void *lib) { return iscsi_which_events(((struct iscsi *)lib)->c); }

/* Timeouts, and pauses between tries to connect, need calls without an event, too. */
static void iscsi_poll_serve(void *lib, int revents)
{
	(void)iscsi_service(((struct iscsi *)lib)->c, revents);
}

/* --- commands ----------------------------------------------------------------------------------- */

struct iscsi_call { struct iscsi *n; struct proto_wait wait; };

static void iscsi_done(struct iscsi_context *c, int status, void *data, void *arg)
{
	struct iscsi_call *call = arg;

	(void)c;
	(void)data;
	proto_done(&call->n->ready, &call->wait, status);
}

static int iscsi_status(int64_t status, const struct scsi_task *task)
{
	if (status == SCSI_STATUS_GOOD)
		return 0;
	if (status != SCSI_STATUS_CHECK_CONDITION)
		return status == SCSI_STATUS_BUSY || status == SCSI_STATUS_TASK_SET_FULL ? -EAGAIN :
		       status == SCSI_STATUS_RESERVATION_CONFLICT ? -EBUSY : -EIO;
	/* "Something has happened meanwhile" is told once, instead of doing the command. */
	if (task->sense.key == SCSI_SENSE_UNIT_ATTENTION)
		return -EAGAIN;
	return task->sense.key == SCSI_SENSE_ILLEGAL_REQUEST ? -ENOTSUP :
	       task->sense.key == SCSI_SENSE_DATA_PROTECTION ? -EROFS : -EIO;
}

/* One command of many kinds. */
struct iscsi_cmd { enum blk_op op; uint64_t lba; uint32_t blocks; uint8_t *buf; bool may_unmap; };

static struct scsi_task *iscsi_issue(struct iscsi *n, const struct iscsi_cmd *k, struct iscsi_call *c)
{
	uint32_t len = k->blocks * n->block;
	struct unmap_list list = { .lba = k->lba, .num = k->blocks };
	struct scsi_task *t = NULL;

	switch (k->op) {
	case BLK_READ:
		t = iscsi_read16_task(n->c, n->lun, k->lba, len, (int)n->block, 0, 0, 0, 0, 0, iscsi_done, c);
		if (t)
			scsi_task_add_data_in_buffer(t, (int)len, k->buf);
		return t;
	case BLK_WRITE:
		return iscsi_write16_task(n->c, n->lun, k->lba, k->buf, len, (int)n->block, 0, 0, 0, 0, 0, iscsi_done,
					  c);
	case BLK_FLUSH:
		return iscsi_synchronizecache16_task(n->c, n->lun, 0, 0, 0, 0, iscsi_done, c);
	case BLK_DISCARD:
		return iscsi_unmap_task(n->c, n->lun, 0, 0, &list, 1, iscsi_done, c);
	case BLK_ZEROES:
		return iscsi_writesame16_task(n->c, n->lun, k->lba, k->buf, n->block, k->blocks, 0, k->may_unmap, 0, 0,
					      iscsi_done, c);
	}
	return NULL;
}

static int iscsi_co_cmd(struct blk *b, const struct iscsi_cmd *k)
{
	struct iscsi *n = b->priv;
	int r = -EAGAIN;

	for (int i = 0; i < ISCSI_TRIES && r == -EAGAIN; i++) {
		struct iscsi_call c = { .n = n, .wait = proto_wait_init() };
		struct scsi_task *t = iscsi_issue(n, k, &c);

		if (!t)
			return -EIO;
		proto_poll_update(&n->poll);
		r = iscsi_status(proto_wait(&n->ready, &c.wait), t);
		scsi_free_scsi_task(t);
	}
	return r == -EAGAIN ? -EIO : r;
}

static int iscsi_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	const struct iscsi *n = b->priv;
	struct iscsi_cmd k = { BLK_READ, off / n->block, (uint32_t)(len / n->block), v.iov->iov_base, false };

	return iscsi_co_cmd(b, &k);
}

static int iscsi_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	const struct iscsi *n = b->priv;
	struct iscsi_cmd k = { BLK_WRITE, off / n->block, (uint32_t)(len / n->block), v.iov->iov_base, false };

	return iscsi_co_cmd(b, &k);
}

static int iscsi_co_flush(struct blk *b)
{
	struct iscsi_cmd k = { .op = BLK_FLUSH };
	int r = iscsi_co_cmd(b, &k);

	return r == -ENOTSUP ? 0 : r;           /* a target without a cache */
}

static int iscsi_co_range(struct blk *b, struct iscsi_cmd *k, uint64_t off, uint64_t len)
{
	const struct iscsi *n = b->priv;
	int r = 0;

	for (uint64_t at = off / n->block, end = (off + len) / n->block; !r && at < end; at += k->blocks) {
		k->lba = at;
		k->blocks = end - at < ISCSI_BLOCKS_MAX ? (uint32_t)(end - at) : ISCSI_BLOCKS_MAX;
		r = iscsi_co_cmd(b, k);
	}
	return r;
}

static int iscsi_co_discard(struct blk *b, uint64_t off, uint64_t len)
{
	struct iscsi_cmd k = { .op = BLK_DISCARD };
	int r = iscsi_co_range(b, &k, off, len);

	return r == -ENOTSUP ? 0 : r;
}

static int iscsi_co_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap)
{
	const struct iscsi *n = b->priv;
	AUTO(free) uint8_t *zero = calloc(1, n->block);
	struct iscsi_cmd k = { .op = BLK_ZEROES, .buf = zero, .may_unmap = may_unmap && n->can_unmap && n->reads_zero };

	return zero ? iscsi_co_range(b, &k, off, len) : -ENOMEM;
}

static int iscsi_co_info(struct blk *b, json_t *out, struct err *err)
{
	const struct iscsi *n = b->priv;

	json_object_set_new(out, "target", json_string(n->target));
	json_object_set_new(out, "lun", json_integer(n->lun));
	json_object_set_new(out, "block-size", json_integer((json_int_t)n->block));
	return 0;
}

/* --- opening: on a thread ------------------------------------------------------------------------- */

struct iscsi_open {
	struct iscsi *n;
	const struct blk_url *u;
	const char *initiator;
	struct blk_secret secret;
	uint64_t size;
	struct err err;
};

static int iscsi_open_failed(struct iscsi_open *o, int code)
{
	return err_set(&o->err, code, "cannot connect to '%s': %s", o->u->plain, iscsi_get_error(o->n->c));
}

static int iscsi_open_login(struct iscsi_open *o)
{
	struct iscsi *n = o->n;
	char portal[300], word[256];
	bool is_v6 = strchr(o->u->host, ':');

	n->c = iscsi_create_context(o->initiator);
	if (!n->c)
		return err_set(&o->err, -ENOMEM, "out of memory");
	snprintf(portal, sizeof(portal), "%s%s%s:%u", is_v6 ? "[" : "", o->u->host, is_v6 ? "]" : "",
		 o->u->port ? o->u->port : ISCSI_PORT);
	bool is_bad = iscsi_set_targetname(n->c, n->target) || iscsi_set_session_type(n->c, ISCSI_SESSION_NORMAL) ||
		      iscsi_set_header_digest(n->c, ISCSI_HEADER_DIGEST_NONE_CRC32C);

	if (!is_bad && o->secret.len) {
		snprintf(word, sizeof(word), "%.*s", (int)o->secret.len, (const char *)o->secret.data);
		is_bad = iscsi_set_initiator_username_pwd(n->c, o->u->user, word);
		explicit_bzero(word, sizeof(word));
	}
	iscsi_set_timeout(n->c, ISCSI_TIMEOUT_S);
	iscsi_set_reconnect_max_retries(n->c, ISCSI_RETRIES);
	return is_bad || iscsi_full_connect_sync(n->c, portal, n->lun) ? iscsi_open_failed(o, -EIO) : 0;
}

static int iscsi_open_capacity(struct iscsi_open *o)
{
	struct iscsi *n = o->n;
	struct scsi_task *t = iscsi_readcapacity16_sync(n->c, n->lun);
	struct scsi_readcapacity16 *rc = t && t->status == SCSI_STATUS_GOOD ? scsi_datain_unmarshall(t) : NULL;
	int r = 0;

	if (!rc) {
		r = iscsi_open_failed(o, -EIO);
	} else if (!is_pow2(rc->block_length) || rc->block_length < BLK_SECTOR || rc->block_length > 64 << 10 ||
		   rc->returned_lba >= (uint64_t)INT64_MAX / rc->block_length) {
		r = err_set(&o->err, -EINVAL, "'%s' has %" PRIu64 " blocks of %u bytes, which cannot be", o->u->plain,
			    rc->returned_lba + 1, rc->block_length);
	} else {
		n->block = rc->block_length;
		n->can_unmap = rc->lbpme;
		n->reads_zero = rc->lbprz;
		o->size = (rc->returned_lba + 1) * rc->block_length;
	}
	if (t)
		scsi_free_scsi_task(t);
	return r;
}

/* Does the target allow writing? SBC-3, "Mode parameters": bit 7 of the device-specific parameter. */
static int iscsi_open_write(struct iscsi_open *o)
{
	struct iscsi *n = o->n;
	struct scsi_task *t = n->b->is_readonly ? NULL : iscsi_modesense6_sync(n->c, n->lun, 1, 0, 0x3f, 0, 255);
	bool is_protected = t && t->status == SCSI_STATUS_GOOD && t->datain.size >= 4 && t->datain.data[2] & 0x80;

	if (t)
		scsi_free_scsi_task(t);
	return is_protected ? err_set(&o->err, -EROFS,
				      "the target gives '%s' for reading only; open it with readonly=on",
				      o->u->plain) : 0;
}

static int64_t iscsi_open_run(void *arg)
{
	struct iscsi_open *o = arg;
	int r = iscsi_open_login(o);

	if (!r)
		r = iscsi_open_capacity(o);
	return r ? r : iscsi_open_write(o);
}

/* "/iqn.2001-04.com.example:storage/1" */
static int iscsi_address(struct iscsi *n, const struct blk_url *u, struct err *err)
{
	char *slash = u->path[0] ? strrchr(u->path, '/') : NULL;
	size_t digits = slash ? strspn(slash + 1, "0123456789") : 0;

	if (!u->host[0] || u->query || !slash || slash == u->path || !digits || digits > 5 || slash[1 + digits] ||
	    (n->lun = atoi(slash + 1)) > ISCSI_LUN_MAX)
		return err_set(err, -EINVAL,
			       "'%s' is no address of an iSCSI disk: iscsi://[USER@]HOST[:PORT]/TARGET/LUN",
			       u->plain);
	n->target = strndup(u->path + 1, (size_t)(slash - u->path) - 1);
	return n->target ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int iscsi_connect(struct blk *b, struct iscsi_open *o, const struct blk_opts *opts, struct err *err)
{
	int r = blk_secret_from_opts(&o->secret, opts, err);

	if (r < 0)
		return r;
	if ((r == 1) != (o->u->user[0] != 0))
		return err_set(err, -EINVAL,
			       "CHAP needs a user name in the address and a secret by key-file or key-fd: '%s'",
			       o->u->plain);
	o->initiator = blk_opts_str(opts, "initiator");
	r = (int)blk_co_call(b, iscsi_open_run, o);
	blk_secret_wipe(&o->secret);
	return r < 0 ? err_set(err, r, "%s", o->err.msg) : 0;
}

static int iscsi_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	AUTO(blk_url_fini) struct blk_url u = { 0 };
	struct iscsi *n = b->priv;
	struct iscsi_open o = { .n = n, .u = &u, .err = ERR_INIT };
	int r = blk_url_parse(&u, b->opening->path, err);

	n->b = b;
	if (!r)
		r = iscsi_address(n, &u, err);
	if (!r)
		r = iscsi_connect(b, &o, opts, err);
	if (r < 0)
		return r;
	b->size = o.size;
	b->io_align = n->block;
	b->io_max = ISCSI_IO_MAX;
	b->block_size = n->block > 4096 ? n->block : 4096;
	b->can_discard = !b->is_readonly && n->can_unmap;
	n->poll = (struct proto_poll){ .get_fd = iscsi_poll_fd, .get_events = iscsi_poll_events, .serve = iscsi_poll_serve, .lib = n,
					.ready = &n->ready };
	r = proto_poll_start(&n->poll, b, ISCSI_TICK_S);
	return r < 0 ? err_set(err, r, "cannot watch the connection to '%s': %s", u.plain, strerror(-r)) : 0;
}

static int64_t iscsi_close_run(void *arg)
{
	struct iscsi *n = arg;

	if (iscsi_is_logged_in(n->c))
		iscsi_logout_sync(n->c);
	iscsi_destroy_context(n->c);
	return 0;
}

static void iscsi_co_close(struct blk *b)
{
	struct iscsi *n = b->priv;

	proto_poll_stop(&n->poll);
	if (n->c)
		blk_co_call(b, iscsi_close_run, n);
	free(n->target);
}

static const struct blk_driver iscsi_driver = {
	.name = "iscsi",
	.title = "a disk of an iSCSI target",
	.flags = BLK_DRIVER_PROTOCOL,
	.priv_size = sizeof(struct iscsi),
	.open_opts = iscsi_open_opts,
	.co_open = iscsi_co_open,
	.co_close = iscsi_co_close,
	.co_preadv = iscsi_co_preadv,
	.co_pwritev = iscsi_co_pwritev,
	.co_flush = iscsi_co_flush,
	.co_discard = iscsi_co_discard,
	.co_zeroes = iscsi_co_zeroes,
	.co_info = iscsi_co_info,
	.submit = blk_proto_submit,
};

BLK_PLUGIN(iscsi_driver);
