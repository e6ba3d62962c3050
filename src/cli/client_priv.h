/* SPDX-License-Identifier: Apache-2.0 */
/* client_priv.h - a connection, as client.c (requests) and client_socket.c (what goes on) share it. */
#ifndef CLI_CLIENT_PRIV_H
#define CLI_CLIENT_PRIV_H

#include <stdbool.h>
#include "cli/late.h"
#include "util/json.h"

struct err;

struct client {
	struct late_curl lib;
	CURL *curl;                     /* NULL: it could not be made */
	char *socket;                   /* NULL: URL */
	char *url;                      /* "https://HOST:PORT" */
	json_t *known;                  /* of that host: see hosts.h */
	char *token;                    /* for it; NULL: none */
	char *csrf;                     /* of a session; NULL: there is none */
	const char *project;
	char wrong[64];                 /* the field that the last call was refused for */
};

/* --- client.c --- */

/* Headers of a request: what is in it, and who sends it. */
struct curl_slist *client_headers(const struct client *cl, const char *type);
/* Keeps what an answer says that refuses: a function for libcurl, with a struct client_reply. */
struct client_reply {
	char *data;             /* from malloc(), ended by a NUL; NULL: nothing yet */
	size_t len;
};
size_t client_on_reply(char *data, size_t size, size_t n, void *reply);
/* Is what METHOD does at PATH done in a project, which the request has to name? Else it must not. */
bool client_names_project(const char *method, const char *path);
/* CL->curl for METHOD on PATH, which it sends with the project where that counts. */
int client_setup(struct client *cl, const char *method, const char *path, struct curl_slist *headers, struct err *err);
/* The sentence that belongs to libcurl's R. Negative errno. */
int client_explain(const struct client *cl, int r, struct err *err);

/* --- client_remote.c --- */

int client_open_remote(struct client *cl, const char *url, struct err *err);
/* How the daemon at CL->url is known, as options of libcurl. */
void client_set_tls(const struct client *cl, void *curl);

#endif
