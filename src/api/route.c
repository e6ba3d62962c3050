/* SPDX-License-Identifier: Apache-2.0 */
#include "api/route.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "util/checked.h"
#include "util/log.h"
#include "util/str.h"

static const char *const method_names[] = {
	[HTTP_GET] = "GET", [HTTP_HEAD] = "HEAD", [HTTP_POST] = "POST", [HTTP_PUT] = "PUT", [HTTP_PATCH] = "PATCH",
	[HTTP_DELETE] = "DELETE", [HTTP_OPTIONS] = "OPTIONS", [HTTP_OTHER] = "this method",
};

/* --- answers ------------------------------------------------------------------------------------------- */

/* The status and the word for programs that go with an errno. */
static const struct { int error, status; const char *code; } statuses[] = {
	{ EINVAL, 400, "invalid" }, { EBADMSG, 400, "invalid" }, { ENOENT, 404, "not_found" }, { EACCES, 401, "unauthenticated" },
	{ EPERM, 403, "forbidden" }, { ENOSYS, 405, "method_not_allowed" }, { EEXIST, 409, "exists" }, { EBUSY, 409, "busy" },
	{ ESPIPE, 409, "offset" },
	{ ESTALE, 412, "changed" }, { EFBIG, 413, "too_long" }, { ERANGE, 416, "range" }, { ENOTSUP, 422, "not_supported" },
	{ ENOTCONN, 409, "no_agent" }, { EREMOTEIO, 422, "refused" },
	{ EDQUOT, 422, "quota" }, { EUSERS, 429, "too_many" }, { EMSGSIZE, 414, "target_too_long" }, { ENOBUFS, 431, "headers_too_long" }, { ENOSPC, 507, "no_space" }, { EROFS, 507, "read_only" },
	{ EIO, 507, "disk" },
	{ EAGAIN, 503, "try_again" }, { ETIMEDOUT, 504, "timeout" },
};

static void call_free(struct api_call *c)
{
	json_decref(c->body);
	free(c);
}

static void send_answer(struct http_request *rq, const struct api_answer *a)
{
	http_set_header(rq, "cache-control", a->is_file ? "no-cache" : "no-store");
	http_set_header(rq, "x-content-type-options", "nosniff");
	if (a->is_file)
		http_reply_file(rq, a->status, a->type, a->fd, a->off, a->len);
	else
		http_reply_take(rq, a->status, a->type, a->data, (size_t)a->len);
}

static struct api_answer answer_text(int status, char *text, size_t len)
{
	return (struct api_answer){ .status = status, .type = text ? "application/json" : NULL, .data = text, .len = len };
}

static struct api_answer answer_json(int status, json_t *doc)
{
	char *text = doc ? json_dumps(doc, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	if (doc && !text)
		status = 500;
	json_decref(doc);
	return answer_text(status, text, text ? strlen(text) : 0);
}

static int status_of(int r, const char **code)
{
	*code = "internal";
	for (unsigned i = 0; i < ARRAY_LEN(statuses); i++) {
		if (statuses[i].error == -r) {
			*code = statuses[i].code;
			return statuses[i].status;
		}
	}
	return 500;
}

/* What a client has sent may stand in it, and be no text. */
static json_t *plain_text(const char *text)
{
	json_t *made = json_string(text);
	char shown[sizeof(((struct err *)NULL)->msg)];

	if (made)
		return made;
	snprintf(shown, sizeof(shown), "%s", text);
	str_make_harmless(shown);
	return json_string(shown);
}

static struct api_answer answer_failure(struct http_request *rq, int r, const char *field, const char *message)
{
	const char *code;
	int status = status_of(r, &code);
	json_t *error = json_pack("{s:s, s:o}", "code", code, "message", plain_text(message));

	if (field && field[0])
		json_object_set_new(error, "field", plain_text(field));
	if (status == 401)
		http_set_header(rq, "www-authenticate", "Bearer");
	return answer_json(status, json_pack("{s:o}", "error", error));
}

void api_go_on(struct api_call *c)
{
	send_answer(c->rq, &c->answer);
	call_free(c);
}

/* At once, or when the one who wants to know of it says so. */
static void answer(struct api_call *c, struct api_answer a)
{
	c->answer = a;
	if (!c->config->answered || !c->config->answered(c->arg, c, a.status))
		api_go_on(c);
}

void api_reply(struct api_call *c, int status, json_t *doc)
{
	answer(c, answer_json(status, doc));
}

void api_reply_text(struct api_call *c, int status, char *text, size_t len)
{
	answer(c, answer_text(status, text, len));
}

void api_reply_bytes(struct api_call *c, int status, const char *type, char *data, size_t len)
{
	answer(c, (struct api_answer){ .status = status, .type = type, .data = data, .len = len });
}

void api_reply_file(struct api_call *c, int status, const char *type, int fd, uint64_t off, uint64_t len)
{
	answer(c, (struct api_answer){ .is_file = true, .status = status, .type = type, .fd = fd, .off = off, .len = len });
}

void api_fail(struct api_call *c, int r, const char *field, const struct err *err)
{
	answer(c, answer_failure(c->rq, r, field, err->msg[0] ? err->msg : strerror(-r)));
}

struct http_socket *api_accept(struct api_call *c, const struct http_socket_ops *ops, void *arg)
{
	c->is_accepted = true;
	if (c->config->answered)
		(void)c->config->answered(c->arg, c, 101);
	struct http_socket *ws = http_accept(c->rq, ops, arg);

	call_free(c);
	return ws;
}

/* --- dispatching ------------------------------------------------------------------------------------------ */

/* Does PATH look like PATTERN? Parts in braces go to PARAM. */
static bool matches(const char *pattern, const char *path, char param[API_PARAMS_MAX][API_PARAM_LEN])
{
	unsigned n = 0;

	while (*pattern) {
		if (*pattern != '{') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		size_t len = strcspn(path, "/");

		if (!len || len >= API_PARAM_LEN || n == API_PARAMS_MAX)
			return false;
		memcpy(param[n], path, len);
		param[n++][len] = 0;
		path += len;
		pattern = strchr(pattern, '}') + 1;
	}
	return !*path;
}

/* The route, or NULL; *IS_PATH: there are others for this path. */
static const struct route *find_route(const struct api_config *cfg, enum http_method m, const char *path, struct api_call *c,
				      bool *is_path)
{
	*is_path = false;
	for (const struct route *r = cfg->routes; r->path; r++) {
		if (!matches(r->path, path, c->param))
			continue;
		*is_path = true;
		if (r->method == m || (m == HTTP_HEAD && r->method == HTTP_GET))
			return r;
	}
	return NULL;
}

const char *api_param(const struct api_call *c, const char *name)
{
	size_t len = strlen(name), n = 0;

	for (const char *p = strchr(c->route->path, '{'); p; p = strchr(p + 1, '{'), n++)
		if (!strncmp(p + 1, name, len) && p[len + 1] == '}')
			return c->param[n];
	return NULL;
}

static int parse_body(struct api_call *c, char *where, size_t cap, struct err *err)
{
	size_t len;
	json_error_t why;

	where[0] = 0;
	if (!c->route->in)
		return 0;
	const char *text = http_body(c->rq, &len);
	c->body = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (!c->body)
		return err_set(err, -EINVAL, "the body is not JSON: %s, line %d, column %d", why.text, why.line, why.column);
	return schema_check(c->route->in, c->body, c->route->is_patch, where, cap, err);
}

static const char dry_run[] = "dry-run";

/* Has the table a parameter of R with this name, of LEN bytes? */
static bool knows(const struct route *r, const char *name, size_t len)
{
	for (const char *p = r->query; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
		if (strcspn(p, "=") == len && !strncmp(p, name, len))
			return true;
	return false;
}

/* "project, dry-run" */
static void list_known(const struct route *r, char *buf, size_t cap)
{
	size_t at = 0;

	buf[0] = 0;
	for (const char *p = r->query; p && at < cap; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
		at += (size_t)snprintf(buf + at, cap - at, "%s%.*s", at ? ", " : "", (int)strcspn(p, "="), p);
}

/* One that does nothing here was meant to do something: a filter that is misspelt would show, or do, what it should leave out. */
static int check_query(const struct api_call *c, char *where, size_t cap, struct err *err)
{
	bool may_plan = c->route->method != HTTP_GET;   /* check_dry_run() has more to say */
	char known[200];

	for (const char *p = NULL; (p = http_query_next(c->rq, p));) {
		size_t len = strcspn(p, "=");

		if (knows(c->route, p, len) || (may_plan && len == strlen(dry_run) && !strncmp(p, dry_run, len)))
			continue;
		snprintf(where, cap, "%.*s", (int)len, p);
		list_known(c->route, known, sizeof(known));
		return err_set(err, -EINVAL, "'%s' has no parameter '%.60s'; %s%s", c->route->operation, where, known[0] ? "there are: " : "it has none",
			       known);
	}
	return 0;
}

/* Who asks for a plan must not get the deed, nor have it taken for a plan by who records deeds. */
static int check_dry_run(struct api_call *c, struct err *err)
{
	const char *dry = http_query(c->rq, dry_run);

	if (!dry || !strcmp(dry, "false") || !strcmp(dry, "0") || c->route->method == HTTP_GET)
		return 0;
	c->is_dry_run = knows(c->route, dry_run, strlen(dry_run));
	return c->is_dry_run ? 0 : err_set(err, -ENOTSUP, "'%s' has no dry run; nothing was done", c->route->operation);
}

static int prepare(const struct api_config *cfg, struct api_call *c, char *where, size_t cap, struct err *err)
{
	enum http_method m = http_method(c->rq);
	const char *path = http_path(c->rq);
	const char *malformed;
	bool is_path;

	where[0] = 0;
	int r = http_malformed(c->rq, &malformed);
	if (r < 0)
		return err_set(err, r, "%s", malformed);
	c->route = find_route(cfg, m, path, c, &is_path);
	if (!c->route)
		return is_path ? err_set(err, -ENOSYS, "'%.200s' does not know %s; see /v1/openapi.json", path, method_names[m]) :
		       err_set(err, -ENOENT, "there is nothing at '%.200s'; see /v1/openapi.json", path);
	r = cfg->authorize(cfg->arg, c, err);

	if (r < 0)
		return r;
	if (c->route->is_socket != http_wants_socket(c->rq))
		return err_set(err, -EINVAL, c->route->is_socket ? "'%.200s' is a WebSocket" : "'%.200s' is no WebSocket", path);
	if (http_is_long(c->rq) && !c->route->takes_bytes)
		return err_set(err, -EFBIG, "the body is too long: at most %d bytes", HTTP_BODY_MAX);
	r = check_query(c, where, cap, err);
	if (!r)
		r = check_dry_run(c, err);
	return r < 0 ? r : parse_body(c, where, cap, err);
}

static void request(const struct api_config *cfg, struct http_request *rq, const struct api_user *user)
{
	struct api_call *c = calloc(1, sizeof(*c));
	struct err err = ERR_INIT;
	char where[256];

	if (!c) {
		struct api_answer a = answer_failure(rq, -EAGAIN, NULL, "out of memory");

		send_answer(rq, &a);
		return;
	}
	c->rq = rq;
	c->arg = cfg->arg;
	c->config = cfg;
	if (user)
		c->user = *user;
	int r = prepare(cfg, c, where, sizeof(where), &err);

	if (r < 0)
		api_fail(c, r, where, &err);
	else
		c->route->run(c);
}

void api_request(void *config, struct http_request *rq)
{
	request(config, rq, NULL);
}

bool api_request_as(const struct api_config *c, struct http_request *rq, const struct api_user *user)
{
	if (rq)
		request(c, rq, user);
	return rq != NULL;
}

/* --- OpenAPI --------------------------------------------------------------------------------------------------- */

static json_t *content_of(const struct schema *s)
{
	return json_pack("{s:{s:{s:{s:s+}}}}", "content", "application/json", "schema", "$ref", "#/components/schemas/", s->name);
}

static json_t *list_of(const struct schema *s)
{
	return json_pack("{s:{s:{s:{s:s, s:[s,s], s:{s:{s:s, s:{s:s+}}, s:{s:s, s:s}, s:{s:s, s:s}, s:{s:s, s:s}}}}}}", "content",
			 "application/json", "schema", "type", "object", "required", "items", "revision", "properties", "items", "type", "array",
			 "items", "$ref", "#/components/schemas/", s->name, "revision", "type", "integer", "description", "of all documents then",
			 "next", "type", "string", "description", "there are more: 'after' this", "total", "type", "integer", "description",
			 "with 'filter', 'sort' or 'fields': so many there are");
}

static json_t *parameters_of(const struct route *r)
{
	json_t *list = json_array();

	for (const char *p = strchr(r->path, '{'); p; p = strchr(p + 1, '{'))
		json_array_append_new(list, json_pack("{s:s%, s:s, s:b, s:{s:s}}", "name", p + 1, strcspn(p + 1, "}"), "in", "path",
						      "required", 1, "schema", "type", "string"));
	for (const char *p = r->query; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
		size_t name = strcspn(p, "="), all = strcspn(p, "|");

		json_array_append_new(list, json_pack("{s:s%, s:s, s:s%, s:{s:s}}", "name", p, name, "in", "query", "description",
						      p + name + 1, all - name - 1, "schema", "type", "string"));
	}
	return list;
}

static json_t *operation_of(const struct route *r)
{
	static const char *const roles[] = { "anyone", "viewer", "operator", "admin" };
	static const char *const scopes[] = { "project", "node", "self" };
	char status[8];
	json_t *ok = !r->out ? json_object() : r->is_list ? list_of(r->out) : content_of(r->out), *bad = json_pack("{s:s}", "$ref", "#/components/responses/Error");

	snprintf(status, sizeof(status), "%d", r->status);
	json_object_set_new(ok, "description", json_string(r->summary));
	json_t *op = json_pack("{s:s, s:s, s:s, s:s, s:o, s:{s:o, s:o}}", "operationId", r->operation, "summary", r->summary,
			       "x-role", roles[r->role], "x-scope", scopes[r->scope], "parameters", parameters_of(r),
			       "responses", status, ok, "default", bad);

	if (r->in)
		json_object_set_new(op, "requestBody", content_of(r->in));
	if (r->takes_bytes)
		json_object_set_new(op, "requestBody", json_pack("{s:{s:{s:{s:s, s:s}}}}", "content", "application/octet-stream", "schema",
								 "type", "string", "format", "binary"));
	return op;
}

json_t *api_openapi(const struct api_config *c)
{
	static const char *const verbs[] = { "get", "head", "post", "put", "patch", "delete", "options", "x" };
	json_t *paths = json_object(), *schemas = json_object();

	for (const struct route *r = c->routes; r->path; r++) {
		json_t *path = json_object_get(paths, r->path);

		if (!path) {
			path = json_object();
			json_object_set_new(paths, r->path, path);
		}
		json_object_set_new(path, verbs[r->method], operation_of(r));
		schema_collect(r->in, schemas);
		schema_collect(r->out, schemas);
	}
	json_t *error = json_pack("{s:s, s:{s:{s:{s:s, s:{s:{s:s}, s:{s:s}, s:{s:s}}}}}}", "description", "It was not done.",
				  "content", "application/json", "schema", "type", "object", "properties", "code", "type", "string",
				  "message", "type", "string", "field", "type", "string");

	return json_pack("{s:s, s:{s:s, s:s}, s:o, s:{s:o, s:{s:o}}}", "openapi", "3.1.0", "info", "title", c->title, "version",
			 c->version, "paths", paths, "components", "schemas", schemas, "responses", "Error", error);
}
