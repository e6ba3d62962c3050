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
#include "node/image_priv.h"
#include "node/import.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/subnet.h"
#include "node/upload.h"
#include "util/err.h"
#include "util/weburl.h"

enum { SHA256_LEN = 64, SHA512_LEN = 128, FILE_MAX = STORE_KEY_MAX + 32, ARGS_MAX = 16 + NODE_FETCH_MAX };

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

/* The words of a command line; each its own. */
struct words {
	char *at[ARGS_MAX + 1];
	unsigned n;
};

static void __attribute__((format(printf, 2, 3))) add(struct words *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&w->at[w->n], fmt, ap) < 0)
		w->at[w->n] = NULL;
	va_end(ap);
	w->n += w->at[w->n] != NULL;
}

static int run(struct import *im, struct node *n, const json_t *download, struct err *err)
{
	const char *sha256 = text_of(download, "sha256"), *sha512 = text_of(download, "sha512");
	json_int_t bound = json_integer_value(json_object_get(download, "size"));
	struct words w = { .n = 0 };

	add(&w, "%s", n->viv);
	add(&w, "disk");
	add(&w, "fetch");
	add(&w, "--quiet");
	add(&w, "--public");
	add(&w, "--max-size=%" PRIu64, bound > 0 ? (uint64_t)bound : size_max);
	add(&w, "--progress-file=%s/progress", im->dir);
	if (sha256 || sha512)
		add(&w, "--checksum=%s:%s", sha256 ? "sha256" : "sha512", sha256 ? sha256 : sha512);
	if (n->fetch_ca)
		add(&w, "--ca=%s", n->fetch_ca);
	for (unsigned i = 0; i < n->n_fetch_from; i++)
		add(&w, "--allow=%s", n->fetch_from[i]);
	add(&w, "--");
	add(&w, "%s", text_of(download, "url"));
	add(&w, "%s/" FETCHED, im->dir);
	unsigned wanted = 10 + (sha256 || sha512) + !!n->fetch_ca + n->n_fetch_from;
	int r = w.n == wanted ? import_run(im, n, w.at, err) : err_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < w.n; i++)
		free(w.at[i]);
	return r;
}

bool download_is_whole(const struct import *im)
{
	return image_has_file(im->dir, FETCHED);
}

int download_start(struct import *im, struct node *n, const json_t *download, struct err *err)
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
	return run(im, n, download, err);
}
