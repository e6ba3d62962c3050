/* SPDX-License-Identifier: Apache-2.0 */
/* The destination's side of disks that come along: images of its own, which it serves to the source until it has the machine. They are
 * open for writing, and locked, from the beginning; all others are opened as the machine's when it has been handed over. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>
#include "blk/nbd_server.h"
#include "blk/opts.h"
#include "blk/secret.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "vm/machine_priv.h"
#include "vm/migrate_disks.h"

static bool row_comes(const struct migrate_disk_row *row)
{
	return le32_get(row->flags) == MIGRATE_DISK_COMES;
}

/* --- before there is a machine --- */

static int disk_options(struct blk_opts *o, const char *format, bool is_encrypted, struct err *err)
{
	const struct blk_opt *table = blk_format_create_opts(format);
	int r = blk_opts_init(o, table, err);

	if (r < 0 || !is_encrypted || !strcmp(format, "luks"))
		return r;
	if (!blk_opts_has(o, "encrypt.format"))
		return err_set(err, -EINVAL, "an image of format '%s' is not made encrypted: 'key-file' is for luks and qcow2", format);
	return blk_opts_set(o, "encrypt.format", "luks", err);
}

/* The image of disk I, unless it is there. */
static int disk_make(const struct config_disk *d, uint64_t size, struct err *err)
{
	const char *format = d->format && strcmp(d->format, "auto") ? d->format : "raw";
	AUTO(blk_secret_wipe) struct blk_secret key = { 0 };
	AUTO(blk_opts_fini) struct blk_opts o = { 0 };

	if (!access(d->path, F_OK))
		return 0;
	int r = d->key_file ? blk_secret_read_file(&key, d->key_file, err) : 0;
	if (!r)
		r = disk_options(&o, format, d->key_file, err);
	if (!r)
		r = blk_create(&(struct blk_create){ .path = d->path, .format = format, .size = size, .is_new = true, .opts = &o,
						     .secret = key.len ? &key : NULL }, err);
	if (!r)
		log_info("'%s' has been made, %" PRIu64 " bytes of format %s", d->path, size, format);
	return r;
}

static int disk_match(struct config *c, unsigned i, const struct migrate_disk_row *row, struct err *err)
{
	struct config_disk *d = &c->disks[i];
	bool is_readonly = le32_get(row->flags) == MIGRATE_DISK_READONLY;

	if (!d->name && !(d->name = strdup(row->name)))
		return err_set(err, -ENOMEM, "out of memory");
	if (strcmp(d->name, row->name) != 0)
		return err_set(err, -EINVAL, "disk %u is '%s' at the source, and '%s' here", i, row->name, d->name);
	if (d->is_readonly != is_readonly)
		return err_set(err, -EINVAL, "disk '%s' is %s at the source, and not here", row->name, is_readonly ? "read-only" : "writable");
	d->comes = row_comes(row);
	d->is_other = d->comes || is_readonly;
	int r = d->is_created && d->comes ? disk_make(d, le64_get(row->size), err) : 0;
	d->is_created = false;
	return r < 0 ? err_wrap(err, r, "disk '%s'", row->name) : 0;
}

int migrate_disks_match(struct config *c, const struct migrate_disk_row *row, unsigned n, struct err *err)
{
	int r = 0;

	if (n && c->n_disks != n)
		return err_set(err, -EINVAL, "the machine that comes has %u disks; %u are given after --incoming", n, c->n_disks);
	for (unsigned i = 0; !r && i < n; i++)
		r = disk_match(c, i, &row[i], err);
	for (unsigned i = 0; !r && i < c->n_disks; i++) {
		if (c->disks[i].is_created)
			r = err_set(err, -EINVAL, "disks[%u].create: the disk does not come along ('--with-disks' at the source)", i);
	}
	return r;
}

/* --- with the machine, on the loop thread --- */

static int disk_serve(struct nbd_server **out, struct machine *m, unsigned i, const char *name, int *fd, struct err *err)
{
	struct nbd_server_config c = { .loop = m->loop, .blk = m->blk[i], .name = name };
	int r = nbd_server_open(out, &c, err);

	return r ? r : nbd_server_add(*out, take_fd(fd), err);
}

int migrate_disks_serve(struct nbd_server **server, struct machine *m, const struct migrate_disk_row *row, unsigned n, int *fd,
			struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < n; i++) {
		uint64_t size = le64_get(row[i].size), here = blk_size(m->blk[i]);

		if (size != here)
			r = err_set(err, -EINVAL, "disk '%s' has %" PRIu64 " bytes at the source, and %" PRIu64 " here", row[i].name, size, here);
		else if (row_comes(&row[i]))
			r = disk_serve(&server[i], m, i, row[i].name, &fd[i], err);
	}
	return r;
}

void migrate_disks_drop(struct nbd_server **server)
{
	for (unsigned i = 0; i < MIGRATE_DISKS_MAX; i++) {
		nbd_server_close(server[i]);
		server[i] = NULL;
	}
}

int migrate_disks_settle(struct nbd_server **server, struct machine *m, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < MIGRATE_DISKS_MAX; i++) {
		if (!server[i])
			continue;
		nbd_server_close(server[i]);
		server[i] = NULL;
		r = blk_flush(m->blk[i]);
		if (r < 0)
			err_set(err, r, "cannot write disk '%s': %s", blk_name(m->blk[i]), strerror(-r));
	}
	return r;
}
