/* SPDX-License-Identifier: Apache-2.0 */
/* instance_metadata.c - the metadata service (metadata.h) of a machine whose network is its own (kind 'user').
 *
 * There is no address of the host that such a guest could be known by: its machine ends its connections to 169.254.169.254 itself
 * (net/service.h), each in one of the sockets that it has been handed beforehand. So who asks is who holds the other end. A few wait for each
 * interface; one that is used is followed by another. They end with the connection to the machine, and a daemon that has taken it over
 * brings its own. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "node/instance_hold.h"
#include "node/instance_priv.h"
#include "node/machine_talk.h"
#include "node/metadata.h"
#include "node/metadata_answer.h"
#include "node/metadata_server.h"
#include "node/node.h"
#include "node/secret.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/log.h"

enum { NICS_MAX = 8, WAITING = 2, SOON_MS = 1, AGAIN_MS = 1000 };

struct nic {
	struct instance_metadata *of;
	struct metadata_server *server;
	char name[TALK_NAME_MAX];       /* that the machine knows it by */
	struct metadata_port port;
};

struct instance_metadata {
	struct instance *i;             /* NULL: it has been stopped, and goes with its worker */
	struct node *node;
	struct loop_timer again;
	bool is_busy;                   /* a worker hands sockets over */
	uint8_t key[METADATA_KEY_LEN];
	struct nic nic[NICS_MAX];
	unsigned n;
	/* the worker's */
	char control[STORE_KEY_MAX];
	struct { unsigned nic; int fd; } give[NICS_MAX * WAITING];
	unsigned n_give;
};

/* --- answers ---------------------------------------------------- */

static int get(void *arg, const json_t *doc, const char *path, char **out, size_t *len)
{
	const struct nic *nic = arg;
	const struct instance_metadata *m = nic->of;
	struct metadata_port ports[NICS_MAX];
	struct metadata_about about = { .uid = m->i->c.uid, .name = m->i->c.name, .project = m->i->c.project, .ports = ports,
					.created = json_string_value(json_object_get(doc, "created")), .spec = json_object_get(doc, "spec"),
					.n_ports = m->n, .here = (size_t)(nic - m->nic) };

	for (unsigned k = 0; k < m->n; k++)
		ports[k] = m->nic[k].port;
	return metadata_get(&about, path, out, len);
}

static void ask(void *arg, struct in_addr from, const struct metadata_request *rq, struct metadata_reply *reply)
{
	struct nic *nic = arg;
	struct instance_metadata *m = nic->of;
	struct metadata_caller c = { .node = m->node, .project = m->i->c.project, .instance = m->i->c.name, .uid = m->i->c.uid, .key = m->key,
				     .get = get, .arg = nic };

	(void)from;
	metadata_answer(&c, rq, reply);
}

/* --- sockets ---------------------------------------------------- */

static void fewer(void *arg)
{
	struct instance_metadata *m = ((struct nic *)arg)->of;

	if (!m->is_busy)
		loop_timer_set(&m->again, loop_after_ms(SOON_MS));
}

static void metadata_free(struct instance_metadata *m)
{
	loop_timer_cancel(&m->again);
	for (unsigned k = 0; k < m->n; k++)
		metadata_server_close(m->nic[k].server);
	while (m->n_give)
		close(m->give[--m->n_give].fd);
	explicit_bzero(m->key, sizeof(m->key));
	free(m);
}

static int hand_over(void *arg, struct err *err)
{
	struct instance_metadata *m = arg;
	struct talk k = { .fd = -1 };
	int r = talk_open(&k, m->control, err);

	for (unsigned n = 0; !r && n < m->n_give; n++)
		r = talk_ask(&k, "net-metadata", json_pack("{s:s}", "net", m->nic[m->give[n].nic].name), &m->give[n].fd, NULL, err);
	talk_close(&k);
	return r;
}

static void handed_over(void *arg, int r, const struct err *err)
{
	struct instance_metadata *m = arg;

	m->is_busy = false;
	/* The machine has its own; where it has not, the other end sees that. */
	while (m->n_give)
		close(m->give[--m->n_give].fd);
	if (!m->i) {
		metadata_free(m);
		return;
	}
	if (r < 0)
		log_debug("'%s': no metadata: %s", m->i->c.key, err->msg);
	loop_timer_set(&m->again, loop_after_ms(r < 0 ? AGAIN_MS : SOON_MS));
}

/* One more for interface K. */
static int add_one(struct instance_metadata *m, unsigned k)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	int r = metadata_server_add(m->nic[k].server, pair[0]);
	if (r < 0) {
		close(pair[0]);
		close(pair[1]);
		return r;
	}
	m->give[m->n_give].nic = k;
	m->give[m->n_give++].fd = pair[1];
	return 0;
}

static void bring_more(struct loop_timer *t)
{
	struct instance_metadata *m = container_of(t, struct instance_metadata, again);
	int r = 0;

	if (m->is_busy)
		return;
	for (unsigned k = 0; k < m->n; k++)
		for (unsigned has = metadata_server_idle(m->nic[k].server); !r && has < WAITING; has++)
			r = add_one(m, k);
	m->is_busy = m->n_give && !work_start(m->node->works, hand_over, handed_over, m);
	if (m->n_give && !m->is_busy)
		while (m->n_give)
			close(m->give[--m->n_give].fd);
	if (r < 0 && !m->is_busy)
		loop_timer_set(&m->again, loop_after_ms(AGAIN_MS));
}

/* --- as a part of the instance ---------------------------------------------------- */

static int add_nic(struct instance_metadata *m, unsigned index, const json_t *net)
{
	struct nic *nic = &m->nic[m->n];
	struct metadata_server_config c = { .loop = m->node->loop, .ask = ask, .fewer = fewer, .arg = nic };

	*nic = (struct nic){ .of = m, .port = { .index = index } };
	snprintf(nic->name, sizeof(nic->name), "%s", json_string_value(json_object_get(net, "name")) ?: "");
	snprintf(nic->port.mac, sizeof(nic->port.mac), "%s", json_string_value(json_object_get(net, "mac")) ?: "");
	int r = metadata_server_open(&nic->server, &c, NULL);
	m->n += !r;
	return r;
}

void instance_metadata_start(struct instance *i, const json_t *nets)
{
	struct instance_metadata *m = calloc(1, sizeof(*m));
	const json_t *net;
	size_t k;

	instance_metadata_stop(i);
	if (!m)
		return;
	m->i = i;
	m->node = i->c.node;
	loop_timer_init(m->node->loop, &m->again, bring_more);
	secret_random(m->key, sizeof(m->key));
	instance_control_path(i, m->control, sizeof(m->control));
	json_array_foreach(nets, k, net)
		if (m->n < NICS_MAX && !strcmp(json_string_value(json_object_get(net, "kind")) ?: "", "user"))
			(void)add_nic(m, (unsigned)k, net);
	if (!m->n) {
		metadata_free(m);
		return;
	}
	i->metadata = m;
	loop_timer_set(&m->again, loop_after_ms(SOON_MS));
}

void instance_metadata_stop(struct instance *i)
{
	struct instance_metadata *m = i->metadata;

	i->metadata = NULL;
	if (!m)
		return;
	m->i = NULL;
	loop_timer_cancel(&m->again);
	for (unsigned k = 0; k < m->n; k++) {
		metadata_server_close(m->nic[k].server);
		m->nic[k].server = NULL;
	}
	if (!m->is_busy)
		metadata_free(m);
}
