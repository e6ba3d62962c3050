/* SPDX-License-Identifier: Apache-2.0 */
/* totp.c - `viv totp`. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include "cli/access.h"
#include "cli/client.h"
#include "cli/output.h"

enum { PASSWORD_MAX = 1024, CODE_MAX = 64 };

#define ONLY_CLIENT (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } }
#define USER_ARG (const struct cli_arg[]){ { "USER", .help = "the user" }, { .name = NULL } }

static int show(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *doc = NULL;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &doc, err, "/v1/users/%s/totp", cli_arg(c, 0));
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_incref(doc), err);
	if (json_is_true(json_object_get(doc, "is_on")))
		printf("a code is needed since %s; %d recovery codes are left\n", json_string_value(json_object_get(doc, "since")),
		       (int)json_integer_value(json_object_get(doc, "recovery_left")));
	else
		puts("the password alone is enough");
	return 0;
}

/* The daemon lets in who has the password: a token cannot change what lets its user in. */
static int log_in(struct cli *c, struct client *cl, char *password, size_t cap, struct err *err)
{
	int r = access_read_password(password, cap, "password", false, err);

	return r < 0 || !client_is_remote(cl) ? r : access_log_in(cl, cli_arg(c, 0), password, err);
}

static int log_out(struct client *cl, struct err *err)
{
	return client_is_remote(cl) ? client_call(cl, "POST", NULL, NULL, err, "/v1/logout") : 0;
}

/* What the authenticator has to know. */
static int tell_key(const struct cli *c, json_t *key, struct err *err)
{
	int r = 0;

	if (c->is_json)
		r = output_json(json_incref(key), err);
	else
		printf("Let the authenticator read this,\n\n    %s\n\nor type the key into it:\n\n    %s\n\n", json_string_value(json_object_get(key, "uri")), json_string_value(json_object_get(key, "secret")));
	fflush(stdout);
	return r;
}

static int tell_recovery(const struct cli *c, json_t *doc, struct err *err)
{
	json_t *code;
	size_t i;

	if (c->is_json)
		return output_json(json_incref(doc), err);
	puts("From now on a code is needed. These are for the day on which the authenticator is lost; each is good once:\n");
	json_array_foreach(json_object_get(doc, "recovery_codes"), i, code)
		printf("    %s\n", json_string_value(code));
	return 0;
}

static int confirm(struct cli *c, struct client *cl, struct err *err)
{
	char code[CODE_MAX + 2];
	AUTO(json_decref) json_t *recovery = NULL;
	int r = access_read_password(code, sizeof(code), "the code that it shows", false, err);

	if (r < 0)
		return r;
	AUTO(json_decref) json_t *body = json_pack("{s:s}", "code", code);
	r = client_call(cl, "POST", body, &recovery, err, "/v1/users/%s/totp/confirm", cli_arg(c, 0));
	return r < 0 ? r : tell_recovery(c, recovery, err);
}

static int enable(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *key = NULL;
	char password[PASSWORD_MAX + 2] = "";
	int r = client_open(&cl, c, err);

	if (!r)
		r = log_in(c, cl, password, sizeof(password), err);
	AUTO(json_decref) json_t *body = json_pack("{s:s}", "password", password);
	OPENSSL_cleanse(password, sizeof(password));
	if (!r)
		r = client_call(cl, "POST", body, &key, err, "/v1/users/%s/totp", cli_arg(c, 0));
	if (!r)
		r = tell_key(c, key, err);
	if (!r)
		r = confirm(c, cl, err);
	return r < 0 ? r : log_out(cl, err);
}

/* Does the caller ask for itself? */
static int is_own(struct cli *c, struct client *cl, struct err *err)
{
	AUTO(json_decref) json_t *who = NULL;
	int r = client_call(cl, "GET", NULL, &who, err, "/v1/session");
	const char *me = json_string_value(json_object_get(who, "user"));

	return r < 0 ? r : me && !strcmp(me, cli_arg(c, 0));
}

static int disable(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	char password[PASSWORD_MAX + 2] = "", code[CODE_MAX + 2] = "";
	int r = client_open(&cl, c, err);
	int own = r < 0 ? r : is_own(c, cl, err);

	if (own < 0)
		return own;
	if (own)
		r = log_in(c, cl, password, sizeof(password), err);
	if (!r && own && !client_is_remote(cl))
		r = access_read_password(code, sizeof(code), "code of the authenticator, or a recovery code", false, err);
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:s}", "password", password, "code", code);
	OPENSSL_cleanse(password, sizeof(password));
	OPENSSL_cleanse(code, sizeof(code));
	if (!r)
		r = client_call(cl, "POST", body, NULL, err, "/v1/users/%s/totp/remove", cli_arg(c, 0));
	return r < 0 || !own ? r : log_out(cl, err);
}

const struct cli_command totp_show = {
	.path = "totp show", .summary = "tell whether a user needs a code", .about = "And how many recovery codes are left.",
	.args = USER_ARG, .options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "totp show alice", "alice's" }, { .line = NULL } }, .run = show,
};

const struct cli_command totp_enable = {
	.path = "totp enable",
	.summary = "make an authenticator known, whose codes are needed from then on",
	.about = "For oneself. The password is asked for, then the key is shown, once; it counts when the first code is right. "
		 "Recovery codes are printed at the end. Without a terminal, password and code are lines of standard input.",
	.args = USER_ARG,
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "totp enable alice --host https://node1.example:8443", "as alice" },
						  { .line = NULL } },
	.run = enable,
};

const struct cli_command totp_disable = {
	.path = "totp disable",
	.summary = "let the password alone be enough",
	.about = "Who does that for oneself gives the password and a code a last time. Administrators do it for others, who have "
		 "lost their authenticators.",
	.args = USER_ARG,
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "totp disable alice", "she has lost it" }, { .line = NULL } },
	.run = disable,
};

const struct cli_group totp_group = {
	.path = "totp", .summary = "codes beside passwords",
	.about = "An authenticator (RFC 6238) shows a code of six digits for half a minute. Each lets in once.",
	.see_also = ".BR viv-user (1)",
};
