/* SPDX-License-Identifier: Apache-2.0 */
/* keys.c - key slots of an open image: adding, removing, changing.
 *
 * The order survives a power cut at any point: a new slot's area is durable before the header names it, and an old
 * one's area is overwritten before the header forgets it (what is left then is a slot that opens nothing). */
#include "blk/luks/luks_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "blk/front.h"

const struct blk_opt luks_slot_opts[] = { LUKS_SLOT_OPTS(""), { .name = NULL } };

struct keys_run {
	struct blk *b;
	struct luks *l;
	const struct blk_secret *old, *now;
	const struct blk_opts *opts;
	unsigned index;
	bool is_forced;
	struct err *err;
};

static int keys_write_header(struct keys_run *k)
{
	int r = k->l->version == 1 ? luks1_co_write(k->l) : luks2_co_write(k->l);

	return r < 0 ? err_set(k->err, r, "cannot write the LUKS header of '%s': %s", k->b->name, strerror(-r)) : 0;
}

/* --- adding ------------------------------------------------------------------------------------- */

static int keys_free_slot(const struct keys_run *k)
{
	for (unsigned i = 0; i < k->l->n_slots; i++)
		if (!k->l->slots[i].is_used)
			return (int)i;
	return err_set(k->err, -ENOSPC, "all %u key slots of '%s' are used; remove one before", k->l->n_slots,
		       k->b->name);
}

/* LUKS2: the first gap between areas. LUKS1 slots have their places. */
static int keys_place(struct keys_run *k, struct luks_slot *s)
{
	const struct luks *l = k->l;
	uint64_t off = 2 * l->hdr_size, end = off + l->keyslots_len;
	bool is_moved = true;

	s->len = align_up(luks_area_len(s->key_bytes), LUKS_ALIGN);
	while (is_moved) {
		is_moved = false;
		for (unsigned i = 0; i < l->n_slots; i++) {
			const struct luks_slot *o = &l->slots[i];

			if (!o->is_used || !range_overlaps(off, s->len, o->off, o->len))
				continue;
			off = align_up(o->off + o->len, LUKS_ALIGN);
			is_moved = true;
		}
	}
	if (!range_fits(off, s->len, end))
		return err_set(k->err, -ENOSPC,
			       "the header of '%s' has no room for another key slot; remove one before", k->b->name);
	s->off = off;
	return 0;
}

/* How the new slot is to be: as the one that was opened, but for what the options say. */
static int keys_prepare(struct keys_run *k, unsigned i)
{
	struct luks *l = k->l;
	const struct luks_slot *like = &l->slots[l->opened_slot];
	struct luks_slot s = {
		.is_bound = true, .kdf.type = l->version == 1 ? LUKS_PBKDF2 : LUKS_ARGON2ID,
		.area_key_bytes = like->area_key_bytes, .key_bytes = l->key_bytes,
		.off = l->slots[i].off, .len = l->slots[i].len,
	};

	memcpy(s.cipher, like->cipher, sizeof(s.cipher));
	memcpy(s.af_hash, like->af_hash, sizeof(s.af_hash));
	memcpy(s.kdf.hash, l->version == 1 ? l->hash : like->af_hash, sizeof(s.kdf.hash));
	if (blk_opts_is_set(k->opts, "pbkdf"))
		s.kdf.type = (enum luks_kdf_type)blk_opts_num(k->opts, "pbkdf");
	if (l->version == 1 && s.kdf.type != LUKS_PBKDF2)
		return err_set(k->err, -EINVAL, "LUKS1 has only pbkdf2: '%s'", k->b->name);
	int r = l->version == 2 ? keys_place(k, &s) : 0;

	if (!r)
		l->slots[i] = s;
	return r;
}

static int keys_add(struct keys_run *k)
{
	struct luks *l = k->l;
	int i = keys_free_slot(k);
	struct luks_slot before;

	if (i < 0)
		return i;
	before = l->slots[i];
	int r = keys_prepare(k, (unsigned)i);

	if (r < 0)
		return r;
	r = luks_co_slot_write(l, (unsigned)i, k->now, (unsigned)blk_opts_num(k->opts, "iter-time"));
	if (r < 0)
		err_set(k->err, r, "cannot write key slot %d of '%s': %s", i, k->b->name, strerror(-r));
	if (!r) {
		l->slots[i].is_used = true;
		r = l->version == 2 ? luks2_json_put_slot(l, (unsigned)i) : 0;
		if (!r)
			r = keys_write_header(k);
		else
			err_set(k->err, r, "out of memory");
	}
	if (r < 0)
		l->slots[i] = before;
	return r < 0 ? r : i;
}

/* --- removing ----------------------------------------------------------------------------------- */

static int keys_remove(struct keys_run *k)
{
	struct luks *l = k->l;
	unsigned n = 0;

	if (k->index >= l->n_slots || !l->slots[k->index].is_used)
		return err_set(k->err, -ENOENT, "key slot %u of '%s' is not used", k->index, k->b->name);
	for (unsigned i = 0; i < l->n_slots; i++)
		n += l->slots[i].is_used && l->slots[i].is_bound;
	if (n == 1 && l->slots[k->index].is_bound && !k->is_forced)
		return err_set(k->err, -EPERM,
			       "key slot %u is the last one of '%s': without it nothing opens the disk, ever; "
			       "to destroy it nevertheless, force it",
			       k->index, k->b->name);
	int r = luks_co_slot_destroy(l, k->index);

	if (r < 0)
		return err_set(k->err, r, "cannot destroy key slot %u of '%s': %s", k->index, k->b->name, strerror(-r));
	l->slots[k->index].is_used = false;
	if (l->version == 2)
		luks2_json_drop_slot(l, k->index);
	return keys_write_header(k);
}

static int keys_find(struct keys_run *k, const struct blk_secret *s)
{
	uint8_t key[LUKS_KEY_MAX];
	int r = -EKEYREJECTED;

	for (unsigned i = 0; i < k->l->n_slots && r < 0; i++) {
		const struct luks_slot *slot = &k->l->slots[i];

		if (slot->is_used && slot->is_bound && !luks_co_slot_open(k->l, i, s, key))
			r = (int)i;
	}
	explicit_bzero(key, sizeof(key));
	return r < 0 ? err_set(k->err, r, "the passphrase opens no key slot of '%s'", k->b->name) : r;
}

static int keys_remove_key(struct keys_run *k)
{
	int r = keys_find(k, k->old);

	if (r < 0)
		return r;
	k->index = (unsigned)r;
	r = keys_remove(k);
	return r < 0 ? r : (int)k->index;
}

static int keys_change(struct keys_run *k)
{
	int old = keys_find(k, k->old), now = old < 0 ? old : keys_add(k);

	if (now < 0)
		return now;
	k->index = (unsigned)old;
	int r = keys_remove(k);

	if (k->l->opened_slot == old)
		k->l->opened_slot = now;
	return r < 0 ? r : now;
}

static int keys_find_key(struct keys_run *k)
{
	return keys_find(k, k->old);
}

/* --- from outside ------------------------------------------------------------------------------- */

struct keys_call {
	int (*fn)(struct keys_run *k);
	struct keys_run run;
};

static int keys_locked(void *arg)
{
	struct keys_call *c = arg;

	co_mutex_lock(&c->run.l->lock);
	int r = c->fn(&c->run);

	co_mutex_unlock(&c->run.l->lock);
	return r;
}

static int keys_no_luks(const struct blk *b, struct err *err)
{
	return err_set(err, -ENOTSUP, "'%s' is not encrypted with LUKS", b->name);
}

static int keys_call(int (*fn)(struct keys_run *k), struct keys_run run, bool is_changing)
{
	struct keys_call c = { .fn = fn, .run = run };
	AUTO(blk_opts_fini) struct blk_opts defaults = { 0 };
	int r = 0;

	c.run.b = run.b = blk_front_top(run.b);
	c.run.l = luks_of(run.b);
	if (!c.run.l)
		return keys_no_luks(run.b, run.err);
	if (is_changing && run.b->is_readonly)
		return err_set(run.err, -EROFS, "'%s' is open for reading only", run.b->name);
	if (is_changing && !luks_is_unlocked(c.run.l))
		return err_set(run.err, -ENOKEY, "changing the keys of '%s' needs its passphrase", run.b->name);
	if (!c.run.opts) {
		r = blk_opts_init(&defaults, luks_slot_opts, run.err);
		c.run.opts = &defaults;
	}
	return r < 0 ? r : blk_run(run.b, keys_locked, &c);
}

int blk_luks_add_key(struct blk *b, const struct blk_secret *key, const struct blk_opts *opts, struct err *err)
{
	return keys_call(keys_add, (struct keys_run){ .b = b, .now = key, .opts = opts, .err = err }, true);
}

int blk_luks_remove_slot(struct blk *b, unsigned index, bool is_forced, struct err *err)
{
	struct keys_run run = { .b = b, .index = index, .is_forced = is_forced, .err = err };

	return keys_call(keys_remove, run, true);
}

int blk_luks_remove_key(struct blk *b, const struct blk_secret *key, bool is_forced, struct err *err)
{
	struct keys_run run = { .b = b, .old = key, .is_forced = is_forced, .err = err };

	return keys_call(keys_remove_key, run, true);
}

int blk_luks_change_key(struct blk *b, const struct blk_secret *old, const struct blk_secret *now,
			const struct blk_opts *opts, struct err *err)
{
	struct keys_run run = { .b = b, .old = old, .now = now, .opts = opts, .err = err };

	return keys_call(keys_change, run, true);
}

int blk_luks_find_key(struct blk *b, const struct blk_secret *key, struct err *err)
{
	return keys_call(keys_find_key, (struct keys_run){ .b = b, .old = key, .err = err }, false);
}

int blk_luks_slots(struct blk *b, struct blk_luks_slot *slots, unsigned *n, struct err *err)
{
	const struct luks *l = luks_of(b);

	if (!l)
		return keys_no_luks(b, err);
	*n = 0;
	for (unsigned i = 0; i < l->n_slots; i++) {
		const struct luks_slot *s = &l->slots[i];
		struct blk_luks_slot *o = &slots[*n];

		if (!s->is_used)
			continue;
		*o = (struct blk_luks_slot){ .index = i, .is_bound = s->is_bound, .iterations = s->kdf.iterations,
					     .memory_kib = s->kdf.memory_kib, .lanes = s->kdf.lanes };
		memcpy(o->cipher, s->cipher, sizeof(o->cipher));
		memcpy(o->hash, s->kdf.hash, sizeof(o->hash));
		snprintf(o->kdf, sizeof(o->kdf), "%s", luks_kdf_name(s->kdf.type));
		(*n)++;
	}
	return 0;
}
