/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c - the controller of pools: workers make their directories and look at them every few seconds, as a file system may hang. */
#include "node/pool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/controller.h"
#include "node/node.h"
#include "node/pool_dir.h"
#include "node/resource.h"
#include "node/template.h"
#include "node/volume_measure.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/err.h"

enum { LOOK_MS = 5000, ANSWER_MS = 10000, STOP_MS = 2000, DURABLE_MS = 1, TOLD_PARTS = 200, THREADS = 3 };

enum seen { NOT_SEEN, SEEN, MISSING };

struct pool {
	struct controlled c;            /* first */
	char *path;
	bool is_default;
	bool is_made;                   /* its directory has had the marker */
	bool is_durable;                /* and the store knows: from now on a directory without it is another one */
	bool is_busy;                   /* a worker looks */
	uint64_t busy_ns;               /* since when */
	struct works *works;            /* its own; NULL: those of the node */
	uint64_t measured_ns;           /* when its volumes were looked at; 0: never */
	bool is_measuring;
	bool is_removed;
	enum seen seen;
	enum pool_level level;
	unsigned warn, limit;
	struct pool_space space, told;  /* as it is; as it stands in the status */
	struct pool_facts facts;        /* once it was SEEN */
	char *driver;                   /* that its document asks for */
	char *host;                     /* who this daemon is to others; NULL: the pool is its own directory */
};

struct pool_job {
	struct pool *p;
	char *path, *host;              /* HOST: who this daemon is to others; NULL: it does not matter */
	char driver[16];                /* that is asked for */
	char uid[DOC_UID_LEN + 1];
	bool is_first;                  /* look what it can, too */
	struct pool_space space;
	struct pool_facts facts;
};

static struct pool *find(const struct node *n, const char *name)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "pool", "_", name ? name : POOL_DEFAULT);
	return n->pools ? (struct pool *)controller_find(n->pools, key) : NULL;
}

/* --- for others ---------------------------------------------------- */

int pool_find(struct node *n, const char *name, struct pool_ref *out, struct err *err)
{
	const struct pool *p = find(n, name);

	/* The daemon's own directory is there; its document may be on its way to the disk at the very first start. */
	if ((!name || !strcmp(name, POOL_DEFAULT)) && (!p || p->is_default)) {
		if (out)
			*out = (struct pool_ref){ .path = n->data_dir, .uid = "", .driver = POOL_DRIVER_DIR };
		return 0;
	}
	if (!p)
		return err_set(err, -ENOENT, "there is no pool '%s'", name);
	if (p->seen != SEEN)
		return err_set(err, -EAGAIN, "the pool '%s' is not there%s%s", name, p->c.reason[0] ? ": " : " yet", p->c.reason);
	if (out)
		*out = (struct pool_ref){ .path = p->path, .uid = p->c.uid, .driver = p->facts.driver };
	return 0;
}

struct works *pool_works(struct node *n, const char *name)
{
	const struct pool *p = find(n, name);

	return p && p->works ? p->works : n->works;
}

bool pools_stop(struct node *n)
{
	bool has_ended = true;

	for (struct controlled *c = controller_next(n->pools, NULL); c; c = controller_next(n->pools, c))
		has_ended &= works_stop(container_of(c, struct pool, c)->works, STOP_MS);
	return has_ended;
}

int pool_shares(struct node *n, const char *name)
{
	const struct pool *p = find(n, name);

	return p && p->seen == SEEN ? p->facts.shares : -1;
}

bool pool_is_missing(struct node *n, const char *name)
{
	const struct pool *p = find(n, name);

	return p && p->seen == MISSING;
}

bool pool_is_unborn(struct node *n, const char *name)
{
	const struct pool *p = find(n, name);

	return p && !p->is_made;
}

const char *pool_path(struct node *n, const char *name)
{
	const struct pool *p = find(n, name);

	return p ? p->path : !name || !strcmp(name, POOL_DEFAULT) ? n->data_dir : NULL;
}

int pool_check_new(struct node *n, const char *name, struct err *err)
{
	char key[STORE_KEY_MAX + 1];
	const struct pool *p = find(n, name);

	doc_key(key, "pool", "_", name);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	if (!doc && strcmp(name, POOL_DEFAULT) != 0)
		return err_set(err, -ENOENT, "there is no pool '%s'; 'viv pool ls' lists those that are there", name);
	if (json_is_true(json_object_get(doc, "deleting")))
		return err_set(err, -EINVAL, "the pool '%s' is being deleted", name);
	if (p && p->level == POOL_FULL)
		return err_set(err, -ENOSPC, "of the pool '%s' %u %% are taken, and nothing new is put there from %u %% on; make room, or choose "
			       "another pool", name, pool_dir_percent(&p->space), p->limit);
	return 0;
}

int pool_check_room(struct node *n, const char *name, uint64_t size, struct err *err)
{
	const struct pool *p = find(n, name);
	int r = pool_check_new(n, name, err);

	if (r < 0 || !p || p->seen != SEEN || size <= p->space.free)
		return r;
	return err_set(err, -ENOSPC, "the pool '%s' has room for %" PRIu64 " MiB, and not for %" PRIu64 "; make room, or choose another pool",
		       name, p->space.free >> 20, size >> 20);
}

unsigned pool_limit(const struct node *n, const char *name)
{
	const struct pool *p = find(n, name);

	return p && p->limit ? p->limit : POOL_LIMIT_PERCENT;
}

/* --- looking ---------------------------------------------------- */

static void job_free(struct pool_job *j)
{
	free(j->path);
	free(j->host);
	free(j);
}

static void start(struct pool *p, int (*run)(void *arg, struct err *err), void (*done)(void *arg, int r, const struct err *err))
{
	struct pool_job *j = calloc(1, sizeof(*j));
	struct err err = ERR_INIT;

	if (j && (j->path = strdup(p->path)) != NULL && (!p->host || (j->host = strdup(p->host)) != NULL)) {
		j->p = p;
		j->is_first = p->seen != SEEN;
		snprintf(j->driver, sizeof(j->driver), "%s", p->driver);
		snprintf(j->uid, sizeof(j->uid), "%s", p->is_default ? "" : p->c.uid);
		if (!work_start(p->works ? p->works : p->c.node->works, run, done, j)) {
			p->is_busy = true;
			p->busy_ns = loop_now_ns();
			controlled_later(&p->c, ANSWER_MS);
			return;
		}
	}
	if (j)
		job_free(j);
	err_set(&err, -ENOMEM, "out of memory");
	controlled_failed(&p->c, &err);
}

static int make(void *arg, struct err *err)
{
	struct pool_job *j = arg;

	return pool_dir_make(j->path, j->uid, j->driver, err);
}

static void made(void *arg, int r, const struct err *err)
{
	struct pool_job *j = arg;
	struct pool *p = j->p;

	job_free(j);
	p->is_busy = false;
	p->is_made = !r;
	if (r < 0) {
		controlled_failed(&p->c, err);
		return;
	}
	controlled_write(&p->c);
	controlled_kick(&p->c);
}

static int look(void *arg, struct err *err)
{
	struct pool_job *j = arg;
	AUTO_FD int dir = pool_dir_open(j->path, j->uid, err);
	int r = dir < 0 ? dir : 0;

	if (!r && j->host)
		r = pool_host_claim(dir, j->host, err);
	if (!r && j->is_first)
		r = pool_dir_facts(dir, &j->facts, err);
	return r < 0 ? r : pool_dir_space(dir, &j->space, err);
}

/* Who waits for it looks again. */
static void tell_others(struct pool *p)
{
	controller_kick_all(p->c.node->volumes, "volume/", 1);
	controller_kick_all(p->c.node->instances, "instance/", 1);
}

static void set_level(struct pool *p)
{
	static const char *const states[] = { [POOL_ROOMY] = "ready", [POOL_TIGHT] = "warning", [POOL_FULL] = "full" };
	unsigned percent = pool_dir_percent(&p->space);
	uint64_t moved = p->space.free > p->told.free ? p->space.free - p->told.free : p->told.free - p->space.free;

	p->level = pool_dir_level(&p->space, p->warn, p->limit, p->level);
	if (p->level == POOL_ROOMY)
		controlled_set(&p->c, states[p->level], "%s", "");
	else
		controlled_set(&p->c, states[p->level], p->level == POOL_FULL ? "%u %% are taken: nothing new is put there" :
			       "%u %% are taken", percent);
	/* Also of those that a daemon with wider bounds has left. */
	if (p->is_default)
		templates_make_room(p->c.node);
	if (moved <= p->space.size / TOLD_PARTS && p->told.size == p->space.size)
		return;
	p->told = p->space;
	controlled_write(&p->c);
}

static void measured(void *arg)
{
	((struct pool *)arg)->is_measuring = false;
}

/* What its volumes take, now and then. */
static void measure(struct pool *p)
{
	const struct pool_ref ref = { .path = p->path, .uid = p->is_default ? "" : p->c.uid, .driver = p->facts.driver };
	uint64_t now = loop_now_ns();

	if (p->is_measuring || (p->measured_ns && now - p->measured_ns < VOLUME_MEASURE_S * 1000000000ull))
		return;
	p->measured_ns = now;
	p->is_measuring = !volumes_measure(p->c.node, p->c.name, &ref, measured, p);
}

static void looked(void *arg, int r, const struct err *err)
{
	struct pool_job *j = arg;
	struct pool *p = j->p;
	enum seen before = p->seen;

	p->is_busy = false;
	p->seen = r < 0 ? MISSING : SEEN;
	if (r < 0) {
		controlled_set(&p->c, "gone", "%s", err->msg);
	} else {
		p->space = j->space;
		if (j->is_first)
			p->facts = j->facts;
		set_level(p);
	}
	job_free(j);
	if (p->seen != before)
		tell_others(p);
	if (p->seen == SEEN)
		measure(p);
	controlled_later(&p->c, LOOK_MS);
}

/* Who looks has not come back: whatever is asked of its file system would wait as long. What it says later counts again. */
static void miss(struct pool *p)
{
	unsigned s = (unsigned)((loop_now_ns() - p->busy_ns) / 1000000000u);

	controlled_later(&p->c, ANSWER_MS);
	if (!p->is_durable || s < ANSWER_MS / 1000)
		return;
	controlled_set(&p->c, "gone", "its file system has not answered for more than %d s; is the server there that it comes from?", ANSWER_MS / 1000);
	if (p->seen == MISSING)
		return;
	p->seen = MISSING;
	tell_others(p);
}

/* --- as a kind of document ---------------------------------------------------- */

static void step(struct controlled *c, const json_t *doc, int64_t revision)
{
	struct pool *p = container_of(c, struct pool, c);
	const json_t *spec = json_object_get(doc, "spec");

	(void)revision;
	p->warn = (unsigned)json_integer_value(json_object_get(spec, "warn_percent"));
	p->limit = (unsigned)json_integer_value(json_object_get(spec, "limit_percent"));
	if (p->is_busy) {
		miss(p);
		return;
	}
	if (!p->is_made) {
		if (strcmp(c->state, "failed") != 0)
			controlled_set(c, "creating", "%s", "");
		start(p, make, made);
	} else if (!p->is_durable && (c->is_writing || c->is_dirty)) {
		controlled_later(c, DURABLE_MS);
	} else {
		p->is_durable = true;
		c->failures = 0;
		start(p, look, looked);
	}
}

static int unmake(void *arg, struct err *err)
{
	struct pool_job *j = arg;

	return pool_dir_unmake(j->path, j->uid, err);
}

static void unmade(void *arg, int r, const struct err *err)
{
	struct pool_job *j = arg;
	struct pool *p = j->p;

	job_free(j);
	p->is_busy = false;
	p->is_removed = !r;
	if (r < 0)
		controlled_blocked(&p->c, err);
	else
		controlled_removed(&p->c);
}

static void step_gone(struct controlled *c, const json_t *doc)
{
	struct pool *p = container_of(c, struct pool, c);
	struct err err = ERR_INIT;

	/* Something may have been put there while the request to delete was on its way. */
	if (p->is_measuring) {
		controlled_later(c, DURABLE_MS);
	} else if (p->is_removed || p->is_default) {
		controlled_removed(c);
	} else if (!p->is_busy && doc && pool_check_delete(c->node, doc, &err) < 0) {
		controlled_blocked(c, &err);
	} else if (!p->is_busy) {
		controlled_set(c, "deleting", "%s", "");
		start(p, unmake, unmade);
	}
}

static int init(struct controlled *c, const json_t *doc, const json_t *status)
{
	struct pool *p = container_of(c, struct pool, c);
	const json_t *spec = json_object_get(doc, "spec");
	const char *path = json_string_value(json_object_get(spec, "path")), *driver = json_string_value(json_object_get(spec, "driver"));

	p->is_default = !strcmp(c->name, POOL_DEFAULT);
	p->is_made = p->is_durable = p->is_default || json_is_true(json_object_get(status, "made"));
	p->path = strdup(p->is_default ? c->node->data_dir : path ? path : "/nowhere");
	p->level = !strcmp(c->state, "full") ? POOL_FULL : !strcmp(c->state, "warning") ? POOL_TIGHT : POOL_ROOMY;
	p->driver = strdup(driver ? driver : "auto");
	p->host = p->is_default ? NULL : pool_host_name(c->node->data_dir);
	if (!p->path || !p->driver || (!p->host && !p->is_default))
		return -ENOMEM;
	return p->is_default ? 0 : works_new(&p->works, c->node->loop, THREADS, NULL);
}

static void fini(struct controlled *c)
{
	struct pool *p = container_of(c, struct pool, c);

	works_free(p->works);
	free(p->path);
	free(p->driver);
	free(p->host);
}

static void add_status(const struct controlled *c, json_t *status)
{
	const struct pool *p = container_of(c, struct pool, c);

	json_object_set_new(status, "made", json_boolean(p->is_made));
	json_object_set_new(status, "path", json_string(p->path));
	if (!p->space.size)
		return;
	json_object_set_new(status, "driver", json_string(pool_driver_name(p->facts.driver)));
	json_object_set_new(status, "shares_blocks", json_boolean(p->facts.shares));
	if (p->facts.file_system[0])
		json_object_set_new(status, "file_system", json_string(p->facts.file_system));
	json_object_set_new(status, "size", json_integer((json_int_t)p->space.size));
	json_object_set_new(status, "used", json_integer((json_int_t)p->space.used));
	json_object_set_new(status, "free", json_integer((json_int_t)p->space.free));
	json_object_set_new(status, "percent", json_integer((json_int_t)pool_dir_percent(&p->space)));
}

const struct controller_kind pool_kind = {
	.kind = "pool", .size = sizeof(struct pool), .init = init, .step = step, .step_gone = step_gone,
	.add_status = add_status, .fini = fini,
};
