/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that comes while somebody uses it. */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include "mem/gmem.h"
#include "mem/huge.h"
#include "mem/lazy.h"
#include "util/err.h"

enum { PAGES = 256, SIZE = PAGES * GMEM_PAGE_SIZE };

/* *L is NULL where the host does not allow it. */
static struct gmem *ram(struct lazy **l)
{
	struct gmem *m = NULL;
	struct err e = ERR_INIT;
	int fd = lazy_open(&e);

	CHECK_EQ(gmem_new(&m, 1 << 20, NULL), 0);
	*l = NULL;
	if (fd < 0)
		CHECK_HAS(e.msg, "userfaultfd");
	else
		CHECK_EQ(lazy_new(l, m, NULL, fd, &e), 0);
	return m;
}

static void owe_page(struct lazy *l, uint64_t page)
{
	uint64_t word = 1ull << (page % 64);

	CHECK_EQ(lazy_owe(l, page / 64, &word, 1), 0);
}

struct reader {
	const struct gmem *m;
	uint64_t page;
	_Atomic int seen;       /* 0: waits */
	pthread_t thread;
};

static void *reader_main(void *arg)
{
	struct reader *r = arg;

	r->seen = *(volatile uint8_t *)(r->m->host + r->page * GMEM_PAGE_SIZE) + 1;
	return NULL;
}

static void start(struct reader *r, const struct gmem *m, uint64_t page)
{
	*r = (struct reader){ .m = m, .page = page };
	CHECK_EQ(pthread_create(&r->thread, NULL, reader_main, r), 0);
}

static uint64_t next(struct lazy *l)
{
	uint64_t page = UINT64_MAX;

	for (int i = 0; i < 500 && !lazy_next(l, 10, &page); i++)
		;
	return page;
}

TEST(who_touches_what_is_owed_waits_for_it_and_nobody_else_does)
{
	struct lazy *l;
	struct gmem *m = ram(&l);
	uint8_t page[2 * GMEM_PAGE_SIZE];
	struct reader a, b;

	if (!l)
		SKIP("this host has no userfaultfd for this user");
	memset(m->host, 1, 8 * GMEM_PAGE_SIZE);
	owe_page(l, 2);
	owe_page(l, 3);
	owe_page(l, 200);
	CHECK_EQ(lazy_left(l), 3);
	CHECK_EQ(lazy_start(l, NULL), 0);
	CHECK_EQ(m->host[GMEM_PAGE_SIZE], 1);
	start(&a, m, 3);
	CHECK_EQ(next(l), 3);
	CHECK_EQ(lazy_waited(l, 0), 3);
	start(&b, m, 100);                      /* neither owed nor there */
	for (int i = 0; i < 500 && !b.seen; i++)
		lazy_next(l, 10, &(uint64_t){ 0 });
	CHECK_EQ(b.seen, 1);
	CHECK_EQ(a.seen, 0);
	memset(page, 7, sizeof(page));
	CHECK_EQ(lazy_place(l, 3 * GMEM_PAGE_SIZE, page, sizeof(page), NULL), 0);       /* the fourth is not owed */
	pthread_join(a.thread, NULL);
	pthread_join(b.thread, NULL);
	CHECK_EQ(a.seen, 8);
	CHECK_EQ(m->host[4 * GMEM_PAGE_SIZE], 1);
	CHECK_EQ(lazy_waited(l, 0), UINT64_MAX);
	CHECK_EQ(lazy_left(l), 2);
	CHECK_EQ(lazy_word(l, 0), 4);
	CHECK_EQ(lazy_word(l, 3), 1ull << (200 - 192));
	lazy_free(l);
	gmem_free(m);
}

TEST(a_page_is_told_once_and_may_come_twice)
{
	struct lazy *l;
	struct gmem *m = ram(&l);
	uint8_t page[GMEM_PAGE_SIZE];
	struct reader a, b;

	if (!l)
		SKIP("this host has no userfaultfd for this user");
	owe_page(l, 5);
	CHECK_EQ(lazy_start(l, NULL), 0);
	start(&a, m, 5);
	CHECK_EQ(next(l), 5);
	start(&b, m, 5);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(lazy_next(l, 10, &(uint64_t){ 0 }), 0);
	memset(page, 9, sizeof(page));
	CHECK_EQ(lazy_place(l, 5 * GMEM_PAGE_SIZE, page, sizeof(page), NULL), 0);
	memset(page, 8, sizeof(page));
	CHECK_EQ(lazy_place(l, 5 * GMEM_PAGE_SIZE, page, sizeof(page), NULL), 0);
	pthread_join(a.thread, NULL);
	pthread_join(b.thread, NULL);
	CHECK(a.seen == 10 && b.seen == 10 && !lazy_left(l));
	lazy_free(l);
	gmem_free(m);
}

TEST(what_is_owed_lies_within_memory)
{
	uint64_t words[6] = { ~0ull, ~0ull, ~0ull, ~0ull, 1, 0 };
	struct lazy *l;
	struct gmem *m = ram(&l);

	if (!l)
		SKIP("this host has no userfaultfd for this user");
	CHECK_EQ(lazy_owe(l, 0, words, 5), -ERANGE);
	CHECK_EQ(lazy_owe(l, 4, words, 1), -ERANGE);
	CHECK_EQ(lazy_owe(l, UINT64_MAX, words, 2), -ERANGE);
	CHECK_EQ(lazy_owe(l, 1, words, UINT64_MAX), -ERANGE);
	CHECK_EQ(lazy_left(l), 0);
	CHECK_EQ(lazy_owe(l, 0, words, 4), 0);
	CHECK_EQ(lazy_owe(l, 0, words, 4), 0);
	CHECK_EQ(lazy_left(l), PAGES);
	lazy_free(l);
	gmem_free(m);
}

TEST(large_pages_are_not_made_meanwhile)
{
	AUTO(gmem_free) struct gmem *m = NULL;
	struct err e = ERR_INIT;
	struct lazy *l = NULL;
	struct huge *h = NULL;
	int fd = lazy_open(&e);

	if (fd < 0)
		SKIP("this host has no userfaultfd for this user");
	CHECK_EQ(gmem_new(&m, HUGE_SIZE, NULL), 0);
	CHECK_EQ(huge_new(&h, m, NULL), 0);
	CHECK_EQ(lazy_new(&l, m, h, fd, NULL), 0);
	memset(m->host, 1, HUGE_SIZE);
	owe_page(l, 7);
	CHECK_EQ(lazy_start(l, NULL), 0);
	for (int i = 0; i < 5; i++)
		huge_step(h);
	CHECK_EQ(huge_count(h), 0);
	lazy_free(l);
	CHECK_EQ(m->host[7 * GMEM_PAGE_SIZE], 0);
	huge_free(h);
}
