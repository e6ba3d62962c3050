/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/resource.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "util/log.h"

enum { POLL_MS = 20 };

static bool has_option(const struct cli *c, const char *name)
{
	for (const struct cli_option *o = c->cmd->options; o && o->name; o++)
		if (!strcmp(o->name, name))
			return true;
	return false;
}

/* The answers are pages; all of them in one array. */
static int list_all(struct client *cl, const char *plural, const char *labels, json_t *items, struct err *err)
{
	char after[80] = "";

	for (;;) {
		AUTO(json_decref) json_t *page = NULL;
		int r = client_call(cl, "GET", NULL, &page, err, "/v1/%s?after=%s%s%s", plural, after,
				    labels ? "&labels=" : "", labels ? labels : "");

		if (r < 0)
			return r;
		json_array_extend(items, json_object_get(page, "items"));
		const char *next = json_string_value(json_object_get(page, "next"));
		if (!next)
			return 0;
		snprintf(after, sizeof(after), "%s", next);
	}
}

int resource_ls(struct cli *c, const char *plural, const struct table_column *columns, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *items = json_array();
	int r = client_open(&cl, c, err);

	if (!r)
		r = list_all(cl, plural, has_option(c, "--selector") ? cli_str(c, "--selector") : NULL, items, err);
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_incref(items), err);
	table_print(items, columns);
	return 0;
}

int resource_show(struct cli *c, const char *plural, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	json_t *doc = NULL;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &doc, err, "/v1/%s/%s", plural, cli_arg(c, 0));
	return r < 0 ? r : output_json(doc, err);
}

int resource_wait_gone(struct client *cl, const char *plural, const char *name, const json_t *before, struct err *err)
{
	enum { STAYS_MS = 2000 };       /* what failed in making it may be said just before it goes */
	unsigned failed_ms = 0;

	for (;;) {
		AUTO(json_decref) json_t *doc = NULL;
		int r = client_call(cl, "GET", NULL, &doc, err, "/v1/%s/%s", plural, name);

		if (r == -ENOENT)
			*err = (struct err)ERR_INIT;
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		const char *state = json_string_value(table_at(doc, "status.state"));
		/* What had failed before is not what it is told of. */
		bool is_news = before && !json_equal(json_object_get(doc, "status"), json_object_get(before, "status"));
		failed_ms = is_news && state && !strcmp(state, "failed") ? failed_ms + POLL_MS : 0;
		if (failed_ms > STAYS_MS)
			return err_set(err, -EIO, "'%s': %s", name, json_string_value(table_at(doc, "status.reason")));
		if (progress_is_interrupted())
			return err_set(err, -EINTR, "interrupted; the deletion goes on");
		usleep(POLL_MS * 1000);
	}
}

int resource_show_disk(struct cli *c, const char *plural, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *doc = NULL, *disk = NULL;
	struct err why = ERR_INIT;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &doc, err, "/v1/%s/%s", plural, cli_arg(c, 0));
	/* What is not ready yet has none. */
	if (!r && !client_call(cl, "GET", NULL, &disk, &why, "/v1/%s/%s/disk", plural, cli_arg(c, 0)))
		json_object_set(doc, "disk", disk);
	return r < 0 ? r : output_json(json_incref(doc), err);
}

static int rm_one(struct client *cl, const char *plural, const char *name, struct err *err)
{
	AUTO(json_decref) json_t *before = NULL;
	int r = client_call(cl, "GET", NULL, &before, err, "/v1/%s/%s", plural, name);

	if (!r)
		r = client_call(cl, "DELETE", NULL, NULL, err, "/v1/%s/%s", plural, name);
	return r < 0 ? r : resource_wait_gone(cl, plural, name, before, err);
}

int resource_rm(struct cli *c, const char *plural, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	struct progress p;
	int r = client_open(&cl, c, err);
	const char *name;

	if (r < 0)
		return r;
	progress_start(&p, c, "deleting");
	for (unsigned i = 0; (name = cli_arg(c, i)) != NULL; i++) {
		struct err one = ERR_INIT;
		int bad = rm_one(cl, plural, name, &one);

		if (bad == -EINTR || (bad < 0 && !cli_arg(c, 1))) {
			*err = one;
			r = bad;
			break;
		}
		if (bad < 0) {
			log_error("%s", one.msg);
			r = err_set(err, bad, "not all could be deleted");
		}
	}
	progress_end(&p);
	return r;
}

/* "a,b" is two names. */
static json_t *list_of(const char *names)
{
	json_t *list = json_array();

	for (const char *p = names; *p; p += strcspn(p, ",") + (p[strcspn(p, ",")] == ','))
		json_array_append_new(list, json_stringn(p, strcspn(p, ",")));
	return list;
}

/* "a.b=value" into DOC: as JSON when it is that, else as a string. */
static int put(json_t *doc, const char *word, struct err *err)
{
	const char *eq = strchr(word, '='), *p = word;

	if (!eq || eq == word)
		return err_set(err, -EINVAL, "'%s' is no FIELD=VALUE", word);
	while (memchr(p, '.', (size_t)(eq - p))) {
		size_t n = strcspn(p, ".");
		json_t *sub = json_object_getn(doc, p, n);

		if (!sub) {
			sub = json_object();
			json_object_setn_new(doc, p, n, sub);
		}
		doc = sub;
		p += n + 1;
	}
	bool is_list = !strncmp(p, "profiles=", strlen("profiles=")) && eq[1] != '[';
	json_t *value = is_list ? list_of(eq + 1) : json_loads(eq + 1, JSON_DECODE_ANY, NULL);
	json_object_setn_new(doc, p, (size_t)(eq - p), value ? value : json_string(eq + 1));
	return 0;
}

int resource_patch_of(const struct cli *c, unsigned first, const char *top, json_t **out, struct err *err)
{
	AUTO(json_decref) json_t *patch = json_object(), *spec = json_object();
	const char *word;
	int r = 0;

	for (unsigned i = first; !r && (word = cli_arg(c, i)) != NULL; i++)
		r = put(strncmp(word, top ? top : "labels.", strlen(top ? top : "labels.")) ? spec : patch, word, err);
	if (json_object_size(spec))
		json_object_set(patch, "spec", spec);
	if (!r)
		*out = json_incref(patch);
	return r;
}

int resource_set(struct cli *c, const char *plural, const char *top, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *patch = NULL;
	json_t *doc = NULL;
	int r = resource_patch_of(c, 1, top, &patch, err);

	if (!r)
		r = client_open(&cl, c, err);
	if (!r)
		r = client_call(cl, "PATCH", patch, &doc, err, "/v1/%s/%s%s", plural, cli_arg(c, 0),
				cli_flag(c, "--dry-run") ? "?dry-run=1" : "");
	if (r < 0)
		return r;
	if (c->is_json || cli_flag(c, "--dry-run"))
		return output_json(doc, err);
	json_decref(doc);
	return 0;
}
