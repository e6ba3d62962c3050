/* SPDX-License-Identifier: Apache-2.0 */
/* template_make.c - the task that makes a template: a machine of its own, which nobody else sees, boots the image, settles, and is saved.
 * It is like that of an instance in all that a saved machine remembers. Repeated after a crash it begins anew: first the machine of
 * the attempt before is ended, which its lock tells. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "blk/blk.h"
#include "node/cgroup.h"
#include "node/files.h"
#include "node/image.h"
#include "node/instance_hold.h"
#include "node/instance_priv.h"
#include "node/machine_talk.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/task.h"
#include "node/template.h"
#include "util/checked.h"
#include "util/json.h"

enum {
	AFTER_MS = 20000,               /* the instance that it is made after has lived that long, and is not disturbed while it boots */
	ANSWER_S = 900,                 /* an emulated guest boots, and its memory is written */
	BOOT_MS = 600000, LOOK_MS = 250, QUIET_MS = 1500, END_MS = 10000,
	SETTLE_S = 600, NO_INIT = 9,    /* see template_guest.c */
};

static const char *text(const json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name)) ?: "";
}

/* --- the task ---------------------------------------------------- */

struct making {
	struct task *task;
	struct instance like;           /* what instance_start() needs of one; in no list */
	json_t *doc, *params;           /* of that; of the task */
	char *dir, *tmp, *disk, *memory;
	struct image_files image;
	bool is_made;                   /* by a daemon that did not live to say so */
	bool is_clean;                  /* no machine of an attempt before runs */
	bool has_disk;
	atomic_bool has_ended;          /* its machine, for who waits for an answer */
};

static void ended(struct process *p)
{
	struct making *m = container_of(p, struct making, like.proc);

	(void)cgroup_end(m->like.c.node->cgroups, m->like.c.uid);
	atomic_store_explicit(&m->has_ended, true, memory_order_relaxed);
}

static char *with_tail(const char *path, const char *tail)
{
	char *whole = NULL;

	return asprintf(&whole, "%s%s", path, tail) < 0 ? NULL : whole;
}

static int init_paths(struct making *m, struct node *n, const json_t *params, struct err *err)
{
	struct instance *i = &m->like;
	AUTO(free) char *all = node_path(n->data_dir, "templates"), *runs = node_path(n->run_dir, "i");

	i->c.node = n;
	snprintf(i->c.uid, sizeof(i->c.uid), "%s", text(params, "template"));
	snprintf(i->c.name, sizeof(i->c.name), "template");
	snprintf(i->c.project, sizeof(i->c.project), "%s", m->task->c.project);
	snprintf(i->pool, sizeof(i->pool), "%s", pool_of(NULL));
	i->proc.ended = ended;
	i->run_dir = runs ? node_path(runs, i->c.uid) : NULL;
	m->dir = all ? node_path(all, i->c.uid) : NULL;
	m->tmp = i->dir = m->dir ? with_tail(m->dir, ".tmp") : NULL;
	m->disk = i->dir ? node_path(i->dir, "root.qcow2") : NULL;
	m->memory = i->dir ? node_path(i->dir, "memory") : NULL;
	m->doc = json_pack("{s:s, s:s, s:s, s:O}", "name", "template", "project", i->c.project, "uid", i->c.uid, "spec",
			   json_object_get(params, "spec"));
	m->params = json_deep_copy(params);
	return m->disk && m->memory && i->run_dir && m->doc && m->params ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* Has a machine of an attempt before gone? */
static bool is_clear(struct making *m)
{
	char lock[STORE_KEY_MAX];

	if (m->like.proc.pid) {
		process_kill(&m->like.proc, SIGKILL);
		return false;
	}
	snprintf(lock, sizeof(lock), "%s/lock", m->like.run_dir);
	return !process_find(&m->like.proc, m->task->c.node->loop, lock, NULL) && cgroup_end(m->like.c.node->cgroups, m->like.c.uid);
}

/* Does the instance that it is made after still need the host for itself? */
static bool is_too_early(struct node *n, const json_t *params)
{
	const struct controlled *c = NULL;
	const char *after = text(params, "after");

	while (*after && (c = controller_next(n->instances, c)) != NULL) {
		const struct instance *i = (const struct instance *)c;

		if (!strcmp(c->uid, after))
			return !instance_is_off(i) && (i->phase != PHASE_UP || loop_now_ns() - i->started_ns < (uint64_t)AFTER_MS * 1000000u);
	}
	return false;
}

static int prepare_disk(struct making *m, const json_t *params, struct err *err)
{
	struct node *n = m->task->c.node;
	int r = template_check_room(n, json_object_get(params, "spec"), err);

	image_files_free(&m->image);
	m->image = (struct image_files){ .disk = NULL };
	return r < 0 ? r : image_find(n, m->task->c.project, text(params, "image"), &m->image, err);
}

static int prepare(struct task *t, const json_t *params, struct err *err)
{
	struct making *m = t->data ? t->data : calloc(1, sizeof(*m));
	int r = m ? 0 : err_set(err, -ENOMEM, "out of memory");

	if (!r && !t->data) {
		t->data = m;
		m->task = t;
		r = init_paths(m, t->c.node, params, err);
	}
	if (r < 0)
		return r;
	m->is_made = !access(m->dir, F_OK);
	if (!m->is_clean && !(m->is_clean = is_clear(m))) {
		err_set(err, -EAGAIN, "it waits for the end of an attempt before");
		return 0;
	}
	if (m->is_made || atomic_load_explicit(&t->stop, memory_order_relaxed))
		return 1;
	if (is_too_early(t->c.node, params)) {
		err_set(err, -EAGAIN, "it waits until the instance that asks for it has begun");
		return 0;
	}
	r = m->has_disk ? 0 : prepare_disk(m, params, err);
	atomic_store_explicit(&m->has_ended, false, memory_order_relaxed);
	if (!r && m->has_disk)
		r = instance_start(&m->like, m->doc, err);
	return r < 0 ? r : 1;
}

/* --- the work ---------------------------------------------------- */

static bool is_unwanted(void *arg)
{
	struct task *t = ((struct making *)arg)->task;

	return atomic_load_explicit(&t->stop, memory_order_relaxed) || atomic_load_explicit(&t->c.node->is_closing, memory_order_relaxed);
}

static int make_disk(struct making *m, struct err *err)
{
	struct blk_create c = { .path = m->disk, .format = "qcow2", .backing = m->image.disk, .backing_format = m->image.format,
				.size = (uint64_t)json_integer_value(json_object_get(json_object_get(m->doc, "spec"), "disk_size")) };
	int r = files_remove(m->tmp, err);

	if (!r)
		r = files_make_dir(m->tmp, err);
	return r < 0 ? r : blk_create(&c, err);
}

/* Ask until the answer is no refusal. The machine may just have begun, and so may the agent in it. */
static int find_agent(struct making *m, struct talk *k, const char *control, struct err *err)
{
	int r = -EAGAIN;

	for (unsigned ms = 0; ms < BOOT_MS && !is_unwanted(m); ms += LOOK_MS) {
		*err = (struct err)ERR_INIT;
		r = k->fd < 0 ? talk_open(k, control, err) : 0;
		if (!r)
			r = talk_ask(k, "agent-ping", NULL, NULL, NULL, err);
		if (r != -EREMOTEIO && r != -EAGAIN)
			return r;
		if (atomic_load_explicit(&m->has_ended, memory_order_relaxed))
			return err_set(err, -EAGAIN, "the machine has ended, and did not come as far as its guest agent");
		if (r == -EAGAIN) {
			talk_close(k);
			k->fd = -1;
		}
		usleep(LOOK_MS * 1000);
	}
	return r == -EREMOTEIO ? err_set(err, -ETIMEDOUT, "no guest agent has answered: is qemu-guest-agent in the image?") : r;
}

static int settle(struct talk *k, struct err *err)
{
	AUTO(json_decref) json_t *result = NULL;
	int r = talk_ask(k, "agent-exec", json_pack("{s:s, s:[s,s], s:i}", "program", "/bin/sh", "args", "-c", template_settle, "timeout", SETTLE_S),
			 NULL, &result, err);

	if (!r && json_integer_value(json_object_get(result, "exit")) == NO_INIT)
		return err_set(err, -ENOTSUP, "its guests cannot be told anew who they are: they have no guest-init, or cloud-init instead");
	if (!r && (!json_object_get(result, "exit") || json_integer_value(json_object_get(result, "exit"))))
		return err_set(err, -EIO, "the guest could not be brought to rest");
	return r ? r : talk_listen(k, QUIET_MS, err);
}

static int save(struct making *m, struct talk *k, struct err *err)
{
	AUTO_FD int fd = open(m->memory, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_set(err, -errno, "cannot make '%s': %s", m->memory, strerror(errno));
	return talk_ask(k, "save", json_pack("{s:s, s:b}", "packing", "raw", "stop", 1), &fd, NULL, err);
}

/* What the process that ends still has open is not written to any more. */
static int sync_file(const char *path, struct err *err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 || fsync(fd) < 0 ? err_set(err, -errno, "cannot write '%s': %s", path, strerror(errno)) : 0;
}

/* Under its name it is whole. */
static int finish_files(struct making *m, struct err *err)
{
	char now[DOC_TIME_LEN + 1];
	AUTO(free) char *path = node_path(m->tmp, "template.json");

	doc_now(now);
	AUTO(json_decref) json_t *doc = json_pack("{s:O, s:O, s:O, s:s}", "key", json_object_get(m->params, "key"), "image_uid",
						  json_object_get(m->params, "image_uid"), "spec", json_object_get(m->params, "spec"), "made",
						  now);
	if (!doc || !path || json_dump_file(doc, path, JSON_INDENT(1)) < 0)
		return err_set(err, -EIO, "cannot write '%s/template.json'", m->tmp);
	int r = sync_file(path, err);
	if (!r)
		r = sync_file(m->disk, err);
	if (!r)
		r = files_sync_above(path, err);
	if (!r && rename(m->tmp, m->dir) < 0)
		r = err_set(err, -errno, "cannot rename '%s': %s", m->tmp, strerror(errno));
	return r < 0 ? r : files_sync_above(m->dir, err);
}

static int boot_and_save(struct making *m, struct err *err)
{
	AUTO(free) char *control = node_path(m->like.run_dir, "control");
	struct talk k = { .fd = -1, .patience_s = ANSWER_S, .is_unwanted = is_unwanted, .arg = m };
	int r = control ? find_agent(m, &k, control, err) : err_set(err, -ENOMEM, "out of memory");

	if (!r)
		r = settle(&k, err);
	if (!r)
		r = save(m, &k, err);
	talk_close(&k);
	return r < 0 ? r : finish_files(m, err);
}

/* What its machine had to run. It ends by itself, or is ended already: wait until it has. */
static int clear_run_dir(const char *run_dir, struct err *err)
{
	AUTO(free) char *path = with_tail(run_dir, "/lock");
	AUTO_FD int lock = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;

	for (unsigned ms = 0; lock >= 0 && ms < END_MS && flock(lock, LOCK_EX | LOCK_NB) < 0; ms += 10)
		usleep(10 * 1000);
	return files_remove(run_dir, err);
}

static int run(struct task *t, struct err *err)
{
	struct making *m = t->data;
	int r;

	if (m->is_made)
		return clear_run_dir(m->like.run_dir, err);
	if (atomic_load_explicit(&t->stop, memory_order_relaxed))
		return -ECANCELED;
	if (!m->has_disk) {
		r = make_disk(m, err);
		m->has_disk = !r;
		return r < 0 ? r : -EAGAIN;     /* and now its machine */
	}
	r = boot_and_save(m, err);
	if (!r)
		return clear_run_dir(m->like.run_dir, err);
	if (atomic_load_explicit(&t->stop, memory_order_relaxed))
		return -ECANCELED;
	/* Of a machine that has gone another attempt would find no other. */
	return r == -EAGAIN ? err_wrap(err, -EIO, "its machine") : r;
}

static int finish(struct task *t, const json_t *params, json_t **result, struct err *err)
{
	struct making *m = t->data;
	int r = template_add(t->c.node, m->like.c.uid, err);

	*result = json_pack("{s:s, s:O}", "template", m->like.c.uid, "image", json_object_get(params, "image"));
	return r;
}

/* --- what is left ---------------------------------------------------- */

struct left {
	char tmp[STORE_KEY_MAX], run_dir[STORE_KEY_MAX];
};

/* Its machine is ended here; tidy() waits until it has gone. */
static void *leftover(struct task *t, const json_t *params)
{
	struct making *m = t->data;
	struct left *l = m && m->tmp ? calloc(1, sizeof(*l)) : NULL;

	if (!l)
		return NULL;
	process_kill(&m->like.proc, SIGKILL);
	if (t->code != -ECANCELED)
		template_note_failure(t->c.node, text(params, "key"), t->err.msg);
	snprintf(l->tmp, sizeof(l->tmp), "%s", m->tmp);
	snprintf(l->run_dir, sizeof(l->run_dir), "%s", m->like.run_dir);
	return l;
}

static int tidy(void *left, struct err *err)
{
	const struct left *l = left;
	struct err ignored = ERR_INIT;
	int r = clear_run_dir(l->run_dir, err);

	if (r < 0)
		(void)files_remove(l->tmp, &ignored);
	else
		r = files_remove(l->tmp, err);
	return r;
}

static void release(struct task *t)
{
	struct making *m = t->data;
	pid_t pid = m ? m->like.proc.pid : 0;

	if (!m)
		return;
	/* Most likely it has ended. The next daemon begins anew. */
	if (pid) {
		bool is_child = m->like.proc.is_child;

		process_kill(&m->like.proc, SIGKILL);
		process_forget(&m->like.proc);
		if (is_child)
			waitpid(pid, NULL, 0);
		(void)cgroup_end(m->like.c.node->cgroups, m->like.c.uid);
	}
	image_files_free(&m->image);
	json_decref(m->doc);
	json_decref(m->params);
	free(m->like.run_dir);
	free(m->dir);
	free(m->tmp);
	free(m->disk);
	free(m->memory);
	free(m);
	t->data = NULL;
}

const struct task_op template_make_op = {
	.operation = "warmImage", .prepare = prepare, .run = run, .finish = finish, .leftover = leftover, .tidy = tidy, .release = release,
	.is_careful = true,
};
