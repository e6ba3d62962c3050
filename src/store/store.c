/* SPDX-License-Identifier: Apache-2.0 */
/* store.c - the copy in memory, the recent history, and those who watch. */
#include "store/store_ops.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "util/loop.h"

struct history {
	int64_t revision;
	bool is_delete;
	struct doc *doc;
};

struct store {
	const struct store_ops *ops;
	struct store_backend *backend;
	struct loop *loop;
	struct docmap docs;
	int64_t revision;
	int64_t forgotten;              /* changes up to here are not in HISTORY (any more) */
	struct history *history;        /* a ring: the oldest of N_HISTORY is at HISTORY_AT */
	unsigned n_history, history_at;
	struct store_watch *watches;
	struct store_watch *next_watch; /* whom to call next, while calling */
	unsigned n_refused;             /* commits that ended before they were begun, on their way */
};

/* --- reading --------------------------------------------------------------------------------------- */

int64_t store_revision(const struct store *s) { return s->revision; }
size_t store_count(const struct store *s) { return s->docs.count; }

const struct store_doc *store_get(const struct store *s, const char *key)
{
	struct doc *d = docmap_get(&s->docs, key);

	return d ? &d->d : NULL;
}

const struct store_doc *store_next(const struct store *s, const char *prefix, const char *after)
{
	bool from_start = !after || strcmp(after, prefix) < 0;
	struct doc *d = docmap_after(&s->docs, from_start ? prefix : after, from_start);

	return d && !strncmp(d->d.key, prefix, strlen(prefix)) ? &d->d : NULL;
}

/* --- watching --------------------------------------------------------------------------------------- */

static void watch_tell(struct store_watch *w, const struct history *h)
{
	struct store_event e = { h->revision, h->is_delete, &h->doc->d };

	if (!strncmp(h->doc->d.key, w->prefix, strlen(w->prefix)))
		w->fn(w, &e);
}

int store_watch_start(struct store *s, struct store_watch *w, int64_t from)
{
	if (from != STORE_ANY && (from < s->forgotten || from > s->revision))
		return -ERANGE;
	w->store = s;
	w->next = s->watches;
	w->at = &s->watches;
	if (w->next)
		w->next->at = &w->next;
	s->watches = w;
	for (unsigned i = 0; from != STORE_ANY && i < s->n_history && w->store; i++) {
		struct history *h = &s->history[(s->history_at + i) % STORE_HISTORY];

		if (h->revision > from)
			watch_tell(w, h);
	}
	return 0;
}

void store_watch_stop(struct store_watch *w)
{
	struct store *s = w->store;

	if (!s)
		return;
	if (s->next_watch == w)
		s->next_watch = w->next;
	*w->at = w->next;
	if (w->next)
		w->next->at = w->at;
	w->store = NULL;
}

/* Takes the reference to H's document. */
static void history_add(struct store *s, struct history h)
{
	if (s->n_history == STORE_HISTORY) {
		struct history *old = &s->history[s->history_at];

		s->forgotten = old->revision;
		doc_unref(old->doc);
		s->history_at = (s->history_at + 1) % STORE_HISTORY;
		s->n_history--;
	}
	s->history[(s->history_at + s->n_history++) % STORE_HISTORY] = h;
	for (struct store_watch *w = s->watches; w; w = s->next_watch) {
		s->next_watch = w->next;
		watch_tell(w, &h);
	}
	s->next_watch = NULL;
}

/* --- changing ---------------------------------------------------------------------------------------- */

/* A durable commit shows. */
static void apply(struct store *s, struct commit *c)
{
	s->revision = c->revision;
	for (unsigned i = 0; i < c->n; i++) {
		const struct store_op *op = &c->ops[i];
		struct doc *d = NULL;

		if (op->kind == STORE_PUT) {
			const struct doc *old = docmap_get(&s->docs, op->key);

			d = take_ptr(&c->puts[i]);
			d->d.created = old ? old->d.created : c->revision;
			d->d.modified = c->revision;
			docmap_put(&s->docs, doc_ref(d));
		} else if (op->kind == STORE_DELETE) {
			d = docmap_take(&s->docs, op->key);
		}
		if (d)
			history_add(s, (struct history){ c->revision, op->kind == STORE_DELETE, d });
	}
}

static void commit_free(struct commit *c)
{
	for (unsigned i = 0; c && i < c->n; i++)
		doc_unref(c->puts[i]);
	free(c);
}
DEFINE_AUTO(struct commit *, commit_free)

static void commit_end(void *arg, struct commit *c)
{
	struct store *s = arg;
	bool is_done = !c->err.code;

	if (is_done)
		apply(s, c);
	if (c->done) {
		struct store_result r = { c->err.code, c->failed_op, is_done ? c->revision : 0, is_done ? "" : c->err.msg };

		c->done(c->arg, &r);
	}
	commit_free(c);
}

static bool is_key(const char *key)
{
	size_t n = 0;

	for (; key[n]; n++)
		if (key[n] <= ' ' || key[n] > '~' || n >= STORE_KEY_MAX)
			return false;
	return n > 0;
}

static int check_ops(const struct store_op *ops, unsigned n, struct err *err)
{
	if (!n || n > STORE_OPS_MAX)
		return err_set(err, -EINVAL, "a commit has 1 to %d operations, not %u", STORE_OPS_MAX, n);
	for (unsigned i = 0; i < n; i++) {
		if (!is_key(ops[i].key))
			return err_set(err, -EINVAL, "'%.40s' cannot be a key: 1 to %d printable characters without spaces",
				       ops[i].key, STORE_KEY_MAX);
		if (ops[i].kind == STORE_PUT && ops[i].len > STORE_VALUE_MAX)
			return err_set(err, -EINVAL, "the document '%s' has %zu bytes; at most %d fit", ops[i].key, ops[i].len,
				       STORE_VALUE_MAX);
	}
	return 0;
}

static struct commit *commit_new(const struct store_op *ops, unsigned n)
{
	size_t size = sizeof(struct commit) + n * sizeof(*ops);

	for (unsigned i = 0; i < n; i++)
		size += strlen(ops[i].key) + 1;
	AUTO(commit_free) struct commit *c = calloc(1, size);

	if (!c)
		return NULL;
	c->n = n;
	c->ops = (struct store_op *)(c + 1);
	char *at = (char *)(c->ops + n);

	for (unsigned i = 0; i < n; i++) {
		struct store_op *op = &c->ops[i];

		*op = ops[i];
		op->key = at;
		at = stpcpy(at, ops[i].key) + 1;
		if (op->kind != STORE_PUT)
			continue;
		c->puts[i] = doc_new(op->key, op->value, op->len, 0, 0);
		if (!c->puts[i])
			return NULL;
		op->value = c->puts[i]->d.value;
	}
	return take_ptr(&c);
}

/* A commit that the store refuses. */
struct refusal {
	struct store *s;
	store_done_fn done;
	void *arg;
	struct err err;
};

static void refusal_run(void *arg)
{
	struct refusal *f = arg;
	struct store_result r = { .code = f->err.code, .message = f->err.msg };

	f->s->n_refused--;
	f->done(f->arg, &r);
	free(f);
}

static void refuse(struct store *s, store_done_fn done, void *arg, const struct err *err)
{
	struct refusal *f = done ? malloc(sizeof(*f)) : NULL;

	if (!f)
		return;
	*f = (struct refusal){ s, done, arg, *err };
	s->n_refused++;
	if (loop_call(s->loop, refusal_run, f) < 0)
		refusal_run(f);
}

void store_commit(struct store *s, const struct store_op *ops, unsigned n, store_done_fn done, void *arg)
{
	struct err err = ERR_INIT;
	struct commit *c = check_ops(ops, n, &err) < 0 ? NULL : commit_new(ops, n);

	if (!c) {
		if (!err.code)
			err_set(&err, -ENOMEM, "out of memory");
		refuse(s, done, arg, &err);
		return;
	}
	c->done = done;
	c->arg = arg;
	s->ops->begin(s->backend, c);
}

void store_scrub(struct store *s)
{
	s->ops->scrub(s->backend);
}

void store_health(const struct store *s, struct store_health *out)
{
	s->ops->health(s->backend, out);
}

/* --- life cycle ------------------------------------------------------------------------------------------ */

static void load(void *arg, struct doc *d)
{
	docmap_put(&((struct store *)arg)->docs, d);
}

int store_open(struct store **out, struct loop *loop, const char *path, struct err *err)
{
	AUTO(store_close) struct store *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->history = calloc(STORE_HISTORY, sizeof(*s->history));
	if (!s->history)
		return err_set(err, -ENOMEM, "out of memory");
	s->loop = loop;
	s->ops = &store_sqlite;
	const struct store_sink sink = { s, commit_end };
	int r = s->ops->open(&s->backend, loop, path, &sink, load, &s->revision, err);

	if (r < 0)
		return r;
	s->forgotten = s->revision;
	*out = take_ptr(&s);
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	if (s->backend)
		s->ops->close(s->backend);
	while (s->n_refused)
		loop_run_once(s->loop, -1);
	while (s->watches)
		store_watch_stop(s->watches);
	for (unsigned i = 0; i < s->n_history; i++)
		doc_unref(s->history[(s->history_at + i) % STORE_HISTORY].doc);
	free(s->history);
	docmap_fini(&s->docs);
	free(s);
}
