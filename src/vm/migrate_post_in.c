/* SPDX-License-Identifier: Apache-2.0 */
/* Post-copy at the destination: the guest runs and some of its memory is elsewhere. One thread hears from the host's kernel who
 * waits for what (mem/lazy.h) and asks for it over the second connection, one takes the answers, and the one that talks takes
 * what comes over the first. None of them needs the loop, which may be waiting for memory itself. */
#include <errno.h>
#include <string.h>
#include "mem/gmem.h"
#include "mem/lazy.h"
#include "vm/migrate_post.h"

enum { ASK_MS = 100 };          /* after which the asker looks whether it is to end */

int migrate_fill_init(struct migrate_fill *f, struct gmem *mem, struct huge *huge, int fd, struct err *err)
{
	*f = (struct migrate_fill){ .first = { .mem = mem }, .second = { .mem = mem } };
	int r = lazy_new(&f->lazy, mem, huge, fd, err);

	if (r < 0)
		return r;
	f->first.lazy = f->second.lazy = f->lazy;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	return 0;
}

void migrate_fill_fini(struct migrate_fill *f)
{
	if (!f->lazy)
		return;
	migrate_fill_disconnect(f);
	pthread_mutex_lock(&f->lock);
	f->is_ending = true;
	pthread_mutex_unlock(&f->lock);
	if (f->has_asker)
		pthread_join(f->asker, NULL);
	migrate_receiver_fini(&f->first);
	migrate_receiver_fini(&f->second);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
	lazy_free(f->lazy);
	*f = (struct migrate_fill){ .lazy = NULL };
}

int migrate_fill_owe(struct migrate_fill *f, const struct migrate_record *rec, struct err *err)
{
	struct migrate_owed h;
	uint64_t words[MIGRATE_OWED_WORDS];
	size_t n = rec->len < sizeof(h) ? 0 : (rec->len - sizeof(h)) / 8;

	if (!n || n > MIGRATE_OWED_WORDS)
		return err_set(err, -EPROTO, "what memory comes later is not said");
	memcpy(&h, rec->p, sizeof(h));
	for (size_t i = 0; i < n; i++) {
		le64 w;

		memcpy(&w, rec->p + sizeof(h) + i * 8, sizeof(w));
		words[i] = le64_get(w);
	}
	return lazy_owe(f->lazy, le64_get(h.first), words, n) < 0 ?
		err_set(err, -EPROTO, "memory that comes later lies at an impossible place") : 0;
}

static uint64_t fill_word(const void *arg, uint64_t n)
{
	const struct migrate_fill *f = arg;

	return lazy_word(f->lazy, n);
}

int migrate_fill_tell(struct migrate_fill *f, struct migrate_link *l, struct err *err)
{
	return migrate_post_tell(l, fill_word, f, ((f->first.mem->size >> GMEM_PAGE_SHIFT) + 63) / 64, err);
}

/* --- asking --- */

static void fill_ask(struct migrate_fill *f, const uint64_t *pages, unsigned n)
{
	le64 list[MIGRATE_REQUEST_PAGES];

	for (unsigned i = 0; i < n; i++)
		list[i] = le64_of(pages[i]);
	pthread_mutex_lock(&f->lock);   /* what fails is asked for again, over another connection */
	if (f->pages && n)
		(void)migrate_send(f->pages, MIGRATE_REQUEST, list, n * sizeof(list[0]), NULL, 0, NULL);
	pthread_mutex_unlock(&f->lock);
}

static void fill_ask_again(struct migrate_fill *f)
{
	uint64_t pages[MIGRATE_REQUEST_PAGES], at = 0;
	unsigned n;

	do {
		for (n = 0; n < MIGRATE_REQUEST_PAGES && (at = lazy_waited(f->lazy, at)) != UINT64_MAX; n++)
			pages[n] = at++;
		fill_ask(f, pages, n);
	} while (n == MIGRATE_REQUEST_PAGES);
}

static void *fill_asker(void *arg)
{
	struct migrate_fill *f = arg;
	bool is_ending = false;

	pthread_setname_np(pthread_self(), "page-asker");
	while (!is_ending) {
		uint64_t page;
		bool again;

		if (lazy_next(f->lazy, ASK_MS, &page))
			fill_ask(f, &page, 1);
		pthread_mutex_lock(&f->lock);
		is_ending = f->is_ending;
		again = f->asks_again && f->pages;
		if (again)
			f->asks_again = false;
		pthread_mutex_unlock(&f->lock);
		if (again)
			fill_ask_again(f);
	}
	return NULL;
}

int migrate_fill_start(struct migrate_fill *f, struct err *err)
{
	int r = lazy_start(f->lazy, err);

	if (r < 0)
		return r;
	r = pthread_create(&f->asker, NULL, fill_asker, f);
	if (r)
		return err_set(err, -r, "cannot start a thread: %s", strerror(r));
	f->has_asker = true;
	return 0;
}

/* --- taking --- */

static void fill_check_locked(struct migrate_fill *f)
{
	if (!f->is_loading || !f->why.code || f->is_given_up)
		return;
	f->is_given_up = true;
	lazy_give_up(f->lazy);
}

void migrate_fill_load(struct migrate_fill *f)
{
	pthread_mutex_lock(&f->lock);
	f->is_loading = true;
	fill_check_locked(f);
	pthread_mutex_unlock(&f->lock);
}

int migrate_fill_loaded(struct migrate_fill *f, struct err *err)
{
	pthread_mutex_lock(&f->lock);
	f->is_loading = false;
	int r = f->is_given_up ? err_set(err, -EPIPE, "%s", f->why.msg) : 0;
	pthread_mutex_unlock(&f->lock);
	return r;
}

static void *fill_taker(void *arg)
{
	struct migrate_fill *f = arg;
	struct migrate_link *l = f->pages;      /* stays until this thread has ended */
	struct migrate_record rec;
	struct err why = ERR_INIT;
	int r = 0;

	pthread_setname_np(pthread_self(), "page-taker");
	while (!r) {
		r = migrate_recv(l, MIGRATE_BIT(MIGRATE_PAGES), &rec, &why);
		if (!r)
			r = migrate_receive_pages(&f->second, &rec, &why);
		pthread_mutex_lock(&f->lock);
		pthread_cond_signal(&f->changed);
		pthread_mutex_unlock(&f->lock);
	}
	if (r == -EPROTO)
		migrate_send_fail(l, &why);
	pthread_mutex_lock(&f->lock);
	f->why = why;
	fill_check_locked(f);
	atomic_store(&f->talk->gives_up, true);
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

int migrate_fill_connect(struct migrate_fill *f, struct migrate_link *talk, struct migrate_link *pages, struct err *err)
{
	pages->timeout_ms = INT32_MAX;  /* nobody may wait for anything */
	pthread_mutex_lock(&f->lock);
	f->talk = talk;
	f->pages = pages;
	f->asks_again = true;
	f->why = (struct err)ERR_INIT;
	int r = pthread_create(&f->taker, NULL, fill_taker, f);
	f->has_taker = !r;
	if (r)
		f->pages = NULL;
	pthread_mutex_unlock(&f->lock);
	return r ? err_set(err, -r, "cannot start a thread: %s", strerror(r)) : 0;
}

void migrate_fill_disconnect(struct migrate_fill *f)
{
	if (!f->has_taker)
		return;
	migrate_link_cancel(f->pages);  /* who asks or takes does so no longer */
	pthread_join(f->taker, NULL);
	f->has_taker = false;
	pthread_mutex_lock(&f->lock);
	f->pages = NULL;
	pthread_mutex_unlock(&f->lock);
}

void migrate_fill_cancel(struct migrate_fill *f)
{
	pthread_mutex_lock(&f->lock);
	f->is_ending = true;
	if (f->pages)
		migrate_link_cancel(f->pages);
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

/* The source has sent all: what was asked for may still be on its way. */
static void fill_wait(struct migrate_fill *f)
{
	pthread_mutex_lock(&f->lock);
	while (lazy_left(f->lazy) && !f->why.code && !f->is_ending)
		pthread_cond_wait(&f->changed, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

int migrate_fill_run(struct migrate_fill *f, struct err *err)
{
	struct migrate_record rec = { .type = MIGRATE_PAGES };
	struct err why = ERR_INIT;
	int r = 0;

	while (!r && rec.type != MIGRATE_END) {
		r = migrate_recv(f->talk, MIGRATE_BIT(MIGRATE_PAGES) | MIGRATE_BIT(MIGRATE_END) | MIGRATE_BIT(MIGRATE_ALIVE), &rec, &why);
		if (!r && rec.type == MIGRATE_PAGES)
			r = migrate_receive_pages(&f->first, &rec, &why);
	}
	if (!r)
		fill_wait(f);
	migrate_fill_disconnect(f);
	if (!lazy_left(f->lazy)) {      /* whatever has happened to the connections since */
		atomic_store(&f->talk->gives_up, false);
		return 0;
	}
	if (r == -ECANCELED || !r)
		why = f->why;
	return err_set(err, why.code ? why.code : -EPIPE, "%s", why.code ? why.msg : "the other side has not sent all memory");
}
