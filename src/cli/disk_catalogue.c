/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk catalogue, viv disk pull: what publishers offer, and getting it, without a daemon. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/catalogue_read.h"
#include "cli/disk.h"
#include "cli/fetch_options.h"
#include "cli/output.h"
#include "cli/table.h"
#include "node/catalogue.h"
#include "util/log.h"

enum { KNOWN_MAX = 8 };

#define CACHE_OPTIONS \
	{ "--cache", 0, CLI_STRING, .metavar = "DIR", .def = ".", .help = "where to keep what the publisher says" }, \
	{ "--max-age", 0, CLI_UINT, .metavar = "SECONDS", .def = "3600", .help = "take what was kept for at most so long as it is" }, \
	FETCH_OPTIONS

static const struct table_column columns[] = {
	{ "IMAGE", "reference", NULL }, { "RELEASE", "release", NULL }, { "SERIAL", "serial", NULL }, { "SIZE", "size", table_size }, { .title = NULL },
};

/* WHY tells why OUT is an old one; code 0: it is not. */
static int read_catalogue(struct cli *c, const char *path, const struct fetch_spec *s, json_t **out, struct err *why, struct err *err)
{
	struct catalogue_reader r = { .path = path, .cache = cli_str(c, "--cache"), .fetch = *s, .max_age_s = cli_num(c, "--max-age") };

	return catalogue_read(&r, out, why, err);
}

static int tell_offline(const json_t *doc, const struct err *why, struct err *err)
{
	char known[200] = "";
	const json_t *image;
	size_t i, len = 0;

	json_array_foreach(json_object_get(doc, "images"), i, image)
		if (i < KNOWN_MAX && len < sizeof(known))
			len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s", i ? ", " : "", catalogue_text(image, "reference"));
	return err_set(err, -EAGAIN, "no network, or the publisher does not answer: %.200s; the catalogue of %s knows %s", why->msg,
		       catalogue_text(doc, "fetched"), known);
}

static int catalogue_run(struct cli *c, struct err *err)
{
	AUTO(json_decref) json_t *doc = NULL;
	struct progress progress = { .fd = -1 };
	struct err why = ERR_INIT;
	struct fetch_guard guard;
	struct fetch_spec s;
	int r = fetch_begin(c, &s, &guard, &progress, err);

	if (!r)
		r = read_catalogue(c, cli_arg(c, 0), &s, &doc, &why, err);
	progress_end(&progress);
	if (!r && why.code && cli_flag(c, "--fresh"))
		r = tell_offline(doc, &why, err);
	if (r < 0)
		return r;
	if (why.code)
		log_warn("no network, or the publisher does not answer: %s; this is the catalogue of %s", why.msg, catalogue_text(doc, "fetched"));
	json_object_del(doc, "description");
	if (c->is_json)
		return output_json(json_incref(doc), err);
	if (!c->is_quiet)
		table_print(json_object_get(doc, "images"), columns);
	return 0;
}

/* What an earlier attempt has chosen, if that was asked for the same. NULL: nothing. */
static json_t *chosen_before(const char *origin, const char *asked)
{
	json_t *doc = origin ? json_load_file(origin, 0, NULL) : NULL;

	if (doc && !strcmp(catalogue_text(doc, "asked"), asked))
		return doc;
	json_decref(doc);
	return NULL;
}

static int choose(struct cli *c, const struct fetch_spec *s, json_t **out, struct err *err)
{
	AUTO(json_decref) json_t *doc = NULL;
	struct err why = ERR_INIT;
	struct catalogue_ref ref;
	int r = catalogue_ref_parse(&ref, cli_arg(c, 0), err);

	if (!r)
		r = read_catalogue(c, cli_str(c, "--catalogue"), s, &doc, &why, err);
	if (r < 0)
		return r;
	const json_t *image = catalogue_find(doc, &ref, why.code ? NULL : err);
	if (!image)
		return why.code ? tell_offline(doc, &why, err) : -ENOENT;
	json_t *origin = json_copy((json_t *)image);
	json_object_del(origin, "tags");
	json_object_set_new(origin, "asked", json_string(cli_arg(c, 0)));
	for (const char *const *p = (const char *const[]){ "catalogue", "fetched", "verified", "signer", NULL }; *p; p++)
		if (json_object_get(doc, *p))
			json_object_set(origin, *p, json_object_get(doc, *p));
	*out = origin;
	return origin ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int pull(struct cli *c, struct fetch_spec *s, json_t **out, struct err *err)
{
	const char *origin = cli_str(c, "--origin");
	AUTO(json_decref) json_t *image = chosen_before(origin, cli_arg(c, 0));
	char sum[CATALOGUE_SUM_MAX + 16];
	int r = 0;

	if (!image) {
		r = choose(c, s, &image, err);
		if (!r && origin)
			r = catalogue_keep(image, origin, err);
	}
	if (r < 0)
		return r;
	bool is_long = json_object_get(image, "sha512");
	const char *kind = is_long ? "sha512" : "sha256";
	snprintf(sum, sizeof(sum), "%s:%s", kind, catalogue_text(image, kind));
	s->url = catalogue_text(image, "url");
	s->path = cli_arg(c, 1);
	s->checksum = sum;
	s->size_max = cli_num(c, "--max-size");
	s->progress->what = "downloading";
	r = fetch_file(s, err);
	/* The publisher has replaced it since: the next attempt looks anew. */
	if ((r == -ENOENT || r == -EBADMSG) && origin)
		unlink(origin);
	if (r == -EBADMSG)
		return err_set(err, r, "%.200s is not what the catalogue of %s says: its %s is another, as when the publisher has just replaced it", s->url,
			       catalogue_text(image, "fetched"), kind);
	if (r < 0)
		return err_wrap(err, r, "'%s' of %.200s", catalogue_text(image, "reference"), s->url);
	*out = take_ptr(&image);
	return 0;
}

static int pull_run(struct cli *c, struct err *err)
{
	struct progress progress = { .fd = -1 };
	struct fetch_guard guard;
	struct fetch_spec s;
	json_t *image = NULL;
	int r = fetch_begin(c, &s, &guard, &progress, err);

	if (!r && !cli_str(c, "--catalogue"))
		r = err_set(err, -EINVAL, "--catalogue has to say which catalogue it is in");
	if (!r)
		r = pull(c, &s, &image, err);
	progress_end(&progress);
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(image, err);
	if (!c->is_quiet)
		printf("%s: %s, verified by %s\n", cli_arg(c, 1), catalogue_text(image, "reference"), catalogue_text(image, "verified"));
	json_decref(image);
	return 0;
}

const struct cli_command disk_catalogue = {
	.path = "disk catalogue",
	.summary = "read which images a publisher offers",
	.about = "From its servers, as FILE describes them (docs/formats/catalogue.md), and keep it. What is signed is checked by gpgv(1). When no server "
		 "can be reached, what was kept is shown, however old it is.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "a description: ubuntu.json" }, { .name = NULL } },
	.options = (const struct cli_option[]){
		{ "--fresh", 0, CLI_FLAG, .help = "fail when no server can be reached, instead of showing what was kept" },
		CACHE_OPTIONS,
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){ { "disk catalogue ubuntu.json", "what Ubuntu has for this kind of processor" }, { .line = NULL } },
	.run = catalogue_run,
};

const struct cli_command disk_pull = {
	.path = "disk pull",
	.summary = "download an image that a catalogue has",
	.about = "The newest one of that name for this kind of processor. Its checksum, as the catalogue has it, is compared; interrupted, the same command goes on.",
	.args = (const struct cli_arg[]){
		{ "IMAGE", .help = "ubuntu, ubuntu:24.04, ubuntu:noble" },
		{ "FILE", .help = "that is not there" },
		{ .name = NULL },
	},
	.options = (const struct cli_option[]){
		{ "--catalogue", 0, CLI_STRING, .metavar = "FILE", .help = "the description of the catalogue" },
		{ "--origin", 0, CLI_STRING, .metavar = "FILE", .help = "keep what was chosen in FILE, and go on with just that",
		  .more = "Else a newer one may be chosen when an interrupted download goes on." },
		{ "--max-size", 0, CLI_SIZE, .metavar = "SIZE", .help = "refuse a file that is larger" },
		CACHE_OPTIONS,
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk pull --catalogue ubuntu.json ubuntu:24.04 ubuntu.img", "the newest image of that version" },
		{ .line = NULL },
	},
	.run = pull_run,
};
