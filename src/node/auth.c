/* SPDX-License-Identifier: Apache-2.0 */
#include "node/auth_priv.h"
#include "node/clock.h"

#include <errno.h>
#include <grp.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "node/idempotency.h"
#include "node/node.h"
#include "node/resource.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/err.h"

/* What a caller from the Unix socket that is no user of the platform's has for a credential. */
static const char owner[] = "owner", member[] = "group";

const char *const auth_role_names[] = { "none", "viewer", "operator", "admin", NULL };

enum api_role auth_role_of(const char *name)
{
	for (int i = API_VIEWER; i <= API_ADMIN; i++)
		if (!strcmp(auth_role_names[i], name))
			return (enum api_role)i;
	return API_ANYONE;
}

const char *auth_text(const json_t *doc, const char *outer, const char *inner)
{
	const json_t *from = outer ? json_object_get(doc, outer) : doc;
	const char *text = json_string_value(json_object_get(from, inner));

	return text ? text : "";
}

/* --- what somebody may ---------------------------------------------------- */

/* The document of U, when it is still the same user and may come in. New reference. */
static json_t *user_doc(struct node *n, const struct api_user *u)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "user", AUTH_ALL, u->name);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	if (!doc || strcmp(auth_text(doc, NULL, "uid"), u->uid) != 0 ||
	    json_is_true(json_object_get(json_object_get(doc, "spec"), "disabled")))
		return NULL;
	return json_incref(doc);
}

/* What has told who U is, a token or a session, when it is still good. New reference. */
static json_t *credential_doc(struct node *n, const struct api_user *u)
{
	AUTO(json_decref) json_t *doc = doc_get(n->store, u->credential, NULL);
	const char *expires = auth_text(doc, NULL, "expires");
	char now[DOC_TIME_LEN + 1];

	doc_now(now);
	if (!doc || strcmp(auth_text(doc, NULL, "user_uid"), u->uid) != 0 || strcmp(expires, now) <= 0)
		return NULL;
	/* A session that began when the clock was years ahead is not one for years. */
	if (u->via == API_VIA_SESSION && !clock_is_good_until(expires, time(NULL), AUTH_SESSION_S))
		return NULL;
	return json_incref(doc);
}

static enum api_role role_in_project(struct node *n, const struct api_user *u, const char *project)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "role", project, u->name);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	return strcmp(auth_text(doc, NULL, "user_uid"), u->uid) ? API_ANYONE : auth_role_of(auth_text(doc, "spec", "role"));
}

/* Has something of its own told who it is? Who has begun a task has shown that then. */
static bool has_credential(const struct api_user *u)
{
	return u->via == API_VIA_TOKEN || u->via == API_VIA_SESSION;
}

/* What U may but for what bounds a task. */
static enum api_role role_now(struct node *n, const struct api_user *u, const char *project)
{
	if (u->via == API_VIA_NOTHING)
		return API_ANYONE;
	if (!u->uid[0])
		return u->credential == strstr(u->credential, owner) ? API_ADMIN : n->auth->config.group_role;
	AUTO(json_decref) json_t *user = user_doc(n, u);
	AUTO(json_decref) json_t *credential = has_credential(u) ? credential_doc(n, u) : NULL;
	const char *cap = auth_text(credential, "spec", "role"), *only = auth_text(credential, "spec", "project");

	if (!user || (has_credential(u) && !credential) || (only[0] && (!project || strcmp(only, project) != 0)))
		return API_ANYONE;
	enum api_role role = auth_role_of(auth_text(user, "spec", "role")),
		      there = project ? role_in_project(n, u, project) : API_ANYONE;

	if (there > role)
		role = there;
	return cap[0] && role > auth_role_of(cap) ? auth_role_of(cap) : role;
}

enum api_role auth_role(struct node *n, const struct api_user *u, const char *project)
{
	enum api_role now = role_now(n, u, project), most = project ? u->most : u->most_on_node;

	return u->via == API_VIA_TASK && now > most ? most : now;
}

bool auth_is_valid(struct node *n, const struct api_user *u)
{
	if (u->via == API_VIA_NOTHING || !u->uid[0])
		return u->via != API_VIA_NOTHING;
	AUTO(json_decref) json_t *user = user_doc(n, u);
	AUTO(json_decref) json_t *credential = has_credential(u) ? credential_doc(n, u) : json_true();

	return user && credential;
}

static const struct resource *resource_of_key(const char *key)
{
	size_t len = strcspn(key, "/");

	for (const struct resource *r = resources; r->kind; r++)
		if (strlen(r->kind) == len && !memcmp(r->kind, key, len))
			return r;
	return NULL;
}

bool auth_sees(struct node *n, const struct api_user *u, const char *key)
{
	const struct resource *r = resource_of_key(key);
	char project[DOC_NAME_MAX + 1];
	const char *middle = strchr(key, '/');

	if (!r || !middle)
		return false;           /* secrets, sessions, and what else is the daemon's own */
	const char *name = strchr(middle + 1, '/');
	if (!name || name - middle - 1 > DOC_NAME_MAX)
		return false;
	snprintf(project, sizeof(project), "%.*s", (int)(name - middle - 1), middle + 1);
	if (auth_role(n, u, NULL) >= API_VIEWER)
		return true;
	if (r->space == RESOURCE_OF_USER)
		return u->uid[0] && !strcmp(project, u->name) && auth_is_valid(n, u);
	if (!strcmp(r->kind, "project"))
		return auth_role(n, u, name + 1) >= API_VIEWER;
	if (!strcmp(r->kind, "pool"))
		return u->uid[0] && auth_is_valid(n, u);        /* whoever makes a volume says where */
	return (r->space == RESOURCE_OF_PROJECT || r->space == RESOURCE_OF_INSTANCE) && auth_role(n, u, project) >= API_VIEWER;
}

/* --- who somebody is ---------------------------------------------------- */

static bool is_in_group(const struct api_call *c, gid_t gid)
{
	const struct http_peer *p = http_get_peer(c->rq);

	if (p->gid == gid)
		return true;
	for (unsigned i = 0; i < p->n_groups; i++)
		if (p->groups[i] == gid)
			return true;
	return false;
}

/* The user whose number at the Unix socket is UID. */
static bool find_user_by_number(struct node *n, uid_t uid, struct api_user *out)
{
	char key[STORE_KEY_MAX + 1] = "";

	for (const struct store_doc *d; (d = store_next(n->store, "user/" AUTH_ALL "/", key[0] ? key : NULL)) != NULL;) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
		const json_t *number = json_object_get(json_object_get(doc, "spec"), "unix_uid");

		snprintf(key, sizeof(key), "%s", d->key);
		if (!json_is_integer(number) || json_integer_value(number) != (json_int_t)uid)
			continue;
		snprintf(out->name, sizeof(out->name), "%s", auth_text(doc, NULL, "name"));
		snprintf(out->uid, sizeof(out->uid), "%s", auth_text(doc, NULL, "uid"));
		return true;
	}
	return false;
}

static int identify_unix(struct node *n, struct api_call *c, struct err *err)
{
	const struct http_peer *peer = http_get_peer(c->rq);
	const struct auth *a = n->auth;
	struct api_user *u = &c->user;

	u->via = API_VIA_UNIX;
	snprintf(u->name, sizeof(u->name), "unix:%u", (unsigned)peer->uid);
	if (peer->uid == 0 || peer->uid == geteuid()) {
		strcpy(u->credential, owner);
		return 0;
	}
	if (find_user_by_number(n, peer->uid, u)) {
		if (auth_is_valid(n, u))
			return 0;
		u->via = API_VIA_NOTHING;
		return err_set(err, -EPERM, "the user '%s' is disabled", u->name);
	}
	strcpy(u->credential, member);
	if (a->config.group && is_in_group(c, a->gid))
		return 0;
	u->via = API_VIA_NOTHING;
	return err_set(err, -EPERM, "this daemon belongs to user %u%s%s", (unsigned)geteuid(),
		       a->config.group ? " and the group " : "", a->config.group ? a->config.group : "");
}

/* "Bearer viv_ID_SECRET" */
static int identify_token(struct node *n, struct api_call *c, const char *header, struct err *err)
{
	char id[DOC_UID_LEN + 1], secret[SECRET_LEN + 1], hash[SECRET_HASH_LEN + 1], key[STORE_KEY_MAX + 1];
	struct api_user *u = &c->user;
	int end = 0;

	if (strncasecmp(header, "bearer ", 7) != 0)
		return err_set(err, -EACCES, "the header 'Authorization' has to be 'Bearer TOKEN'");
	if (sscanf(header + 7, "viv_%16[0-9a-f]_%64[0-9a-f]%n", id, secret, &end) != 2 || header[7 + end] ||
	    strlen(secret) != SECRET_LEN)
		return err_set(err, -EACCES, "that is no token; 'viv token create' makes one");
	snprintf(key, sizeof(key), "secret/token/%s", id);
	AUTO(json_decref) json_t *kept = doc_get(n->store, key, NULL);
	secret_hash(hash, secret, SECRET_LEN);
	if (!kept || !secret_equal(hash, auth_text(kept, NULL, "hash")))
		return err_set(err, -EACCES, "the token is not known; it may have been deleted");
	u->via = API_VIA_TOKEN;
	snprintf(u->name, sizeof(u->name), "%s", auth_text(kept, NULL, "user"));
	snprintf(u->uid, sizeof(u->uid), "%s", auth_text(kept, NULL, "user_uid"));
	snprintf(u->credential, sizeof(u->credential), "token/%s/%s", u->name, auth_text(kept, NULL, "name"));
	if (auth_is_valid(n, u))
		return 0;
	u->via = API_VIA_NOTHING;
	return err_set(err, -EACCES, "the token is no longer valid: it, or its user, has expired or was taken away");
}

/* Has the session been idle for too long? Notes that it is not now. */
static bool is_idle(struct auth *a, const char *key)
{
	uint64_t now = loop_now_ns() / 1000000000;
	struct auth_use *use = a->uses;

	while (use && strcmp(use->key, key) != 0)
		use = use->next;
	if (use && now - use->last_s > AUTH_IDLE_S)
		return true;
	if (!use && (use = calloc(1, sizeof(*use)))) {
		snprintf(use->key, sizeof(use->key), "%s", key);
		use->next = a->uses;
		a->uses = use;
	}
	if (use)
		use->last_s = now;
	return false;
}

static int identify_session(struct node *n, struct api_call *c, struct err *err)
{
	char secret[SECRET_LEN + 1];
	struct api_user *u = &c->user;

	if (!auth_cookie(c, secret, u->credential, sizeof(u->credential)))
		return err_set(err, -EACCES, "say who you are: log in, or send a token");
	AUTO(json_decref) json_t *doc = doc_get(n->store, u->credential, NULL);
	u->via = API_VIA_SESSION;
	snprintf(u->name, sizeof(u->name), "%s", auth_text(doc, NULL, "user"));
	snprintf(u->uid, sizeof(u->uid), "%s", auth_text(doc, NULL, "user_uid"));
	if (doc && auth_is_valid(n, u) && !is_idle(n->auth, u->credential))
		return 0;
	*u = (struct api_user){ .role = API_ANYONE };
	return err_set(err, -EACCES, "the session has ended; log in again");
}

static int identify(struct node *n, struct api_call *c, struct err *err)
{
	const char *header = http_get_header(c->rq, HTTP_AUTHORIZATION);

	if (header)
		return identify_token(n, c, header, err);
	if (http_get_peer(c->rq)->is_unix)
		return identify_unix(n, c, err);
	return identify_session(n, c, err);
}

/* --- the decision ---------------------------------------------------- */

static bool is_change(const struct api_call *c)
{
	return c->route->method != HTTP_GET && c->route->method != HTTP_HEAD;
}

/* Does a page of another origin make the browser ask? */
static bool is_foreign(const struct api_call *c)
{
	const char *origin = http_get_header(c->rq, HTTP_ORIGIN), *host = http_get_header(c->rq, HTTP_HOST);

	return origin && (!host || strncmp(origin, "https://", 8) != 0 || strcasecmp(origin + 8, host) != 0);
}

static int refuse_page(const struct api_call *c, struct err *err)
{
	const char *origin = http_get_header(c->rq, HTTP_ORIGIN);

	return err_set(err, -EPERM, "the request comes from a page of '%.100s'", origin ? origin : "nowhere");
}

/* A browser sends the cookie whichever page makes it ask; SameSite=Strict keeps it from pages of other sites, and this from
 * other origins of the same site, and from browsers that do not know SameSite. */
static int check_origin(const struct api_call *c, struct err *err)
{
	const char *sent = http_get_header(c->rq, HTTP_CSRF);
	char secret[SECRET_LEN + 1], key[STORE_KEY_MAX + 1], csrf[SECRET_HASH_LEN + 1];

	if (c->user.via != API_VIA_SESSION || (!is_change(c) && !c->route->is_socket))
		return 0;
	if (is_foreign(c) || (c->route->is_socket && !http_get_header(c->rq, HTTP_ORIGIN)))
		return refuse_page(c, err);
	if (!is_change(c) || !auth_cookie(c, secret, key, sizeof(key)))
		return 0;
	auth_csrf(csrf, secret);
	if (!sent || !secret_equal(csrf, sent))
		return err_set(err, -EPERM, "the header 'X-Viv-Csrf' is missing or wrong; GET /v1/session tells its value");
	return 0;
}

static int lacks_role(const struct api_call *c, const char *project, struct err *err)
{
	if (project)
		return err_set(err, -EPERM, "'%s' may not do this: it needs the role '%s' in the project '%.63s'", c->user.name,
			       auth_role_names[c->route->role], project);
	return err_set(err, -EPERM, "'%s' may not do this: it needs the role '%s' on the node", c->user.name,
		       auth_role_names[c->route->role]);
}

static int check_project(struct node *n, struct api_call *c, struct err *err)
{
	const char *project = resource_project(c);
	char key[STORE_KEY_MAX + 1];
	int r = resource_check_name(project, "project", err);

	if (r < 0)
		return auth_role(n, &c->user, NULL) >= c->route->role ? r : lacks_role(c, project, err);
	c->user.role = auth_role(n, &c->user, project);
	if (c->user.role < c->route->role)
		return lacks_role(c, project, err);
	doc_key(key, "project", AUTH_ALL, project);
	/* At the very first start 'default' may be on its way to the disk still. */
	if (!store_get(n->store, key) && strcmp(project, "default") != 0)
		return err_set(err, -ENOENT, "there is no project '%s'", project);
	return 0;
}

/* The one change that a token may make to what lets its user in. */
static bool ends_itself(const struct api_call *c)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "token", c->user.name, c->param[0]);
	return c->route->method == HTTP_DELETE && !strncmp(c->route->path, "/v1/tokens/", 11) && !strcmp(key, c->user.credential);
}

static int check_self(struct node *n, struct api_call *c, struct err *err)
{
	const char *whose = resource_user(c);
	bool is_own = !strcmp(whose, c->user.name);

	c->user.role = auth_role(n, &c->user, NULL);
	if (c->user.role == API_ADMIN)
		return 0;
	if (!is_own)
		return err_set(err, -EPERM, "'%s' may not do this for '%.63s': it needs the role 'admin' on the node",
			       c->user.name, whose);
	if (is_change(c) && c->user.via == API_VIA_TOKEN && !ends_itself(c))
		return err_set(err, -EPERM, "a token cannot change what lets '%s' in; log in with the password", c->user.name);
	if (c->user.role < API_VIEWER)
		c->user.role = API_VIEWER;
	return 0;
}

int auth_authorize(void *arg, struct api_call *c, struct err *err)
{
	struct node *n = arg;
	struct err unknown = ERR_INIT;
	int r = c->user.via == API_VIA_TASK ? 0 : identify(n, c, &unknown);

	/* What begins a session is not for pages of others either: they would have their visitors be somebody else. */
	if (c->route->role == API_ANYONE)
		return is_change(c) && is_foreign(c) ? refuse_page(c, err) : 0;
	if (r < 0)
		return err_set(err, r, "%s", unknown.msg);
	r = check_origin(c, err);
	if (r < 0)
		return r;
	if (c->route->scope == API_SELF)
		return check_self(n, c, err);
	if (c->route->scope == API_PROJECT)
		return check_project(n, c, err);
	c->user.role = auth_role(n, &c->user, NULL);
	return c->user.role < c->route->role ? lacks_role(c, NULL, err) : 0;
}

/* --- life ---------------------------------------------------- */

static bool has_admin(struct node *n)
{
	char key[STORE_KEY_MAX + 1] = "";

	for (const struct store_doc *d; (d = store_next(n->store, "user/" AUTH_ALL "/", key[0] ? key : NULL)) != NULL;) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);

		snprintf(key, sizeof(key), "%s", d->key);
		if (!strcmp(auth_text(doc, "spec", "role"), "admin"))
			return true;
	}
	return false;
}

static int make_project(struct node *n, const char *name, struct err *err)
{
	char key[STORE_KEY_MAX + 1], uid[DOC_UID_LEN + 1], now[DOC_TIME_LEN + 1];

	doc_key(key, "project", AUTH_ALL, name);
	doc_new_uid(uid);
	doc_now(now);
	AUTO(json_decref) json_t *doc = json_pack("{s:s, s:s, s:s, s:s, s:{}, s:{}}", "kind", "project", "name", name, "uid", uid,
						  "created", now, "labels", "spec");
	return store_get(n->store, key) || !doc_put(n->store, key, doc, STORE_ABSENT, NULL, NULL) ?
		       0 : err_set(err, -ENOMEM, "out of memory");
}

/* 'default', and those that are in use without a document of their own, from before there were such documents. */
static int make_projects(struct node *n, struct err *err)
{
	int bad = make_project(n, "default", err);

	for (const struct resource *r = resources; !bad && r->kind; r++) {
		char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1] = "", last[DOC_NAME_MAX + 1] = "default";
		const struct store_doc *d;

		snprintf(prefix, sizeof(prefix), "%s/", r->kind);
		while (!bad && r->space == RESOURCE_OF_PROJECT && (d = store_next(n->store, prefix, key[0] ? key : NULL))) {
			const char *project = d->key + strlen(prefix);
			size_t len = strcspn(project, "/");

			snprintf(key, sizeof(key), "%s", d->key);
			if (strlen(last) == len && !memcmp(last, project, len))
				continue;
			snprintf(last, sizeof(last), "%.*s", (int)len, project);
			bad = make_project(n, last, err);
		}
	}
	return bad;
}

static void recheck(struct loop_timer *t)
{
	auth_check_sockets(container_of(t, struct auth, recheck));
}

static void tidy(struct loop_timer *t)
{
	struct auth *a = container_of(t, struct auth, tidy);

	auth_tidy(a);
	idempotency_tidy(a->node);
	auth_check_sockets(a);          /* of tokens and sessions that have expired */
	loop_timer_set(t, loop_now_ns() + AUTH_TIDY_S * 1000000000ull);
}

/* A role, user, token or session has changed. */
static void changed(struct store_watch *w, const struct store_event *e)
{
	static const char *const kinds[] = { "user/", "role/", "token/", "session/" };
	struct auth *a = container_of(w, struct auth, watch);

	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
		if (!strncmp(e->doc->key, kinds[i], strlen(kinds[i])))
			loop_timer_set(&a->recheck, loop_now_ns() + 1);
	/* Made at the Unix socket: the token is good for nothing any more. */
	if (a->setup[0] && !a->is_setting_up && !strncmp(e->doc->key, "user/", 5) && has_admin(a->node))
		OPENSSL_cleanse(a->setup, sizeof(a->setup));
}

int auth_open(struct auth **out, struct node *n, const struct auth_config *c, struct err *err)
{
	AUTO(auth_close) struct auth *a = calloc(1, sizeof(*a));
	const struct group *g = c->group ? getgrnam(c->group) : NULL;

	if (!a)
		return err_set(err, -ENOMEM, "out of memory");
	if (c->group && !g)
		return err_set(err, -ENOENT, "there is no group '%s' on this host", c->group);
	a->node = n;
	a->config = *c;
	a->gid = g ? g->gr_gid : (gid_t)-1;
	loop_timer_init(n->loop, &a->recheck, recheck);
	loop_timer_init(n->loop, &a->tidy, tidy);
	int r = auth_open_audit(a, err);
	if (!r)
		r = make_projects(n, err);
	if (r < 0)
		return r;
	if (c->has_network && !has_admin(n))
		secret_new(a->setup);
	a->watch = (struct store_watch){ .prefix = "", .fn = changed };
	(void)store_watch_start(n->store, &a->watch, STORE_ANY);
	loop_timer_set(&a->tidy, loop_now_ns() + 1);
	*out = take_ptr(&a);
	return 0;
}

void auth_stop(struct auth *a)
{
	if (!a)
		return;
	store_watch_stop(&a->watch);
	loop_timer_cancel(&a->recheck);
	loop_timer_cancel(&a->tidy);
	auth_stop_audit(a);
}

void auth_close(struct auth *a)
{
	if (!a)
		return;
	while (a->uses) {
		struct auth_use *use = a->uses;

		a->uses = use->next;
		free(use);
	}
	works_drain(a->recorder);
	works_free(a->recorder);
	audit_close(a->audit);
	free(a->audit_dir);
	free(a);
}

int auth_socket_group(const struct auth *a)
{
	return a->config.group ? (int)a->gid : -1;
}

const char *auth_setup_token(const struct auth *a)
{
	return a->setup;
}
