/* SPDX-License-Identifier: Apache-2.0 */
/* image_catalogue.c - `viv image catalogue`, and images of what that has. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "cli/client.h"
#include "cli/content.h"
#include "cli/image.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/task.h"
#include "node/catalogue.h"
#include "util/log.h"

static const struct table_column catalogue_columns[] = {
	{ "NAME", "name", NULL }, { "STATE", "status.state", NULL }, { "IMAGES", "status.images", NULL }, { "VERIFIED BY", "status.verified", NULL },
	{ "LOOKED AT", "status.fetched", NULL }, { "WHY", "status.reason", NULL }, { .title = NULL },
};

static const struct table_column image_columns[] = {
	{ "IMAGE", "reference", NULL }, { "RELEASE", "release", NULL }, { "SERIAL", "serial", NULL }, { "SIZE", "size", table_size }, { .title = NULL },
};

/* Look what the catalogue NAME has now: the task that does. */
static int refresh(struct client *cl, const char *name, json_t **task, struct err *err)
{
	return client_call(cl, "POST", NULL, task, err, "/v1/catalogues/%s/refresh", name);
}

/* What the daemon knows of REFERENCE: its catalogue's document. */
static int look_up(struct client *cl, const char *reference, json_t **out, struct err *err)
{
	AUTO(json_decref) json_t *page = NULL;
	int r = client_call(cl, "GET", NULL, &page, err, "/v1/catalogues?image=%s", reference);

	if (!r)
		*out = json_incref(json_array_get(json_object_get(page, "items"), 0));
	return r < 0 || *out ? r : err_set(err, -EPROTO, "the daemon's answer about '%s' has no catalogue", reference);
}

static const char *name_in(const json_t *catalogue)
{
	return json_string_value(json_object_get(json_array_get(json_object_get(catalogue, "images"), 0), "name"));
}

int image_catalogue_find(struct cli *c, struct client *cl, const char *reference, char name[64], struct err *err)
{
	AUTO(json_decref) json_t *before = NULL, *after = NULL, *task = NULL;
	struct catalogue_ref ref;
	struct err why = ERR_INIT;
	int r = catalogue_ref_parse(&ref, reference, err);

	if (!r)
		r = look_up(cl, reference, &before, err);
	if (r < 0)
		return r;
	const json_t *status = json_object_get(before, "status"), *found = before;
	if (strcmp(catalogue_text(status, "state"), "ready") != 0) {
		r = refresh(cl, catalogue_text(before, "name"), &task, &why);
		if (!r)
			r = task_follow(c, cl, task, "looking", NULL, &why);
		/* Without a network, what was known is better than nothing. */
		if (r < 0 && (r == -EINTR || !name_in(before)))
			return err_set(err, r, "%s", why.msg);
		if (r < 0)
			log_warn("%s", why.msg);
		r = r < 0 ? 0 : look_up(cl, reference, &after, err);
		if (r < 0)
			return r;
		found = after ? after : before;
	}
	if (!name_in(found))
		return err_set(err, -ENOENT, "%s", catalogue_text(json_object_get(found, "status"), "reason"));
	snprintf(name, 64, "%s", name_in(found));
	return 0;
}

static int ls(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *doc = NULL;
	const char *name = cli_arg(c, 0);
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &doc, err, "/v1/catalogues%s%s", name ? "/" : "", name ? name : "");
	if (r < 0)
		return r;
	const json_t *list = json_object_get(doc, name ? "images" : "items");
	if (c->is_json)
		return output_json(json_incref((json_t *)list), err);
	if (name && !json_array_size(list) && !c->is_quiet)
		fprintf(stderr, "nothing is known of it yet: viv image catalogue refresh %s\n", name);
	else
		table_print(list, name ? image_columns : catalogue_columns);
	return 0;
}

static int refresh_one(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *task = NULL;
	int r = client_open(&cl, c, err);

	if (!r)
		r = refresh(cl, cli_arg(c, 0), &task, err);
	return r < 0 ? r : task_finish(c, cl, task, "looking", err);
}

static int create(struct cli *c, struct err *err)
{
	const char *from = cli_str(c, "--from");

	if (!from)
		return err_set(err, -EINVAL, "--from has to say which image of a catalogue it is: ubuntu:24.04");
	return content_make(c, "images", cli_arg(c, 0),
			    json_pack("{s:s, s:{s:{s:s}}}", "name", cli_arg(c, 0), "spec", "source", "catalogue", from), err);
}

const struct cli_command image_create = {
	.path = "image create",
	.summary = "make an image from what a distribution publishes",
	.about = "The newest one of that name that a catalogue has for this kind of processor is downloaded, and compared with the checksum there. Where the "
		 "publisher signs that, and its keys are installed, the signature is checked, too; 'origin' in the image's status tells.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "of the new image" }, { .name = NULL } },
	.options = (const struct cli_option[]){ { "--from", 0, CLI_STRING, .metavar = "SYSTEM[:VERSION]", .help = "ubuntu, ubuntu:24.04, ubuntu:noble" },
						CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "image create base --from ubuntu:24.04", "Ubuntu's own image" }, { .line = NULL } },
	.run = create,
};

const struct cli_command image_catalogue_ls = {
	.path = "image catalogue ls",
	.summary = "list catalogues, or the images that one has",
	.about = "As they were last looked at, for this kind of processor.",
	.args = (const struct cli_arg[]){ { "CATALOGUE", .help = "its name; else all catalogues", .is_optional = true }, { .name = NULL } },
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "image catalogue ls ubuntu", "what Ubuntu offers" }, { .line = NULL } },
	.run = ls,
};

const struct cli_command image_catalogue_refresh = {
	.path = "image catalogue refresh",
	.summary = "look what a catalogue has now",
	.about = "At its publisher's servers. That is done by itself when something is wanted from it and it was last done more than an hour ago.",
	.args = (const struct cli_arg[]){ { "CATALOGUE", .help = "its name" }, { .name = NULL } },
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "image catalogue refresh ubuntu", "one" }, { .line = NULL } },
	.run = refresh_one,
};
