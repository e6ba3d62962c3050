/* SPDX-License-Identifier: Apache-2.0 */
#include "node/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "api/route.h"
#include "node/auth.h"
#include "node/certificate.h"
#include "node/clock.h"
#include "node/health.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/usage.h"
#include "util/checked.h"

void metrics_count(struct node *n, int status)
{
	unsigned class = (unsigned)status / 100;

	if (class < ARRAY_LEN(n->answers))
		n->answers[class]++;
}

/* Names of projects and instances have nothing in them that a label would have to quote. */
static void head(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(FILE *to, const char *name, const char *type, const char *help, double value)
{
	head(to, name, type, help);
	fprintf(to, "%s %.17g\n", name, value);
}

/* --- the node ---------------------------------------------------- */

static double own_memory(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long long pages = 0;

	if (f && fscanf(f, "%*s %lld", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void tell_disk(FILE *to, const struct node *n)
{
	struct store_health s;

	store_health(n->store, &s);
	one(to, "viv_store_waiting_seconds", "gauge", "So long the change that is being written has waited for the disk.",
	    (double)s.waiting_ns / 1e9);
	one(to, "viv_store_write_seconds_total", "counter", "Time in which changes were made durable.", (double)s.total_ns / 1e9);
	one(to, "viv_store_writes_total", "counter", "Times that changes were made durable, or could not be.", (double)s.writes);
	one(to, "viv_store_write_failures_total", "counter", "Those that could not.", (double)s.failures);
	one(to, "viv_disk_problem", "gauge", "1: the disk with the data is slow, or cannot be written; see GET /v1/node.",
	    health_problem(n->health)[0] != 0);
	one(to, "viv_audit_records_lost_total", "counter", "Records that could not be written to the audit log.",
	    (double)auth_records_lost(n->auth));
}

static void tell_node(FILE *to, const struct node *n)
{
	const struct usage *u = usage_of_node(n->usage);
	int64_t jump;

	one(to, "viv_node_processors", "gauge", "Processors of the host.", (double)sysconf(_SC_NPROCESSORS_ONLN));
	one(to, "viv_node_memory_total_bytes", "gauge", "Memory of the host.",
	    (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE));
	if (u) {
		one(to, "viv_node_processors_busy", "gauge", "Processors of the host that have been working.", u->v[USAGE_CPU]);
		one(to, "viv_node_memory_used_bytes", "gauge", "Memory of the host that programs cannot have.",
		    u->v[USAGE_MEMORY]);
		one(to, "viv_node_storage_used_bytes", "gauge", "What is taken of the file system with the data.",
		    u->v[USAGE_STORAGE]);
	}
	one(to, "viv_daemon_memory_bytes", "gauge", "Resident memory of the daemon.", own_memory());
	one(to, "viv_store_documents", "gauge", "Documents in the store.", (double)store_count(n->store));
	one(to, "viv_store_revision", "counter", "Changes that the store has seen.", (double)store_revision(n->store));
	tell_disk(to, n);
	one(to, "viv_clock_jumps_total", "counter", "Times that the clock of the host was set by more than 5 seconds.",
	    clock_watch_jumps(n->clock, &jump));
	one(to, "viv_clock_jump_seconds", "gauge", "By how much it was set the last time; negative: back.", (double)jump);
	if (n->certificate) {
		one(to, "viv_tls_certificate_end_time_seconds", "gauge", "When the certificate that is shown ends, in seconds since 1970.",
		    (double)certificate_ends(n->certificate));
		one(to, "viv_tls_certificate_problem", "gauge", "1: it ends in less than 14 days, or a new one is not good; see GET /v1/node.",
		    certificate_problem(n->certificate)[0] != 0);
	}
	head(to, "viv_api_answers_total", "counter", "Answers of the API by class of status.");
	for (unsigned i = 1; i < ARRAY_LEN(n->answers); i++)
		fprintf(to, "viv_api_answers_total{status=\"%uxx\"} %" PRIu64 "\n", i, n->answers[i]);
}

/* --- instances ---------------------------------------------------- */

static double get_cpu(const struct meter *m) { return m->totals.cpu; }
static double get_memory(const struct meter *m) { return m->now.v[USAGE_MEMORY]; }
static double get_storage(const struct meter *m) { return m->now.v[USAGE_STORAGE]; }
static double get_reads(const struct meter *m) { return m->totals.reads; }
static double get_read(const struct meter *m) { return m->totals.read; }
static double get_writes(const struct meter *m) { return m->totals.writes; }
static double get_written(const struct meter *m) { return m->totals.written; }
static double get_frames_in(const struct meter *m) { return m->totals.frames_in; }
static double get_received(const struct meter *m) { return m->totals.received; }
static double get_frames_out(const struct meter *m) { return m->totals.frames_out; }
static double get_sent(const struct meter *m) { return m->totals.sent; }

static const struct series {
	const char *name, *type, *help;
	double (*get)(const struct meter *m);
} series[] = {
	{ "viv_instance_cpu_seconds_total", "counter", "Time that the host's processors worked for those of the instance.", get_cpu },
	{ "viv_instance_memory_bytes", "gauge", "Memory of the host that the instance's processes have.", get_memory },
	{ "viv_instance_storage_bytes", "gauge", "Storage of the host that its disk takes.", get_storage },
	{ "viv_instance_disk_reads_total", "counter", "Requests that read.", get_reads },
	{ "viv_instance_disk_read_bytes_total", "counter", "What they read.", get_read },
	{ "viv_instance_disk_writes_total", "counter", "Requests that wrote.", get_writes },
	{ "viv_instance_disk_written_bytes_total", "counter", "What they wrote.", get_written },
	{ "viv_instance_network_received_frames_total", "counter", "Frames to the instance.", get_frames_in },
	{ "viv_instance_network_received_bytes_total", "counter", "What was in them.", get_received },
	{ "viv_instance_network_sent_frames_total", "counter", "Frames from the instance.", get_frames_out },
	{ "viv_instance_network_sent_bytes_total", "counter", "What was in them.", get_sent },
};

static void tell_series(FILE *to, const struct node *n, const struct series *s)
{
	const struct store_doc *d = NULL;

	head(to, s->name, s->type, s->help);
	while ((d = store_next(n->store, "instance/", d ? d->key : NULL)) != NULL) {
		const struct instance *i = (const struct instance *)controller_find(n->instances, d->key);

		if (i && i->meter.is_known)
			fprintf(to, "%s{project=\"%s\",instance=\"%s\"} %.17g\n", s->name, i->c.project, i->c.name,
				s->get(&i->meter));
	}
}

static void tell_states(FILE *to, const struct node *n)
{
	static const char *const states[] = { "running", "paused", "starting", "stopping", "stopped", "failed", "deleting" };
	unsigned count[ARRAY_LEN(states)] = { 0 };
	const struct store_doc *d = NULL;

	while ((d = store_next(n->store, "instance/", d ? d->key : NULL)) != NULL) {
		const struct controlled *c = controller_find(n->instances, d->key);

		for (unsigned k = 0; c && k < ARRAY_LEN(states); k++)
			count[k] += !strcmp(c->state, states[k]);
	}
	head(to, "viv_instances", "gauge", "Instances by state.");
	for (unsigned k = 0; k < ARRAY_LEN(states); k++)
		fprintf(to, "viv_instances{state=\"%s\"} %u\n", states[k], count[k]);
}

void metrics_show(struct api_call *c)
{
	const struct node *n = c->arg;
	struct err err = ERR_INIT;
	char *text = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);

	if (to) {
		tell_node(to, n);
		tell_states(to, n);
		for (unsigned k = 0; k < ARRAY_LEN(series); k++)
			tell_series(to, n, &series[k]);
	}
	if (!to || fclose(to) != 0) {
		free(text);
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return;
	}
	api_reply_bytes(c, 200, "text/plain; version=0.0.4; charset=utf-8", text, len);
}
