/* SPDX-License-Identifier: Apache-2.0 */
/* factor_api.c - the routes with which users get an authenticator known, and are rid of it. */
#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include "node/auth_priv.h"
#include "node/factor_priv.h"
#include "node/node.h"
#include "node/resource.h"
#include "node/totp.h"
#include "node/work.h"
#include "util/err.h"

enum { FREE_PASSWORDS = 4 };            /* wrong ones that cost no waiting */

#define PASSWORD_FIELD(is_required_, help_) \
	{ .name = "password", .type = SCHEMA_STRING, .is_required = is_required_, .max = SECRET_PASSWORD_MAX, .help = help_ }
#define CODE_FIELD(is_required_, help_) \
	{ .name = "code", .type = SCHEMA_STRING, .is_required = is_required_, .max = FACTOR_CODE_MAX, .help = help_ }

const struct schema totp_schema = {
	.name = "Totp", .help = "Whether a user shows a code besides the password.",
	.fields = (const struct schema_field[]){
		{ .name = "is_on", .type = SCHEMA_BOOL, .help = "a code is needed" },
		{ .name = "since", .type = SCHEMA_TIME, .help = "since then" },
		{ .name = "recovery_left", .type = SCHEMA_INT, .help = "recovery codes that have not been used" },
		{ .name = NULL },
	},
};

const struct schema totp_begin_schema = {
	.name = "TotpBegin", .help = "Who wants to show codes.",
	.fields = (const struct schema_field[]){
		PASSWORD_FIELD(true, "the one of today"),
		{ .name = NULL },
	},
};

const struct schema totp_key_schema = {
	.name = "TotpKey", .help = "What the authenticator has to know. It is shown this once.",
	.fields = (const struct schema_field[]){
		{ .name = "uri", .type = SCHEMA_STRING, .help = "as authenticators read it: otpauth://totp/..." },
		{ .name = "secret", .type = SCHEMA_STRING, .help = "the key in it as base32, for typing" },
		{ .name = NULL },
	},
};

const struct schema totp_confirm_schema = {
	.name = "TotpConfirm", .help = "What shows that the authenticator has the key.",
	.fields = (const struct schema_field[]){
		CODE_FIELD(true, "what the authenticator shows: six digits"),
		{ .name = NULL },
	},
};

const struct schema totp_recovery_schema = {
	.name = "TotpRecovery", .help = "For the day on which the authenticator is lost. They are shown this once.",
	.fields = (const struct schema_field[]){
		{ .name = "recovery_codes", .type = SCHEMA_LIST, .help = "each lets in once in place of a code" },
		{ .name = NULL },
	},
};

const struct schema totp_remove_schema = {
	.name = "TotpRemove", .help = "What the user shows a last time; administrators show nothing for others.",
	.fields = (const struct schema_field[]){
		PASSWORD_FIELD(false, "the one of today"),
		CODE_FIELD(false, "a code or a recovery code; not needed in the first five minutes of a session that began with one"),
		{ .name = NULL },
	},
};

/* --- changing what is kept ---------------------------------------------------- */

struct change {
	struct api_call *c;
	json_t *answer;                 /* NULL: none */
	int status;
};

static void changed(void *arg, const struct store_result *r)
{
	struct change *g = arg;
	struct err err = ERR_INIT;

	if (r->code)
		api_fail(g->c, r->code == -ESTALE ? err_set(&err, -EBUSY, "it has just been changed by somebody else; look again") :
						    err_set(&err, r->code, "%s", r->message), NULL, &err);
	else
		api_reply(g->c, g->status, json_incref(g->answer));
	json_decref(g->answer);
	free(g);
}

/* What is kept of USER, under KEY, becomes KEPT (borrowed; NULL: nothing) if it is as it was; C gets ANSWER (taken). The
 * user's other sessions end if they began with less than is needed from now on. */
static void change(struct api_call *c, const json_t *user, const char *key, int64_t modified, const json_t *kept, json_t *answer,
		   int status)
{
	struct node *n = c->arg;
	struct change *g = malloc(sizeof(*g));
	char user_key[STORE_KEY_MAX + 1], keys[AUTH_SESSIONS_MAX + 1][STORE_KEY_MAX + 1];
	AUTO(free) char *text = kept ? json_dumps(kept, JSON_COMPACT) : NULL;
	struct store_op ops[AUTH_SESSIONS_MAX + 3];
	struct err err = ERR_INIT;
	unsigned n_ops = 2;

	if (!g || (kept && !text)) {
		free(g);
		json_decref(answer);
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return;
	}
	*g = (struct change){ .c = c, .answer = answer, .status = status };
	doc_key(user_key, "user", AUTH_ALL, auth_text(user, NULL, "name"));
	const struct store_doc *is = store_get(n->store, user_key);
	ops[0] = (struct store_op){ .kind = kept ? STORE_PUT : STORE_DELETE, .key = key, .value = text,
				    .len = text ? strlen(text) : 0, .if_modified = modified };
	ops[1] = (struct store_op){ .kind = STORE_CHECK, .key = user_key, .if_modified = is ? is->modified : STORE_ANY };
	if (factor_is_on(kept))
		n_ops += auth_end_sessions(n, auth_text(user, NULL, "name"), c->user.credential, ops + 2, keys,
					   AUTH_SESSIONS_MAX + 1);
	store_commit(n->store, ops, n_ops, changed, g);
	if (text)
		OPENSSL_cleanse(text, strlen(text));
}

/* --- the password, once more ---------------------------------------------------- */

struct proof {
	struct api_call *c;
	char verifier[SECRET_VERIFIER_LEN], who[DOC_NAME_MAX + 8];
	bool is_right;
	void (*then)(struct api_call *c);       /* it is right */
};

static int prove(void *arg, struct err *err)
{
	struct proof *p = arg;

	(void)err;
	p->is_right = secret_is_password(p->verifier[0] ? p->verifier : NULL, auth_text(p->c->body, NULL, "password"));
	return 0;
}

static void proved(void *arg, int r, const struct err *failure)
{
	struct proof *p = arg;
	struct node *n = p->c->arg;
	struct err err = ERR_INIT;

	if (r < 0) {
		api_fail(p->c, r, NULL, failure);
	} else if (!p->is_right) {
		throttle_fail(&n->auth->throttle, p->who, loop_now_ns() / 1000000000);
		api_fail(p->c, err_set(&err, -EPERM, "that is not the password of today"), "password", &err);
	} else {
		p->then(p->c);
	}
	OPENSSL_cleanse(p, sizeof(*p));
	free(p);
}

static void ask_password(struct api_call *c, void (*then)(struct api_call *c))
{
	struct node *n = c->arg;
	struct proof *p = calloc(1, sizeof(*p));
	char key[STORE_KEY_MAX + 1];
	struct err err = ERR_INIT;
	int r = 0;

	doc_key(key, "secret/password", AUTH_ALL, c->user.name);
	AUTO(json_decref) json_t *kept = doc_get(n->store, key, NULL);
	if (p) {
		*p = (struct proof){ .c = c, .then = then };
		snprintf(p->verifier, sizeof(p->verifier), "%s", auth_text(kept, NULL, "verifier"));
		snprintf(p->who, sizeof(p->who), "p:%.*s", DOC_NAME_MAX, c->user.name);
		if (throttle_wait(&n->auth->throttle, p->who, FREE_PASSWORDS, loop_now_ns() / 1000000000))
			r = err_set(&err, -EUSERS, "too many wrong passwords; try again later");
		else
			r = work_start(n->works, prove, proved, p);
	}
	if (p && !r)
		return;
	free(p);
	api_fail(c, r == -EUSERS ? r : err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
}

/* --- routes ---------------------------------------------------- */

void factor_show(struct api_call *c)
{
	char user_key[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1];
	int64_t modified;
	AUTO(json_decref) json_t *user = resource_find(c, user_key, NULL);

	if (!user)
		return;
	AUTO(json_decref) json_t *kept = factor_kept(c->arg, user, key, &modified);
	json_t *doc = json_pack("{s:b}", "is_on", factor_is_on(kept));

	if (factor_is_on(kept)) {
		json_object_set_new(doc, "since", json_string(auth_text(kept, NULL, "since")));
		json_object_set_new(doc, "recovery_left", json_integer((json_int_t)json_array_size(json_object_get(kept, "recovery"))));
	}
	api_reply(c, 200, doc);
}

/* The user that C is about when it is the one who asks; else C is answered, and NULL. */
static json_t *own_user(struct api_call *c)
{
	char key[STORE_KEY_MAX + 1];
	struct err err = ERR_INIT;
	json_t *user = resource_find(c, key, NULL);

	if (!user || (c->user.uid[0] && !strcmp(c->user.uid, auth_text(user, NULL, "uid"))))
		return user;
	api_fail(c, err_set(&err, -EPERM, "only '%s' can do that: nobody else is to know the key", c->param[0]), NULL, &err);
	json_decref(user);
	return NULL;
}

/* "otpauth://totp/Vivarium:alice%40node1?...": the form that authenticators agree on. */
static void write_uri(char *out, size_t cap, const char *name, const char *secret)
{
	struct utsname host;

	uname(&host);
	for (char *p = host.nodename; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-._", *p))
			*p = '-';
	snprintf(out, cap, "otpauth://totp/Vivarium:%s%%40%.64s?secret=%s&issuer=Vivarium&algorithm=SHA1&digits=%d&period=%d", name,
		 host.nodename, secret, TOTP_DIGITS, TOTP_STEP_S);
}

static void begin(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1], secret[TOTP_BASE32_LEN + 1], uri[512];
	uint8_t fresh[TOTP_KEY_LEN];
	int64_t modified;
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *user = own_user(c);

	if (!user)
		return;
	AUTO(json_decref) json_t *was = factor_kept(n, user, key, &modified);
	if (factor_is_on(was)) {
		api_fail(c, err_set(&err, -EBUSY, "'%s' has an authenticator already; take that away first", c->user.name), NULL,
			 &err);
		return;
	}
	secret_random(fresh, sizeof(fresh));
	json_t *sealed = factor_seal(n, fresh, c->user.uid, &err);
	if (!sealed) {
		api_fail(c, err.code ? err.code : err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return;
	}
	totp_base32(secret, fresh, sizeof(fresh));
	write_uri(uri, sizeof(uri), c->user.name, secret);
	AUTO(json_decref) json_t *kept = json_pack("{s:s, s:o}", "user_uid", c->user.uid, "key", sealed);
	change(c, user, key, modified, kept, json_pack("{s:s, s:s}", "uri", uri, "secret", secret), 201);
	OPENSSL_cleanse(fresh, sizeof(fresh));
	OPENSSL_cleanse(secret, sizeof(secret));
	OPENSSL_cleanse(uri, sizeof(uri));
}

void factor_begin(struct api_call *c)
{
	AUTO(json_decref) json_t *user = own_user(c);

	if (user)
		ask_password(c, begin);
}

void factor_confirm(struct api_call *c)
{
	char key[STORE_KEY_MAX + 1], now[DOC_TIME_LEN + 1];
	int64_t modified;
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *user = own_user(c);

	if (!user)
		return;
	AUTO(json_decref) json_t *kept = factor_kept(c->arg, user, key, &modified);
	int r = !kept ? err_set(&err, -ENOENT, "there is no key to be confirmed; ask for one first") :
		factor_is_on(kept) ? err_set(&err, -EBUSY, "it has been confirmed already") :
			      factor_spend(c, kept, auth_text(c->body, NULL, "code"), &err);

	if (r < 0) {
		api_fail(c, r, r == -EPERM ? "code" : NULL, &err);
		return;
	}
	doc_now(now);
	json_object_set_new(kept, "since", json_string(now));
	change(c, user, key, modified, kept, json_pack("{s:o}", "recovery_codes", factor_make_recovery(kept)), 200);
}

/* Has C's session begun with a code a moment ago? */
static bool is_fresh(const struct api_call *c)
{
	struct node *n = c->arg;
	char since[DOC_TIME_LEN + 1], until[DOC_TIME_LEN + 1];
	AUTO(json_decref) json_t *session = c->user.via == API_VIA_SESSION ? doc_get(n->store, c->user.credential, NULL) : NULL;

	const char *created = auth_text(session, NULL, "created");

	/* One that begins in the future began before the clock was set back. */
	doc_time(since, time(NULL) - FACTOR_FRESH_S);
	doc_time(until, time(NULL) + FACTOR_FRESH_S);
	return json_is_true(json_object_get(session, "has_code")) && strcmp(created, since) >= 0 && strcmp(created, until) <= 0;
}

/* Of others (IS_OTHER) without a proof. */
static void take_away(struct api_call *c, bool is_other)
{
	char user_key[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1];
	int64_t modified;
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *user = resource_find(c, user_key, NULL);

	if (!user)
		return;
	AUTO(json_decref) json_t *kept = factor_kept(c->arg, user, key, &modified);
	int r = !factor_is_on(kept) ? err_set(&err, -ENOENT, "'%s' has no authenticator", c->param[0]) :
		is_other || is_fresh(c) ? 0 : factor_spend(c, kept, auth_text(c->body, NULL, "code"), &err);

	if (r < 0)
		api_fail(c, r, r == -EPERM ? "code" : NULL, &err);
	else
		change(c, user, key, modified, NULL, NULL, 204);
}

static void remove_own(struct api_call *c) { take_away(c, false); }

void factor_remove(struct api_call *c)
{
	if (strcmp(c->user.name, c->param[0]) != 0)
		take_away(c, true);
	else
		ask_password(c, remove_own);
}
