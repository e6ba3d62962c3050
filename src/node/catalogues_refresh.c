/* SPDX-License-Identifier: Apache-2.0 */
/* catalogues_refresh.c - the task that looks what a publisher has now. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/catalogue.h"
#include "node/catalogues.h"
#include "node/download.h"
#include "node/idempotency.h"
#include "node/node.h"
#include "node/program.h"
#include "node/task.h"
#include "util/err.h"

enum { SECONDS_MAX = 300 };

/* Of a task. */
struct refreshing {
	struct words words;
	char *found;                    /* the catalogue, as text; NULL: not yet */
	size_t len;
	bool is_one;                    /* of the node's count of those that run */
};

void catalogues_refresh(struct api_call *c)
{
	const char *name = api_param(c, "name");
	struct err err = ERR_INIT;
	char path[PATH_MAX];

	if (idempotency_answered(c))
		return;
	if (catalogues_path(c->arg, name, path, sizeof(path), &err) < 0)
		api_fail(c, -ENOENT, NULL, &err);
	else
		task_begin(c, json_pack("{s:s}", "catalogue", name));
}

/* One at a time: it waits for servers, on one of the few threads that others need, too. */
static int prepare(struct task *t, const json_t *params, struct err *err)
{
	struct node *n = t->c.node;
	char path[PATH_MAX];
	int r = catalogues_path(n, catalogue_text(params, "catalogue"), path, sizeof(path), err);

	if (r < 0)
		return r;
	if (!n->viv)
		return err_set(err, -ENOENT, "the program 'viv' is not installed beside vivd");
	if (n->is_refreshing)
		return 0;
	struct refreshing *f = t->data = calloc(1, sizeof(*f));
	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	words_begin(&f->words, n, "catalogue");
	words_add(&f->words, "--json");
	words_add(&f->words, "--max-age=0");
	words_add(&f->words, "--fresh");
	words_add(&f->words, "--cache=%s/" CATALOGUES_CACHE, n->data_dir);
	words_add(&f->words, "--");
	words_add(&f->words, "%s", path);
	if (f->words.is_short)
		return err_set(err, -ENOMEM, "out of memory");
	n->is_refreshing = f->is_one = true;
	return 1;
}

/* The sentence in what 'viv --json' has said of its failure, without what program_run() has put before it. */
static void shorten(struct err *err)
{
	const char *at = strstr(err->msg, "error: ");
	char words[sizeof(err->msg)];

	if (!at)
		return;
	snprintf(words, sizeof(words), "%s", at + strlen("error: "));
	snprintf(err->msg, sizeof(err->msg), "%s", words);
}

static int run(struct task *t, struct err *err)
{
	struct refreshing *f = t->data;
	int r = program_run_until(f->words.at, SECONDS_MAX, &t->stop, &f->found, &f->len, err);

	if (r < 0)
		shorten(err);
	return r;
}

static int finish(struct task *t, const json_t *params, json_t **result, struct err *err)
{
	struct refreshing *f = t->data;
	AUTO(json_decref) json_t *doc = NULL;
	int r = f->found ? catalogue_parse(&doc, f->found, f->len, err) : err_set(err, -EIO, "it has said nothing");

	if (r < 0)
		return r;
	json_int_t count = (json_int_t)json_array_size(json_object_get(doc, "images"));
	*result = json_pack("{s:s, s:s, s:s, s:I}", "catalogue", catalogue_text(params, "catalogue"), "fetched", catalogue_text(doc, "fetched"),
			    "verified", catalogue_text(doc, "verified"), "images", count);
	return 0;
}

static void release(struct task *t)
{
	struct refreshing *f = t->data;

	if (!f)
		return;
	if (f->is_one)
		t->c.node->is_refreshing = false;
	words_free(&f->words);
	free(f->found);
	free(f);
	t->data = NULL;
}

const struct task_op catalogue_refresh_op = {
	.operation = "refreshCatalogue", .prepare = prepare, .run = run, .finish = finish, .release = release,
};
