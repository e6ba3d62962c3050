/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory out of the file of a saved machine. What has to be read in full is read by a few threads, row by row. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <unistd.h>
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/crc32c.h"
#include "util/err.h"
#include "vm/state_file_priv.h"
#include "vm/state_pack.h"
#include "vm/state_seal.h"

enum { LANES = 4 };

struct unpacker {
	const struct state_file *f;
	uint8_t *host;                  /* NULL: checksums only */
	_Atomic size_t next;            /* row */
	pthread_mutex_t lock;           /* of all below */
	struct err err;                 /* the first one; code 0: none so far */
};

/* What a thread has for itself. */
struct lane {
	const struct state_file *f;
	struct state_packer packer;
	struct state_sealer sealer;
	uint8_t *stored;
	uint8_t *scratch;               /* NULL: not needed */
};

static int lane_init(struct lane *l, const struct unpacker *u, struct err *err)
{
	*l = (struct lane){ .f = u->f, .packer.packing = u->f->packing, .stored = malloc(state_pack_bound() + STATE_SEAL_TAG) };
	if (!u->host)
		l->scratch = malloc(STATE_EXTENT_MAX);
	if (!l->stored || !(u->host || l->scratch))
		return err_set(err, -ENOMEM, "out of memory");
	return u->f->seal ? state_sealer_init(&l->sealer, u->f->seal, err) : 0;
}

static void lane_fini(struct lane *l)
{
	state_packer_fini(&l->packer);
	state_sealer_fini(&l->sealer);
	free(l->stored);
	free(l->scratch);
}

/* What is stored of row I, out of its encryption. */
static int lane_open(struct lane *l, size_t i, const struct state_extent *e, uint8_t *to, struct err *err)
{
	struct state_place place = { e->off, e->len, le32_of(l->f->packing) };
	size_t len = le32_get(e->stored) - STATE_SEAL_TAG;

	return state_open_piece(&l->sealer, STATE_PIECE_MEMORY, i, &place, sizeof(place), to, l->stored, len) ? 0 :
		err_set(err, -EPROTO, "'%s' is damaged: guest memory at offset 0x%" PRIx64 " is not what was encrypted", l->f->name,
			le64_get(e->off));
}

/* Row I to TO, in full. */
static int lane_unpack(struct lane *l, size_t i, const struct state_extent *e, uint8_t *to, struct err *err)
{
	uint32_t len = le32_get(e->len), stored = le32_get(e->stored);
	bool is_raw = l->f->packing == STATE_RAW;
	int r = state_file_read(l->f, state_file_is_mapped(l->f) ? to : l->stored, stored, le64_get(e->at), err);

	if (!r && l->f->seal) {
		r = lane_open(l, i, e, is_raw ? to : l->stored, err);
		stored -= STATE_SEAL_TAG;
	}
	if (r < 0)
		return r;
	if (!is_raw && !state_unpack(&l->packer, to, len, l->stored, stored))
		return state_file_bad(l->f, err, "its memory cannot be unpacked");
	if (crc32c(0, to, len) != le32_get(e->crc))
		return err_set(err, -EPROTO, "'%s' is damaged: guest memory at offset 0x%" PRIx64
			       " has another checksum than when it was written", l->f->name, le64_get(e->off));
	return 0;
}

static void lane_run(struct unpacker *u)
{
	struct err why = ERR_INIT;
	struct lane l;
	int r = lane_init(&l, u, &why);

	for (size_t i; !r && (i = atomic_fetch_add(&u->next, 1)) < u->f->n_extents;) {
		struct state_extent e = state_file_row(u->f, i);

		r = lane_unpack(&l, i, &e, u->host ? u->host + le64_get(e.off) : l.scratch, &why);
	}
	lane_fini(&l);
	if (r < 0) {
		atomic_store(&u->next, u->f->n_extents);
		pthread_mutex_lock(&u->lock);
		if (!u->err.code)
			u->err = why;
		pthread_mutex_unlock(&u->lock);
	}
}

static void *lane_main(void *arg)
{
	pthread_setname_np(pthread_self(), "load-lane");
	lane_run(arg);
	return NULL;
}

/* Every row to HOST, or, with NULL, only for its checksum. The caller is one of the threads. */
static int unpack_all(const struct state_file *f, uint8_t *host, struct err *err)
{
	struct unpacker u = { .f = f, .host = host, .lock = PTHREAD_MUTEX_INITIALIZER, .err = ERR_INIT };
	pthread_t thread[LANES - 1];
	size_t n = 0;

	while (n + 1 < f->n_extents && n < ARRAY_LEN(thread) && !pthread_create(&thread[n], NULL, lane_main, &u))
		n++;
	lane_run(&u);
	for (size_t i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	return u.err.code ? err_set(err, u.err.code, "%s", u.err.msg) : 0;
}

int state_file_memory(struct state_file *f, struct gmem **out, struct err *err)
{
	AUTO(gmem_free) struct gmem *m = NULL;

	if (state_file_is_mapped(f))
		return gmem_new_mapped(out, f->ram, f->fd, f->memory_off, err);
	int r = gmem_new(&m, f->ram, err);
	if (!r && f->packing != STATE_NONE)
		r = unpack_all(f, m->host, err);
	if (!r)
		*out = take_ptr(&m);
	return r;
}

/* What of a mapped file no row covers is zero: the guest would see anything else. Holes need not be read. */
static int verify_gap(const struct state_file *f, uint8_t *buf, uint64_t off, uint64_t end, struct err *err)
{
	int r = 0;

	while (!r && off < end) {
		off_t data = lseek(f->fd, (off_t)(f->memory_off + off), SEEK_DATA);

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data > 0 && (uint64_t)data > f->memory_off + off)
			off = (uint64_t)data - f->memory_off;
		if (off >= end)
			break;
		size_t n = end - off < STATE_EXTENT_MAX ? (size_t)(end - off) : STATE_EXTENT_MAX;

		r = state_file_read(f, buf, n, f->memory_off + off, err);
		for (size_t i = 0; !r && i < n; i++)
			if (buf[i])
				r = err_set(err, -EPROTO, "'%s' is damaged: guest memory at offset 0x%" PRIx64 " was zero when it was written",
					    f->name, off + i);
		off += n;
	}
	return r;
}

static int verify_gaps(const struct state_file *f, struct err *err)
{
	AUTO(free) uint8_t *buf = malloc(STATE_EXTENT_MAX);
	uint64_t at = 0;
	int r = buf ? 0 : err_set(err, -ENOMEM, "out of memory");

	for (size_t i = 0; !r && i <= f->n_extents; i++) {
		struct state_extent e = { .off = le64_of(f->ram) };

		if (i < f->n_extents)
			e = state_file_row(f, i);
		r = verify_gap(f, buf, at, le64_get(e.off), err);
		at = le64_get(e.off) + le32_get(e.len);
	}
	return r;
}

int state_file_verify(struct state_file *f, struct err *err)
{
	int r = f->packing == STATE_NONE ? 0 : unpack_all(f, NULL, err);

	return r || !state_file_is_mapped(f) ? r : verify_gaps(f, err);
}
