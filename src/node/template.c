/* SPDX-License-Identifier: Apache-2.0 */
/* template.c - which templates there are, and which of them go. What they fit to: template_fit.c. */
#include "node/template.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "node/controller.h"
#include "node/files.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/work.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/log.h"

enum {
	FAILURES_MAX = 16, FAILURE_S = 3600,
};

struct failure {
	char *key;
	time_t at;
	char why[TEMPLATE_WHY_LEN];
};

struct templates {
	struct template *first;
	unsigned max;
	uint64_t bytes;
	char *dir, *vmm;                /* VMM: which program it is */
	struct failure failures[FAILURES_MAX];
	unsigned n_failures;            /* ever: they are a ring */
};

unsigned templates_max(const struct templates *ts)
{
	return ts->max;
}

const char *templates_program(const struct templates *ts)
{
	return ts->vmm;
}

static const char *text(const json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name)) ?: "";
}

/* --- going ---------------------------------------------------- */

static void template_free(struct template *t)
{
	json_decref(t->spec);
	free(t->key);
	free(t->dir);
	free(t);
}

/* First its name says that it is none: a crash leaves what the next daemon removes. */
static int remove_dir(void *arg, struct err *err)
{
	struct template *t = arg;
	AUTO(free) char *gone = NULL;

	return asprintf(&gone, "%s.gone", t->dir) >= 0 && !rename(t->dir, gone) ? files_remove(gone, err) : files_remove(t->dir, err);
}

static void removed(void *arg, int r, const struct err *err)
{
	if (r < 0)
		log_warn("a template is left: %s", err->msg);   /* the next daemon removes it */
	template_free(arg);
}

static void go(struct template *t)
{
	if (work_start(t->node->works, remove_dir, removed, t) < 0)
		template_free(t);
}

/* Nobody finds it any more. */
static void drop(struct templates *ts, struct template *t)
{
	struct template **at = &ts->first;

	while (*at && *at != t)
		at = &(*at)->next;
	if (*at)
		*at = t->next;
	t->is_dropped = true;
	if (!t->n_users)
		go(t);
}

static void tell_image(struct node *n, const char *uid)
{
	struct controlled *c = NULL;

	while ((c = controller_next(n->images, c)) != NULL)
		if (!strcmp(c->uid, uid))
			controlled_write(c);
}

void templates_drop(struct node *n, const char *image_uid)
{
	struct template *next;

	for (struct template *t = n->templates->first; t; t = next) {
		next = t->next;
		if (!strcmp(t->image_uid, image_uid))
			drop(n->templates, t);
	}
	tell_image(n, image_uid);
}

/* Those that were used least go until the rest is within the bounds. */
void templates_make_room(struct node *n)
{
	struct templates *ts = n->templates;

	for (;;) {
		struct template *least = NULL;
		uint64_t sum = 0;
		unsigned count = 0;

		for (struct template *t = ts->first; t; t = t->next) {
			sum += t->bytes;
			count++;
			if (!least || t->use < least->use)
				least = t;
		}
		if (!least || (count <= ts->max && sum <= ts->bytes && (pool_check_new(n, POOL_DEFAULT, NULL) != -ENOSPC)))
			return;
		char uid[DOC_UID_LEN + 1];
		memcpy(uid, least->image_uid, sizeof(uid));
		drop(ts, least);
		tell_image(n, uid);
		/* Room is there when its files have gone: one at a time for that reason. */
		if (count <= ts->max && sum <= ts->bytes)
			return;
	}
}

/* --- coming ---------------------------------------------------- */

static uint64_t size_in(const char *dir, const char *name)
{
	AUTO(free) char *path = node_path(dir, name);
	struct stat st;

	return path && !stat(path, &st) ? (uint64_t)st.st_blocks * 512 : 0;
}

static struct template *load(struct node *n, const char *uid)
{
	AUTO(free) char *dir = node_path(n->templates->dir, uid), *path = dir ? node_path(dir, "template.json") : NULL;
	AUTO(json_decref) json_t *doc = path ? json_load_file(path, 0, NULL) : NULL;
	struct template *t = doc ? calloc(1, sizeof(*t)) : NULL;
	struct stat st;

	if (!t)
		return NULL;
	t->node = n;
	snprintf(t->uid, sizeof(t->uid), "%s", uid);
	snprintf(t->image_uid, sizeof(t->image_uid), "%s", text(doc, "image_uid"));
	snprintf(t->made, sizeof(t->made), "%s", text(doc, "made"));
	t->key = strdup(text(doc, "key"));
	t->spec = json_incref(json_object_get(doc, "spec"));
	t->bytes = size_in(dir, "root.qcow2") + size_in(dir, "memory");
	t->dir = take_ptr(&dir);
	if (!stat(path, &st))
		t->use = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
	if (t->key)
		return t;
	template_free(t);
	return NULL;
}

/* Is the image UID there, and going to stay? */
static bool has_image(struct node *n, const char *uid)
{
	char key[STORE_KEY_MAX + 1] = "";
	const struct store_doc *d;

	while ((d = store_next(n->store, "image/", key[0] ? key : NULL)) != NULL) {
		snprintf(key, sizeof(key), "%s", d->key);
		if (!strstr(d->value, uid))
			continue;
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
		if (!strcmp(text(doc, "uid"), uid))
			return !json_is_true(json_object_get(doc, "deleting"));
	}
	return false;
}

int template_add(struct node *n, const char *uid, struct err *err)
{
	struct template *t = NULL;

	for (t = n->templates->first; t; t = t->next)
		if (!strcmp(t->uid, uid))
			return 0;
	t = load(n, uid);
	if (!t)
		return err_set(err, -EIO, "the template that was made cannot be read");
	if (!has_image(n, t->image_uid)) {
		go(t);
		return err_set(err, -ENOENT, "its image has gone meanwhile");
	}
	char image[DOC_UID_LEN + 1];
	memcpy(image, t->image_uid, sizeof(image));
	t->next = n->templates->first;
	n->templates->first = t;
	templates_make_room(n);
	tell_image(n, image);
	return 0;
}

bool template_is_there(const struct node *n, const char *key)
{
	const struct template *t = n->templates->first;

	while (t && strcmp(t->key, key) != 0)
		t = t->next;
	return t;
}

void template_note_failure(struct node *n, const char *key, const char *why)
{
	struct failure *f = &n->templates->failures[n->templates->n_failures++ % FAILURES_MAX];

	free(f->key);
	f->key = strdup(key);
	f->at = time(NULL);
	snprintf(f->why, sizeof(f->why), "%s", why);
}

/* --- using ---------------------------------------------------- */

static const struct failure *find_failure(const struct templates *ts, const char *key)
{
	for (unsigned k = 0; k < FAILURES_MAX; k++)
		if (ts->failures[k].key && !strcmp(ts->failures[k].key, key) && time(NULL) - ts->failures[k].at < FAILURE_S)
			return &ts->failures[k];
	return NULL;
}

/* Known to the next daemon as well. */
static void note_use(struct template *t)
{
	AUTO(free) char *path = node_path(t->dir, "template.json");
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	t->use = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	doc_now(t->used);
	if (path)
		(void)utimensat(AT_FDCWD, path, NULL, 0);
}

struct template *template_take(struct node *n, const char *project, const json_t *spec, char why[TEMPLATE_WHY_LEN])
{
	AUTO(free) char *key = template_key(n, project, spec);
	struct template *t = key ? n->templates->first : NULL;

	while (t && strcmp(t->key, key) != 0)
		t = t->next;
	if (t) {
		t->n_users++;
		note_use(t);
		return t;
	}
	const struct failure *f = key ? find_failure(n->templates, key) : NULL;
	if (f)
		snprintf(why, TEMPLATE_WHY_LEN, "no template of its image and shape could be made: %.200s", f->why);
	else
		snprintf(why, TEMPLATE_WHY_LEN, "there was no template of its image and shape");
	return NULL;
}

void template_give(struct template *t)
{
	if (t && !--t->n_users && t->is_dropped)
		go(t);
}

json_t *templates_of(const struct node *n, const char *image_uid)
{
	json_t *list = json_array();

	for (const struct template *t = n->templates ? n->templates->first : NULL; t; t = t->next) {
		const char *used = t->used[0] ? t->used : NULL;

		if (!strcmp(t->image_uid, image_uid))
			json_array_append_new(list, json_pack("{s:s, s:O*, s:O*, s:O*, s:O*, s:I, s:s, s:s*}", "uid", t->uid, "cpus",
							      json_object_get(t->spec, "cpus"), "memory", json_object_get(t->spec, "memory"),
							      "engine", json_object_get(t->spec, "engine"), "disk_size",
							      json_object_get(t->spec, "disk_size"), "bytes", (json_int_t)t->bytes, "made",
							      t->made, "used", used));
	}
	return list;
}

/* --- life ---------------------------------------------------- */

/* What is called NAME in the directory of templates: one, unless it fits to nothing; being made; or left by a crash. */
static void look_at(struct node *n, const char *name)
{
	struct err err = ERR_INIT;

	struct templates *ts = n->templates;
	AUTO(free) char *dir = node_path(ts->dir, name);
	size_t len = strspn(name, "0123456789abcdef");

	if (name[0] == '.' || !strcmp(name + len, ".tmp"))
		return;
	struct template *t = len == DOC_UID_LEN && !name[len] ? load(n, name) : NULL;
	AUTO(json_decref) json_t *key = t ? json_loads(t->key, 0, NULL) : NULL;
	if (!t || strcmp(text(key, "vmm"), ts->vmm) != 0 || !has_image(n, t->image_uid)) {
		if (t)
			template_free(t);
		if (dir && files_remove(dir, &err) < 0)
			log_warn("%s", err.msg);
		return;
	}
	t->next = ts->first;
	ts->first = t;
}

/* The program PATH, and no other one that is called so. */
static char *program_text(const char *path)
{
	struct stat st;
	char *text = NULL;

	if (stat(path, &st) < 0 || asprintf(&text, "%s %llu %llu.%09ld", VIV_VERSION, (unsigned long long)st.st_size,
					    (unsigned long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec) < 0)
		return NULL;
	return text;
}

int templates_open(struct templates **out, struct node *n, unsigned max, uint64_t bytes, struct err *err)
{
	struct templates *ts = *out = calloc(1, sizeof(*ts));
	const struct dirent *e;

	if (ts) {
		ts->max = max;
		ts->bytes = bytes;
		ts->dir = node_path(n->data_dir, "templates");
		ts->vmm = program_text(n->vmm);
		/* A program that is not there makes nothing. */
		if (!ts->vmm)
			ts->vmm = strdup("");
	}
	if (!ts || !ts->dir || !ts->vmm)
		return err_set(err, -ENOMEM, "out of memory");
	int r = files_make_dir(ts->dir, err);
	DIR *d = r < 0 ? NULL : opendir(ts->dir);
	while (d && (e = readdir(d)) != NULL)
		look_at(n, e->d_name);
	if (d)
		closedir(d);
	return r;
}

void templates_close(struct templates *ts)
{
	if (!ts)
		return;
	while (ts->first) {
		struct template *t = ts->first;

		ts->first = t->next;
		template_free(t);
	}
	for (unsigned k = 0; k < FAILURES_MAX; k++)
		free(ts->failures[k].key);
	free(ts->dir);
	free(ts->vmm);
	free(ts);
}
