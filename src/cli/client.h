/* SPDX-License-Identifier: Apache-2.0 */
/* client.h - requests to the daemon, on libcurl. A daemon of this user is started when there is none. One thread. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "cli/command.h"
#include "util/json.h"

struct client;
struct progress;

/* Options of every command that talks to the daemon. */
#define CLIENT_OPTIONS \
	{ "--project", 0, CLI_STRING, .metavar = "NAME", .def = "default", .help = "the project that it is about" }, \
	{ "--socket", 0, CLI_STRING, .metavar = "PATH", \
	  .help = "the daemon's socket; default: that of this user's daemon" }, \
	{ "--host", 'H', CLI_STRING, .metavar = "URL", \
	  .help = "a daemon elsewhere: https://HOST:PORT; default: VIV_HOST; see 'viv login'" }

/* Connect as C's options say. */
int client_open(struct client **out, const struct cli *c, struct err *err);
void client_close(struct client *cl);           /* NULL is fine */
DEFINE_AUTO(struct client *, client_close)

/* Is the daemon elsewhere? */
bool client_is_remote(const struct client *cl);
/* Of one elsewhere: the name or address of its host, without brackets. */
void client_host(const struct client *cl, char *host, size_t cap);
/* See to it that the remote daemon's certificate is known: by who has signed it, as the SHA-256 that EXPECTED (NULL: any) is,
 * or by asking. -EACCES: it is not. */
int client_trust(struct client *cl, const char *expected, struct err *err);
/* From now on requests are those of a session with this word against forgery (copied; NULL: of a token again). */
int client_use_session(struct client *cl, const char *csrf, struct err *err);
/* Keep, or drop, what lets this user in there; IS_ALL: and by what the daemon is known. */
int client_remember(struct client *cl, const char *token, const char *token_name, const char *user, struct err *err);
int client_forget(struct client *cl, bool is_all, struct err *err);
const char *client_token_name(const struct client *cl);        /* NULL: none is kept */

/* METHOD on "/v1/..." (FMT), in C's project, with BODY (borrowed, NULL: none). OUT (NULL: not wanted) gets a new
 * reference, NULL when the answer has no body. An answer of 400 or more is a negative errno, with the daemon's sentence. */
int client_call(struct client *cl, const char *method, const json_t *body, json_t **out, struct err *err,
		const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* The path of the field that the last call was refused for; "" when there is none. Until the next one. */
const char *client_wrong_field(const struct client *cl);
/* The sentence of the daemon's answer of STATUS, 400 or more, with the body DATA. Negative errno. */
int client_error_of(long status, const char *data, size_t len, struct err *err);
/* GET of what is no document; from malloc(). */
int client_get_bytes(struct client *cl, char **out, size_t *len, struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* GET of a long file at PATH ("/v1/...") into FILE, which must not be there. What an earlier attempt has got is in FILE.ETAG.part; the
 * rest is fetched. -EINTR: the user has had enough. */
int client_download(struct client *cl, const char *path, const char *file, struct progress *p, struct err *err);

/* PUT of the bytes from OFF to SIZE, which are behind BASE in the file FD, to PATH ("/v1/..."), as a part of SIZE bytes. -ECONNRESET: it has broken off;
 * -ESPIPE: it does not go on there; -EINTR: the user has had enough. */
int client_upload(struct client *cl, const char *path, int fd, uint64_t base, uint64_t off, uint64_t size, struct progress *p,
		  struct err *err);

/* Wait until the document at PATH has one of the states (separated by spaces) in its status; the document in OUT.
 * A state "failed" that is not among them ends it with the status' sentence. TELL gets each new sentence meanwhile; NULL. */
int client_wait(struct client *cl, const char *path, const char *states, json_t **out,
		void (*tell)(const char *sentence), struct err *err);
/* The same, after a request to something whose status was BEFORE (NULL: not known): what had failed then is no news. */
int client_wait_news(struct client *cl, const char *path, const char *states, const json_t *before, json_t **out,
		     void (*tell)(const char *sentence), struct err *err);

/* The console of instance NAME on this terminal, until the user leaves it with Ctrl-a x, or it ends. Without a terminal,
 * input is passed on as it comes. */
int client_console(struct client *cl, const char *name, struct err *err);

#endif
