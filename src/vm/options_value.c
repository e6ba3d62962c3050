/* SPDX-License-Identifier: Apache-2.0 */
/* options_value.c - names of options, and single values: defaults, setting, releasing. */
#include "vm/options_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "blk/url.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/str.h"
#include "vm/config.h"
#include "vm/state_file.h"

/* --- names --- */

static void options_suggest(const char **best, unsigned *distance, const char *have, const char *name)
{
	unsigned d = str_distance(have, name);

	if (d < *distance) {
		*distance = d;
		*best = name;
	}
}

const struct option *options_find(const struct option *table, bool by_key, const char *name)
{
	for (const struct option *o = table; o->arg; o++) {
		if (!strcmp(by_key ? o->key : o->arg, name))
			return o;
	}
	return NULL;
}

int options_unknown(const struct option *table, bool by_key, const char *what, const char *name, struct err *err)
{
	unsigned distance = 4;
	const char *best = NULL;

	for (const struct option *o = table; o->arg; o++)
		options_suggest(&best, &distance, name, by_key ? o->key : o->arg);
	for (const struct option_action *a = option_actions; a->arg && table == options && !by_key; a++)
		options_suggest(&best, &distance, name, a->arg);
	if (best)
		return err_set(err, -EINVAL, "unknown %s '%s'; did you mean '%s'?", what, name, best);
	return err_set(err, -EINVAL, "unknown %s '%s'", what, name);
}

static bool options_is_choice(const char *choices, const char *text)
{
	size_t n = strlen(text);

	for (const char *p = choices; *p; p += strcspn(p, " "), p += *p == ' ') {
		if (strcspn(p, " ") == n && !memcmp(p, text, n))
			return true;
	}
	return false;
}

/* --- values --- */

int options_set_string(char **to, const char *text, struct err *err)
{
	char *copy = strdup(text);

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	free(*to);
	*to = copy;
	return 0;
}

static int options_set_number(const struct option *o, uint64_t *at, const char *text, struct err *err)
{
	return o->kind == OPT_SIZE ? str_parse_size(at, text, err) : str_parse_u64(at, text, err);
}

/* "2" or, where it may be, "2,max=8". */
static int options_set_numbers(const struct option *o, void *base, const char *text, struct err *err)
{
	const char *max = o->max_offset ? strstr(text, ",max=") : NULL;
	uint64_t *at = (uint64_t *)((char *)base + o->offset);
	char first[32];

	if (!max)
		return options_set_number(o, at, text, err);
	snprintf(first, sizeof(first), "%.*s", (int)(max - text), text);
	int r = options_set_number(o, at, first, err);

	return r ? r : options_set_number(o, (uint64_t *)((char *)base + o->max_offset), max + strlen(",max="), err);
}

int options_set(const struct option *o, void *base, const char *text, struct err *err)
{
	void *at = (char *)base + o->offset;
	struct config_strings *list = at;

	switch (o->kind) {
	case OPT_STRING:
		if (!o->none || strcmp(o->none, text))
			return options_set_string(at, text, err);
		free(*(char **)at);
		*(char **)at = NULL;
		return 0;
	case OPT_CHOICE:
		if (!options_is_choice(o->choices, text))
			return err_set(err, -EINVAL, "'%s' is none of: %s", text, o->choices);
		return options_set_string(at, text, err);
	case OPT_SIZE:
	case OPT_UINT:
		return options_set_numbers(o, base, text, err);
	case OPT_BOOL:
	case OPT_FLAG:
		return str_parse_bool(at, text, err);
	case OPT_STRINGS:
		if (list->n == ARRAY_LEN(list->v))
			return err_set(err, -E2BIG, "more than %zu", ARRAY_LEN(list->v));
		list->v[list->n] = NULL;
		int r = options_set_string(&list->v[list->n], text, err);
		if (!r)
			list->n++;
		return r;
	case OPT_LIST:
		break;
	}
	return err_set(err, -EINVAL, "is a list");
}

static int options_set_defaults(const struct option *table, void *base, struct err *err)
{
	for (const struct option *o = table; o->arg; o++) {
		int r = o->def ? options_set(o, base, o->def, err) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

char *options_absolute_path(const char *path)
{
	char *full = NULL;

	if (!*path || blk_url_is(path))
		return strdup(path);
	path += strncmp(path, "file:", 5) ? 0 : 5;      /* a file, whatever its name looks like */
	AUTO(free) char *cwd = *path == '/' ? strdup("") : getcwd(NULL, 0);

	return cwd && asprintf(&full, "%s%s%s", cwd, *cwd ? "/" : "", path) >= 0 ? full : NULL;
}

void options_release(const struct option *table, void *base)
{
	for (const struct option *o = table; o->arg; o++) {
		char *at = (char *)base + o->offset;

		if (o->kind == OPT_STRING || o->kind == OPT_CHOICE)
			free(*(char **)at);
		for (unsigned i = 0; o->kind == OPT_STRINGS && i < ((struct config_strings *)at)->n; i++)
			free(((struct config_strings *)at)->v[i]);
		for (unsigned i = 0; o->kind == OPT_LIST && i < *(unsigned *)((char *)base + o->n_offset); i++)
			options_release(o->sub, at + i * o->elem_size);
	}
}

/* The list is the saved machine's so far: a new one begins. */
static void options_drop_saved(const struct option *o, struct config *c)
{
	unsigned bit = 1u << (o - options), *n = (unsigned *)((char *)c + o->n_offset);

	if (!(c->saved_lists & bit))
		return;
	c->saved_lists &= ~bit;
	while (*n)
		options_release(o->sub, (char *)c + o->offset + --*n * o->elem_size);
}

int options_append(const struct option *o, struct config *base, void **out, struct err *err)
{
	unsigned *n = (unsigned *)((char *)base + o->n_offset);

	options_drop_saved(o, base);

	if (*n == o->max)
		return err_set(err, -E2BIG, "there can be at most %u", o->max);
	void *elem = (char *)base + o->offset + *n * o->elem_size;
	memset(elem, 0, o->elem_size);
	++*n;
	*out = elem;
	return options_set_defaults(o->sub, elem, err);
}

int config_init(struct config *c, struct err *err)
{
	memset(c, 0, sizeof(*c));
	return options_set_defaults(options, c, err);
}

void config_fini(struct config *c)
{
	options_release(options, c);
	free(c->saved_cpu);
	state_file_close(c->saved);
	free(c->incoming);
	memset(c, 0, sizeof(*c));
}
