/* SPDX-License-Identifier: Apache-2.0 */
#include "node/download.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/catalogues.h"
#include "node/image_priv.h"
#include "node/import.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/subnet.h"
#include "node/upload.h"
#include "util/err.h"
#include "util/weburl.h"

enum { SHA256_LEN = 64, SHA512_LEN = 128, FILE_MAX = STORE_KEY_MAX + 32 };

#define FETCHED "fetched"

static const uint64_t size_max = (uint64_t)1 << 46;

const struct schema download_schema = {
	.name = "Download",
	.help = "A disk image of any format on a web server. It is fetched in parts, if need be; 'status.progress' tells how much of it is there.",
	.fields =
		(const struct schema_field[]){
			{ .name = "url", .type = SCHEMA_STRING, .is_required = true,
			  .help = "https://..., or with a checksum http://...; of the Internet, or of a network that the administrator has allowed" },
			{ .name = "sha256", .type = SCHEMA_STRING, .help = "its SHA-256, 64 hexadecimal digits: what has come is compared with it" },
			{ .name = "sha512", .type = SCHEMA_STRING, .help = "its SHA-512, 128 hexadecimal digits, instead" },
			{ .name = "format", .type = SCHEMA_STRING, .help = "'raw', 'qcow2' ...: else its content tells" },
			{ .name = "size", .type = SCHEMA_SIZE, .min = 1, .max = (int64_t)1 << 46, .help = "bytes that the file may have at most" },
			{ .name = NULL },
		},
};

const json_t *download_of(const json_t *spec)
{
	return json_object_get(json_object_get(spec, "source"), "download");
}

static const char *text_of(const json_t *download, const char *name)
{
	return json_string_value(json_object_get(download, name));
}

/* --- what may be ---------------------------------------------------- */

static int check_sum(const char *sum, size_t len, struct err *err)
{
	if (sum && (strlen(sum) != len || sum[strspn(sum, "0123456789abcdef")]))
		return err_set(err, -EINVAL, "this checksum is %zu hexadecimal digits in lower case", len);
	return 0;
}

int download_check(struct node *n, const json_t *spec, char *where, size_t cap, struct err *err)
{
	const json_t *download = download_of(spec);
	const char *sha256 = text_of(download, "sha256"), *sha512 = text_of(download, "sha512"), *url = text_of(download, "url");

	if (!download)
		return 0;
	snprintf(where, cap, "spec.source.download.sha256");
	int r = check_sum(sha256, SHA256_LEN, err);
	if (r < 0)
		return r;
	snprintf(where, cap, "spec.source.download.sha512");
	r = sha256 && sha512 ? err_set(err, -EINVAL, "one checksum is enough: 'sha256' or 'sha512'") : check_sum(sha512, SHA512_LEN, err);
	if (r < 0)
		return r;
	snprintf(where, cap, "spec.source.download.format");
	r = upload_check_format(text_of(download, "format"), err);
	if (r < 0)
		return r;
	snprintf(where, cap, "spec.source.download.url");
	r = weburl_check(url ? url : "", !sha256 && !sha512, err);
	if (r < 0)
		return r;
	snprintf(where, cap, "spec.source.download.size");
	return pool_check_room(n, POOL_DEFAULT, (uint64_t)json_integer_value(json_object_get(download, "size")), err);
}

/* --- what the administrator says ---------------------------------------------------- */

int download_config(struct node *n, const struct node_config *c, struct err *err)
{
	char path[PATH_MAX];
	struct subnet s;

	if (c->fetch_ca && (!realpath(c->fetch_ca, path) || access(path, R_OK) < 0))
		return err_set(err, -EINVAL, "cannot read '%s': %s", c->fetch_ca, strerror(errno));
	n->fetch_ca = c->fetch_ca ? strdup(path) : NULL;
	for (; n->n_fetch_from < c->n_fetch_from; n->n_fetch_from++) {
		const char *net = c->fetch_from[n->n_fetch_from];

		if (subnet_parse(&s, net, err) < 0)
			return -EINVAL;
		n->fetch_from[n->n_fetch_from] = strdup(net);
		if (!n->fetch_from[n->n_fetch_from])
			return err_set(err, -ENOMEM, "out of memory");
	}
	return c->fetch_ca && !n->fetch_ca ? err_set(err, -ENOMEM, "out of memory") : 0;
}

void download_forget(struct node *n)
{
	for (unsigned i = 0; i < n->n_fetch_from; i++)
		free(n->fetch_from[i]);
	free(n->fetch_ca);
}

/* --- fetching ---------------------------------------------------- */

void words_add(struct words *w, const char *fmt, ...)
{
	char *word = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (w->n == DOWNLOAD_ARGS_MAX || vasprintf(&word, fmt, ap) < 0)
		word = NULL;
	va_end(ap);
	w->is_short = w->is_short || !word;
	if (word)
		w->at[w->n++] = word;
}

void words_begin(struct words *w, const struct node *n, const char *verb)
{
	*w = (struct words){ .n = 0 };
	words_add(w, "%s", n->viv);
	words_add(w, "disk");
	words_add(w, "%s", verb);
	words_add(w, "--quiet");
	words_add(w, "--public");
	if (n->fetch_ca)
		words_add(w, "--ca=%s", n->fetch_ca);
	for (unsigned i = 0; i < n->n_fetch_from; i++)
		words_add(w, "--allow=%s", n->fetch_from[i]);
}

void words_free(struct words *w)
{
	for (unsigned i = 0; i < w->n; i++)
		free(w->at[i]);
	w->n = 0;
}

static const char *catalogue_of(const json_t *spec)
{
	return text_of(json_object_get(spec, "source"), "catalogue");
}

bool download_is_wanted(const json_t *spec)
{
	return download_of(spec) || catalogue_of(spec);
}

static void add_address(struct words *w, const json_t *download)
{
	const char *sha256 = text_of(download, "sha256"), *sha512 = text_of(download, "sha512");

	if (sha256 || sha512)
		words_add(w, "--checksum=%s:%s", sha256 ? "sha256" : "sha512", sha256 ? sha256 : sha512);
	words_add(w, "--");
	words_add(w, "%s", text_of(download, "url"));
}

static int add_reference(struct words *w, struct node *n, const char *dir, const char *reference, struct err *err)
{
	char path[FILE_MAX];
	int r = catalogues_find(n, reference, path, sizeof(path), err);

	if (r < 0)
		return r;
	words_add(w, "--catalogue=%s", path);
	words_add(w, "--cache=%s/" CATALOGUES_CACHE, n->data_dir);
	words_add(w, "--origin=%s/" CATALOGUES_ORIGIN, dir);
	words_add(w, "--");
	words_add(w, "%s", reference);
	return 0;
}

static int run(struct import *im, struct node *n, const json_t *spec, struct err *err)
{
	const json_t *download = download_of(spec);
	json_int_t bound = json_integer_value(json_object_get(download, "size"));
	struct words w;
	int r = 0;

	words_begin(&w, n, download ? "fetch" : "pull");
	words_add(&w, "--max-size=%" PRIu64, bound > 0 ? (uint64_t)bound : size_max);
	words_add(&w, "--progress-file=%s/progress", im->dir);
	if (download)
		add_address(&w, download);
	else
		r = add_reference(&w, n, im->dir, catalogue_of(spec), err);
	words_add(&w, "%s/" FETCHED, im->dir);
	if (!r)
		r = w.is_short ? err_set(err, -ENOMEM, "out of memory") : import_run(im, n, w.at, err);
	words_free(&w);
	return r;
}

bool download_is_whole(const struct import *im)
{
	return image_has_file(im->dir, FETCHED);
}

int download_start(struct import *im, struct node *n, const json_t *spec, struct err *err)
{
	char from[FILE_MAX], to[FILE_MAX];

	if (image_has_file(im->dir, UPLOAD_FILE))
		return 1;
	snprintf(from, sizeof(from), "%s/" FETCHED, im->dir);
	snprintf(to, sizeof(to), "%s/" UPLOAD_FILE, im->dir);
	if (!rename(from, to))
		return 1;
	if (errno != ENOENT)
		return err_set(err, -errno, "cannot rename '%s': %s", from, strerror(errno));
	if (!n->viv)
		return err_set(err, -ENOENT, "the program 'viv' is not installed beside vivd");
	return run(im, n, spec, err);
}
