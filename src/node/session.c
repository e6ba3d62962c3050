/* SPDX-License-Identifier: Apache-2.0 */
/* session.c - sessions, for browsers: a cookie that scripts cannot read, and a word that pages of other origins cannot
 * know. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "node/auth_priv.h"
#include "node/clock.h"
#include "node/factor.h"
#include "node/node.h"
#include "util/err.h"

#define COOKIE "__Host-viv"

const struct schema session_schema = {
	.name = "Session", .help = "Who asks, and what that one may.",
	.fields = (const struct schema_field[]){
		{ .name = "user", .type = SCHEMA_STRING, .help = "a user's name, or 'unix:' and a number" },
		{ .name = "via", .type = SCHEMA_STRING, .choices = "unix|token|session", .help = "what has told it" },
		{ .name = "role", .type = SCHEMA_STRING, .choices = "none|viewer|operator|admin", .help = "on the node" },
		{ .name = "projects", .type = SCHEMA_MAP, .help = "roles by project, of those that there are" },
		{ .name = "csrf", .type = SCHEMA_STRING,
		  .help = "of a session: the value of the header X-Viv-Csrf that every change needs" },
		{ .name = "expires", .type = SCHEMA_TIME, .help = "when the session or the token ends" },
		{ .name = NULL },
	},
};

/* --- cookies ---------------------------------------------------- */

static void session_key(char *key, size_t cap, const char *secret)
{
	char hash[SECRET_HASH_LEN + 1];

	secret_hash(hash, secret, strlen(secret));
	snprintf(key, cap, "session/" AUTH_ALL "/%s", hash);
}

bool auth_cookie(const struct api_call *c, char secret[SECRET_LEN + 1], char *key, size_t cap)
{
	const char *at = http_get_header(c->rq, HTTP_COOKIE);

	for (; at && *at; at += strcspn(at, ";"), at += strspn(at, "; ")) {
		if (strncmp(at, COOKIE "=", sizeof(COOKIE)) != 0)
			continue;
		at += sizeof(COOKIE);
		if (strspn(at, "0123456789abcdef") != SECRET_LEN || !strchr("; ", at[SECRET_LEN]))
			return false;
		memcpy(secret, at, SECRET_LEN);
		secret[SECRET_LEN] = 0;
		session_key(key, cap, secret);
		return true;
	}
	return false;
}

void auth_csrf(char csrf[SECRET_HASH_LEN + 1], const char *secret)
{
	char text[SECRET_LEN + 8];

	snprintf(text, sizeof(text), "csrf:%s", secret);
	secret_hash(csrf, text, strlen(text));
}

static void set_cookie(struct http_request *rq, const char *secret, unsigned seconds)
{
	char text[256];

	snprintf(text, sizeof(text), COOKIE "=%s; Path=/; Max-Age=%u; Secure; HttpOnly; SameSite=Strict", secret, seconds);
	http_set_header(rq, "set-cookie", text);
}

/* --- sessions ---------------------------------------------------- */

void auth_tidy(struct auth *a)
{
	struct store *s = a->node->store;
	char key[STORE_KEY_MAX + 1] = "";
	time_t now = time(NULL);

	for (const struct store_doc *d; (d = store_next(s, "session/", key[0] ? key : NULL)) != NULL;) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
		struct store_op op = { .kind = STORE_DELETE, .key = key, .if_modified = STORE_ANY };

		snprintf(key, sizeof(key), "%s", d->key);
		if (!clock_is_good_until(auth_text(doc, NULL, "expires"), now, AUTH_SESSION_S))
			store_commit(s, &op, 1, NULL, NULL);
	}
	for (struct auth_use **at = &a->uses; *at;) {
		struct auth_use *use = *at;

		if (store_get(s, use->key)) {
			at = &use->next;
			continue;
		}
		*at = use->next;
		free(use);
	}
}

/* The key of USER's oldest session, when there are as many as may be. */
static bool find_oldest(struct node *n, const char *user, char *oldest, size_t cap)
{
	char key[STORE_KEY_MAX + 1] = "", least[DOC_TIME_LEN + 1] = "";
	unsigned count = 0;

	for (const struct store_doc *d; (d = store_next(n->store, "session/", key[0] ? key : NULL)) != NULL;) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
		const char *expires = auth_text(doc, NULL, "expires");

		snprintf(key, sizeof(key), "%s", d->key);
		if (strcmp(auth_text(doc, NULL, "user"), user) != 0)
			continue;
		count++;
		if (least[0] && strcmp(expires, least) >= 0)
			continue;
		snprintf(least, sizeof(least), "%s", expires);
		snprintf(oldest, cap, "%s", key);
	}
	return count >= AUTH_SESSIONS_MAX;
}

unsigned auth_end_sessions(struct node *n, const char *user, const char *keep, struct store_op *ops,
			   char (*keys)[STORE_KEY_MAX + 1], unsigned max)
{
	char key[STORE_KEY_MAX + 1] = "";
	unsigned count = 0;

	for (const struct store_doc *d; (d = store_next(n->store, "session/", key[0] ? key : NULL)) != NULL && count < max;) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);

		snprintf(key, sizeof(key), "%s", d->key);
		if (strcmp(auth_text(doc, NULL, "user"), user) != 0 || !strcmp(key, keep))
			continue;
		snprintf(keys[count], sizeof(keys[count]), "%s", key);
		ops[count] = (struct store_op){ .kind = STORE_DELETE, .key = keys[count], .if_modified = STORE_ANY };
		count++;
	}
	return count;
}

struct opening {
	struct api_call *c;
	char secret[SECRET_LEN + 1];
	json_t *answer;
	int status;
};

static void opened(void *arg, const struct store_result *r)
{
	struct opening *o = arg;
	struct err err = ERR_INIT;

	if (r->code == -ESTALE) {
		api_fail(o->c, err_set(&err, -EACCES, "the code has just been used, or codes are needed since a moment ago; "
				       "try again with the next one"), "code", &err);
	} else if (r->code) {
		api_fail(o->c, err_set(&err, r->code, "%s", r->message), NULL, &err);
	} else {
		set_cookie(o->c->rq, o->secret, AUTH_SESSION_S);
		api_reply(o->c, o->status, json_incref(o->answer));
	}
	OPENSSL_cleanse(o->secret, sizeof(o->secret));
	json_decref(o->answer);
	free(o);
}

void auth_open_session(struct api_call *c, const json_t *user, const struct store_op *code, int status)
{
	struct node *n = c->arg;
	struct opening *o = calloc(1, sizeof(*o));
	const char *name = auth_text(user, NULL, "name"), *uid = auth_text(user, NULL, "uid");
	char key[STORE_KEY_MAX + 1], expires[DOC_TIME_LEN + 1], now[DOC_TIME_LEN + 1], csrf[SECRET_HASH_LEN + 1];
	char oldest[STORE_KEY_MAX + 1];
	struct err err = ERR_INIT;

	if (!o) {
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return;
	}
	*o = (struct opening){ .c = c, .status = status };
	secret_new(o->secret);
	session_key(key, sizeof(key), o->secret);
	auth_csrf(csrf, o->secret);
	doc_now(now);
	doc_time(expires, time(NULL) + AUTH_SESSION_S);
	o->answer = json_pack("{s:s, s:s, s:s, s:s}", "user", name, "via", "session", "csrf", csrf, "expires", expires);
	AUTO(json_decref) json_t *doc = json_pack("{s:s, s:s, s:s, s:s, s:b}", "user", name, "user_uid", uid, "created", now,
						  "expires", expires, "has_code",
						  code && code->kind == STORE_PUT);
	AUTO(free) char *text = json_dumps(doc, JSON_COMPACT);
	struct store_op ops[3] = { { .kind = STORE_PUT, .key = key, .value = text, .len = text ? strlen(text) : 0,
				     .if_modified = STORE_ANY } };
	unsigned n_ops = 1;

	if (code)
		ops[n_ops++] = *code;
	if (find_oldest(n, name, oldest, sizeof(oldest)))
		ops[n_ops++] = (struct store_op){ .kind = STORE_DELETE, .key = oldest, .if_modified = STORE_ANY };
	snprintf(c->user.name, sizeof(c->user.name), "%s", name);
	store_commit(n->store, ops, n_ops, opened, o);
}

static void logged_out(void *arg, const struct store_result *r)
{
	struct api_call *c = arg;
	struct err err = ERR_INIT;

	if (r->code)
		api_fail(c, err_set(&err, r->code, "%s", r->message), NULL, &err);
	else
		api_reply(c, 204, NULL);
}

void auth_logout(struct api_call *c)
{
	struct node *n = c->arg;
	struct err err = ERR_INIT;
	struct store_op op = { .kind = STORE_DELETE, .key = c->user.credential, .if_modified = STORE_ANY };

	if (c->user.via != API_VIA_SESSION) {
		api_fail(c, err_set(&err, -EINVAL, "there is no session to end"), NULL, &err);
		return;
	}
	set_cookie(c->rq, "", 0);
	store_commit(n->store, &op, 1, logged_out, c);
}

/* --- who am I ---------------------------------------------------- */

static json_t *roles_by_project(struct node *n, const struct api_user *u)
{
	char key[STORE_KEY_MAX + 1] = "";
	json_t *map = json_object();

	for (const struct store_doc *d;
	     (d = store_next(n->store, "project/" AUTH_ALL "/", key[0] ? key : NULL)) != NULL;) {
		snprintf(key, sizeof(key), "%s", d->key);
		const char *project = strrchr(key, '/') + 1;
		enum api_role role = auth_role(n, u, project);

		if (role > API_ANYONE)
			json_object_set_new(map, project, json_string(auth_role_names[role]));
	}
	return map;
}

void auth_show_session(struct api_call *c)
{
	static const char *const ways[] = { "nothing", "unix", "token", "session" };
	struct node *n = c->arg;
	char secret[SECRET_LEN + 1], key[STORE_KEY_MAX + 1], csrf[SECRET_HASH_LEN + 1];
	AUTO(json_decref) json_t *credential = c->user.uid[0] ? doc_get(n->store, c->user.credential, NULL) : NULL;
	json_t *doc = json_pack("{s:s, s:s, s:s, s:o}", "user", c->user.name, "via", ways[c->user.via], "role",
				auth_role_names[auth_role(n, &c->user, NULL)], "projects", roles_by_project(n, &c->user));

	if (credential)
		json_object_set_new(doc, "expires", json_string(auth_text(credential, NULL, "expires")));
	if (c->user.via == API_VIA_SESSION && auth_cookie(c, secret, key, sizeof(key))) {
		auth_csrf(csrf, secret);
		json_object_set_new(doc, "csrf", json_string(csrf));
	}
	api_reply(c, 200, doc);
}
