/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/catalogue_read.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "cli/progress.h"
#include "cli/signature.h"
#include "node/catalogue.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/weburl.h"

enum { TRIES = 2, PATH_CAP = PATH_MAX, TIME_LEN = 20 };

struct reading {
	const struct catalogue_reader *r;
	const json_t *description;
	json_t *images;
	const char *keyring;            /* NULL: nothing is signed, or nobody can say by whom */
	char signer[SIGNATURE_SIGNER_LEN + 1];
	char name[CATALOGUE_NAME_MAX + 1], arch[CATALOGUE_WORD_MAX + 1];
	char file[PATH_CAP];            /* that documents are fetched to */
};

/* A text from elsewhere. */
struct text { char *p; size_t len; };
static inline void text_free(struct text *t) { free(t->p); }
#define AUTO_TEXT __attribute__((cleanup(text_free)))

/* --- fetching ---------------------------------------------------- */

static void remove_file(const struct reading *g)
{
	static const char *const tails[] = { "", ".part", ".from" };
	char path[PATH_CAP + 8];

	for (unsigned i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", g->file, tails[i]);
		unlink(path);
	}
}

static int get(struct reading *g, const char *url, struct text *out, struct err *err)
{
	struct fetch_spec s = g->r->fetch;
	struct stat st;

	remove_file(g);
	s.url = url;
	s.path = g->file;
	s.size_max = CATALOGUE_TEXT_MAX;
	s.tries = TRIES;
	s.progress->what = "catalogue";
	int r = weburl_check(url, true, err);
	if (!r)
		r = fetch_file(&s, err);
	if (r < 0)
		return err_wrap(err, r, "'%.200s'", url);
	AUTO_FD int fd = open(g->file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	size_t len = fd < 0 || fstat(fd, &st) < 0 || st.st_size > CATALOGUE_TEXT_MAX ? 0 : (size_t)st.st_size;
	AUTO(free) char *p = malloc(len + 1);
	if (!p || fd < 0 || io_read_full(fd, p, len) != (ssize_t)len)
		return err_set(err, -EIO, "cannot read '%s' again", g->file);
	p[len] = 0;
	*out = (struct text){ take_ptr(&p), len };
	remove_file(g);
	return 0;
}

/* What URL has, checked by the signature in it or, when there is that address, at DETACHED. */
static int get_signed(struct reading *g, const char *url, const char *detached, struct text *out, struct err *err)
{
	AUTO_TEXT struct text text = { NULL, 0 }, sign = { NULL, 0 };
	int r = get(g, url, &text, err);

	if (!r && g->keyring && detached[0])
		r = get(g, detached, &sign, err);
	if (r < 0)
		return r;
	if (!g->keyring) {
		*out = text;
		text.p = NULL;
		return 0;
	}
	struct signature s = { .keyring = g->keyring, .text = text.p, .len = text.len, .detached = sign.p, .detached_len = sign.len };
	r = signature_check(&s, &out->p, &out->len, g->signer, err);
	/* There is something, and nobody can say whose it is: not as if there were nothing. */
	return r < 0 ? err_wrap(err, r == -ENOENT ? -ENOKEY : r, "'%.200s'", url) : 0;
}

/* --- what there is ---------------------------------------------------- */

static int read_streams(struct reading *g, struct err *err)
{
	const char *base = catalogue_text(g->description, "url"), *kind = g->keyring ? ".sjson" : ".json";
	AUTO_TEXT struct text index = { NULL, 0 };
	AUTO(json_decref) json_t *paths = NULL;
	char url[WEBURL_MAX + 1];
	const json_t *path;
	size_t i;

	snprintf(url, sizeof(url), "%sstreams/v1/index%s", base, kind);
	int r = get_signed(g, url, "", &index, err);
	if (!r && (r = catalogue_index(&paths, index.p, index.len, err)) < 0)
		err_wrap(err, r, "'%.200s'", url);
	if (r < 0)
		return r;
	json_array_foreach(paths, i, path) {
		AUTO_TEXT struct text products = { NULL, 0 };
		const char *p = json_string_value(path);

		snprintf(url, sizeof(url), "%s%s", base, p);
		if (g->keyring && (strlen(p) < 6 || strcmp(p + strlen(p) - 6, kind) != 0))
			return err_set(err, -EPROTO, "the index names '%s', which is not signed", url);
		r = get_signed(g, url, "", &products, err);
		if (!r && (r = catalogue_products(g->images, g->description, g->arch, products.p, products.len, err)) < 0)
			err_wrap(err, r, "'%.200s'", url);
		if (r < 0)
			return r;
	}
	return 0;
}

/* -ENOENT: the publisher does not have it any more. */
static int read_one(struct reading *g, const json_t *image, struct err *err)
{
	char url[WEBURL_MAX + 1], sums[WEBURL_MAX + 1], detached[WEBURL_MAX + 1] = "", sum[CATALOGUE_SUM_MAX + 1];
	const char *sign = catalogue_text(image, "signature"), *system = catalogue_text(image, "system");
	AUTO_TEXT struct text text = { NULL, 0 };
	int r = catalogue_fill(url, sizeof(url), g->description, image, catalogue_text(image, "url"), g->arch, err);

	if (!r)
		r = catalogue_fill(sums, sizeof(sums), g->description, image, catalogue_text(image, "sums"), g->arch, err);
	if (!r && sign[0])
		r = catalogue_fill(detached, sizeof(detached), g->description, image, sign, g->arch, err);
	if (!r)
		r = get_signed(g, sums, detached, &text, err);
	if (!r && (r = catalogue_sum(sum, text.p, text.len, strrchr(url, '/') + 1, err)) < 0)
		err_wrap(err, r, "'%.200s'", sums);
	return r < 0 ? r : catalogue_add(g->images, &(struct catalogue_image){
		.system = system[0] ? system : json_string_value(json_array_get(json_object_get(g->description, "systems"), 0)),
		.version = catalogue_text(image, "version"), .release = catalogue_text(image, "release"), .serial = catalogue_text(image, "serial"),
		.url = url, .sum = sum, .tags = json_object_get(image, "tags") }, err);
}

static int read_list(struct reading *g, struct err *err)
{
	const json_t *image;
	size_t i;
	int r = 0;

	json_array_foreach(json_object_get(g->description, "images"), i, image) {
		struct err why = ERR_INIT;

		r = read_one(g, image, &why);
		if (r < 0 && r != -ENOENT)
			return err_set(err, r, "%s", why.msg);
		if (r < 0 && i + 1 == json_array_size(json_object_get(g->description, "images")) && !json_array_size(g->images))
			return err_set(err, r, "%s", why.msg);
	}
	return 0;
}

/* Is anything signed, and can that be checked here? */
static int find_keyring(struct reading *g, struct err *err)
{
	const char *keyring = catalogue_text(g->description, "keyring"), *package = catalogue_text(g->description, "package");

	if (keyring[0] && !access(keyring, R_OK)) {
		g->keyring = keyring;
	} else if (keyring[0] && !strcmp(catalogue_text(g->description, "signature"), "required")) {
		return err_set(err, -ENOKEY, "it is signed, and there is no '%s' to check that with%s%s%s", keyring, package[0] ? ": install the package '" : "",
			       package, package[0] ? "'" : "");
	}
	return 0;
}

static int read_all(struct reading *g, json_t **out, struct err *err)
{
	char now[TIME_LEN + 1];
	time_t t = time(NULL);
	struct tm tm;
	bool is_list = !strcmp(catalogue_text(g->description, "kind"), "list");
	int r = find_keyring(g, err);

	if (!r && catalogue_has_arch(g->description, g->arch))
		r = is_list ? read_list(g, err) : read_streams(g, err);
	if (!r && !json_array_size(g->images))
		r = err_set(err, -ENOENT, "it has nothing for this kind of processor (%s)", g->arch);
	if (!r)
		r = catalogue_sort(g->images);
	remove_file(g);
	if (r < 0)
		return r;
	strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	*out = json_pack("{s:i, s:s, s:s, s:I, s:s, s:s, s:s*, s:O, s:O}", "format", 1, "catalogue", g->name, "fetched", now, "time", (json_int_t)t, "arch",
			 g->arch, "verified", g->keyring ? "signature" : "https", "signer", g->keyring ? g->signer : NULL,
			 "images", g->images, "description", g->description);
	return *out ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* --- keeping ---------------------------------------------------- */

int catalogue_keep(const json_t *doc, const char *path, struct err *err)
{
	char fresh[PATH_CAP + 8];
	AUTO(free) char *text = json_dumps(doc, JSON_INDENT(1));
	size_t len = text ? strlen(text) : 0;

	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	snprintf(fresh, sizeof(fresh), "%s.new", path);
	AUTO_FD int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write(fd, text, len) != (ssize_t)len || fsync(fd) < 0 || rename(fresh, path) < 0)
		return err_set(err, errno ? -errno : -ENOSPC, "cannot write '%s': %s", path, strerror(errno));
	return 0;
}

/* What was kept of DESCRIPTION, and is for these processors; NULL: nothing. */
static json_t *kept(const struct reading *g, const char *path)
{
	AUTO(json_decref) json_t *doc = NULL;

	if (catalogue_open(&doc, path, NULL) < 0 || !json_equal(json_object_get(doc, "description"), g->description) ||
	    strcmp(catalogue_text(doc, "arch"), g->arch) != 0)
		return NULL;
	return take_ptr(&doc);
}

static bool is_young(const json_t *doc, uint64_t max_age_s)
{
	json_int_t age = (json_int_t)time(NULL) - json_integer_value(json_object_get(doc, "time"));

	return doc && age >= 0 && (uint64_t)age < max_age_s;
}

static int read_or_keep(struct reading *g, const char *path, json_t **out, struct err *why, struct err *err)
{
	AUTO(json_decref) json_t *old = kept(g, path), *fresh = NULL;

	if (is_young(old, g->r->max_age_s)) {
		*out = take_ptr(&old);
		return 0;
	}
	int r = read_all(g, &fresh, why);
	if (!r) {
		r = catalogue_keep(fresh, path, err);
		if (!r)
			*out = take_ptr(&fresh);
		return r;
	}
	if (r == -EAGAIN && old) {
		*out = take_ptr(&old);
		return 0;
	}
	if (r == -EAGAIN)
		return err_set(err, r, "no network, or the publisher does not answer: %s; and nothing of the catalogue '%s' has been fetched before",
			       why->msg, g->name);
	return err_set(err, r, "the catalogue '%s': %s", g->name, why->msg);
}

int catalogue_read(const struct catalogue_reader *r, json_t **out, struct err *why, struct err *err)
{
	AUTO(json_decref) json_t *description = NULL, *images = json_array();
	struct reading g = { .r = r, .images = images };
	char path[PATH_CAP], lock_path[PATH_CAP];
	int n = catalogue_load(&description, r->path, err);

	if (n < 0)
		return n;
	g.description = description;
	catalogue_name(r->path, g.name);
	catalogue_arch(g.arch);
	if (mkdir(r->cache, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make '%s': %s", r->cache, strerror(errno));
	if (snprintf(g.file, sizeof(g.file), "%s/%s.text", r->cache, g.name) >= (int)sizeof(g.file) - 8)
		return err_set(err, -ENAMETOOLONG, "'%s' is too long", r->cache);
	snprintf(path, sizeof(path), "%s/%s.json", r->cache, g.name);
	snprintf(lock_path, sizeof(lock_path), "%s/%s.lock", r->cache, g.name);
	AUTO_FD int lock = open(lock_path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lock < 0)
		return err_set(err, -errno, "cannot open '%s': %s", lock_path, strerror(errno));
	while (flock(lock, LOCK_EX) < 0)
		if (errno != EINTR || progress_is_interrupted())
			return err_set(err, -EINTR, "interrupted");
	return read_or_keep(&g, path, out, why, err);
}
