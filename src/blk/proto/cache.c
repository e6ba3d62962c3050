/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/proto/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "util/checked.h"

struct cache_slot {
	uint64_t piece;
	uint8_t *data;                  /* NULL: the slot was never used */
	bool is_loading;
	unsigned n_users;
	uint64_t used_at;
	struct co_queue waiting;        /* for it to load */
};

struct proto_cache {
	struct blk *b;
	proto_fetch_fn fetch;
	struct cache_slot slots[CACHE_SLOTS];
	uint64_t clock;
	struct co_queue free;           /* waiting for any slot */
	/* the file */
	int fd;                         /* -1: none */
	uint64_t n_pieces, limit, n_stored;     /* pieces */
	uint8_t *stored;                /* a bit per piece: it is in the file */
	uint64_t oldest;                /* the file is a ring of what was fetched: where to drop next */
	uint64_t *ring;                 /* LIMIT entries */
};

static bool cache_has(const struct proto_cache *c, uint64_t i)
{
	return c->fd >= 0 && c->stored[i / 8] >> (i % 8) & 1;
}

static size_t cache_len(const struct proto_cache *c, uint64_t i)
{
	uint64_t left = c->b->size - i * CACHE_PIECE;

	return left < CACHE_PIECE ? (size_t)left : CACHE_PIECE;
}

/* --- the file ----------------------------------------------------------------------------------- */

struct cache_io { int fd; bool is_write; uint64_t off; uint8_t *buf; size_t len; };

static int64_t cache_io(void *arg)
{
	struct cache_io *io = arg;
	size_t done = 0;

	while (done < io->len) {
		ssize_t n = io->is_write ? pwrite(io->fd, io->buf + done, io->len - done, (off_t)(io->off + done)) :
			    pread(io->fd, io->buf + done, io->len - done, (off_t)(io->off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

static int cache_file(struct proto_cache *c, bool is_write, uint64_t i, uint8_t *data)
{
	struct cache_io io = { c->fd, is_write, i * CACHE_PIECE, data, cache_len(c, i) };

	return (int)blk_co_call(c->b, cache_io, &io);
}

static void cache_drop_oldest(struct proto_cache *c)
{
	uint64_t i = c->ring[c->oldest];

	c->oldest = (c->oldest + 1) % c->limit;
	c->n_stored--;
	c->stored[i / 8] &= (uint8_t)~(1u << (i % 8));
	(void)fallocate(c->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(i * CACHE_PIECE), CACHE_PIECE);
}

/* A cache that cannot be written caches less; that is no error. */
static void cache_store(struct proto_cache *c, uint64_t i, uint8_t *data)
{
	if (c->fd < 0 || cache_has(c, i))
		return;
	if (c->n_stored == c->limit)
		cache_drop_oldest(c);
	/* The place in the ring is taken before yielding; the bit is set when the bytes are there. */
	c->ring[(c->oldest + c->n_stored++) % c->limit] = i;
	if (!cache_file(c, true, i, data))
		c->stored[i / 8] |= (uint8_t)(1u << (i % 8));
}

/* --- pieces ------------------------------------------------------------------------------------- */

static struct cache_slot *cache_find(struct proto_cache *c, uint64_t piece)
{
	for (int i = 0; i < CACHE_SLOTS; i++)
		if (c->slots[i].data && c->slots[i].piece == piece)
			return &c->slots[i];
	return NULL;
}

/* The one that was used longest ago and that nobody uses. NULL: all are in use. */
static struct cache_slot *cache_victim(struct proto_cache *c)
{
	struct cache_slot *best = NULL;

	for (int i = 0; i < CACHE_SLOTS; i++) {
		struct cache_slot *s = &c->slots[i];

		if (!s->n_users && (!best || s->used_at < best->used_at))
			best = s;
	}
	return best;
}

static void cache_put(struct proto_cache *c, struct cache_slot *s)
{
	s->n_users--;
	s->used_at = ++c->clock;
	co_queue_wake_one(&c->free);
}

static int cache_load(struct proto_cache *c, struct cache_slot *s)
{
	int r = cache_has(c, s->piece) ? cache_file(c, false, s->piece, s->data) : -ENOENT;

	if (r < 0) {
		r = c->fetch(c->b, s->piece * CACHE_PIECE, s->data, cache_len(c, s->piece));
		if (!r)
			cache_store(c, s->piece, s->data);
	}
	return r;
}

/* PIECE in memory, in use. */
static int cache_get(struct proto_cache *c, uint64_t piece, struct cache_slot **out)
{
	struct cache_slot *s;

	while (!(s = cache_find(c, piece)) && !(s = cache_victim(c)))
		co_queue_wait(&c->free);
	s->n_users++;
	if (s->data && s->piece == piece) {
		while (s->is_loading)
			co_queue_wait(&s->waiting);
		*out = s;
		/* What failed to load is no piece. */
		if (s->piece == piece)
			return 0;
		cache_put(c, s);
		return -EIO;
	}
	if (!s->data && !(s->data = malloc(CACHE_PIECE))) {
		cache_put(c, s);
		return -ENOMEM;
	}
	s->piece = piece;
	s->is_loading = true;
	int r = cache_load(c, s);

	s->is_loading = false;
	if (r < 0)
		s->piece = UINT64_MAX;
	co_queue_wake_all(&s->waiting);
	if (r < 0)
		cache_put(c, s);
	else
		*out = s;
	return r;
}

int proto_cache_co_read(struct proto_cache *c, uint64_t off, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len) {
		uint64_t piece = off / CACHE_PIECE, skip = off % CACHE_PIECE;
		size_t n = CACHE_PIECE - skip < len ? (size_t)(CACHE_PIECE - skip) : len;
		struct cache_slot *s = NULL;
		int r = cache_get(c, piece, &s);

		if (r < 0)
			return r;
		memcpy(to, s->data + skip, n);
		cache_put(c, s);
		off += n;
		to += n;
		len -= n;
	}
	return 0;
}

/* --- life --------------------------------------------------------------------------------------- */

int proto_cache_new(struct proto_cache **out, struct blk *b, const char *dir, uint64_t limit, proto_fetch_fn fetch,
		    struct err *err)
{
	struct proto_cache *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->b = b;
	c->fetch = fetch;
	c->n_pieces = (b->size + CACHE_PIECE - 1) / CACHE_PIECE;
	c->limit = limit / CACHE_PIECE < c->n_pieces ? limit / CACHE_PIECE : c->n_pieces;
	c->fd = dir && c->limit ? open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
	int r = dir && c->limit && c->fd < 0 ? -errno : 0;

	if (r < 0)
		err_set(err, r, "cannot make a cache in '%s': %s", dir, strerror(-r));
	if (c->fd >= 0) {
		c->stored = calloc(c->n_pieces / 8 + 1, 1);
		c->ring = calloc(c->limit, sizeof(*c->ring));
		if (!c->stored || !c->ring)
			r = err_set(err, -ENOMEM, "out of memory");
	}
	if (r < 0)
		proto_cache_free(c);
	else
		*out = c;
	return r;
}

void proto_cache_free(struct proto_cache *c)
{
	if (!c)
		return;
	for (int i = 0; i < CACHE_SLOTS; i++)
		free(c->slots[i].data);
	if (c->fd >= 0)
		close(c->fd);
	free(c->stored);
	free(c->ring);
	free(c);
}
