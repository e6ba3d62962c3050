/* SPDX-License-Identifier: Apache-2.0 */
/* Devices of which a machine has one or none, as they come and go: each is called what its kind is. What is in the configuration
 * of one that goes is gone; a console device comes back with nothing behind it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/str.h"
#include "vm/agent.h"
#include "vm/machine_priv.h"
#include "vm/plug.h"
#include "vm/plug_priv.h"
#include "vm/vsock_host.h"

struct single {
	const char *word, *means;
	size_t dev;                     /* where the machine has it */
	size_t has;                     /* where the configuration says so; 0: with the socket's path */
	int (*make)(struct machine *m, int fd, struct err *err);
	void (*leave)(struct machine *m);       /* its host's end is closed; NULL: it has none */
};

static int make_hvc(struct machine *m, int fd, struct err *err)
{
	int r = machine_plan_hvc(m, err);

	return r ? r : machine_make_hvc(m, err);
}

static int make_rng(struct machine *m, int fd, struct err *err)
{
	return machine_make_rng(m, err);
}

static int make_balloon(struct machine *m, int fd, struct err *err)
{
	return machine_make_balloon(m, err);
}

static int make_vsock(struct machine *m, int fd, struct err *err)
{
	int r = machine_make_vsock(m, fd, err);

	if (!r)
		vsock_host_start(m->vsock);
	return r;
}

static int make_agent(struct machine *m, int fd, struct err *err)
{
	return machine_make_agent(m, err);
}

/* Whoever made the socket takes its name away. */
static void leave_vsock(struct machine *m)
{
	vsock_host_close(m->vsock, true);
	m->vsock = NULL;
}

static void leave_agent(struct machine *m)
{
	agent_set_open(m->agent, false);
	agent_cancel(m->agent);
	m->agent_line = NULL;
}

/* With what is behind its ports. */
static void leave_hvc(struct machine *m)
{
	if (m->cfg->has_agent && !m->agent_dev) {
		leave_agent(m);
		m->cfg->has_agent = false;
	}
	machine_remove_ports(m);
}

#define DEV(field) offsetof(struct machine, field)
#define HAS(field) offsetof(struct config, field)

static const struct single singles[PLUG_KINDS] = {
	[PLUG_HVC] = { "hvc", "the console device", DEV(hvc), HAS(has_hvc), make_hvc, leave_hvc },
	[PLUG_RNG] = { "rng", "a source of entropy", DEV(rng), HAS(has_rng), make_rng, NULL },
	[PLUG_BALLOON] = { "balloon", "a balloon", DEV(balloon), HAS(has_balloon), make_balloon, NULL },
	[PLUG_VSOCK] = { "vsock", "a socket device", DEV(vsock_dev), 0, make_vsock, leave_vsock },
	[PLUG_AGENT] = { "agent", "a port for the guest agent", DEV(agent_dev), HAS(has_agent), make_agent, leave_agent },
};

static struct virtio_dev **single_dev(const struct machine *m, enum plug_kind kind)
{
	return (struct virtio_dev **)((char *)(uintptr_t)m + singles[kind].dev);
}

bool plug_is_single(enum plug_kind kind)
{
	return singles[kind].word != NULL;
}

const char *plug_single_name(enum plug_kind kind)
{
	return singles[kind].word;
}

bool plug_single_nth(const struct machine *m, unsigned n, struct plugged *out)
{
	for (unsigned k = 0; k < PLUG_KINDS; k++) {
		struct virtio_dev *d = singles[k].word ? *single_dev(m, (enum plug_kind)k) : NULL;

		if (!d || n--)
			continue;
		*out = (struct plugged){ (enum plug_kind)k, 0, d };
		return true;
	}
	return false;
}

int plug_parse_vsock(const char *settings, char path[UNIXSOCK_PATH_MAX + 1], uint64_t *cid, struct err *err)
{
	char key[UNIXSOCK_PATH_MAX + 1], value[UNIXSOCK_PATH_MAX + 1];
	bool has_value;
	int r;

	*path = '\0';
	while ((r = str_next_pair(&settings, key, sizeof(key), value, sizeof(value), &has_value, err)) > 0) {
		if (!has_value && !*path)
			memcpy(path, key, sizeof(key));
		else if (has_value && !strcmp(key, "path"))
			memcpy(path, value, sizeof(value));
		else if (!has_value || strcmp(key, "cid"))
			return err_set(err, -EINVAL, "a socket device has the settings path=PATH and cid=N, not '%.64s'", key);
		else if (str_parse_u64(cid, value, err) < 0)
			return err_wrap(err, -EINVAL, "cid");
	}
	return r < 0 ? r : *path ? 0 : err_set(err, -EINVAL, "a socket device needs the path of a socket: path=PATH[,cid=N]");
}

/* --- the configuration --- */

static bool single_is_configured(const struct config *c, enum plug_kind kind)
{
	size_t at = singles[kind].has;

	return at ? *(const bool *)((const char *)c + at) : c->vsock != NULL;
}

static void single_forget(struct config *c, enum plug_kind kind)
{
	size_t at = singles[kind].has;

	if (at) {
		*(bool *)((char *)c + at) = false;
		return;
	}
	free(c->vsock);
	c->vsock = NULL;
}

static int single_configure(struct config *c, enum plug_kind kind, const struct plug_device *d, struct err *err)
{
	char path[UNIXSOCK_PATH_MAX + 1];
	size_t at = singles[kind].has;

	if (at && *d->settings)
		return err_set(err, -EINVAL, "there is nothing to set of '%s'", singles[kind].word);
	if (at) {
		*(bool *)((char *)c + at) = true;
		c->has_agent_device |= kind == PLUG_AGENT;
		return config_validate(c, err);
	}
	int r = plug_parse_vsock(d->settings, path, &c->vsock_cid, err);

	if (r < 0)
		return r;
	c->vsock = strdup(d->path ? d->path : path);
	return c->vsock ? config_validate(c, err) : err_set(err, -ENOMEM, "out of memory");
}

/* --- they come and go --- */

static void single_undo(struct machine *m, enum plug_kind kind)
{
	struct virtio_dev **at = single_dev(m, kind), *dev = *at;
	struct machine_line *line = plug_single_leave(m, kind);

	bus_lock(m->bus);
	if (dev && machine_virtio_index(m, dev) < m->n_virtio)
		pci_remove(virtio_pci_dev(dev));
	machine_forget_virtio_locked(m, dev);
	bus_unlock(m->bus);
	virtio_free(dev);
	machine_free_line(line);
}

int plug_single(struct machine *m, enum plug_kind kind, const struct plug_device *d, struct plugged *out, struct err *err)
{
	const struct single *s = &singles[kind];
	uint64_t cid = m->cfg->vsock_cid;

	if (single_is_configured(m->cfg, kind))
		return err_set(err, -EEXIST, "the machine has %s already; it can have one", s->means);
	int r = single_configure(m->cfg, kind, d, err);

	if (r < 0) {
		m->cfg->vsock_cid = cid;
		single_forget(m->cfg, kind);
		return r;
	}
	memset(m->slots, 0, sizeof(m->slots));
	r = s->make(m, d->fd, err);
	if (r < 0)
		single_undo(m, kind);
	else
		*out = (struct plugged){ kind, 0, *single_dev(m, kind) };
	return r;
}

struct machine_line *plug_single_leave(struct machine *m, enum plug_kind kind)
{
	if (singles[kind].leave)
		singles[kind].leave(m);
	*single_dev(m, kind) = NULL;
	single_forget(m->cfg, kind);
	return kind == PLUG_AGENT ? &m->agent_own : kind == PLUG_HVC ? &m->port[0] : NULL;
}

int plug_single_check(const struct machine *m, const char *name, struct err *err)
{
	if (strcmp(name, singles[PLUG_AGENT].word) || !m->cfg->has_agent)
		return 0;
	return err_set(err, -ENOTSUP, "the guest agent's port is one of the console device, as --agent-device off says, or the version that saved the "
		       "machine; it goes with that: unplug 'hvc'");
}
