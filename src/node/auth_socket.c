/* SPDX-License-Identifier: Apache-2.0 */
/* auth_socket.c - WebSockets last for long; whoever has lost the right to one in the meantime loses it, too. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "node/auth_priv.h"
#include "node/node.h"
#include "node/resource.h"

enum { CLOSE_POLICY = 1008 };           /* RFC 6455 7.4.1 */

struct auth_socket {
	struct auth *auth;
	struct auth_socket *next;
	const struct http_socket_ops *ops;
	void *arg;
	struct http_socket *ws;
	struct api_user user;
	enum api_role role;             /* needed, */
	enum api_scope scope;           /* and where */
	char project[DOC_NAME_MAX + 1];
};

static void message(void *arg, const void *data, size_t len, bool is_text)
{
	struct auth_socket *s = arg;

	s->ops->message(s->arg, data, len, is_text);
}

static void drained(void *arg)
{
	struct auth_socket *s = arg;

	if (s->ops->drained)
		s->ops->drained(s->arg);
}

static void closed(void *arg)
{
	struct auth_socket *s = arg;

	for (struct auth_socket **at = &s->auth->sockets; *at; at = &(*at)->next) {
		if (*at == s) {
			*at = s->next;
			break;
		}
	}
	s->ops->closed(s->arg);
	free(s);
}

struct http_socket *auth_accept(struct api_call *c, const struct http_socket_ops *ops, void *arg)
{
	static const struct http_socket_ops own = { .message = message, .drained = drained, .closed = closed };
	struct auth *a = ((struct node *)c->arg)->auth;
	struct auth_socket *s = calloc(1, sizeof(*s));
	struct err err = ERR_INIT;

	if (!s) {
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return NULL;
	}
	*s = (struct auth_socket){ .auth = a, .next = a->sockets, .ops = ops, .arg = arg, .user = c->user,
				   .role = c->route->role, .scope = c->route->scope };
	snprintf(s->project, sizeof(s->project), "%s", resource_project(c));
	a->sockets = s;
	s->ws = api_accept(c, &own, s);
	return s->ws;
}

static bool may_stay(const struct auth_socket *s)
{
	struct node *n = s->auth->node;

	if (s->scope == API_SELF)
		return auth_is_valid(n, &s->user);
	return auth_role(n, &s->user, s->scope == API_PROJECT ? s->project : NULL) >= s->role;
}

void auth_check_sockets(struct auth *a)
{
	for (struct auth_socket *s = a->sockets; s; s = s->next)
		if (!may_stay(s))
			http_hang_up(s->ws, CLOSE_POLICY, "it may no longer be used by who has opened it");
}
