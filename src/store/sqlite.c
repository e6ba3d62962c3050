/* SPDX-License-Identifier: Apache-2.0 */
/* sqlite.c - the store's back end on one node: a SQLite database in WAL mode, synchronous = FULL.
 *
 * A writer thread takes all commits that wait and writes them in one transaction, each within a
 * savepoint of its own: one fsync serves all of them, and one that fails its conditions takes nobody
 * with it. What SQLite could not make durable is reported as failed to all of the batch. */
#include "store/store_ops.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/loop.h"

enum {
	APPLICATION_ID = 0x56495653,    /* "VIVS" */
	VERSION = 1,
	BATCH_MAX = 256,
};

enum statement { GET, PUT, DELETE, GET_REVISION, SET_REVISION, N_STATEMENTS };
static const char *const statement_sql[N_STATEMENTS] = {
	[GET] = "SELECT modified, created FROM docs WHERE key = ?1",
	[PUT] = "INSERT INTO docs (key, value, created, modified) VALUES (?1, ?2, ?3, ?3) \
ON CONFLICT (key) DO UPDATE SET value = ?2, modified = ?3",
	[DELETE] = "DELETE FROM docs WHERE key = ?1",
	[GET_REVISION] = "SELECT revision FROM state",
	[SET_REVISION] = "UPDATE state SET revision = ?1",
};

struct queue { struct commit *first, **end; };

struct store_backend {
	sqlite3 *db;
	sqlite3_stmt *stmt[N_STATEMENTS];       /* writer thread only, once it runs */
	int64_t revision;               /* writer thread only */
	char *path;
	struct loop *loop;
	struct store_sink sink;
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock;           /* guards what follows */
	pthread_cond_t wake;
	struct queue begun, ended;
	bool is_closing;
	bool is_posted;                 /* deliver() is on its way */
};

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

/* What the host has said to SQLite: a disk that is full or read-only, or something else. */
static int errno_of_host(struct store_backend *b)
{
	switch (sqlite3_system_errno(b->db)) {
	case EROFS: return -EROFS;
	case ENOSPC: case EDQUOT: return -ENOSPC;
	default: return -EIO;
	}
}

static int sql_error(struct store_backend *b, struct err *err, const char *what)
{
	int code;

	switch (sqlite3_errcode(b->db) & 0xff) {
	case SQLITE_FULL: code = -ENOSPC; break;
	case SQLITE_BUSY: case SQLITE_LOCKED: code = -EBUSY; break;
	case SQLITE_NOMEM: code = -ENOMEM; break;
	case SQLITE_READONLY: case SQLITE_PERM: code = -EROFS; break;
	case SQLITE_NOTADB: case SQLITE_CORRUPT: code = -EPROTO; break;
	/* One that cannot be opened for writing, or its log, is one of these. */
	case SQLITE_IOERR: case SQLITE_CANTOPEN: code = errno_of_host(b); break;
	default: code = -EIO; break;
	}
	if (code == -EBUSY)
		return err_set(err, code, "the store '%s' is in use by another process; stop it first", b->path);
	if (code == -EROFS && sqlite3_system_errno(b->db) == EROFS)
		return err_set(err, code, "cannot %s the store '%s': the file system is read-only", what, b->path);
	if (code == -ENOSPC)
		return err_set(err, code, "cannot %s the store '%s': no space left; free some and try again", what, b->path);
	return err_set(err, code, "cannot %s the store '%s': %s", what, b->path, sqlite3_errmsg(b->db));
}

static int sql_exec(struct store_backend *b, const char *sql, const char *what, struct err *err)
{
	return sqlite3_exec(b->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sql_error(b, err, what);
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

/* All of the batch from FIRST on, up to BATCH_MAX of them; returns what is left. */
static struct commit *run_batch(struct store_backend *b, struct commit *first)
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
	return c;
}

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

static void *writer(void *arg)
{
	struct store_backend *b = arg;

	pthread_mutex_lock(&b->lock);
	for (;;) {
		struct commit *c = queue_take(&b->begun);

		if (!c && b->is_closing)
			break;
		if (!c) {
			pthread_cond_wait(&b->wake, &b->lock);
			continue;
		}
		pthread_mutex_unlock(&b->lock);
		while (c) {
			struct commit *left = run_batch(b, c);

			post(b, c, left);
			c = left;
		}
		pthread_mutex_lock(&b->lock);
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

/* --- opening --------------------------------------------------------------------------------------------- */

static int64_t pragma(struct store_backend *b, const char *sql)
{
	sqlite3_stmt *s;
	int64_t v = -1;

	if (sqlite3_prepare_v2(b->db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
		v = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return v;
}

static int create_tables(struct store_backend *b, struct err *err)
{
	char ids[128];

	snprintf(ids, sizeof(ids), "PRAGMA application_id = %d; PRAGMA user_version = %d;", APPLICATION_ID, VERSION);
	int r = sql_exec(b, "BEGIN IMMEDIATE", "create", err);

	if (!r)
		r = sql_exec(b, "CREATE TABLE docs (key TEXT PRIMARY KEY, value BLOB NOT NULL, created INTEGER NOT NULL, "
			     "modified INTEGER NOT NULL) WITHOUT ROWID;"
			     "CREATE TABLE state (revision INTEGER NOT NULL); INSERT INTO state VALUES (0);", "create", err);
	if (!r)
		r = sql_exec(b, ids, "create", err);
	return r < 0 ? r : sql_exec(b, "COMMIT", "create", err);
}

static int open_database(struct store_backend *b, struct err *err)
{
	mode_t mask = umask(0077);
	int r = sqlite3_open_v2(b->path, &b->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW, NULL);

	umask(mask);
	if (!b->db)
		return err_set(err, -ENOMEM, "out of memory");
	if (r != SQLITE_OK)
		return sql_error(b, err, "open");
	/* SQLite takes what it may only read, and stumbles later. */
	if (sqlite3_db_readonly(b->db, "main") == 1) {
		r = access(b->path, W_OK) < 0 ? -errno : -EROFS;
		return err_set(err, r, "cannot write to the store '%s': %s", b->path,
			       r == -EROFS ? "the file system is read-only" : strerror(-r));
	}
	sqlite3_extended_result_codes(b->db, 1);
	sqlite3_busy_timeout(b->db, 1000);
	r = sql_exec(b, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; "
		     "PRAGMA trusted_schema = OFF; BEGIN IMMEDIATE; COMMIT;", "open", err);
	if (r < 0)
		return r;
	int64_t id = pragma(b, "PRAGMA application_id"), version = pragma(b, "PRAGMA user_version");

	if (!id && !version && !pragma(b, "SELECT count(*) FROM sqlite_schema"))
		return create_tables(b, err);
	if (id != APPLICATION_ID)
		return err_set(err, -EPROTO, "'%s' is a database of another program, not a store", b->path);
	if (version != VERSION)
		return err_set(err, -EPROTO, "the store '%s' has version %" PRId64 ", this program knows %d; use the program "
			       "that wrote it, or a newer one", b->path, version, VERSION);
	return 0;
}

static int load_all(struct store_backend *b, void (*load)(void *arg, struct doc *d), struct err *err)
{
	sqlite3_stmt *s;
	int step;

	if (sqlite3_prepare_v2(b->db, "SELECT key, value, created, modified FROM docs", -1, &s, NULL) != SQLITE_OK)
		return sql_error(b, err, "read");
	while ((step = sqlite3_step(s)) == SQLITE_ROW) {
		const char *key = (const char *)sqlite3_column_text(s, 0);
		struct doc *d = key ? doc_new(key, sqlite3_column_blob(s, 1), (size_t)sqlite3_column_bytes(s, 1),
					      sqlite3_column_int64(s, 2), sqlite3_column_int64(s, 3)) : NULL;

		if (!d) {
			sqlite3_finalize(s);
			return err_set(err, -ENOMEM, "out of memory");
		}
		load(b->sink.arg, d);
	}
	int r = step == SQLITE_DONE ? 0 : sql_error(b, err, "read");

	sqlite3_finalize(s);
	return r;
}

static int prepare(struct store_backend *b, struct err *err)
{
	for (unsigned i = 0; i < N_STATEMENTS; i++)
		if (sqlite3_prepare_v3(b->db, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &b->stmt[i], NULL) != SQLITE_OK)
			return sql_error(b, err, "read");
	sqlite3_stmt *s = b->stmt[GET_REVISION];
	int r = sqlite3_step(s) == SQLITE_ROW ? 0 : sql_error(b, err, "read");

	b->revision = r ? 0 : sqlite3_column_int64(s, 0);
	sqlite3_reset(s);
	return r;
}

static void sqlite_begin(struct store_backend *b, struct commit *c)
{
	pthread_mutex_lock(&b->lock);
	queue_add(&b->begun, c);
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

	if (!fresh)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&fresh->lock, NULL);
	pthread_cond_init(&fresh->wake, NULL);
	queue_init(&fresh->begun);
	queue_init(&fresh->ended);
	AUTO(sqlite_close) struct store_backend *b = fresh;

	b->loop = loop;
	b->sink = *sink;
	b->path = strdup(path);
	if (!b->path)
		return err_set(err, -ENOMEM, "out of memory");
	int r = open_database(b, err);

	if (!r)
		r = load_all(b, load, err);
	if (!r)
		r = prepare(b, err);
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
	.close = sqlite_close,
};
