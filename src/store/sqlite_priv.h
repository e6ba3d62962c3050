/* SPDX-License-Identifier: Apache-2.0 */
/* sqlite_priv.h - what sqlite.c (the thread that writes) and sqlite_open.c (the file that it writes to) share. */
#ifndef STORE_SQLITE_PRIV_H
#define STORE_SQLITE_PRIV_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include "store/store_ops.h"

enum sqlite_statement { GET, PUT, DELETE, GET_REVISION, SET_REVISION, N_STATEMENTS };

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
	struct store_health health;     /* but for WAITING_NS */
	uint64_t busy_since_ns;         /* when the thread has begun what it writes; 0: it rests */
	bool is_closing;
	bool wants_scrub;
	bool is_posted;                 /* deliver() is on its way */
};

/* What SQLite said last, as a sentence: B's store cannot be WHAT ("write to"). */
int sql_error(struct store_backend *b, struct err *err, const char *what);
int sql_exec(struct store_backend *b, const char *sql, const char *what, struct err *err);

/* Open B's file, made when it is not there; every document goes to LOAD. Then what the writer says to it is prepared. */
int sqlite_open_file(struct store_backend *b, void (*load)(void *arg, struct doc *d), struct err *err);

#endif
