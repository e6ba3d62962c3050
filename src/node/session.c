/* SPDX-License-Identifier: Apache-2.0 */
/* session.c - logging in with a password, for browsers: a cookie that scripts cannot read, and a word that pages of other
 * origins cannot know. And the first administrator, with the token that vivd has printed. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "node/auth_priv.h"
#include "node/node.h"
#include "node/resource.h"
#include "node/user.h"
#include "node/work.h"
#include "util/err.h"

enum {
	LOGINS_MAX = 8,                 /* at the same time: each takes 19 MiB */
	/* Failures that cost nothing: of a user from an address; from an address; of a user from anywhere. */
	FREE_PAIR = 4, FREE_ADDRESS = 19, FREE_USER = 99,
};

#define COOKIE "__Host-viv"

const struct schema login_schema = {
	.name = "Login", .help = "Who comes, and what shows it.",
	.fields = (const struct schema_field[]){
		{ .name = "user", .type = SCHEMA_NAME, .is_required = true, .help = "the name of a user" },
		{ .name = "password", .type = SCHEMA_STRING, .is_required = true, .max = SECRET_PASSWORD_MAX,
		  .help = "that user's" },
		{ .name = NULL },
	},
};

const struct schema setup_schema = {
	.name = "Setup", .help = "The first administrator.",
	.fields = (const struct schema_field[]){
		{ .name = "token", .type = SCHEMA_STRING, .is_required = true, .max = SECRET_LEN,
		  .help = "what vivd has printed when it began" },
		{ .name = "user", .type = SCHEMA_NAME, .is_required = true, .help = "what the administrator shall be called" },
		{ .name = "password", .type = SCHEMA_STRING, .is_required = true, .min = SECRET_PASSWORD_MIN,
		  .max = SECRET_PASSWORD_MAX, .help = "and be known by" },
		{ .name = NULL },
	},
};

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
	char key[STORE_KEY_MAX + 1] = "", now[DOC_TIME_LEN + 1];

	doc_now(now);
	for (const struct store_doc *d; (d = store_next(s, "session/", key[0] ? key : NULL)) != NULL;) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
		struct store_op op = { .kind = STORE_DELETE, .key = key, .if_modified = STORE_ANY };

		snprintf(key, sizeof(key), "%s", d->key);
		if (strcmp(auth_text(doc, NULL, "expires"), now) <= 0)
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

	if (r->code) {
		api_fail(o->c, err_set(&err, r->code, "%s", r->message), NULL, &err);
	} else {
		set_cookie(o->c->rq, o->secret, AUTH_SESSION_S);
		api_reply(o->c, o->status, json_incref(o->answer));
	}
	OPENSSL_cleanse(o->secret, sizeof(o->secret));
	json_decref(o->answer);
	free(o);
}

/* A session of the user whose document is USER, which CALL is answered with. */
static void open_session(struct api_call *c, const json_t *user, int status)
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
	AUTO(json_decref) json_t *doc = json_pack("{s:s, s:s, s:s, s:s}", "user", name, "user_uid", uid, "created", now,
						  "expires", expires);
	AUTO(free) char *text = json_dumps(doc, JSON_COMPACT);
	struct store_op ops[2] = {
		{ .kind = STORE_PUT, .key = key, .value = text, .len = text ? strlen(text) : 0, .if_modified = STORE_ABSENT },
		{ .kind = STORE_DELETE, .key = oldest, .if_modified = STORE_ANY },
	};

	snprintf(c->user.name, sizeof(c->user.name), "%s", name);
	store_commit(n->store, ops, find_oldest(n, name, oldest, sizeof(oldest)) ? 2 : 1, opened, o);
}

/* --- logging in ---------------------------------------------------- */

struct login {
	struct api_call *c;
	char pair[192], address[96], user[80];  /* what failures count against */
	char verifier[SECRET_VERIFIER_LEN];
	bool has_verifier, is_right;
};

static int verify(void *arg, struct err *err)
{
	struct login *l = arg;

	(void)err;
	l->is_right = secret_is_password(l->has_verifier ? l->verifier : NULL, auth_text(l->c->body, NULL, "password"));
	return 0;
}

static void refuse_login(struct login *l)
{
	struct auth *a = ((struct node *)l->c->arg)->auth;
	uint64_t now = loop_now_ns() / 1000000000;
	struct err err = ERR_INIT;

	throttle_fail(&a->throttle, l->pair, now);
	throttle_fail(&a->throttle, l->address, now);
	throttle_fail(&a->throttle, l->user, now);
	api_fail(l->c, err_set(&err, -EACCES, "the name or the password is wrong"), NULL, &err);
}

static void verified(void *arg, int r, const struct err *err)
{
	struct login *l = arg;
	struct api_call *c = l->c;
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1];

	n->auth->n_logins--;
	doc_key(key, "user", AUTH_ALL, auth_text(c->body, NULL, "user"));
	AUTO(json_decref) json_t *user = doc_get(n->store, key, NULL);
	if (r < 0) {
		api_fail(c, r, NULL, err);
	} else if (!l->is_right || !user || json_is_true(json_object_get(json_object_get(user, "spec"), "disabled"))) {
		refuse_login(l);
	} else {
		throttle_forget(&n->auth->throttle, l->pair);
		throttle_forget(&n->auth->throttle, l->user);
		open_session(c, user, 200);
	}
	OPENSSL_cleanse(l, sizeof(*l));
	free(l);
}

/* Seconds that this one has to wait. */
static unsigned login_wait(const struct auth *a, const struct login *l)
{
	uint64_t now = loop_now_ns() / 1000000000;
	unsigned wait[] = { throttle_wait(&a->throttle, l->pair, FREE_PAIR, now),
			    throttle_wait(&a->throttle, l->address, FREE_ADDRESS, now),
			    throttle_wait(&a->throttle, l->user, FREE_USER, now) };
	unsigned longest = wait[0] > wait[1] ? wait[0] : wait[1];

	return longest > wait[2] ? longest : wait[2];
}

static void fill_login(struct login *l, struct node *n)
{
	const struct http_peer *peer = http_get_peer(l->c->rq);
	const char *name = auth_text(l->c->body, NULL, "user");
	char key[STORE_KEY_MAX + 1];

	/* For the log: whom somebody tried to be. */
	snprintf(l->c->user.name, sizeof(l->c->user.name), "%s", name);
	snprintf(l->address, sizeof(l->address), "a:%s", peer->is_unix ? "unix" : peer->address);
	snprintf(l->user, sizeof(l->user), "u:%s", name);
	snprintf(l->pair, sizeof(l->pair), "%s %s", l->address, l->user);
	doc_key(key, "secret/password", AUTH_ALL, name);
	AUTO(json_decref) json_t *kept = doc_get(n->store, key, NULL);
	l->has_verifier = kept != NULL;
	snprintf(l->verifier, sizeof(l->verifier), "%s", auth_text(kept, NULL, "verifier"));
}

void auth_login(struct api_call *c)
{
	struct node *n = c->arg;
	struct login *l = calloc(1, sizeof(*l));
	struct err err = ERR_INIT;
	char text[16];
	int r = 0;

	if (!l) {
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return;
	}
	l->c = c;
	fill_login(l, n);
	unsigned wait = login_wait(n->auth, l);
	if (wait) {
		snprintf(text, sizeof(text), "%u", wait);
		http_set_header(c->rq, "retry-after", text);
		r = err_set(&err, -EUSERS, "too many wrong passwords; try again in %u s", wait);
	} else if (n->auth->n_logins >= LOGINS_MAX) {
		r = err_set(&err, -EAGAIN, "too many are just logging in; try again");
	} else if (work_start(n->works, verify, verified, l) < 0) {
		r = err_set(&err, -EAGAIN, "out of memory");
	}
	if (!r) {
		n->auth->n_logins++;
		return;
	}
	api_fail(c, r, NULL, &err);
	free(l);
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

/* --- the first administrator ---------------------------------------------------- */

void auth_show_setup(struct api_call *c)
{
	struct node *n = c->arg;

	api_reply(c, 200, json_pack("{s:b}", "needed", n->auth->setup[0] != 0));
}

static void set_up(void *arg, int r, const json_t *user, const struct err *err)
{
	struct api_call *c = arg;
	struct auth *a = ((struct node *)c->arg)->auth;

	a->is_setting_up = false;
	if (r < 0) {
		api_fail(c, r, NULL, err);
		return;
	}
	OPENSSL_cleanse(a->setup, sizeof(a->setup));
	open_session(c, user, 201);
}

void auth_setup(struct api_call *c)
{
	struct node *n = c->arg;
	struct auth *a = n->auth;
	const struct http_peer *peer = http_get_peer(c->rq);
	uint64_t now = loop_now_ns() / 1000000000;
	struct err err = ERR_INIT;
	char who[96];
	int r = 0;

	snprintf(who, sizeof(who), "s:%s", peer->is_unix ? "unix" : peer->address);
	snprintf(c->user.name, sizeof(c->user.name), "%s", auth_text(c->body, NULL, "user"));
	if (!a->setup[0]) {
		r = err_set(&err, -EBUSY, "there is an administrator already; log in");
	} else if (a->is_setting_up) {
		r = err_set(&err, -EBUSY, "somebody else is just doing that");
	} else if (throttle_wait(&a->throttle, who, FREE_PAIR, now)) {
		r = err_set(&err, -EUSERS, "too many wrong tokens; try again later");
	} else if (!secret_equal(a->setup, auth_text(c->body, NULL, "token"))) {
		throttle_fail(&a->throttle, who, now);
		r = err_set(&err, -EACCES, "that is not the token that vivd has printed");
	}
	a->is_setting_up = !r;
	if (r < 0)
		api_fail(c, r, NULL, &err);
	else
		user_make_admin(n, auth_text(c->body, NULL, "user"), auth_text(c->body, NULL, "password"), set_up, c);
}
