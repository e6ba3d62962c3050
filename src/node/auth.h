/* SPDX-License-Identifier: Apache-2.0 */
/* auth.h - who may do what.
 *
 * A caller is known by the process at the other end of the Unix socket, by a token ("Authorization: Bearer viv_..."), or
 * by the cookie of a session. The daemon's own user and root may do all. Others are users, with a role on the node
 * ("spec.role" of the user's document) and roles in projects (documents of kind "role"); a token may have less than its
 * user. Whoever has no role may nothing. Every route names the role it needs and where; auth_authorize() is the only
 * place that decides. What is kept of passwords and tokens lies in documents below "secret/", which no route shows.
 * Loop thread. */
#ifndef NODE_AUTH_H
#define NODE_AUTH_H

#include "api/route.h"
#include "util/cleanup.h"

struct auth;
struct auth_socket;
struct err;
struct node;

struct auth_config {
	const char *group;              /* its members may use the Unix socket, too; NULL: nobody else */
	enum api_role group_role;       /* of those of them that are no users of the platform's */
	bool has_network;               /* somebody may come by the network: the first administrator has to be made */
};

/* Makes what every node has: the project 'default'. */
int auth_open(struct auth **out, struct node *n, const struct auth_config *c, struct err *err);
/* Before the store closes. */
void auth_stop(struct auth *a);
void auth_close(struct auth *a);        /* NULL is fine */
DEFINE_AUTO(struct auth *, auth_close)
/* The number of the group of the Unix socket; -1: none. */
int auth_socket_group(const struct auth *a);
/* The one-time token with which the first administrator is made; "" when there is one already or nobody needs it. */
const char *auth_setup_token(const struct auth *a);

/* Records that are not in the audit log because it could not be written. */
uint64_t auth_records_lost(const struct auth *a);

/* "viewer", "operator", "admin"; else API_ANYONE. */
enum api_role auth_role_of(const char *name);

/* For struct api_config. */
int auth_authorize(void *arg, struct api_call *c, struct err *err);
bool auth_answered(void *arg, struct api_call *c, int status);

/* What U may as of now, in PROJECT, or with NULL on the node. API_ANYONE: nothing. */
enum api_role auth_role(struct node *n, const struct api_user *u, const char *project);
/* Is U still who it was when it came: is the user, the token, the session still there? */
bool auth_is_valid(struct node *n, const struct api_user *u);
/* May U see the document KEY? */
bool auth_sees(struct node *n, const struct api_user *u, const char *key);

/* A WebSocket in place of api_accept(): it is closed as soon as its user may no longer have it. */
struct http_socket *auth_accept(struct api_call *c, const struct http_socket_ops *ops, void *arg);

/* --- routes ---------------------------------------------------- */

extern const struct schema setup_schema, login_schema, session_schema;
void auth_show_setup(struct api_call *c);       /* GET /v1/setup */
void auth_setup(struct api_call *c);            /* POST /v1/setup: make the first administrator */
void auth_login(struct api_call *c);            /* POST /v1/login */
void auth_logout(struct api_call *c);           /* POST /v1/logout */
void auth_show_session(struct api_call *c);     /* GET /v1/session: who am I, and what may I? */

void audit_list(struct api_call *c);            /* GET /v1/audit */
void audit_show_check(struct api_call *c);      /* GET /v1/audit/verify */

#endif
