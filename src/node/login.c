/* SPDX-License-Identifier: Apache-2.0 */
/* login.c - coming in with a password, and with a code of an authenticator if the user has one; and the first
 * administrator, with the token that vivd has printed. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/auth_priv.h"
#include "node/factor.h"
#include "node/node.h"
#include "node/user.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"

enum {
	LOGINS_MAX = 8,                 /* at the same time: each takes 19 MiB */
	/* Failures that cost nothing: of a user from an address; from an address; of a user from anywhere. */
	FREE_PAIR = 4, FREE_ADDRESS = 19, FREE_USER = 99,
	NETWORK_LEN = 64,
};

const struct schema login_schema = {
	.name = "Login", .help = "Who comes, and what shows it.",
	.fields = (const struct schema_field[]){
		{ .name = "user", .type = SCHEMA_NAME, .is_required = true, .help = "the name of a user" },
		{ .name = "password", .type = SCHEMA_STRING, .is_required = true, .max = SECRET_PASSWORD_MAX,
		  .help = "that user's" },
		{ .name = "code", .type = SCHEMA_STRING, .max = FACTOR_CODE_MAX,
		  .help = "of those with an authenticator: what it shows, or a recovery code" },
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

/* --- logging in ---------------------------------------------------- */

struct login {
	struct api_call *c;
	char pair[192], address[96], user[80], code[80];        /* what failures count against */
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

/* Against an address, a user from there, a user from anywhere; a wrong code (IS_CODE) against that user's codes, too. */
static void count_failure(struct login *l, bool is_code)
{
	struct throttle *t = &((struct node *)l->c->arg)->auth->throttle;
	uint64_t now = loop_now_ns() / 1000000000;

	throttle_fail(t, l->pair, now);
	throttle_fail(t, l->address, now);
	throttle_fail(t, l->user, now);
	if (is_code)
		throttle_fail(t, l->code, now);
}

/* The password of USER is right. */
static void let_in(struct login *l, const json_t *user)
{
	struct node *n = l->c->arg;
	struct factor_use use;
	struct err err = ERR_INIT;
	int r = factor_check(n, user, json_string_value(json_object_get(l->c->body, "code")), &use, &err);

	if (r < 0) {
		if (r == -EPERM)
			count_failure(l, true);
		api_fail(l->c, r == -EPERM ? -EACCES : r, "code", &err);
		return;
	}
	throttle_forget(&n->auth->throttle, l->pair);
	throttle_forget(&n->auth->throttle, l->user);
	if (r)
		throttle_forget(&n->auth->throttle, l->code);
	if (use.is_recovery)
		log_warn("'%s' comes in with a recovery code; %u are left", auth_text(user, NULL, "name"), use.n_left);
	l->c->how = use.is_recovery ? "password, recovery code" : r ? "password, code" : "password";
	auth_open_session(l->c, user, &use.op, 200);
	factor_use_end(&use);
}

static void verified(void *arg, int r, const struct err *failure)
{
	struct login *l = arg;
	struct api_call *c = l->c;
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1];
	struct err err = ERR_INIT;

	n->auth->n_logins--;
	doc_key(key, "user", AUTH_ALL, auth_text(c->body, NULL, "user"));
	AUTO(json_decref) json_t *user = doc_get(n->store, key, NULL);
	if (r < 0) {
		api_fail(c, r, NULL, failure);
	} else if (!l->is_right || !user || json_is_true(json_object_get(json_object_get(user, "spec"), "disabled"))) {
		count_failure(l, false);
		api_fail(c, err_set(&err, -EACCES, "the name or the password is wrong"), NULL, &err);
	} else {
		let_in(l, user);
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
			    throttle_wait(&a->throttle, l->user, FREE_USER, now),
			    throttle_wait(&a->throttle, l->code, FACTOR_FREE, now) };
	unsigned longest = 0;

	for (unsigned i = 0; i < ARRAY_LEN(wait); i++)
		longest = wait[i] > longest ? wait[i] : longest;
	return longest;
}

static void fill_login(struct login *l, struct node *n)
{
	const struct http_peer *peer = http_get_peer(l->c->rq);
	const char *name = auth_text(l->c->body, NULL, "user");
	char key[STORE_KEY_MAX + 1], network[NETWORK_LEN];

	throttle_network(network, sizeof(network), peer->is_unix ? "unix" : peer->address);
	/* For the log: whom somebody tried to be. */
	snprintf(l->c->user.name, sizeof(l->c->user.name), "%s", name);
	snprintf(l->address, sizeof(l->address), "a:%s", network);
	snprintf(l->user, sizeof(l->user), "u:%s", name);
	factor_who(l->code, sizeof(l->code), name);
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
		r = err_set(&err, -EUSERS, "too many wrong passwords or codes; try again in %u s", wait);
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
	c->how = "setup token";
	auth_open_session(c, user, NULL, 201);
}

void auth_setup(struct api_call *c)
{
	struct node *n = c->arg;
	struct auth *a = n->auth;
	const struct http_peer *peer = http_get_peer(c->rq);
	uint64_t now = loop_now_ns() / 1000000000;
	struct err err = ERR_INIT;
	char who[96], network[NETWORK_LEN];
	int r = 0;

	throttle_network(network, sizeof(network), peer->is_unix ? "unix" : peer->address);
	snprintf(who, sizeof(who), "s:%s", network);
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
