/* SPDX-License-Identifier: Apache-2.0 */
/* sqlite.c - the store's back end on one node: a SQLite database in WAL mode, synchronous = FULL.
 *
 * A writer thread takes all commits that wait and writes them in one transaction, each within a
 * savepoint of its own: one fsync serves all of them, and one that fails its conditions takes nobody
 * with it. What SQLite could not make durable is reported as failed to all of the batch. */
#include "store/sqlite_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "store/store.h"
#include "util/log.h"
#include "util/loop.h"

enum { BATCH_MAX = 256, REPAIR_S = 1 };

static void queue_init(struct queue *q)
{
	q->first = NULL;
	q->end = &q->first;
}

static void queue_add(struct queue *q, struct commit *c)
{
	c->next = NULL;
	*q->end = c;
	q->end = &c->next;
}

/* All of Q; it is empty then. */
static struct commit *queue_take(struct queue *q)
{
	struct commit *c = q->first;

	queue_init(q);
	return c;
}

/* --- writer thread ------------------------------------------------------------------------------------- */

/* The revision at which KEY was last modified, STORE_ABSENT, or negative: failed. */
static int64_t modified_at(struct store_backend *b, const char *key)
{
	sqlite3_stmt *s = b->stmt[GET];

	sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
	int r = sqlite3_step(s);
	int64_t at = r == SQLITE_ROW ? sqlite3_column_int64(s, 0) : r == SQLITE_DONE ? STORE_ABSENT : -EIO;

	sqlite3_reset(s);
	return at;
}

static int run_op(struct store_backend *b, struct commit *c, const struct store_op *op, int64_t revision)
{
	sqlite3_stmt *s = b->stmt[op->kind == STORE_PUT ? PUT : DELETE];

	if (op->if_modified != STORE_ANY) {
		int64_t at = modified_at(b, op->key);

		if (at < 0)
			return sql_error(b, &c->err, "read");
		if (at != op->if_modified)
			return err_set(&c->err, -ESTALE, at == STORE_ABSENT ? "'%s' does not exist (any more)" :
				       op->if_modified == STORE_ABSENT ? "'%s' exists already" :
				       "'%s' has been changed by someone else; read it again", op->key);
	}
	if (op->kind == STORE_CHECK)
		return 0;
	sqlite3_bind_text(s, 1, op->key, -1, SQLITE_STATIC);
	if (op->kind == STORE_PUT) {
		sqlite3_bind_blob(s, 2, op->value, (int)op->len, SQLITE_STATIC);
		sqlite3_bind_int64(s, 3, revision);
	}
	int r = sqlite3_step(s);

	sqlite3_reset(s);
	sqlite3_clear_bindings(s);
	return r == SQLITE_DONE ? 0 : sql_error(b, &c->err, "write to");
}

/* Write C inside the transaction; on failure nothing of it. 0, or negative: the transaction itself is
 * over. */
static int run_commit(struct store_backend *b, struct commit *c, int64_t revision)
{
	unsigned i = 0;

	if (sql_exec(b, "SAVEPOINT one", "write to", &c->err) < 0)
		return c->err.code;
	while (i < c->n && !run_op(b, c, &c->ops[i], revision))
		i++;
	c->failed_op = i < c->n ? i : 0;
	c->revision = revision;
	if (sql_exec(b, i < c->n ? "ROLLBACK TO one; RELEASE one" : "RELEASE one", "write to", i < c->n ? NULL : &c->err) < 0)
		return -EIO;
	return sqlite3_get_autocommit(b->db) ? -EIO : 0;
}

static int set_revision(struct store_backend *b, int64_t revision, struct err *err)
{
	sqlite3_stmt *s = b->stmt[SET_REVISION];

	sqlite3_bind_int64(s, 1, revision);
	int r = sqlite3_step(s);

	sqlite3_reset(s);
	return r == SQLITE_DONE ? 0 : sql_error(b, err, "write to");
}

/* All of the batch from FIRST on, up to BATCH_MAX of them; returns what is left. WHY: the host has failed all of them. */
static struct commit *run_batch(struct store_backend *b, struct commit *first, struct err *why)
{
	int64_t revision = b->revision;
	struct commit *c = first;
	struct err err = ERR_INIT;
	int r = sql_exec(b, "BEGIN IMMEDIATE", "write to", &err);
	unsigned n = 0;

	for (; !r && c && n < BATCH_MAX; c = c->next, n++) {
		r = run_commit(b, c, revision + 1);
		revision += !r && !c->err.code;
		if (r < 0)
			err = c->err;
	}
	if (!r && revision != b->revision)
		r = set_revision(b, revision, &err);
	if (!r)
		r = sql_exec(b, "COMMIT", "write to", &err);
	if (!r) {
		b->revision = revision;
		return c;
	}
	if (!sqlite3_get_autocommit(b->db))
		sql_exec(b, "ROLLBACK", "write to", NULL);
	if (!err.code)
		err_set(&err, -EIO, "cannot write to the store '%s'", b->path);
	if (!n)
		c = first->next;
	for (struct commit *failed = first; failed != c; failed = failed->next)
		if (failed->err.code != -ESTALE)
			failed->err = err;
	*why = err;
	return c;
}

/* --- how the disk does --------------------------------------------------------------------------------- */

/* A batch, or a try to repair, has ended: R and ERR, after since B->busy_since_ns. */
static void tell_health(struct store_backend *b, int r, const struct err *err)
{
	struct store_health *h = &b->health;

	pthread_mutex_lock(&b->lock);
	h->last_ns = loop_now_ns() - b->busy_since_ns;
	h->total_ns += h->last_ns;
	h->writes++;
	h->failures += r < 0;
	h->is_failing = r < 0;
	snprintf(h->reason, sizeof(h->reason), "%s", r < 0 ? err->msg : "");
	b->busy_since_ns = 0;
	pthread_mutex_unlock(&b->lock);
}

/* After a write that failed nobody knows what of it is in the file. One that changes nothing takes its place in SQLite's log before
 * anybody hears of the failure, so that a daemon that is killed does not bring back what was refused (a power cut may, if it was
 * fsync that failed). It is tried until it is durable, which tells that the disk is there again. What SQLite reads then must be what
 * was acknowledged. */
static void repair(struct store_backend *b)
{
	struct err err = ERR_INIT;
	sqlite3_stmt *s = b->stmt[GET_REVISION];
	int r = sql_exec(b, "BEGIN IMMEDIATE", "write to", &err);

	if (!r && sqlite3_step(s) == SQLITE_ROW && sqlite3_column_int64(s, 0) != b->revision)
		r = err_set(&err, -EPROTO, "the store '%s' is at another revision than what has been acknowledged; restart the daemon", b->path);
	sqlite3_reset(s);
	/* There and back: what stays the same is not written. */
	if (!r)
		r = set_revision(b, b->revision + 1, &err);
	if (!r)
		r = set_revision(b, b->revision, &err);
	if (!r)
		r = sql_exec(b, "COMMIT", "write to", &err);
	if (!sqlite3_get_autocommit(b->db))
		sql_exec(b, "ROLLBACK", "write to", NULL);
	tell_health(b, r, &err);
}

static void sqlite_health(struct store_backend *b, struct store_health *out)
{
	pthread_mutex_lock(&b->lock);
	*out = b->health;
	out->waiting_ns = b->busy_since_ns ? loop_now_ns() - b->busy_since_ns : 0;
	pthread_mutex_unlock(&b->lock);
}

/* --- the thread ---------------------------------------------------------------------------------------- */

static void deliver(void *arg)
{
	struct store_backend *b = arg;

	pthread_mutex_lock(&b->lock);
	b->is_posted = false;
	struct commit *c = queue_take(&b->ended);

	pthread_mutex_unlock(&b->lock);
	while (c) {
		struct commit *next = c->next;

		b->sink.ended(b->sink.arg, c);
		c = next;
	}
}

static void post(struct store_backend *b, struct commit *first, const struct commit *end)
{
	pthread_mutex_lock(&b->lock);
	while (first != end) {
		struct commit *next = first->next;

		queue_add(&b->ended, first);
		first = next;
	}
	/* Out of memory for the message: the next one, or close(), delivers. */
	if (!b->is_posted)
		b->is_posted = !loop_call(b->loop, deliver, b);
	pthread_mutex_unlock(&b->lock);
}

static void set_busy(struct store_backend *b)
{
	pthread_mutex_lock(&b->lock);
	b->busy_since_ns = loop_now_ns();
	pthread_mutex_unlock(&b->lock);
}

/* What SQLite's log has of earlier contents goes; what the database had is overwritten there (secure_delete). */
static void scrub(struct store_backend *b)
{
	struct err err = ERR_INIT;
	int r = sql_exec(b, "PRAGMA wal_checkpoint(TRUNCATE)", "write to", &err);

	pthread_mutex_lock(&b->lock);
	b->wants_scrub = false;
	b->busy_since_ns = 0;
	pthread_mutex_unlock(&b->lock);
	if (r < 0)
		log_warn("%s", err.msg);
}

/* What has been begun, or NULL: the store closes, or (*IS_IDLE) nobody wants anything, and it is to be scrubbed or has been failing for a
 * while. */
static struct commit *next_commits(struct store_backend *b, bool *is_idle)
{
	struct timespec until;
	struct commit *c;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += REPAIR_S;
	*is_idle = false;
	pthread_mutex_lock(&b->lock);
	while (!(c = queue_take(&b->begun)) && !b->is_closing && !*is_idle) {
		if (b->wants_scrub && !b->health.is_failing)
			*is_idle = true;
		else if (!b->health.is_failing)
			pthread_cond_wait(&b->wake, &b->lock);
		else
			*is_idle = pthread_cond_timedwait(&b->wake, &b->lock, &until) == ETIMEDOUT;
	}
	pthread_mutex_unlock(&b->lock);
	return c;
}

static void *writer(void *arg)
{
	struct store_backend *b = arg;
	bool is_idle;

	for (;;) {
		struct commit *c = next_commits(b, &is_idle);

		if (!c && !is_idle)
			return NULL;
		set_busy(b);
		if (!c && b->health.is_failing)
			repair(b);
		else if (!c)
			scrub(b);
		while (c) {
			struct err why = ERR_INIT;
			struct commit *left = run_batch(b, c, &why);

			tell_health(b, why.code, &why);
			if (why.code) {
				set_busy(b);
				repair(b);
			}
			post(b, c, left);
			c = left;
			if (c)
				set_busy(b);
		}
	}
}

static void sqlite_begin(struct store_backend *b, struct commit *c)
{
	pthread_mutex_lock(&b->lock);
	queue_add(&b->begun, c);
	pthread_cond_signal(&b->wake);
	pthread_mutex_unlock(&b->lock);
}

static void sqlite_scrub(struct store_backend *b)
{
	pthread_mutex_lock(&b->lock);
	b->wants_scrub = true;
	pthread_cond_signal(&b->wake);
	pthread_mutex_unlock(&b->lock);
}

static void sqlite_close(struct store_backend *b)
{
	if (b->has_thread) {
		pthread_mutex_lock(&b->lock);
		b->is_closing = true;
		pthread_cond_signal(&b->wake);
		pthread_mutex_unlock(&b->lock);
		pthread_join(b->thread, NULL);
		while (b->is_posted)
			loop_run_once(b->loop, -1);
		deliver(b);
	}
	for (unsigned i = 0; i < N_STATEMENTS; i++)
		sqlite3_finalize(b->stmt[i]);
	sqlite3_close(b->db);
	pthread_cond_destroy(&b->wake);
	pthread_mutex_destroy(&b->lock);
	free(b->path);
	free(b);
}
DEFINE_AUTO(struct store_backend *, sqlite_close)

static int sqlite_open(struct store_backend **out, struct loop *loop, const char *path, const struct store_sink *sink,
		       void (*load)(void *arg, struct doc *d), int64_t *revision, struct err *err)
{
	struct store_backend *fresh = calloc(1, sizeof(*fresh));
	pthread_condattr_t attr;

	if (!fresh)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&fresh->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&fresh->wake, &attr);
	pthread_condattr_destroy(&attr);
	queue_init(&fresh->begun);
	queue_init(&fresh->ended);
	AUTO(sqlite_close) struct store_backend *b = fresh;

	b->loop = loop;
	b->sink = *sink;
	b->path = strdup(path);
	if (!b->path)
		return err_set(err, -ENOMEM, "out of memory");
	int r = sqlite_open_file(b, load, err);

	if (r < 0)
		return r;
	*revision = b->revision;
	r = pthread_create(&b->thread, NULL, writer, b);
	if (r)
		return err_set(err, -r, "cannot start the store's thread: %s", strerror(r));
	b->has_thread = true;
	*out = take_ptr(&b);
	return 0;
}

const struct store_ops store_sqlite = {
	.name = "sqlite",
	.open = sqlite_open,
	.begin = sqlite_begin,
	.scrub = sqlite_scrub,
	.health = sqlite_health,
	.close = sqlite_close,
};
