/* SPDX-License-Identifier: Apache-2.0 */
/* Post-copy at the source: the guest runs at the other side, and some of its memory is still here. Two threads send it: this
 * migration's over the first connection, page after page, and one that answers requests over the second. Who sends a page takes its
 * bit first. When a connection breaks both end, and begin again with what the other side then says that it is owed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "mem/gmem.h"
#include "vm/migrate_post.h"
#include "vm/migrate_priv.h"

enum { AHEAD = 8 };             /* pages that go along with one that was asked for, if they are neighbours */

static uint64_t post_words(const struct migration *g)
{
	return ((g->m->mem->size >> GMEM_PAGE_SHIFT) + 63) / 64;
}

int migrate_post_take(struct migration *g, struct err *err)
{
	struct migrate_sender *s = &g->lanes.sender;

	atomic_store(&s->is_cut, false);
	g->owed = calloc(post_words(g), sizeof(g->owed[0]));
	if (!g->owed)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint64_t w = 0; w < post_words(g); w++) {
		atomic_store(&g->owed[w], s->bitmap[w]);
		atomic_fetch_add(&g->n_owed, (uint64_t)__builtin_popcountll(s->bitmap[w]));
	}
	return 0;
}

static uint64_t post_word(const void *arg, uint64_t w)
{
	const struct migration *g = arg;

	return atomic_load(&g->owed[w]);
}

int migrate_post_tell(struct migrate_link *l, uint64_t (*word)(const void *arg, uint64_t n), const void *arg, uint64_t n,
		      struct err *err)
{
	AUTO(free) le64 *words = malloc(MIGRATE_OWED_WORDS * sizeof(*words));
	int r = words ? 0 : err_set(err, -ENOMEM, "out of memory");

	for (uint64_t first = 0; !r && first < n; first += MIGRATE_OWED_WORDS) {
		uint64_t k = n - first < MIGRATE_OWED_WORDS ? n - first : MIGRATE_OWED_WORDS, any = 0;
		struct migrate_owed h = { .first = le64_of(first) };

		for (uint64_t i = 0; i < k; i++) {
			uint64_t w = word(arg, first + i);

			any |= w;
			words[i] = le64_of(w);
		}
		if (any)
			r = migrate_send(l, MIGRATE_OWED, &h, sizeof(h), words, k * sizeof(*words), err);
	}
	return r;
}

int migrate_post_announce(struct migration *g, struct err *err)
{
	return migrate_post_tell(&g->link, post_word, g, post_words(g), err);
}

/* --- answering requests --- */

/* PAGE and its neighbours, if they have not been sent. */
static int post_answer(struct migration *g, uint64_t page, struct err *err)
{
	uint64_t w = page / 64, bit = page % 64, have;
	unsigned n = 0;

	if (w >= post_words(g))
		return err_set(err, -EPROTO, "the other side asks for memory that there is not");
	have = atomic_load(&g->owed[w]) >> bit;
	while (n < AHEAD && bit + n < 64 && have >> n & 1)
		n++;
	if (!n)
		return 0;
	uint64_t mask = ((1ull << n) - 1) << bit, got = atomic_fetch_and(&g->owed[w], ~mask) & mask;
	atomic_fetch_sub(&g->n_owed, (uint64_t)__builtin_popcountll(got));
	int r = 0;
	for (unsigned i = 0; !r && i < n; i++) {
		if (got >> (bit + i) & 1)
			r = migrate_lane_send(&g->lanes.lane[1], page + i, 1, false, err);
	}
	return r;
}

static void *post_server(void *arg)
{
	struct migration *g = arg;
	struct migrate_link *l = &g->lanes.side[0];
	struct migrate_record rec;
	int r = 0;

	pthread_setname_np(pthread_self(), "migrate-pages");
	l->timeout_ms = INT32_MAX;      /* nobody may wait for anything */
	while (!r) {
		r = migrate_recv(l, MIGRATE_BIT(MIGRATE_REQUEST), &rec, &g->server_err);
		for (size_t i = 0; !r && i + 8 <= rec.len; i += 8) {
			le64 page;

			memcpy(&page, rec.p + i, sizeof(page));
			r = post_answer(g, le64_get(page), &g->server_err);
		}
	}
	/* Without it the other side's processors wait in vain: the rest ends, too. If all has been sent, the other side closes this, or
	 * tells over the first connection. */
	if (atomic_load(&g->n_owed)) {
		atomic_store(&g->lanes.sender.is_over, true);
		atomic_store(&g->link.gives_up, true);
	}
	return NULL;
}

int migrate_post_serve(struct migration *g, struct err *err)
{
	int r;

	g->server_err = (struct err)ERR_INIT;
	r = pthread_create(&g->server, NULL, post_server, g);
	if (r)
		return err_set(err, -r, "cannot start a thread: %s", strerror(r));
	g->has_server = true;
	return 0;
}

void migrate_post_end(struct migration *g)
{
	if (!g->has_server)
		return;
	migrate_link_cancel(&g->lanes.side[0]);
	pthread_join(g->server, NULL);
	g->has_server = false;
}

/* --- sending the rest --- */

static int post_push_word(struct migration *g, uint64_t w, struct err *err)
{
	uint64_t bits = atomic_exchange(&g->owed[w], 0);
	int r = 0;

	atomic_fetch_sub(&g->n_owed, (uint64_t)__builtin_popcountll(bits));
	while (!r && bits) {
		unsigned first = (unsigned)__builtin_ctzll(bits);
		uint64_t rest = ~(bits >> first);
		unsigned n = rest ? (unsigned)__builtin_ctzll(rest) : 64;

		n = n < 64 - first ? n : 64 - first;
		r = migrate_lane_send(&g->lanes.lane[0], w * 64 + first, n, true, err);
		bits &= first + n < 64 ? ~0ull << (first + n) : 0;
	}
	return r;
}

int migrate_post_push(struct migration *g, struct err *err)
{
	struct migrate_record rec;
	struct err why = ERR_INIT;
	int r = 0;

	migrate_sender_set_bandwidth(&g->lanes.sender, atomic_load(&g->bandwidth));
	for (uint64_t w = 0; !r && w < post_words(g); w++) {
		if (atomic_load(&g->lanes.sender.is_over))
			r = err_set(&why, -ECANCELED, "another connection of the migration broke");
		else if (atomic_load(&g->owed[w]))
			r = post_push_word(g, w, &why);
	}
	if (!r)
		r = migrate_send(&g->link, MIGRATE_END, NULL, 0, NULL, 0, &why);
	if (!r)
		r = migrate_recv(&g->link, MIGRATE_BIT(MIGRATE_COMPLETE), &rec, &why);
	migrate_recv_why(&g->link, &why);
	migrate_post_end(g);
	if (r == -ECANCELED && g->server_err.code)
		why = g->server_err;
	return r < 0 ? err_set(err, why.code, "%s", why.msg) : 0;
}

/* --- once more --- */

static int post_take_back(struct migration *g, const struct migrate_record *rec, struct err *err)
{
	uint64_t pages = g->m->mem->size >> GMEM_PAGE_SHIFT;
	struct migrate_owed h;

	if (rec->len < sizeof(h))
		return err_set(err, -EPROTO, "the other side says nonsense about what it is owed");
	size_t n = (rec->len - sizeof(h)) / 8;
	memcpy(&h, rec->p, sizeof(h));
	uint64_t first = le64_get(h.first);
	bool is_there = first <= post_words(g) && n <= post_words(g) - first;
	for (size_t i = 0; is_there && i < n; i++) {
		uint64_t word = get_le64(rec->p + sizeof(h) + i * 8), room = pages - (first + i) * 64;

		is_there = room >= 64 || !(word >> room);       /* the last word may have more bits than there are pages */
		if (is_there)
			atomic_fetch_add(&g->n_owed, (uint64_t)__builtin_popcountll(word & ~atomic_fetch_or(&g->owed[first + i], word)));
	}
	return is_there ? 0 : err_set(err, -EPROTO, "the other side is owed memory that there is not");
}

int migrate_post_again(struct migration *g, struct err *err)
{
	struct migrate_record rec = { .type = MIGRATE_OWED };
	struct migrate_hello theirs;
	int r = migrate_hello(&g->link, true, g->m->mem->size, 0, NULL, &theirs, err);

	if (!r)
		r = migrate_send(&g->link, MIGRATE_RECOVER, g->lanes.plan.token, MIGRATE_TOKEN_LEN, NULL, 0, err);
	if (!r)
		r = migrate_lanes_rejoin(&g->lanes, 1, err);
	for (uint64_t w = 0; w < post_words(g); w++)
		atomic_store(&g->owed[w], 0);
	atomic_store(&g->n_owed, 0);
	while (!r && rec.type == MIGRATE_OWED) {
		r = migrate_recv(&g->link, MIGRATE_BIT(MIGRATE_OWED) | MIGRATE_BIT(MIGRATE_BUILT), &rec, err);
		if (!r && rec.type == MIGRATE_OWED)
			r = post_take_back(g, &rec, err);
	}
	return r ? r : migrate_post_serve(g, err);
}
