/* SPDX-License-Identifier: Apache-2.0 */
/* options_saved.c - the configuration of a saved machine, or of one that comes from elsewhere. */
#include "vm/options_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "blk/secret.h"
#include "util/err.h"
#include "util/str.h"
#include "vm/config.h"
#include "vm/handover.h"
#include "vm/state_file.h"

/* The descriptor N of PATH "fd:N", our own; -ENOENT: it is none. */
static int options_open_fd(const char *path, const char *arg, struct err *err)
{
	uint64_t n = 0;

	if (strncmp(path, "fd:", 3))
		return -ENOENT;
	int r = str_parse_u64(&n, path + 3, err);
	if (r < 0)
		return err_wrap(err, r, "%s", arg);
	r = fcntl(n > INT32_MAX ? -1 : (int)n, F_DUPFD_CLOEXEC, 0);
	return r < 0 ? err_set(err, -EBADF, "%s: '%s': %s", arg, path, strerror(errno)) : r;
}

static int options_open_saved(const char *path, struct err *err)
{
	int fd = options_open_fd(path, "--restore", err);

	if (fd != -ENOENT)
		return fd;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? err_set(err, -errno, "cannot open saved machine '%s': %s", path, strerror(errno)) : fd;
}

static int options_read_key(struct blk_secret *s, const char *path, struct err *err)
{
	AUTO_FD int fd = path ? options_open_fd(path, "--restore-key-file", err) : -1;

	if (!path)
		return 0;
	if (fd == -ENOENT)
		return blk_secret_read_file(s, path, err);
	return fd < 0 ? fd : blk_secret_read_fd(s, fd, err);
}

/* C->saved says what machine it is; NAME is for sentences. */
static int config_use_saved(struct config *c, const char *name, struct err *err)
{
	size_t len;
	const uint8_t *text = state_file_get(c->saved, "config", &len);

	if (!text)
		return err_set(err, -EPROTO, "'%s' does not say what machine it is", name);
	for (const struct option *o = options; o->arg; o++) {
		if (o->kind == OPT_LIST && *(unsigned *)((char *)c + o->n_offset))
			return err_set(err, -EINVAL, "%s stands before --restore or --incoming; what is to replace a list of the saved "
				       "machine comes after it", o->arg);
	}
	c->has_agent_device = false;    /* one that was saved before there was any does not say so */
	int r = config_load_machine(c, (const char *)text, len, err);
	if (r < 0)
		return err_wrap(err, r, "configuration in '%s'", name);
	free(c->saved_cpu);
	c->saved_cpu = c->cpu ? strdup(c->cpu) : NULL;
	for (const struct option *o = options; o->arg; o++) {
		if (o->kind == OPT_LIST)
			c->saved_lists |= 1u << (o - options);
	}
	return 0;
}

int config_load_saved(struct config *c, const char *path, struct err *err)
{
	if (c->saved || c->incoming)
		return err_set(err, -EINVAL, "--restore or --incoming is given twice");
	AUTO(blk_secret_wipe) struct blk_secret key = { 0 };
	int r = options_read_key(&key, c->restore_key, err);
	int fd = r < 0 ? r : options_open_saved(path, err);

	r = fd < 0 ? fd : state_file_open(&c->saved, fd, &key, path, err);
	return r ? r : config_use_saved(c, path, err);
}

/* The first time the command line is read, nothing has come yet. */
int config_load_incoming(struct config *c, const char *address, struct err *err)
{
	if ((c->saved && !c->is_incoming) || c->incoming)
		return err_set(err, -EINVAL, "--restore or --incoming is given twice");
	int r = options_set_string(&c->incoming, address, err);

	if (!r && c->saved)
		r = config_use_saved(c, address, err);
	if (!r && c->handed && c->handed->options)
		r = config_load_text(c, c->handed->options, strlen(c->handed->options), err);
	return r;
}

int config_load_takeover(struct config *c, const char *address, struct err *err)
{
	c->is_takeover = true;
	return config_load_incoming(c, address, err);
}

int config_parse_incoming(struct config *c, int argc, char **argv, struct state_file *f, struct handed *handed,
			  struct err *err)
{
	enum config_action action;
	int r = config_init(c, err);

	c->handed = handed;
	c->saved = f;
	c->is_incoming = true;
	return r ? r : config_parse_args(c, &action, argc, argv, err);
}

/* What O says of a place on this host. */
static int options_distrust(const struct option *o, struct config *c, const struct config *mine, struct err *err)
{
	char **text = (char **)((char *)c + o->offset);

	if (o->kind == OPT_LIST && c->saved_lists & 1u << (o - options) && *(unsigned *)((char *)c + o->n_offset))
		return err_set(err, -EPERM, "the machine that comes has %s; who sends it may not say what on this host that is: give %s "
			       "after --incoming", o->key, o->arg);
	if (o->is_path && o->kind == OPT_STRING && !*(char *const *)((const char *)mine + o->offset)) {
		free(*text);
		*text = NULL;
	}
	return 0;
}

int config_distrust(struct config *c, const struct config *mine, struct err *err)
{
	int r = 0;

	for (const struct option *o = options; !r && o->arg; o++)
		r = options_distrust(o, c, mine, err);
	return r;
}
