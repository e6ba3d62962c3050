/* SPDX-License-Identifier: Apache-2.0 */
/* marks.c - bit 63 of the active tables, which says that a cluster is counted once. */
#include "blk/qcow2/qcow2_priv.h"

static int marks_of_page(struct q2 *s, struct q2_page *p, unsigned fix, uint64_t *n_wrong, uint64_t *n_safe)
{
	bool is_changed = false;
	int r = 0;

	for (uint32_t i = 0; !r && i < s->page_size; i += s->entry_size) {
		struct q2_entry e;
		uint64_t count = 1;

		q2_entry_decode(s, p->data + i, &e);
		if (!e.has_host || e.is_compressed || s->b->data)
			continue;
		r = q2_ref_get(s, q2_cluster_of(s, e.host), &count);
		if (r || e.is_copied == (count == 1))
			continue;
		++*(e.is_copied ? n_wrong : n_safe);
		if (!(fix & (e.is_copied ? BLK_FIX_ERRORS : BLK_FIX_LEAKS)))
			continue;
		e.is_copied = count == 1;
		q2_entry_encode(s, &e, p->data + i);
		is_changed = true;
	}
	if (is_changed)
		q2_page_dirty(s, p);
	return r;
}

static int marks_of_table(struct q2 *s, uint64_t table, unsigned fix, uint64_t *n_wrong, uint64_t *n_safe)
{
	int r = 0;

	for (uint32_t at = 0; !r && at < s->cluster_size; at += s->page_size) {
		struct q2_page *p;

		r = q2_balance(s);
		if (!r)
			r = q2_page_get(s, table + at, Q2_PAGE_L2, &p);
		if (r < 0)
			break;
		r = marks_of_page(s, p, fix, n_wrong, n_safe);
		q2_page_put(p);
	}
	return r;
}

int q2_marks_check(struct q2 *s, unsigned fix, uint64_t *n_wrong, uint64_t *n_safe)
{
	int r = 0;

	for (uint32_t i = 0; !r && i < s->l1_size; i++) {
		uint64_t table = s->l1[i] & Q2_OFF_MASK, count;
		bool is_copied = s->l1[i] & Q2_COPIED;

		if (!table || table & (s->cluster_size - 1))
			continue;
		r = q2_ref_get(s, q2_cluster_of(s, table), &count);
		if (!r && is_copied != (count == 1)) {
			++*(is_copied ? n_wrong : n_safe);
			if (fix & (is_copied ? BLK_FIX_ERRORS : BLK_FIX_LEAKS))
				q2_l1_set(s, i, table | (count == 1 ? Q2_COPIED : 0));
		}
		if (!r)
			r = marks_of_table(s, table, fix, n_wrong, n_safe);
	}
	return r;
}

static void marks_clear_page(struct q2 *s, struct q2_page *p)
{
	bool is_changed = false;

	for (uint32_t i = 0; i < s->page_size; i += s->entry_size) {
		uint64_t v = get_be64(p->data + i);

		if (v & Q2_COMPRESSED || !(v & Q2_COPIED))
			continue;
		put_be64(p->data + i, v & ~Q2_COPIED);
		is_changed = true;
	}
	if (is_changed)
		q2_page_dirty(s, p);
}

int q2_marks_clear(struct q2 *s)
{
	int r = 0;

	for (uint32_t i = 0; !r && i < s->l1_size; i++) {
		uint64_t table = s->l1[i] & Q2_OFF_MASK;

		if (!table)
			continue;
		if (s->l1[i] & Q2_COPIED)
			q2_l1_set(s, i, table);
		for (uint32_t at = 0; !r && at < s->cluster_size; at += s->page_size) {
			struct q2_page *p;

			r = q2_balance(s);
			if (!r)
				r = q2_page_get(s, table + at, Q2_PAGE_L2, &p);
			if (r < 0)
				break;
			marks_clear_page(s, p);
			q2_page_put(p);
		}
	}
	return r;
}
