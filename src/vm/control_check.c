/* SPDX-License-Identifier: Apache-2.0 */
/* Requests held against their table: on the server what a client sent, in the client what was typed. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "util/str.h"
#include "vm/control_priv.h"

static const char *const control_wanted[] = {
	[CONTROL_STRING] = "a string", [CONTROL_CHOICE] = "a string", [CONTROL_UINT] = "a number",
	[CONTROL_SIZE] = "a number of bytes or a string like \"256M\"", [CONTROL_BOOL] = "true or false",
	[CONTROL_STRINGS] = "an array of strings",
};

const struct control_request *control_find(const char *name, struct err *err)
{
	const char *like = NULL;
	unsigned best = 4;

	for (const struct control_request *r = control_requests; r->name; r++) {
		unsigned d = str_distance(r->name, name);

		if (!d)
			return r;
		if (d < best) {
			best = d;
			like = r->name;
		}
	}
	if (like)
		err_set(err, -EOPNOTSUPP, "unknown request '%.64s'; did you mean '%s'?", name, like);
	else
		err_set(err, -EOPNOTSUPP, "unknown request '%.64s'; 'viv-vmm ctl --help' has the list", name);
	return NULL;
}

/* Does its value come as a descriptor? */
bool control_is_fd(const struct control_param *p)
{
	return p->kind == CONTROL_NEW_FILE || p->kind == CONTROL_IMAGE || p->kind == CONTROL_SOCKET ||
	       p->kind == CONTROL_SOCKETS || p->kind == CONTROL_DEVICE || p->kind == CONTROL_SECRET || p->kind == CONTROL_FILES;
}

static const struct control_param *control_find_param(const struct control_request *r, const char *name)
{
	for (const struct control_param *p = r->params; p && p->name; p++) {
		if (!strcmp(p->name, name) && !control_is_fd(p))
			return p;
	}
	return NULL;
}

unsigned control_n_fds(const struct control_request *r)
{
	unsigned n = 0;

	for (const struct control_param *p = r->params; p && p->name; p++)
		n += p->kind == CONTROL_SOCKETS ? CONTROL_FDS_MAX : p->kind == CONTROL_FILES ? CONTROL_FDS_MAX - 1 : control_is_fd(p);
	return n;
}

static unsigned control_n_fds_needed(const struct control_request *r)
{
	unsigned n = 0;

	for (const struct control_param *p = r->params; p && p->name; p++)
		n += control_is_fd(p) && p->is_required;
	return n;
}

static bool control_is_choice(const char *choices, const char *text)
{
	size_t n = strlen(text);

	for (const char *p = choices; *p; p += strcspn(p, " "), p += *p == ' ') {
		if (strcspn(p, " ") == n && !memcmp(p, text, n))
			return true;
	}
	return false;
}

/* Is V a value of P's kind? */
static int control_check_value(const struct control_param *p, const json_t *v, struct err *err)
{
	uint64_t n;
	bool ok = false;

	switch (p->kind) {
	case CONTROL_STRING:
		ok = json_is_string(v);
		break;
	case CONTROL_CHOICE:
		ok = json_is_string(v);
		if (ok && !control_is_choice(p->choices, json_string_value(v)))
			return err_set(err, -EINVAL, "%s: '%.64s' is none of: %s", p->name, json_string_value(v), p->choices);
		break;
	case CONTROL_SIZE:
	case CONTROL_UINT:
		if (p->kind == CONTROL_SIZE && json_is_string(v)) {
			int r = str_parse_size(&n, json_string_value(v), err);

			return r < 0 ? err_wrap(err, r, "%s", p->name) : 0;
		}
		ok = json_is_integer(v) && json_integer_value(v) >= 0;
		break;
	case CONTROL_BOOL:
		ok = json_is_boolean(v);
		break;
	case CONTROL_STRINGS:
		ok = json_is_array(v);
		for (size_t i = 0; ok && i < json_array_size(v); i++)
			ok = json_is_string(json_array_get(v, i));
		break;
	case CONTROL_NEW_FILE:
	case CONTROL_IMAGE:
	case CONTROL_DEVICE:
	case CONTROL_SECRET:
	case CONTROL_SOCKET:
	case CONTROL_SOCKETS:
	case CONTROL_FILES:
		break;
	}
	return ok ? 0 : err_set(err, -EINVAL, "%s: must be %s", p->name, control_wanted[p->kind]);
}

static int control_check_params(const struct control_request *r, json_t *params, struct err *err)
{
	const char *key;
	json_t *v;

	json_object_foreach(params, key, v) {
		const struct control_param *p = control_find_param(r, key);
		int rc = p ? control_check_value(p, v, err)
			   : err_set(err, -EINVAL, "'%s' has no parameter '%.64s'", r->name, key);

		if (rc < 0)
			return rc;
	}
	for (const struct control_param *p = r->params; p && p->name; p++) {
		if (p->is_required && !control_is_fd(p) && !json_object_get(params, p->name))
			return err_set(err, -EINVAL, "'%s' needs the parameter '%s'", r->name, p->name);
	}
	return 0;
}

/* What stands beside id, request and params is a mistake. */
static int control_check_keys(json_t *doc, struct err *err)
{
	static const char known[] = "id request params";
	const char *key;
	json_t *v, *id = json_object_get(doc, "id");

	if (!json_is_object(doc))
		return err_set(err, -EINVAL, "a request must be a JSON object");
	json_object_foreach(doc, key, v) {
		if (!control_is_choice(known, key))
			return err_set(err, -EINVAL, "a request has no key '%.64s'", key);
	}
	if (id && !json_is_integer(id) && !json_is_string(id))
		return err_set(err, -EINVAL, "id: must be a number or a string");
	if (!json_is_string(json_object_get(doc, "request")))
		return err_set(err, -EINVAL, "request: must be a string");
	v = json_object_get(doc, "params");
	return v && !json_is_object(v) ? err_set(err, -EINVAL, "params: must be an object") : 0;
}

int control_check_state(const struct control_request *row, enum machine_state state, struct err *err)
{
	return row->states >> state & 1 ? 0 :
		err_set(err, -EBUSY, "'%s' is not possible while the machine is %s", row->name, machine_state_name(state));
}

int control_check(json_t *doc, enum machine_state state, unsigned n_fds, const struct control_request **request,
		  json_t **params, struct err *err)
{
	int r = control_check_keys(doc, err);

	if (r < 0)
		return r;
	const char *name = json_string_value(json_object_get(doc, "request"));
	const struct control_request *row = control_find(name, err);
	if (!row)
		return -EOPNOTSUPP;
	AUTO(json_decref) json_t *p = json_incref(json_object_get(doc, "params"));
	if (!p)
		p = json_object();
	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	r = control_check_params(row, p, err);
	if (r < 0)
		return r;
	if (n_fds > control_n_fds(row) || n_fds < control_n_fds_needed(row))
		return err_set(err, -EINVAL, "'%s' takes %u descriptors, not %u", name, control_n_fds(row), n_fds);
	/* The end of a reset can be waited for. */
	r = control_turn(row, NULL) && state == MACHINE_RESETTING ? 0 : control_check_state(row, state, err);
	if (r < 0)
		return r;
	*request = row;
	*params = take_ptr(&p);
	return 0;
}

int control_parse_param(json_t **out, const struct control_param *p, const char *text, struct err *err)
{
	AUTO(json_decref) json_t *v = NULL;
	uint64_t n = 0;
	bool b = false;
	int r = 0;

	if (p->kind == CONTROL_UINT) {
		r = str_parse_u64(&n, text, err);
		if (!r && n > INT64_MAX)
			r = err_set(err, -ERANGE, "'%s' is too large", text);
		v = json_integer((json_int_t)n);
	} else if (p->kind == CONTROL_BOOL) {
		r = str_parse_bool(&b, text, err);
		v = json_boolean(b);
	} else if (p->kind == CONTROL_STRINGS) {
		v = json_pack("[s]", text);
	} else {
		v = json_string(text);
	}
	if (r < 0)
		return err_wrap(err, r, "%s", p->name);
	if (!v)
		return err_set(err, -EINVAL, "%s: is not text in UTF-8", p->name);
	r = control_check_value(p, v, err);
	if (!r)
		*out = take_ptr(&v);
	return r;
}

uint64_t control_get_uint(const json_t *params, const char *name, uint64_t def)
{
	const json_t *v = json_object_get(params, name);

	return v ? (uint64_t)json_integer_value(v) : def;
}

uint64_t control_get_size(const json_t *params, const char *name, uint64_t def)
{
	const json_t *v = json_object_get(params, name);
	uint64_t n = def;

	if (json_is_string(v))
		(void)str_parse_size(&n, json_string_value(v), NULL);   /* was checked */
	return json_is_integer(v) ? (uint64_t)json_integer_value(v) : n;
}

bool control_get_bool(const json_t *params, const char *name, bool def)
{
	const json_t *v = json_object_get(params, name);

	return v ? json_is_true(v) : def;
}

const char *control_get_string(const json_t *params, const char *name, const char *def)
{
	const json_t *v = json_object_get(params, name);

	return v ? json_string_value(v) : def;
}
