/* SPDX-License-Identifier: Apache-2.0 */
/* auth_audit.c - what of the requests goes into the audit log, and the routes that show it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "node/auth_priv.h"
#include "node/node.h"
#include "node/resource.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/log.h"

enum {
	DENIALS_MAX = 60,               /* written in a minute; of others only their number */
	KEEP_HEAD_MS = 1000,
	LIMIT = 100, LIMIT_MAX = 1000,
};

static const char head_key[] = "audit/" AUTH_ALL "/head";
static const char *const ways[] = { "nothing", "unix", "token", "session", "task" };
static const char *const methods[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER" };

/* --- the head ---------------------------------------------------- */

/* The store's copy, with which a log that was cut off is told from one that is short. */
static void keep_head(struct auth *a)
{
	struct audit_head h = audit_head(a->audit);
	AUTO(json_decref) json_t *doc = json_pack("{s:I, s:s}", "seq", (json_int_t)h.seq, "hash", h.hash);

	a->is_head_stale = doc_put(a->node->store, head_key, doc, STORE_ANY, NULL, NULL) < 0;
}

static void on_keep_head(struct loop_timer *t)
{
	keep_head(container_of(t, struct auth, keep_head));
}

static struct audit_head known_head(struct node *n)
{
	AUTO(json_decref) json_t *doc = doc_get(n->store, head_key, NULL);
	struct audit_head h = { .seq = json_integer_value(json_object_get(doc, "seq")) };

	snprintf(h.hash, sizeof(h.hash), "%s", auth_text(doc, NULL, "hash"));
	return h;
}

int auth_open_audit(struct auth *a, struct err *err)
{
	loop_timer_init(a->node->loop, &a->keep_head, on_keep_head);
	a->audit_dir = node_path(a->node->data_dir, "audit");
	int r = a->audit_dir ? audit_open(&a->audit, a->audit_dir, err) : err_set(err, -ENOMEM, "out of memory");

	return r < 0 ? r : works_new(&a->recorder, a->node->loop, 1, err);
}

void auth_stop_audit(struct auth *a)
{
	works_drain(a->recorder);
	loop_timer_cancel(&a->keep_head);
	a->is_stopped = true;
	if (a->is_head_stale)
		keep_head(a);
}

/* --- writing ---------------------------------------------------- */

/* A refusal costs who asks nothing, so their number is bounded. */
static bool is_too_many(struct auth *a, int status)
{
	int64_t minute = (int64_t)(loop_now_ns() / 60000000000);

	if (status != 401 && status != 403 && status != 429)
		return false;
	if (minute != a->denials_minute) {
		a->denials_minute = minute;
		a->denials = 0;
	}
	if (a->denials++ < DENIALS_MAX)
		return false;
	a->denials_left_out++;
	return true;
}

static bool is_recorded(const struct api_call *c, int status)
{
	enum http_method m = c->route->method;

	if (status == 401 || status == 403 || status == 429)
		return true;
	if (c->is_dry_run)
		return false;
	return c->route->is_socket ? c->route->role >= API_OPERATOR : m != HTTP_GET && m != HTTP_HEAD;
}

/* Files come in pieces of some KiB: who, by what, from where, and into which file, is one record. What has failed has its own. */
static bool is_piece(struct auth *a, const struct api_call *c, int status)
{
	const char *address = http_get_peer(c->rq)->address;
	AUTO(free) char *what = NULL;

	if (!c->file || status >= 400)
		return false;
	int len = asprintf(&what, "%s %s %s %s %s %s", c->user.name, c->user.credential, address, resource_project(c), c->param[0], c->file);
	if (len < 0) {
		what = NULL;
		return false;
	}
	return !audit_pieces_begin(&a->pieces, what, (size_t)len, !c->is_further, loop_now_ns());
}

/* A record on its way to the log. */
struct entry {
	struct auth *a;
	struct api_call *c;             /* whose answer waits for it; NULL: none does */
	json_t *rec;                    /* owned */
};

static int write_entry(void *arg, struct err *err)
{
	struct entry *e = arg;

	return audit_write(e->a->audit, take_ptr(&e->rec), err);
}

static void lost(struct auth *a, const char *why)
{
	a->records_lost++;
	log_error("a record of the audit log is lost: %s", why);
}

static void entry_end(void *arg, int r, const struct err *err)
{
	struct entry *e = arg;
	struct auth *a = e->a;

	if (r < 0) {
		lost(a, err->msg);
	} else {
		if (!a->is_head_stale && !a->is_stopped)
			loop_timer_set(&a->keep_head, loop_now_ns() + KEEP_HEAD_MS * 1000000ull);
		a->is_head_stale = true;
	}
	if (e->c)
		api_go_on(e->c);
	json_decref(e->rec);
	free(e);
}

uint64_t auth_records_lost(const struct auth *a)
{
	return a->records_lost;
}

static json_t *make_record(const struct auth *a, const struct api_call *c, int status)
{
	const char *token = c->user.via == API_VIA_TOKEN ? strrchr(c->user.credential, '/') : NULL;
	const char *target = c->param[0][0] ? c->param[0] : auth_text(c->body, NULL, "name");
	char now[DOC_TIME_LEN + 1];
	json_t *rec = json_pack("{s:s, s:s, s:s*, s:s*, s:s*, s:s, s:s, s:s, s:s*, s:s*, s:i}", "user", c->user.name, "via",
				ways[c->user.via], "how", c->how, "token", token ? token + 1 : NULL, "address",
				http_get_peer(c->rq)->is_unix ? NULL : http_get_peer(c->rq)->address, "operation",
				c->route->operation, "method", methods[c->route->method], "path", c->route->path, "project",
				c->route->scope == API_PROJECT ? resource_project(c) : NULL, "target", target[0] ? target : NULL,
				"status", status);

	doc_now(now);
	if (rec)
		json_object_set_new(rec, "time", json_string(now));
	if (rec && c->file)
		json_object_set_new(rec, "file", json_string(c->file));
	if (rec && a->denials_left_out)
		json_object_set_new(rec, "left_out", json_integer(a->denials_left_out));
	return rec;
}

bool auth_answered(void *arg, struct api_call *c, int status)
{
	struct auth *a = ((struct node *)arg)->auth;

	if (!c->route || !is_recorded(c, status) || is_too_many(a, status) || is_piece(a, c, status))
		return false;
	struct entry *e = malloc(sizeof(*e));

	if (e)
		*e = (struct entry){ .a = a, .c = c->is_accepted ? NULL : c, .rec = make_record(a, c, status) };
	if (!e || !e->rec || work_start(a->recorder, write_entry, entry_end, e) < 0) {
		if (e)
			json_decref(e->rec);
		free(e);
		lost(a, "out of memory");
		return false;
	}
	a->denials_left_out = 0;
	return true;
}

/* --- showing ---------------------------------------------------- */

struct audit_job {
	struct api_call *c;
	struct audit_query q;
	struct audit_head known;
	struct audit_check check;
	json_t *records;
};

static void job_end(struct audit_job *j, int r, const struct err *err, json_t *answer)
{
	if (r < 0)
		api_fail(j->c, r, NULL, err);
	else
		api_reply(j->c, 200, answer);
	free(j);
}

static int read_log(void *arg, struct err *err)
{
	struct audit_job *j = arg;

	return audit_read(&j->records, &j->q, err);
}

static void has_read(void *arg, int r, const struct err *err)
{
	struct audit_job *j = arg;

	job_end(j, r, err, r < 0 ? NULL : json_pack("{s:o}", "items", j->records));
}

static int check_log(void *arg, struct err *err)
{
	struct audit_job *j = arg;

	return audit_verify(&j->check, j->q.dir, &j->known, err);
}

static void has_checked(void *arg, int r, const struct err *err)
{
	struct audit_job *j = arg;
	const struct audit_check *k = &j->check;
	json_t *doc = r < 0 ? NULL : json_pack("{s:b, s:I, s:{s:I, s:s}}", "is_whole", !k->bad, "records", (json_int_t)k->records,
					       "head", "seq", (json_int_t)k->head.seq, "hash", k->head.hash);

	if (doc && k->bad) {
		json_object_set_new(doc, "bad", json_integer((json_int_t)k->bad));
		json_object_set_new(doc, "why", json_string(k->why));
	}
	job_end(j, r, err, doc);
}

static void job_start(struct api_call *c, const struct audit_query *q, int (*run)(void *arg, struct err *err),
		      void (*done)(void *arg, int r, const struct err *err))
{
	struct node *n = c->arg;
	struct audit_job *j = calloc(1, sizeof(*j));
	struct err err = ERR_INIT;

	if (j) {
		*j = (struct audit_job){ .c = c, .q = *q, .known = known_head(n) };
		j->q.dir = n->auth->audit_dir;
		if (!work_start(n->works, run, done, j))
			return;
		free(j);
	}
	api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
}

void audit_list(struct api_call *c)
{
	const char *limit = http_query(c->rq, "limit"), *before = http_query(c->rq, "before");
	unsigned long max = limit ? strtoul(limit, NULL, 10) : LIMIT;
	struct audit_query q = { .before = before ? strtoll(before, NULL, 10) : 0, .limit = (unsigned)max,
				 .user = http_query(c->rq, "user"), .project = http_query(c->rq, "of-project") };
	struct err err = ERR_INIT;

	if (max < 1 || max > LIMIT_MAX)
		api_fail(c, err_set(&err, -EINVAL, "'limit' is 1 to %d", LIMIT_MAX), NULL, &err);
	else
		job_start(c, &q, read_log, has_read);
}

void audit_show_check(struct api_call *c)
{
	struct audit_query q = { .limit = 0 };

	job_start(c, &q, check_log, has_checked);
}
