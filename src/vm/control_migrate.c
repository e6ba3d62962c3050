/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/control_migrate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "virtio/net.h"
#include "vm/handover.h"
#include "vm/machine_priv.h"
#include "vm/migrate.h"
#include "vm/vsock_host.h"

const struct control_param control_migrate_params[] = {
	{ "socket", CONTROL_SOCKET, true, "tcp:HOST:PORT|unix:PATH|fd:N",
	  "a stream socket that is connected to a `viv-vmm --incoming`", NULL },
	{ "pause_ms", CONTROL_UINT, false, "pause_ms=N", "how long the guest may stand still, in milliseconds; 100 unless given", NULL },
	{ "bandwidth", CONTROL_SIZE, false, "bandwidth=SIZE", "bytes per second while the guest runs; no limit unless given", NULL },
	{ "packing", CONTROL_CHOICE, false, "packing=none|zstd|lz4", "of guest memory on the way; none unless given", "none zstd lz4" },
	{ "throttle", CONTROL_BOOL, false, "throttle=on|off",
	  "slow the guest down when it writes to its memory faster than the connection takes it; on unless given", NULL },
	{ .name = NULL },
};

static json_t *migrate_figures(const struct migrate_result *r)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:i}", "total_ns", (json_int_t)r->total_ns, "pause_ns",
			 (json_int_t)r->pause_ns, "sent", (json_int_t)r->sent, "pages", (json_int_t)r->pages,
			 "zero_pages", (json_int_t)r->zero_pages, "rounds", (int)r->rounds);
}

static void migrate_done(void *arg, const struct migrate_result *result, const struct err *err)
{
	control_finish(arg, err ? NULL : migrate_figures(result), err);
}

const struct control_param control_upgrade_params[] = {
	{ "socket", CONTROL_SOCKET, true, "unix:PATH|fd:N", "a Unix socket that is connected to a `viv-vmm --takeover`", NULL },
	{ .name = NULL },
};

int control_migrate(struct control_call *call, struct err *err)
{
	const char *packing = control_get_string(call->params, "packing", "none");
	struct migrate_options o = {
		.fd = call->fd[0],
		.packing = !strcmp(packing, "zstd") ? MIGRATE_ZSTD : !strcmp(packing, "lz4") ? MIGRATE_LZ4 : MIGRATE_RAW,
		.bandwidth = control_get_size(call->params, "bandwidth", 0),
		.pause_ns = control_get_uint(call->params, "pause_ms", MIGRATE_PAUSE_MS) * 1000000u,
		.may_throttle = control_get_bool(call->params, "throttle", true), .done = migrate_done, .arg = call,
	};
	int r;

	if (o.pause_ns > MIGRATE_PAUSE_MAX_MS * 1000000ull)
		return err_set(err, -EINVAL, "pause_ms: at most %d", MIGRATE_PAUSE_MAX_MS);
	r = migration_start(control_machine(call->control), &o, err);
	if (r < 0)
		return r;
	call->fd[0] = -1;
	return 1;
}

/* What another process of this host needs besides memory and state. To be freed by migration. */
static int upgrade_hands(const struct control_call *call, struct handed **out, struct err *err)
{
	const struct machine *m = control_machine(call->control);
	struct handed *h = malloc(sizeof(*h));
	int r = 0;

	if (!h)
		return err_set(err, -ENOMEM, "out of memory");
	handed_init(h);
	h->control = control_listen_fd(call->control);
	h->janitor = control_janitor_fd(call->control);
	h->log = STDERR_FILENO;
	h->vsock = vsock_host_fd(m->vsock);
	for (unsigned i = 0; !r && i < m->cfg->n_nets; i++) {
		int fd = virtio_net_fd(m->net_dev[i]);

		h->net[i] = fd < 0 ? -1 : fd;
		if (fd == -ENOTSUP)
			r = err_set(err, -ENOTSUP, "the network '%s' belongs to this process and cannot be handed over", m->cfg->nets[i].kind);
	}
	if (!r)
		r = machine_hand_over_consoles(m, h, err);
	if (!r && !(h->options = config_process_to_json(m->cfg)))
		r = err_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		handed_fini(h);
		free(h);
	} else {
		*out = h;
	}
	return r;
}

int control_upgrade(struct control_call *call, struct err *err)
{
	struct migrate_options o = {
		.fd = call->fd[0], .packing = MIGRATE_RAW, .pause_ns = MIGRATE_PAUSE_MS * 1000000ull, .may_throttle = true,
		.done = migrate_done, .arg = call,
	};
	int r = upgrade_hands(call, &o.hands, err);

	if (!r)
		r = migration_start(control_machine(call->control), &o, err);
	if (r < 0) {
		if (o.hands)
			handed_fini(o.hands);
		free(o.hands);
		return r;
	}
	call->fd[0] = -1;
	return 1;
}

int control_migration(struct control_call *call, struct err *err)
{
	struct migrate_progress p;

	migration_get_progress(control_machine(call->control), &p);
	call->result = json_pack("{s:s, s:I, s:i, s:o}", "phase", p.phase, "left", (json_int_t)p.left, "throttle",
				 (int)p.throttle, "so_far", migrate_figures(&p.so_far));
	return call->result ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int control_migrate_cancel(struct control_call *call, struct err *err)
{
	return migration_cancel(control_machine(call->control), err);
}
