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
#include "vm/migrate_disks.h"
#include "vm/throttle.h"
#include "vm/vsock_host.h"

const struct control_param control_migrate_params[] = {
	{ "socket", CONTROL_SOCKETS, true, "tcp:HOST:PORT|unix:PATH|fd:N",
	  "a stream socket that is connected to a `viv-vmm --incoming`, or several", NULL },
	{ "pause_ms", CONTROL_UINT, false, "pause_ms=N", "how long the guest may stand still, in milliseconds; 100 unless given", NULL },
	{ "bandwidth", CONTROL_SIZE, false, "bandwidth=SIZE", "bytes per second while the guest runs; no limit unless given", NULL },
	{ "packing", CONTROL_CHOICE, false, "packing=none|zstd|lz4", "of guest memory on the way; none unless given", "none zstd lz4" },
	{ "throttle", CONTROL_BOOL, false, "throttle=on|off",
	  "slow the guest down when it writes to its memory faster than the connection takes it; on unless given", NULL },
	{ "throttle_max", CONTROL_UINT, false, "throttle_max=PERCENT", "of the time that its processors rest then, at most; 99 unless given", NULL },
	{ "tls", CONTROL_STRING, false, "tls=DIR",
	  "`viv-vmm ctl` speaks TLS with the other side, and shows and judges certificates: DIR has ca.pem, cert.pem and key.pem. To the machine it "
	  "says that the sockets lead to such a process", NULL },
	{ "tls_name", CONTROL_STRING, false, "tls_name=NAME",
	  "what the other side's certificate must name; the host in the address unless given", NULL },
	{ "streams", CONTROL_UINT, false, "streams=N", "connections, 1 to 8, that carry guest memory at the same time; 1 unless given", NULL },
	{ "postcopy", CONTROL_BOOL, false, "postcopy=on|off",
	  "the guest may run at the other side before all of its memory is there, which then comes as it is needed; there are at least two connections. Off "
	  "unless given", NULL },
	{ "postcopy_after", CONTROL_UINT, false, "postcopy_after=N",
	  "rounds after which it does, if what is left does not fit into the pause; 0: only after migrate-start-postcopy; 1 unless given", NULL },
	{ "with-disks", CONTROL_STRING, false, "with-disks[=DISK,...]",
	  "writable disks, by name, that go along with the machine, each over one more connection: the last descriptors, in this order. Without "
	  "names `viv-vmm ctl` asks for all. Unless given, both sides have the same disks", NULL },
	{ .name = NULL },
};

const struct control_param control_migrate_recover_params[] = {
	{ "socket", CONTROL_SOCKETS, true, "tcp:HOST:PORT|unix:PATH", "two stream sockets that are connected to the same viv-vmm as before", NULL },
	{ "tls", CONTROL_STRING, false, "tls=DIR", "as of migrate", NULL },
	{ "tls_name", CONTROL_STRING, false, "tls_name=NAME", "as of migrate", NULL },
	{ .name = NULL },
};

const struct control_param control_migrate_set_params[] = {
	{ "bandwidth", CONTROL_SIZE, false, "bandwidth=SIZE", "bytes per second while the guest runs; 0: no limit", NULL },
	{ "pause_ms", CONTROL_UINT, false, "pause_ms=N", "how long the guest may stand still, in milliseconds", NULL },
	{ "throttle", CONTROL_BOOL, false, "throttle=on|off", "may the guest be slowed down?", NULL },
	{ "throttle_max", CONTROL_UINT, false, "throttle_max=PERCENT", "of the time that its processors rest then, at most", NULL },
	{ .name = NULL },
};

/* NULL: it did not come to one, or it is not over. */
static json_t *migrate_pause(const struct migrate_pause *p)
{
	return !p->stop_ns ? NULL :
	       json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "stop_ns", (json_int_t)p->stop_ns, "state_ns", (json_int_t)p->state_ns,
			 "memory_ns", (json_int_t)p->memory_ns, "load_ns", (json_int_t)p->load_ns, "start_ns", (json_int_t)p->start_ns,
			 "memory", (json_int_t)p->memory);
}

static json_t *migrate_figures(const struct migrate_result *r)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:i, s:o*}", "total_ns", (json_int_t)r->total_ns, "pause_ns",
			 (json_int_t)r->pause_ns, "sent", (json_int_t)r->sent, "pages", (json_int_t)r->pages,
			 "zero_pages", (json_int_t)r->zero_pages, "rounds", (int)r->rounds, "pause", migrate_pause(&r->pause));
}

static json_t *migrate_progress(const struct migrate_progress *p)
{
	json_t *disks = p->n_disks ? json_pack("{s:i, s:I, s:I}", "n", (int)p->n_disks, "done", (json_int_t)p->disks_done, "total",
					       (json_int_t)p->disks_total) : NULL;

	return json_pack("{s:s, s:I, s:i, s:I, s:I, s:i, s:o, s:o*}", "phase", p->phase, "left", (json_int_t)p->left, "throttle",
			 (int)p->throttle, "bandwidth", (json_int_t)p->bandwidth, "pause_ms", (json_int_t)(p->pause_ns / 1000000),
			 "streams", (int)p->streams, "so_far", migrate_figures(&p->so_far), "disks", disks);
}

static void migrate_done(void *arg, const struct migrate_result *result, const struct err *err)
{
	control_finish(arg, err ? NULL : migrate_figures(result), err);
}

/* To whoever listens to events. */
static void migrate_moved(void *arg)
{
	const struct control_call *call = arg;
	struct migrate_progress p;

	migration_get_progress(control_machine(call->control), &p);
	json_t *event = migrate_progress(&p);
	if (event)
		json_object_set_new(event, "event", json_string("migration"));
	control_emit(call->control, event);
}

const struct control_param control_upgrade_params[] = {
	{ "socket", CONTROL_SOCKET, true, "unix:PATH|fd:N", "a Unix socket that is connected to a `viv-vmm --takeover`", NULL },
	{ .name = NULL },
};

static int migrate_check_pause(uint64_t ms, struct err *err)
{
	return ms > MIGRATE_PAUSE_MAX_MS ? err_set(err, -EINVAL, "pause_ms: at most %d", MIGRATE_PAUSE_MAX_MS) : 0;
}

static int migrate_check_throttle(uint64_t percent, struct err *err)
{
	return !percent || percent > THROTTLE_MAX ? err_set(err, -EINVAL, "throttle_max: 1 to %d", THROTTLE_MAX) : 0;
}

/* Connections that carry memory. */
static uint64_t migrate_streams(const struct control_request *r, const json_t *params)
{
	uint64_t n = control_get_uint(params, "streams", 1);
	bool two = control_get_bool(params, "postcopy", false) || r->params == control_migrate_recover_params;

	return two && n == 1 ? 2 : n;
}

uint64_t control_sockets(const struct control_request *r, const json_t *params)
{
	uint64_t n = migrate_streams(r, params);

	return n && n <= MIGRATE_STREAMS_MAX ? n + migrate_disks_count(control_get_string(params, "with-disks", NULL)) : 0;
}

int control_migrate(struct control_call *call, struct err *err)
{
	const char *packing = control_get_string(call->params, "packing", "none");
	uint64_t pause_ms = control_get_uint(call->params, "pause_ms", MIGRATE_PAUSE_MS);
	uint64_t throttle_max = control_get_uint(call->params, "throttle_max", THROTTLE_MAX);
	struct migrate_options o = {
		.n_fds = call->n_fds,
		.disks = control_get_string(call->params, "with-disks", NULL),
		.packing = !strcmp(packing, "zstd") ? MIGRATE_ZSTD : !strcmp(packing, "lz4") ? MIGRATE_LZ4 : MIGRATE_RAW,
		.bandwidth = control_get_size(call->params, "bandwidth", 0), .pause_ns = pause_ms * 1000000u,
		.may_throttle = control_get_bool(call->params, "throttle", true), .throttle_max = (unsigned)throttle_max,
		.may_postcopy = control_get_bool(call->params, "postcopy", false),
		.postcopy_after = (unsigned)control_get_uint(call->params, "postcopy_after", 1), .done = migrate_done, .progress = migrate_moved, .arg = call,
	};
	int r = migrate_check_pause(pause_ms, err);

	if (!r)
		r = migrate_check_throttle(throttle_max, err);
	if (!r && o.disks && !*o.disks)
		r = err_set(err, -EINVAL, "with-disks: name them; 'info' lists them");
	if (!r && control_sockets(call->request, call->params) != call->n_fds)
		r = err_set(err, -EINVAL, "streams, with-disks: there must be as many descriptors, not %u", call->n_fds);
	memcpy(o.fd, call->fd, sizeof(o.fd));
	if (!r)
		r = migration_start(control_machine(call->control), &o, err);
	if (r < 0)
		return r;
	memset(call->fd, -1, sizeof(call->fd));
	return 1;
}

int control_migrate_recover(struct control_call *call, struct err *err)
{
	struct migrate_options o = { .n_fds = call->n_fds, .done = migrate_done, .progress = migrate_moved, .arg = call };

	memcpy(o.fd, call->fd, sizeof(o.fd));
	int r = migration_recover(control_machine(call->control), &o, err);
	if (r < 0)
		return r;
	memset(call->fd, -1, sizeof(call->fd));
	return 1;
}

int control_migrate_postcopy(struct control_call *call, struct err *err)
{
	return migration_start_postcopy(control_machine(call->control), err);
}

int control_migrate_set(struct control_call *call, struct err *err)
{
	const json_t *p = call->params;
	uint64_t pause_ms = control_get_uint(p, "pause_ms", 0), throttle_max = control_get_uint(p, "throttle_max", THROTTLE_MAX);
	struct migrate_changes c = {
		.has_bandwidth = json_object_get(p, "bandwidth"), .bandwidth = control_get_size(p, "bandwidth", 0),
		.has_pause = json_object_get(p, "pause_ms"), .pause_ns = pause_ms * 1000000u,
		.has_throttle = json_object_get(p, "throttle"), .may_throttle = control_get_bool(p, "throttle", true),
		.has_throttle_max = json_object_get(p, "throttle_max"), .throttle_max = (unsigned)throttle_max,
	};
	int r = migrate_check_pause(pause_ms, err);

	if (!r)
		r = migrate_check_throttle(throttle_max, err);
	return r ? r : migration_change(control_machine(call->control), &c, err);
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
		.fd = { call->fd[0] }, .n_fds = 1, .packing = MIGRATE_RAW, .pause_ns = MIGRATE_PAUSE_MS * 1000000ull, .may_throttle = true,
		.throttle_max = THROTTLE_MAX, .done = migrate_done, .arg = call,
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
	call->result = migrate_progress(&p);
	return call->result ? 0 : err_set(err, -ENOMEM, "out of memory");
}

json_t *control_migration_now(const struct machine *m)
{
	struct migrate_progress p;

	migration_get_progress(m, &p);
	return m->migration || m->lazy ? migrate_progress(&p) : NULL;
}

int control_migrate_cancel(struct control_call *call, struct err *err)
{
	return migration_cancel(control_machine(call->control), err);
}
