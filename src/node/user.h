/* SPDX-License-Identifier: Apache-2.0 */
/* user.h - users, their roles in projects, their tokens, and projects. What they mean is auth.h's. Loop thread. */
#ifndef NODE_USER_H
#define NODE_USER_H

#include "api/route.h"

struct err;
struct node;

extern const struct schema user_schema, role_schema, token_schema, project_schema, password_schema;

int user_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err);
int role_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err);
int role_fill(struct api_call *c, json_t *doc, struct err *err);

/* DELETE /v1/users/{user}: with all that lets it in. */
void user_delete(struct api_call *c);
/* POST /v1/users/{user}/password. It ends the user's other sessions. */
void user_set_password(struct api_call *c);
/* POST /v1/tokens: the answer has the token itself, which is shown this once. */
void token_create(struct api_call *c);
void token_delete(struct api_call *c);
/* DELETE /v1/projects/{name}: an empty one, with the roles in it. */
void project_delete(struct api_call *c);

/* Make the administrator NAME with PASSWORD. DONE gets the document (borrowed), or what was wrong. */
void user_make_admin(struct node *n, const char *name, const char *password,
		     void (*done)(void *arg, int r, const json_t *user, const struct err *err), void *arg);

#endif
