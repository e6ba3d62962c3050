/* SPDX-License-Identifier: Apache-2.0 */
/* The source of a cut-off post-copy, which begins again with what the other side says that it is owed. */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "mem/gmem.h"
#include "util/err.h"
#include "vm/migrate_post.h"
#include "vm/migrate_priv.h"

/* One page more than a number of words has: the last word of what is owed is of one page. */
enum { PAGES = 257, WORDS = 5 };

struct cut_off {
	struct machine *m;
	struct migration *g;
	struct migrate_link peer, peer_side;
};

static void pair(struct migrate_link *a, struct migrate_link *b)
{
	int sv[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	migrate_link_init(a, sv[0]);
	migrate_link_init(b, sv[1]);
}

static void cut_off_open(struct cut_off *s)
{
	struct err e = ERR_INIT;

	s->m = calloc(1, sizeof(*s->m));
	s->g = calloc(1, sizeof(*s->g));
	CHECK_EQ(gmem_new(&s->m->mem, (uint64_t)PAGES << GMEM_PAGE_SHIFT, &e), 0);
	s->g->m = s->m;
	s->g->owed = calloc(WORDS, sizeof(s->g->owed[0]));
	CHECK_EQ(migrate_lanes_init(&s->g->lanes, &(struct migrate_lanes_config){
		.mem = s->m->mem, .first = &s->g->link, .n = 2, .packing = MIGRATE_RAW,
	}, &e), 0);
	pair(&s->g->link, &s->peer);
	pair(&s->g->lanes.side[0], &s->peer_side);
}

static void cut_off_close(struct cut_off *s)
{
	migrate_post_end(s->g);
	migrate_lanes_fini(&s->g->lanes);
	migrate_link_fini(&s->g->link);
	migrate_link_fini(&s->peer);
	migrate_link_fini(&s->peer_side);
	gmem_free(s->m->mem);
	free((void *)s->g->owed);
	free(s->g);
	free(s->m);
}

/* What it comes to when the other side says that it is owed N words from FIRST on, which are WORD. */
static int owe(struct cut_off *s, uint64_t first, unsigned n, uint64_t word, struct err *e)
{
	struct migrate_hello hello = { .version = le32_of(MIGRATE_VERSION) };
	struct migrate_owed h = { .first = le64_of(first) };
	le64 words[WORDS + 1];

	cut_off_open(s);
	memcpy(hello.magic, MIGRATE_MAGIC, sizeof(hello.magic));
	for (unsigned i = 0; i < n; i++)
		words[i] = le64_of(word);
	CHECK_EQ(migrate_send(&s->peer, MIGRATE_HELLO, &hello, sizeof(hello), NULL, 0, e), 0);
	for (int twice = 0; twice < 2; twice++)
		CHECK_EQ(migrate_send(&s->peer, MIGRATE_OWED, &h, sizeof(h), words, n * sizeof(words[0]), e), 0);
	CHECK_EQ(migrate_send(&s->peer, MIGRATE_BUILT, NULL, 0, NULL, 0, e), 0);
	return migrate_post_again(s->g, e);
}

static void refused(uint64_t first, unsigned n, uint64_t word)
{
	struct err e = ERR_INIT;
	struct cut_off s;

	CHECK_EQ(owe(&s, first, n, word, &e), -EPROTO);
	CHECK_STR(e.msg, "the other side is owed memory that there is not");
	cut_off_close(&s);
}

TEST(what_is_owed_is_counted_once)
{
	struct err e = ERR_INIT;
	struct cut_off s;

	CHECK_EQ(owe(&s, 3, 2, 1, &e), 0);
	CHECK_EQ(atomic_load(&s.g->n_owed), 2);
	CHECK_EQ(atomic_load(&s.g->owed[3]), 1);
	CHECK_EQ(atomic_load(&s.g->owed[4]), 1);
	cut_off_close(&s);
}

/* Otherwise it would be sent what lies behind the guest's memory in this process. */
TEST(memory_behind_the_last_page_is_owed_to_nobody)
{
	refused(WORDS - 1, 1, 2);
	refused(WORDS - 1, 1, ~0ull);
	refused(0, WORDS, 2);
	refused(0, WORDS + 1, 0);
	refused(WORDS + 1, 1, 1);
	refused(UINT64_MAX, 1, 1);
}
