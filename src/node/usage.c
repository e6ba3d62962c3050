/* SPDX-License-Identifier: Apache-2.0 */
/* usage.c - what the node uses, and how it is told. */
#include "node/usage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "api/http.h"
#include "api/route.h"
#include "node/auth.h"
#include "node/events.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/resource.h"
#include "node/work.h"
#include "util/checked.h"

enum { SPAN_S = 3600, POINTS = 720 };   /* of a history, unless asked for otherwise */

struct usage_node {
	struct node *node;
	struct loop_timer timer;
	struct sampler sampler;
	char *history;          /* path */
	double busy;            /* seconds of all processors since the host's start */
	uint64_t at_ns;         /* when BUSY was; 0: never */
	struct usage now;
	bool is_known;
};

/* --- the host ---------------------------------------------------- */

/* Seconds that processors have worked; those that were idle or waited for disks do not count. */
static double host_busy(void)
{
	FILE *f = fopen("/proc/stat", "re");
	unsigned long long user = 0, nice = 0, system = 0, irq = 0, softirq = 0, steal = 0;

	if (!f)
		return 0;
	int n = fscanf(f, "cpu %llu %llu %llu %*u %*u %llu %llu %llu", &user, &nice, &system, &irq, &softirq, &steal);
	fclose(f);
	return n < 3 ? 0 : (double)(user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK);
}

static double host_memory(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	unsigned long long total = 0, available = 0;

	while (f && fgets(line, sizeof(line), f)) {
		(void)sscanf(line, "MemTotal: %llu", &total);
		(void)sscanf(line, "MemAvailable: %llu", &available);
	}
	if (f)
		fclose(f);
	return total > available ? (double)(total - available) * 1024 : 0;
}

/* --- every few seconds ---------------------------------------------------- */

/* What C, an instance or NULL, uses; NULL: it is not known. */
static const struct meter *meter_of(const struct controlled *c)
{
	const struct instance *i = (const struct instance *)c;

	return i && i->meter.is_known ? &i->meter : NULL;
}

static void add_traffic(const struct node *n, struct usage *u)
{
	static const enum usage_field fields[] = { USAGE_READ, USAGE_WRITTEN, USAGE_RECEIVED, USAGE_SENT };

	for (const struct controlled *c = controller_next(n->instances, NULL); c; c = controller_next(n->instances, c)) {
		const struct meter *m = meter_of(c);

		for (unsigned f = 0; m && f < ARRAY_LEN(fields); f++)
			u->v[fields[f]] += m->now.v[fields[f]];
	}
}

static void measure(struct usage_node *u)
{
	uint64_t now = loop_now_ns();
	double busy = host_busy(), seconds = (double)(now - u->at_ns) / 1e9;

	if (u->at_ns && seconds > 0) {
		u->now = (struct usage){ .v = { [USAGE_CPU] = busy > u->busy ? (busy - u->busy) / seconds : 0,
						[USAGE_MEMORY] = host_memory(),
						[USAGE_STORAGE] = u->sampler.storage } };
		add_traffic(u->node, &u->now);
		u->is_known = true;
		sampler_take(&u->sampler, NULL, u->node->data_dir, u->history, seconds, &u->now);
	}
	u->busy = busy;
	u->at_ns = now;
}

static void tick(struct loop_timer *timer)
{
	struct usage_node *u = container_of(timer, struct usage_node, timer);

	loop_timer_set(timer, loop_after_ms(USAGE_MS));
	measure(u);
	events_tell_usage(u->node);
}

int usage_open(struct usage_node **out, struct node *n, struct err *err)
{
	struct usage_node *u = calloc(1, sizeof(*u));

	if (u)
		u->history = node_path(n->data_dir, "history");
	if (!u || !u->history) {
		free(u);
		return err_set(err, -ENOMEM, "out of memory");
	}
	u->node = n;
	sampler_init(&u->sampler, n, true);
	sampler_take(&u->sampler, NULL, n->data_dir, NULL, 0, &u->now);
	loop_timer_init(n->loop, &u->timer, tick);
	tick(&u->timer);
	/* The first interval is a short one: until it ends nothing is known. */
	loop_timer_set(&u->timer, loop_after_ms(USAGE_MS / 5));
	*out = u;
	return 0;
}

void usage_close(struct usage_node *u)
{
	if (!u)
		return;
	loop_timer_cancel(&u->timer);
	sampler_stop(&u->sampler);
	free(u->history);
	free(u);
}

const struct usage *usage_of_node(const struct usage_node *u)
{
	return u && u->is_known ? &u->now : NULL;
}

double usage_storage_share(const struct usage_node *u)
{
	return u->sampler.share;
}

/* --- the API ---------------------------------------------------- */

json_t *usage_view(struct node *n, const struct api_user *who)
{
	json_t *all = json_object(), *list = json_object();
	const struct usage *node = usage_of_node(n->usage);
	const struct store_doc *d = NULL;

	if (node && auth_role(n, who, NULL) >= API_VIEWER)
		json_object_set_new(all, "node", usage_json(node));
	while ((d = store_next(n->store, "instance/", d ? d->key : NULL)) != NULL) {
		const struct meter *m = meter_of(controller_find(n->instances, d->key));

		if (m && auth_sees(n, who, d->key))
			json_object_set_new(list, d->key, usage_json(&m->now));
	}
	if (json_object_set_new(all, "instances", list) < 0) {
		json_decref(all);
		return NULL;
	}
	return all;
}

void usage_show(struct api_call *c)
{
	struct err err = ERR_INIT;
	json_t *view = usage_view(c->arg, &c->user);

	if (view)
		api_reply(c, 200, view);
	else
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
}

/* The number that C's query has as NAME; DFLT without. What is none becomes 0, which is out of bounds. */
static unsigned query_number(const struct api_call *c, const char *name, unsigned dflt)
{
	const char *text = http_query(c->rq, name);
	char *end = NULL;
	unsigned long v = text ? strtoul(text, &end, 10) : dflt;

	return end && (end == text || *end || v > UINT32_MAX) ? 0 : (unsigned)v;
}

/* A history that is being read. */
struct reading {
	struct api_call *c;
	char *path;                     /* owned */
	time_t now;
	unsigned span, points;
	json_t *out;
};

static int read_it(void *arg, struct err *err)
{
	struct reading *k = arg;

	return history_read(&k->out, k->path, k->now, k->span, k->points, err);
}

static void has_read(void *arg, int r, const struct err *err)
{
	struct reading *k = arg;

	if (r < 0)
		api_fail(k->c, r, k->points && k->points <= HISTORY_POINTS_MAX ? "span" : "points", err);
	else
		api_reply(k->c, 200, k->out);
	free(k->path);
	free(k);
}

static void reply_history(struct api_call *c, const char *path)
{
	struct node *n = c->arg;
	struct reading *k = malloc(sizeof(*k));
	struct err err = ERR_INIT;

	if (k)
		*k = (struct reading){ .c = c, .path = strdup(path), .now = time(NULL), .span = query_number(c, "span", SPAN_S),
				       .points = query_number(c, "points", POINTS) };
	if (k && k->path && !work_start(n->works, read_it, has_read, k))
		return;
	if (k)
		free(k->path);
	free(k);
	api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
}

void usage_history(struct api_call *c)
{
	char key[STORE_KEY_MAX + 1];
	struct node *n = c->arg;
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	const struct instance *i = doc ? (const struct instance *)controller_find(n->instances, key) : NULL;
	AUTO(free) char *path = i ? node_path(i->dir, "history") : NULL;

	if (doc && !path)
		api_fail(c, err_set(&err, -EAGAIN, "'%s' is only just being looked at; try again", c->param[0]), NULL, &err);
	else if (doc)
		reply_history(c, path);
}

void usage_node_history(struct api_call *c)
{
	const struct node *n = c->arg;

	reply_history(c, n->usage->history);
}
