/* SPDX-License-Identifier: Apache-2.0 */
/* login.c - `viv login`, `viv logout` and `viv whoami`. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <termios.h>
#include <unistd.h>
#include "cli/access.h"
#include "cli/client.h"
#include "cli/output.h"
#include "cli/table.h"

enum { PASSWORD_MAX = 1024 };

/* One line without its end; on a terminal it is not shown. */
static int read_line(char *buf, size_t cap, const char *prompt, struct err *err)
{
	struct termios before, silent;
	bool is_terminal = isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &before);

	if (is_terminal) {
		silent = before;
		silent.c_lflag &= ~(tcflag_t)ECHO;
		fprintf(stderr, "%s: ", prompt);
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
	}
	bool ok = fgets(buf, (int)cap, stdin) != NULL;

	if (is_terminal) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
		fputc('\n', stderr);
	}
	if (!ok || !buf[strcspn(buf, "\n")])
		return err_set(err, -EINVAL, "there is no password or code, or it is too long: type it, or send it as a line to standard input");
	buf[strcspn(buf, "\n")] = 0;
	return 0;
}

int access_read_password(char *buf, size_t cap, const char *prompt, bool is_new, struct err *err)
{
	char again[PASSWORD_MAX + 2];
	int r = read_line(buf, cap, prompt, err);

	if (r < 0 || !is_new || !isatty(STDIN_FILENO))
		return r;
	r = read_line(again, sizeof(again), "once more", err);
	if (!r && strcmp(buf, again) != 0)
		r = err_set(err, -EINVAL, "the two are not the same");
	OPENSSL_cleanse(again, sizeof(again));
	return r;
}

/* The same with a code, which is asked for. */
static int log_in_with_code(struct client *cl, json_t *body, json_t **out, struct err *err)
{
	char code[PASSWORD_MAX + 2];
	int r = access_read_password(code, sizeof(code), "code of the authenticator, or a recovery code", false, err);

	if (!r && json_object_set_new(body, "code", json_string(code)) < 0)
		r = err_set(err, -EINVAL, "that is no code");
	OPENSSL_cleanse(code, sizeof(code));
	return r < 0 ? r : client_call(cl, "POST", body, out, err, "/v1/login");
}

/* A session with what BODY says. */
static int begin_session(struct client *cl, json_t *body, bool is_setup, struct err *err)
{
	AUTO(json_decref) json_t *session = NULL;
	struct err first = ERR_INIT;
	int r = client_call(cl, "POST", body, &session, &first, is_setup ? "/v1/setup" : "/v1/login");

	if (r == -EACCES && !is_setup && !strcmp(client_wrong_field(cl), "code"))
		r = log_in_with_code(cl, body, &session, err);
	else if (r < 0)
		return err_set(err, r, "%s", first.msg);
	return r < 0 ? r : client_use_session(cl, json_string_value(json_object_get(session, "csrf")), err);
}

int access_log_in(struct client *cl, const char *user, const char *password, struct err *err)
{
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:s}", "user", user, "password", password);

	return body ? begin_session(cl, body, false, err) : err_set(err, -EINVAL, "that is no password: it is not UTF-8");
}

/* A session, for a moment: by the password, or, the first of all, by what vivd has printed. */
static int open_session(struct cli *c, struct client *cl, struct err *err)
{
	char password[PASSWORD_MAX + 2], token[PASSWORD_MAX + 2];
	const char *setup = cli_str(c, "--setup-token");
	int r = 0;

	/* Everybody on this host sees what stands in arguments, while the password is being typed. */
	if (setup && !strcmp(setup, "-")) {
		r = access_read_password(token, sizeof(token), "token that vivd has printed", false, err);
		setup = token;
	}
	if (!r)
		r = access_read_password(password, sizeof(password), setup ? "new password" : "password", setup != NULL, err);

	if (r < 0)
		return r;
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:s, s:s*}", "user", cli_arg(c, 0), "password", password, "token", setup);
	OPENSSL_cleanse(password, sizeof(password));
	OPENSSL_cleanse(token, sizeof(token));
	return body ? begin_session(cl, body, setup != NULL, err) : err_set(err, -EINVAL, "that is no password: it is not UTF-8");
}

/* From the session a token, which is kept. */
static int trade_for_token(struct client *cl, const char *user, struct err *err)
{
	AUTO(json_decref) json_t *made = NULL;
	unsigned number = 0;
	char name[32], host[64] = "";

	while (getrandom(&number, sizeof(number), 0) != sizeof(number))
		continue;
	snprintf(name, sizeof(name), "viv-%08x", number);
	gethostname(host, sizeof(host) - 1);
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:{s:s+}}", "name", name, "spec", "about", "viv login on ", host);
	int r = client_call(cl, "POST", body, &made, err, "/v1/tokens");

	if (!r)
		r = client_remember(cl, json_string_value(json_object_get(made, "token")), name, user, err);
	if (!r)
		r = client_call(cl, "POST", NULL, NULL, err, "/v1/logout");
	return r;
}

static int login(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	int r = client_open(&cl, c, err);

	if (!r && !client_is_remote(cl))
		r = err_set(err, -EINVAL, "say where: --host https://HOST:PORT; on this host nobody has to log in");
	if (!r)
		r = client_trust(cl, cli_str(c, "--fingerprint"), err);
	if (!r)
		r = open_session(c, cl, err);
	if (!r)
		r = trade_for_token(cl, cli_arg(c, 0), err);
	if (!r && c->is_json)
		return output_json(json_pack("{s:s}", "user", cli_arg(c, 0)), err);
	return r;
}

const struct cli_command access_login = {
	.path = "login",
	.summary = "become a user of a daemon elsewhere",
	.about = "The first time, the daemon's certificate is shown, to be compared with what vivd has printed; from then on its "
		 "key is known. The password is asked for, or read from standard input, and so is the code of the authenticator if the "
		 "user has one; a token is made with it and kept in "
		 "~/.config/viv/hosts.json, and not the password. VIV_TOKEN, when it is set, is used in its place.",
	.args = (const struct cli_arg[]){ { "USER", .help = "who" }, { .name = NULL } },
	.options =
		(const struct cli_option[]){
			{ "--fingerprint", 0, CLI_STRING, .metavar = "SHA256",
			  .help = "the certificate that it has to show, for scripts" },
			{ "--setup-token", 0, CLI_STRING, .metavar = "TOKEN",
			  .help = "make the first administrator, with what vivd has printed; '-' asks for it, so that no other user "
				  "of this host sees it" },
			CLIENT_OPTIONS,
			{ .name = NULL },
		},
	.examples =
		(const struct cli_example[]){
			{ "login --host https://node1.example:8443 alice", "as alice" },
			{ .line = NULL },
		},
	.run = login,
};

static int logout(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	struct err gone = ERR_INIT;
	int r = client_open(&cl, c, err);

	if (!r && !client_is_remote(cl))
		r = err_set(err, -EINVAL, "say where: --host https://HOST:PORT");
	if (r < 0)
		return r;
	if (!cli_flag(c, "--forget") && client_token_name(cl))
		r = client_call(cl, "DELETE", NULL, NULL, &gone, "/v1/tokens/%s", client_token_name(cl));
	/* A token that is not known any more is as good as deleted. */
	if (r < 0 && r != -EACCES && r != -ENOENT)
		return err_wrap(err, err_set(err, r, "%s", gone.msg), "the token is still good, so it is kept (--forget drops it)");
	return client_forget(cl, cli_flag(c, "--forget"), err);
}

const struct cli_command access_logout = {
	.path = "logout",
	.summary = "be nobody any more at a daemon elsewhere",
	.about = "The token is deleted there and here.",
	.options =
		(const struct cli_option[]){
			{ "--forget", 0, CLI_FLAG, .help = "do not ask the daemon; forget its key, too" },
			CLIENT_OPTIONS,
			{ .name = NULL },
		},
	.examples = (const struct cli_example[]){ { "logout --host https://node1.example:8443", "there" }, { .line = NULL } },
	.run = logout,
};

static int whoami(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *doc = NULL;
	const char *project;
	json_t *role;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &doc, err, "/v1/session");
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_incref(doc), err);
	printf("%s, %s on the node\n", json_string_value(table_at(doc, "user")), json_string_value(table_at(doc, "role")));
	json_object_foreach(json_object_get(doc, "projects"), project, role)
		printf("  %-20s %s\n", project, json_string_value(role));
	return 0;
}

const struct cli_command access_whoami = {
	.path = "whoami",
	.summary = "tell who one is to the daemon, and what one may",
	.about = "With the role on the node, and that in each project.",
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "whoami", "here" }, { .line = NULL } },
	.run = whoami,
};
