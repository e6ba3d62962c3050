/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_table.c - the directory of snapshots: section "Snapshots". */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRY_LEN = 40, EXTRA_VM_STATE = 8, EXTRA_DISK_SIZE = 16, EXTRA_ICOUNT = 24, EXTRA_MAX = 1024 };

void q2_snapshot_free(struct q2_snapshot *sn)
{
	free(sn->extra);
	sn->extra = NULL;
}

struct table_reader {
	struct q2 *s;
	uint8_t *buf;
	uint64_t at, len;
	struct err *err;
};

static const uint8_t *table_take(struct table_reader *t, uint64_t n)
{
	if (n > t->len - t->at)
		return NULL;
	t->at += n;
	return t->buf + t->at - n;
}

static void entry_extra(struct q2_snapshot *sn, const uint8_t *x, uint32_t len, uint64_t disk_size)
{
	sn->s.disk_size = len >= EXTRA_DISK_SIZE ? get_be64(x + 8) : disk_size;
	if (len >= EXTRA_VM_STATE)
		sn->s.vm_state_size = get_be64(x);
	sn->s.icount = len >= EXTRA_ICOUNT ? get_be64(x + 16) : UINT64_MAX;
	sn->known_len = len >= EXTRA_ICOUNT ? EXTRA_ICOUNT : len >= EXTRA_DISK_SIZE ? EXTRA_DISK_SIZE : 0;
}

static int entry_string(char *to, size_t cap, const uint8_t *from, uint32_t len)
{
	if (!from || len >= cap)
		return -EINVAL;
	memcpy(to, from, len);
	to[len] = '\0';
	return 0;
}

static int entry_check(const struct table_reader *t, const struct q2_snapshot *sn, unsigned index)
{
	const struct q2 *s = t->s;

	if (sn->l1_size > Q2_L1_MAX || sn->l1_off & (s->cluster_size - 1) ||
	    !range_fits(sn->l1_off, (uint64_t)sn->l1_size * 8, 1ull << 56) || (sn->l1_size && !sn->l1_off))
		return err_set(t->err, -EINVAL, "snapshot %u of '%s' has an impossible L1 table", index, s->b->name);
	return 0;
}

static int entry_parse(struct table_reader *t, struct q2_snapshot *sn, unsigned index)
{
	uint64_t start = t->at;
	const uint8_t *p = table_take(t, ENTRY_LEN), *x;

	if (!p)
		return err_set(t->err, -EINVAL, "the snapshot table of '%s' ends early", t->s->b->name);
	uint32_t id_len = get_be16(p + 12), name_len = get_be16(p + 14), extra_len = get_be32(p + 36);

	sn->l1_off = get_be64(p);
	sn->l1_size = get_be32(p + 8);
	sn->s.date_s = get_be32(p + 16);
	sn->s.date_ns = get_be32(p + 20);
	sn->s.vm_clock_ns = get_be64(p + 24);
	sn->s.vm_state_size = get_be32(p + 32);
	x = extra_len <= EXTRA_MAX ? table_take(t, extra_len) : NULL;
	if (!x)
		return err_set(t->err, -EINVAL, "snapshot %u of '%s' has impossible extra data", index, t->s->b->name);
	entry_extra(sn, x, extra_len, t->s->size);
	sn->extra_len = extra_len - sn->known_len;
	sn->extra = malloc(sn->extra_len ? sn->extra_len : 1);
	if (!sn->extra)
		return err_set(t->err, -ENOMEM, "out of memory");
	memcpy(sn->extra, x + sn->known_len, sn->extra_len);
	if (entry_string(sn->s.id, sizeof(sn->s.id), table_take(t, id_len), id_len) < 0 ||
	    entry_string(sn->s.name, sizeof(sn->s.name), table_take(t, name_len), name_len) < 0)
		return err_set(t->err, -EINVAL, "snapshot %u of '%s' has no proper name", index, t->s->b->name);
	/* The last one's padding may lie behind the end of the file. */
	t->at = start + align_up(t->at - start, 8);
	if (t->at > t->len)
		t->at = t->len;
	return entry_check(t, sn, index);
}

int q2_snapshots_load(struct q2 *s, uint64_t file_size, struct err *err)
{
	uint64_t most = (uint64_t)s->n_snapshots * (ENTRY_LEN + EXTRA_MAX + 65535 * 2);
	uint32_t n = s->n_snapshots;
	struct table_reader t = { .s = s, .err = err };
	int r = 0;

	if (!n)
		return 0;
	if (s->snapshots_off >= file_size)
		return err_set(err, -EINVAL, "the snapshot table of '%s' lies behind the end of the file", s->b->name);
	t.len = file_size - s->snapshots_off < most ? file_size - s->snapshots_off : most;
	t.len = t.len < Q2_SNAPSHOT_TABLE_MAX ? t.len : Q2_SNAPSHOT_TABLE_MAX;
	/* Entries are small as a rule: do not read all that a hostile count could mean. */
	t.len = t.len < 4 << 20 || n > 4000 ? t.len : 4 << 20;
	s->snapshots = calloc(n, sizeof(*s->snapshots));
	AUTO(free) uint8_t *buf = malloc(t.len);

	t.buf = buf;
	if (!buf || !s->snapshots)
		return err_set(err, -ENOMEM, "out of memory");
	r = blk_co_pread(s->b->file, s->snapshots_off, buf, t.len);
	if (r < 0)
		return err_set(err, r, "cannot read the snapshots of '%s': %s", s->b->name, strerror(-r));
	for (uint32_t i = 0; !r && i < n; i++)
		r = entry_parse(&t, &s->snapshots[i], i);
	s->snapshots_len = t.at;
	return r;
}

static uint64_t entry_len(const struct q2_snapshot *sn)
{
	uint64_t extra = (sn->known_len > EXTRA_DISK_SIZE ? sn->known_len : EXTRA_DISK_SIZE) + sn->extra_len;

	return align_up(ENTRY_LEN + extra + strlen(sn->s.id) + strlen(sn->s.name), 8);
}

static uint8_t *entry_write(const struct q2_snapshot *sn, uint8_t *p)
{
	uint32_t known = sn->known_len > EXTRA_DISK_SIZE ? sn->known_len : EXTRA_DISK_SIZE;
	uint8_t *x = p + ENTRY_LEN;

	put_be64(p, sn->l1_off);
	put_be32(p + 8, sn->l1_size);
	put_be16(p + 12, (uint16_t)strlen(sn->s.id));
	put_be16(p + 14, (uint16_t)strlen(sn->s.name));
	put_be32(p + 16, (uint32_t)sn->s.date_s);
	put_be32(p + 20, sn->s.date_ns);
	put_be64(p + 24, sn->s.vm_clock_ns);
	put_be32(p + 32, sn->s.vm_state_size > UINT32_MAX ? 0 : (uint32_t)sn->s.vm_state_size);
	put_be32(p + 36, known + sn->extra_len);
	put_be64(x, sn->s.vm_state_size);
	put_be64(x + 8, sn->s.disk_size);
	if (known >= EXTRA_ICOUNT)
		put_be64(x + 16, sn->s.icount);
	x += known;
	memcpy(x, sn->extra, sn->extra_len);
	x += sn->extra_len;
	memcpy(x, sn->s.id, strlen(sn->s.id));
	x += strlen(sn->s.id);
	memcpy(x, sn->s.name, strlen(sn->s.name));
	return p + entry_len(sn);
}

/* A new table in new clusters, then the header points to it: one or the other is there. */
int q2_snapshots_store(struct q2 *s, struct err *err)
{
	uint64_t len = 0, off = 0, got, old_off = s->snapshots_off, old_len = s->snapshots_len;
	bool is_fresh;
	int r = 0;

	for (uint32_t i = 0; i < s->n_snapshots; i++)
		len += entry_len(&s->snapshots[i]);
	if (len > Q2_SNAPSHOT_TABLE_MAX)
		return err_set(err, -EFBIG, "'%s' has too many snapshots", s->b->name);
	uint64_t room = q2_cluster_up(s, len);
	AUTO(free) uint8_t *buf = calloc(1, room ? room : 1);
	uint8_t *p = buf;

	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < s->n_snapshots; i++)
		p = entry_write(&s->snapshots[i], p);
	if (len)
		r = q2_alloc(s, q2_cluster_of(s, room), false, &off, &got, &is_fresh);
	if (!r && len)
		r = blk_co_pwrite(s->b->file, off, buf, room);
	if (!r)
		r = q2_writeback(s);    /* its clusters are counted */
	if (!r)
		r = q2_barrier(s);
	if (!r) {
		s->snapshots_off = off;
		s->snapshots_len = len;
		r = q2_header_update(s);
	}
	if (!r)
		r = q2_barrier(s);
	if (!r && old_len)
		r = q2_free_later(s, old_off, q2_cluster_up(s, old_len), false);
	return r < 0 ? err_set(err, r, "cannot write the snapshot table of '%s': %s", s->b->name, strerror(-r)) : 0;
}
