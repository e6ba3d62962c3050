/* SPDX-License-Identifier: Apache-2.0 */
/* password.c - setting passwords, the first administrator's among them. Hashing takes long: workers do it. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/auth_priv.h"
#include "node/node.h"
#include "node/resource.h"
#include "node/user.h"
#include "node/work.h"
#include "util/err.h"

enum { FREE_FAILURES = 4 };

const struct schema password_schema = {
	.name = "Password", .help = "A new password.",
	.fields = (const struct schema_field[]){
		{ .name = "password", .type = SCHEMA_STRING, .is_required = true, .min = SECRET_PASSWORD_MIN,
		  .max = SECRET_PASSWORD_MAX, .help = "the new one" },
		{ .name = "old", .type = SCHEMA_STRING, .max = SECRET_PASSWORD_MAX,
		  .help = "the one of today: of who changes the own one" },
		{ .name = NULL },
	},
};

struct password_job {
	struct node *node;
	char name[DOC_NAME_MAX + 1];
	char fresh[SECRET_PASSWORD_MAX + 1], old[SECRET_PASSWORD_MAX + 1];
	char was[SECRET_VERIFIER_LEN], verifier[SECRET_VERIFIER_LEN];
	bool needs_old;
	char who[DOC_NAME_MAX + 8];     /* what failures count against */
	/* one of the two: */
	struct api_call *c;
	void (*done)(void *arg, int r, const json_t *user, const struct err *err);
	void *arg;
	json_t *user;                   /* the new user's document */
};

static struct password_job *job_new(struct node *n, const char *name, const char *password)
{
	struct password_job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->node = n;
	snprintf(j->name, sizeof(j->name), "%.*s", DOC_NAME_MAX, name);
	snprintf(j->fresh, sizeof(j->fresh), "%s", password);
	return j;
}

static void job_free(struct password_job *j)
{
	json_decref(j->user);
	OPENSSL_cleanse(j, sizeof(*j));
	free(j);
}

static void job_end(struct password_job *j, int r, const struct err *err)
{
	if (r == -EPERM)
		throttle_fail(&j->node->auth->throttle, j->who, loop_now_ns() / 1000000000);
	if (j->done)
		j->done(j->arg, r, j->user, err);
	else if (r < 0)
		api_fail(j->c, r, r == -EPERM ? "old" : NULL, err);
	else
		api_reply(j->c, 204, NULL);
	job_free(j);
}

static void stored(void *arg, const struct store_result *res)
{
	struct password_job *j = arg;
	struct err err = ERR_INIT;
	int r = !res->code ? 0 : res->code == -ESTALE && j->done ?
		err_set(&err, -EEXIST, "there is a user '%s' already", j->name) : err_set(&err, res->code, "%s", res->message);

	job_end(j, r, &err);
}

static void hashed(void *arg, int r, const struct err *err)
{
	struct password_job *j = arg;
	char key[STORE_KEY_MAX + 1], user_key[STORE_KEY_MAX + 1], keys[AUTH_SESSIONS_MAX + 1][STORE_KEY_MAX + 1];
	struct store_op ops[AUTH_SESSIONS_MAX + 3];

	if (r < 0) {
		job_end(j, r, err);
		return;
	}
	doc_key(key, "secret/password", AUTH_ALL, j->name);
	doc_key(user_key, "user", AUTH_ALL, j->name);
	AUTO(json_decref) json_t *doc = json_pack("{s:s}", "verifier", j->verifier);
	AUTO(free) char *text = json_dumps(doc, JSON_COMPACT), *user = j->user ? json_dumps(j->user, JSON_COMPACT) : NULL;
	ops[0] = (struct store_op){ .kind = STORE_PUT, .key = key, .value = text, .len = text ? strlen(text) : 0,
				    .if_modified = STORE_ANY };
	/* A password without a user would be that of a later one. */
	const struct store_doc *is = store_get(j->node->store, user_key);
	ops[1] = j->user ? (struct store_op){ .kind = STORE_PUT, .key = user_key, .value = user, .len = user ? strlen(user) : 0,
					      .if_modified = STORE_ABSENT } :
			   (struct store_op){ .kind = STORE_CHECK, .key = user_key, .if_modified = is ? is->modified : STORE_ANY };
	if (!is && !j->user) {
		struct err gone = ERR_INIT;

		job_end(j, err_set(&gone, -ENOENT, "there is no user '%s' any more", j->name), &gone);
		return;
	}
	unsigned n = j->c ? auth_end_sessions(j->node, j->name, j->c->user.credential, ops + 2, keys, AUTH_SESSIONS_MAX + 1) : 0;

	store_commit(j->node->store, ops, n + 2, stored, j);
}

static int hash(void *arg, struct err *err)
{
	struct password_job *j = arg;

	if (j->needs_old && !secret_is_password(j->was[0] ? j->was : NULL, j->old))
		return err_set(err, -EPERM, "that is not the password of today");
	return secret_of_password(j->verifier, j->fresh, err);
}

static void start(struct password_job *j)
{
	struct err err = ERR_INIT;

	if (work_start(j->node->works, hash, hashed, j) < 0)
		job_end(j, err_set(&err, -EAGAIN, "out of memory"), &err);
}

void user_set_password(struct api_call *c)
{
	char key[STORE_KEY_MAX + 1], kept_key[STORE_KEY_MAX + 1];
	struct node *n = c->arg;
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *user = resource_find(c, key, NULL);

	if (!user)
		return;
	struct password_job *j = job_new(n, c->param[0], auth_text(c->body, NULL, "password"));
	if (!j) {
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return;
	}
	j->c = c;
	doc_key(kept_key, "secret/password", AUTH_ALL, j->name);
	AUTO(json_decref) json_t *kept = doc_get(n->store, kept_key, NULL);
	snprintf(j->was, sizeof(j->was), "%s", auth_text(kept, NULL, "verifier"));
	snprintf(j->old, sizeof(j->old), "%s", auth_text(c->body, NULL, "old"));
	j->needs_old = kept && !strcmp(c->user.name, j->name);
	snprintf(j->who, sizeof(j->who), "p:%s", j->name);
	if (j->needs_old && throttle_wait(&n->auth->throttle, j->who, FREE_FAILURES, loop_now_ns() / 1000000000))
		job_end(j, err_set(&err, -EUSERS, "too many wrong passwords; try again later"), &err);
	else
		start(j);
}

void user_make_admin(struct node *n, const char *name, const char *password,
		     void (*done)(void *arg, int r, const json_t *user, const struct err *err), void *arg)
{
	struct password_job *j = job_new(n, name, password);
	char uid[DOC_UID_LEN + 1], now[DOC_TIME_LEN + 1];
	struct err err = ERR_INIT;

	if (!j) {
		done(arg, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return;
	}
	doc_new_uid(uid);
	doc_now(now);
	j->done = done;
	j->arg = arg;
	j->user = json_pack("{s:s, s:s, s:s, s:s, s:{}, s:{s:s, s:b}}", "kind", "user", "name", name, "uid", uid, "created", now,
			    "labels", "spec", "role", "admin", "disabled", 0);
	start(j);
}
