/* SPDX-License-Identifier: Apache-2.0 */
/* options_args.c - a configuration from the command line. */
#include "vm/options_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/err.h"
#include "util/log.h"
#include "util/str.h"
#include "util/unixsock.h"
#include "vm/config.h"

static int options_parse_list(const struct option *o, struct config *c, const char *text, struct err *err)
{
	char key[128], value[4096] = "";
	bool has_value, is_first = true;
	void *elem = NULL;
	int r = options_append(o, c, &elem, err);

	while (!r) {
		r = str_next_pair(&text, key, sizeof(key), value, sizeof(value), &has_value, err);
		if (r <= 0)
			break;
		const struct option *s = options_find(o->sub, false, key);
		/* "user", "stdio", also "file:/tmp/a=b": no key has a colon. */
		if (is_first && o->positional && (!has_value || strchr(key, ':'))) {
			char rest[sizeof(value)];

			memcpy(rest, value, sizeof(rest));
			snprintf(value, sizeof(value), "%s%s%.3900s", key, has_value ? "=" : "", rest);
			s = options_find(o->sub, false, o->positional);
			has_value = true;
		}
		is_first = false;
		if (!s)
			return options_unknown(o->sub, false, "key", key, err);
		if (!has_value && s->kind != OPT_BOOL)
			return err_set(err, -EINVAL, "'%s' needs a value", key);
		r = options_set(s, elem, has_value ? value : "on", err);
		if (r < 0)
			return err_wrap(err, r, "%s", s->key);
	}
	return r;
}

static int options_parse_one(struct config *c, const struct option *o, const char *value, struct err *err)
{
	int r = o->kind == OPT_LIST ? options_parse_list(o, c, value, err) : options_set(o, c, value, err);

	return r < 0 ? err_wrap(err, r, "%s", o->arg) : 0;
}

int config_set(struct config *c, const char *arg, const char *value, struct err *err)
{
	c->saved_lists = 0;
	return options_parse_one(c, options_find(options, false, arg), value, err);
}

void config_remove(struct config *c, const char *arg, unsigned i)
{
	const struct option *o = options_find(options, false, arg);
	unsigned *n = (unsigned *)((char *)c + o->n_offset);
	char *at = (char *)c + o->offset + i * o->elem_size;

	options_release(o->sub, at);
	memmove(at, at + o->elem_size, (--*n - i) * o->elem_size);
	memset((char *)c + o->offset + *n * o->elem_size, 0, o->elem_size);
}

static int options_parse_action(struct config *c, enum config_action *action, const char *name,
				const char *value, bool *used_value, struct err *err)
{
	for (const struct option_action *a = option_actions; a->arg; a++) {
		if (strcmp(a->arg, name))
			continue;
		*used_value = a->metavar != NULL;
		if (a->action != CONFIG_RUN) {
			*action = a->action;
			return 1;
		}
		if (!value)
			return err_set(err, -EINVAL, "%s needs a value: %s", name, a->metavar);
		int r = a->load(c, value, err);
		return r < 0 ? r : 1;
	}
	return 0;
}

/* Addresses that came with the saved machine are those of the one that this is a copy of. */
static void config_forget_macs(struct config *c)
{
	const struct option *nets = options_find(options, false, "--net");

	for (unsigned i = 0; c->saved_lists >> (nets - options) & 1 && i < c->n_nets; i++) {
		free(c->nets[i].mac);
		c->nets[i].mac = NULL;
	}
}

/* What is said of a place on this host holds for who stands in another folder, too: a saved machine, its forks, 'ctl', and this process
 * in its jail, where nothing has a path any more. A socket's name that would be too long for one then stays as it is. */
static int options_make_absolute(const struct option *table, void *base, struct err *err)
{
	int r = 0;

	for (const struct option *o = table; !r && o->arg; o++) {
		char *at = (char *)base + o->offset, **path = (char **)at, *full = NULL;

		for (unsigned i = 0; o->kind == OPT_LIST && !r && i < *(const unsigned *)((char *)base + o->n_offset); i++)
			r = options_make_absolute(o->sub, at + i * o->elem_size, err);
		if (o->kind != OPT_STRING || !o->is_path || !*path)
			continue;
		full = options_absolute_path(*path);
		if (!full)
			return err_set(err, -errno, "cannot tell where '%s' is: %s; name it with its whole path", *path, strerror(errno));
		bool is_too_long = o->is_socket && strlen(full) > UNIXSOCK_PATH_MAX;

		free(is_too_long ? full : *path);
		*path = is_too_long ? *path : full;
	}
	return r;
}

/* A guest that runs has seen its processors. */
static int config_keep_cpu(struct config *c, struct err *err)
{
	if (!c->saved_cpu || !c->cpu || !strcmp(c->cpu, c->saved_cpu))
		return 0;
	log_warn("--cpu %s has no effect: the processors of the saved machine stay what they are, '%s'", c->cpu, c->saved_cpu);
	return options_set_string(&c->cpu, c->saved_cpu, err);
}

/* What opens a saved machine is wanted where that is named, wherever it stands itself. */
static int config_find_key(struct config *c, int argc, char **argv, struct err *err)
{
	static const char name[] = "--restore-key-file";
	int r = 0;

	for (int i = 1; !r && i < argc; i++) {
		if (!strncmp(argv[i], name, sizeof(name) - 1) && argv[i][sizeof(name) - 1] == '=')
			r = options_set(options_find(options, false, name), c, argv[i] + sizeof(name), err);
		else if (!strcmp(argv[i], name) && i + 1 < argc)
			r = options_set(options_find(options, false, name), c, argv[i + 1], err);
	}
	return r;
}

int config_parse_args(struct config *c, enum config_action *action, int argc, char **argv, struct err *err)
{
	int first = config_find_key(c, argc, argv, err);

	if (first < 0)
		return first;
	*action = CONFIG_RUN;
	for (int i = 1; i < argc; i++) {
		char name[32];
		const char *eq = strchr(argv[i], '=');
		size_t n = eq ? (size_t)(eq - argv[i]) : strlen(argv[i]);
		bool used = false;

		if (strncmp(argv[i], "--", 2))
			return err_set(err, -EINVAL, "'%s' is not an option; options begin with '--' (see --help)", argv[i]);
		if (n >= sizeof(name))
			return err_set(err, -EINVAL, "unknown option '%s'", argv[i]);
		memcpy(name, argv[i], n);
		name[n] = '\0';
		const char *value = eq ? eq + 1 : i + 1 < argc ? argv[i + 1] : NULL;
		int r = options_parse_action(c, action, name, value, &used, err);
		if (r < 0)
			return r;
		if (!r) {
			const struct option *o = options_find(options, false, name);

			if (!o)
				return options_unknown(options, false, "option", name, err);
			used = o->kind != OPT_FLAG;
			if (used && !value)
				return err_set(err, -EINVAL, "%s needs a value", name);
			r = options_parse_one(c, o, used || eq ? value : "on", err);
			if (r < 0)
				return r;
		} else if (!used && eq) {
			return err_set(err, -EINVAL, "%s takes no value", name);
		}
		i += used && !eq;
	}
	if (c->is_copy)
		config_forget_macs(c);
	int r = config_keep_cpu(c, err);
	return r ? r : options_make_absolute(options, c, err);
}
