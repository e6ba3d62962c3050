/* SPDX-License-Identifier: Apache-2.0 */
/* sqlite_open.c - the file of the store: whether it is one, what is in it, and what SQLite says when it fails. */
#include "store/sqlite_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "store/store.h"

enum {
	APPLICATION_ID = 0x56495653,    /* "VIVS" */
	VERSION = 1,
};

static const char *const statement_sql[N_STATEMENTS] = {
	[GET] = "SELECT modified, created FROM docs WHERE key = ?1",
	[PUT] = "INSERT INTO docs (key, value, created, modified) VALUES (?1, ?2, ?3, ?3) \
ON CONFLICT (key) DO UPDATE SET value = ?2, modified = ?3",
	[DELETE] = "DELETE FROM docs WHERE key = ?1",
	[GET_REVISION] = "SELECT revision FROM state",
	[SET_REVISION] = "UPDATE state SET revision = ?1",
};

/* --- what fails ------------------------------------------------------------------------------------------ */

/* The last errno of the database's file, or of its log; 0: none is known. */
static int errno_of_file(struct store_backend *b, int which)
{
	sqlite3_file *f = NULL;
	int e = 0;

	if (sqlite3_file_control(b->db, "main", which, &f) != SQLITE_OK || !f || !f->pMethods ||
	    f->pMethods->xFileControl(f, SQLITE_FCNTL_LAST_ERRNO, &e) != SQLITE_OK)
		return 0;
	return e;
}

/* What the host has said to SQLite. sqlite3_system_errno() tells of what came last, which may be something else than what failed. */
static int errno_of_host(struct store_backend *b)
{
	int e = (sqlite3_errcode(b->db) & 0xff) == SQLITE_CANTOPEN ? 0 : errno_of_file(b, SQLITE_FCNTL_JOURNAL_POINTER);

	if (!e)
		e = sqlite3_system_errno(b->db);
	return e ? e : errno_of_file(b, SQLITE_FCNTL_FILE_POINTER);
}

/* A disk that is full or read-only, or something else. */
static int code_of_host(struct store_backend *b)
{
	switch (errno_of_host(b)) {
	case EROFS: return -EROFS;
	case ENOSPC: case EDQUOT: return -ENOSPC;
	default: return -EIO;
	}
}

int sql_error(struct store_backend *b, struct err *err, const char *what)
{
	int code;

	switch (sqlite3_errcode(b->db) & 0xff) {
	case SQLITE_FULL: code = -ENOSPC; break;
	case SQLITE_BUSY: case SQLITE_LOCKED: code = -EBUSY; break;
	case SQLITE_NOMEM: code = -ENOMEM; break;
	case SQLITE_READONLY: case SQLITE_PERM: code = -EROFS; break;
	case SQLITE_NOTADB: case SQLITE_CORRUPT: code = -EPROTO; break;
	/* One that cannot be opened for writing, or its log, is one of these. */
	case SQLITE_IOERR: case SQLITE_CANTOPEN: code = code_of_host(b); break;
	default: code = -EIO; break;
	}
	if (code == -EBUSY)
		return err_set(err, code, "the store '%s' is in use by another process; stop it first", b->path);
	if (code == -EROFS && errno_of_host(b) == EROFS)
		return err_set(err, code, "cannot %s the store '%s': the file system is read-only", what, b->path);
	if (code == -ENOSPC)
		return err_set(err, code, "cannot %s the store '%s': no space left; free some and try again", what, b->path);
	return err_set(err, code, "cannot %s the store '%s': %s", what, b->path, sqlite3_errmsg(b->db));
}

int sql_exec(struct store_backend *b, const char *sql, const char *what, struct err *err)
{
	return sqlite3_exec(b->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sql_error(b, err, what);
}

/* --- opening ---------------------------------------------------------------------------------------------- */

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
		     "PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON; BEGIN IMMEDIATE; COMMIT;", "open", err);
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

int sqlite_open_file(struct store_backend *b, void (*load)(void *arg, struct doc *d), struct err *err)
{
	int r = open_database(b, err);

	if (!r)
		r = load_all(b, load, err);
	return r < 0 ? r : prepare(b, err);
}
