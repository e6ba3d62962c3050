/* SPDX-License-Identifier: Apache-2.0 */
#include "node/why.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "api/route.h"
#include "node/health.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/resource.h"

/* From here on something is worth a sentence. */
static const double busy_share = 0.9, pressure_percent = 10, storage_share = 0.95, memory_share = 0.95;

struct facts {
	json_t *list;
	const struct instance *i;
	const json_t *spec;
};

static void tell(const struct facts *f, const char *about, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void tell(const struct facts *f, const char *about, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_array_append_new(f->list, json_pack("{s:s, s:s}", "about", about, "text", text));
}

/* --- state ---------------------------------------------------- */

static void tell_state(const struct facts *f)
{
	const struct instance *i = f->i;
	const char *wanted = json_string_value(json_object_get(f->spec, "state"));

	tell(f, "state", "it is %s since %s%s%s", i->c.state[0] ? i->c.state : "new", i->c.since[0] ? i->c.since : "just now",
	     i->c.reason[0] ? ": " : "", i->c.reason);
	if (wanted && i->ended_revision && !strcmp(wanted, "running"))
		tell(f, "wanted", "it shall be running, but has ended by itself, and its 'restart' is '%s'; 'viv start %s' starts it again",
		     json_string_value(json_object_get(f->spec, "restart")) ?: "no", i->c.name);
	if (i->start_note[0])
		tell(f, "start", "%s", i->start_note);
	if (i->n_holds)
		tell(f, "held", "a task works on its disks; it starts when that is done");
	if (i->c.failures)
		tell(f, "failure", "it has failed %u times in a row; %s", i->c.failures,
		     i->c.hold_ns > loop_now_ns() ? "the next try comes after a pause, or at once when it is changed or started"
						  : "the next try is under way");
}

/* What is wanted of it, and comes with the next start. */
static void tell_pending(const struct facts *f)
{
	AUTO(json_decref) json_t *list = instance_pending(f->i, f->spec);
	const json_t *p;
	size_t at;

	json_array_foreach(list, at, p) {
		const char *field = json_string_value(json_object_get(p, "field"));
		const json_t *now = json_object_get(p, "now"), *then = json_object_get(p, "then");
		AUTO(free) char *was = json_is_array(now) ? NULL : json_dumps(now, JSON_ENCODE_ANY);
		AUTO(free) char *is = json_is_array(then) ? NULL : json_dumps(then, JSON_ENCODE_ANY);

		if (was && is)
			tell(f, "pending", "'%s' is %.200s until it is started the next time, and %.200s then", field, was, is);
		else
			tell(f, "pending", "'%s' is what it was until it is started the next time", field);
	}
}

static void tell_last_words(const struct facts *f)
{
	char words[300];

	process_last_words(f->i->dir, "vmm.log", words, sizeof(words));
	if (words[0])
		tell(f, "log", "the last that its process has said: %s", words);
}

/* --- place ---------------------------------------------------- */

static void tell_place(const struct facts *f)
{
	const char *engine = f->i->engine;

	if (!f->i->proc.pid || !engine[0])
		return;
	tell(f, "place", "process %d of this host runs it with engine '%s'", (int)f->i->proc.pid, engine);
	if (!strcmp(engine, "kvm"))
		return;
	if (strcmp(json_string_value(json_object_get(f->spec, "engine")) ?: "auto", "auto") != 0)
		tell(f, "engine", "engine '%s' was asked for; 'auto' takes 'kvm' where that is to be had, which is faster", engine);
	else if (access("/dev/kvm", R_OK | W_OK) < 0)
		tell(f, "engine", "its code is translated, as /dev/kvm cannot be used (%s): programs take longer than on the bare host",
		     strerror(errno));
	else
		tell(f, "engine", "its code is translated, as the processor has no virtualization that can be used: programs take longer "
				  "than on the bare host");
}

static void tell_limits(const struct facts *f)
{
	const char *cpu = json_string_value(json_object_get(json_object_get(f->spec, "limits"), "cpu"));
	char since[DOC_TIME_LEN + 1];

	if (f->i->limits_reason[0])
		tell(f, "limits", "not all of its limits hold: %s", f->i->limits_reason);
	if (cpu && f->i->meter.is_known && f->i->meter.now.v[USAGE_CPU] >= busy_share * strtod(cpu, NULL))
		tell(f, "limits", "it uses all that 'limits.cpu' gives it (%s)", cpu);
	if (!f->i->meter.idle_since)
		return;
	doc_time(since, f->i->meter.idle_since);
	tell(f, "idle", "it has done nothing since %s", since);
}

/* --- slowness ---------------------------------------------------- */

/* The share of the last ten seconds, in percent, in which somebody on this host waited for RESOURCE. */
static double pressure(const char *resource)
{
	char path[64];
	double avg10 = 0;

	snprintf(path, sizeof(path), "/proc/pressure/%s", resource);
	FILE *f = fopen(path, "re");
	if (f && fscanf(f, "some avg10=%lf", &avg10) != 1)
		avg10 = 0;
	if (f)
		fclose(f);
	return avg10;
}

static void tell_pressure(const struct facts *f)
{
	static const struct { const char *file, *what; } resources_[] = {
		{ "cpu", "processors" }, { "memory", "memory" }, { "io", "disks" },
	};

	for (unsigned k = 0; k < sizeof(resources_) / sizeof(resources_[0]); k++) {
		double p = pressure(resources_[k].file);

		if (p >= pressure_percent)
			tell(f, "host", "programs on this host have waited for its %s in %.0f %% of the last 10 seconds", resources_[k].what, p);
	}
}

static void tell_use(const struct facts *f)
{
	const struct meter *m = &f->i->meter;
	const struct usage *node = usage_of_node(f->i->c.node->usage);
	double cpus = (double)json_integer_value(json_object_get(f->spec, "cpus"));
	double host = (double)sysconf(_SC_NPROCESSORS_ONLN);

	if (m->is_known && m->now.v[USAGE_CPU] >= busy_share * cpus)
		tell(f, "processors", "its processors work all the time (%.2f of %.0f): more of them, or less work, would help",
		     m->now.v[USAGE_CPU], cpus);
	if (node && node->v[USAGE_CPU] >= busy_share * host)
		tell(f, "host", "the processors of this host work all the time (%.1f of %.0f)", node->v[USAGE_CPU], host);
	if (node && node->v[USAGE_MEMORY] >= memory_share * (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE))
		tell(f, "host", "the memory of this host is nearly used up");
}

static void tell_storage(const struct facts *f)
{
	const struct node *n = f->i->c.node;
	double used = usage_storage_share(n->usage);
	const char *problem = health_problem(n->health);

	if (problem[0])
		tell(f, "storage", "%s", problem);
	if (used >= storage_share)
		tell(f, "storage", "the file system of '%s' is full to %.0f %%: its disk may soon have no room to grow", n->data_dir, 100 * used);
}

/* --- the answer ---------------------------------------------------- */

void instance_why(struct api_call *c)
{
	char key[STORE_KEY_MAX + 1];
	struct node *n = c->arg;
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	struct facts f = { .i = doc ? (const struct instance *)controller_find(n->instances, key) : NULL };

	if (!doc)
		return;
	if (!f.i) {
		api_fail(c, err_set(&err, -EAGAIN, "'%s' is only just being looked at; try again", c->param[0]), NULL, &err);
		return;
	}
	f.list = json_array();
	f.spec = json_object_get(doc, "spec");
	tell_state(&f);
	if (f.i->phase == PHASE_DOWN)
		tell_last_words(&f);
	tell_pending(&f);
	tell_place(&f);
	tell_limits(&f);
	tell_use(&f);
	tell_pressure(&f);
	tell_storage(&f);
	api_reply(c, 200, json_pack("{s:s, s:s, s:o}", "name", f.i->c.name, "state", f.i->c.state, "facts", f.list));
}
