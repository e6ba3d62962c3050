/* SPDX-License-Identifier: Apache-2.0 */
/* client_download.c - long files, part after part: what is there is kept under a name that has the ETag in it, so that it is never
 * continued with something else. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/client_priv.h"
#include "cli/progress.h"

enum { ETAG_MAX = 100 };

struct download {
	struct client *cl;
	struct progress *p;
	int fd;                         /* -1: only to look */
	uint64_t at, size;              /* what is there; of all */
	char etag[ETAG_MAX];            /* with its quotes */
	struct client_reply refusal;
	int code;                       /* of the disk or the user: negative errno */
};

/* "name: value" of N bytes: the value, if NAME is its name. */
static const char *value_of(const char *line, size_t n, const char *name)
{
	size_t len = strlen(name);

	if (n <= len + 1 || strncasecmp(line, name, len) != 0 || line[len] != ':')
		return NULL;
	return line + len + 1 + strspn(line + len + 1, " ");
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct download *d = arg;
	char text[256];

	(void)size;
	snprintf(text, sizeof(text), "%.*s", (int)n, line);
	const char *etag = value_of(text, n, "etag"), *range = value_of(text, n, "content-range");
	const char *slash = range ? strchr(range, '/') : NULL;

	if (etag)
		snprintf(d->etag, sizeof(d->etag), "%.*s", (int)strcspn(etag, "\r\n"), etag);
	if (slash)
		d->size = strtoull(slash + 1, NULL, 10);
	return n;
}

/* LEN bytes where it is. Zeroes become a hole: the file of a raw disk is mostly that. How long it is tells how much has come, all the same. */
static ssize_t put(const struct download *d, const char *data, size_t len)
{
	if (data[0] || memcmp(data, data + 1, len - 1) != 0)
		return pwrite(d->fd, data, len, (off_t)d->at);
	return ftruncate(d->fd, (off_t)(d->at + len)) < 0 ? -1 : (ssize_t)len;
}

static size_t on_data(char *data, size_t size, size_t n, void *arg)
{
	struct download *d = arg;
	long status = 0;

	d->cl->lib.easy_getinfo(d->cl->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 400)
		return client_on_reply(data, size, n, &d->refusal);
	if (status != 206)
		return 0;
	for (size_t done = 0; d->fd >= 0 && done < n;) {
		ssize_t w = put(d, data + done, n - done);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			d->code = w < 0 ? -errno : -EIO;
			return 0;
		}
		done += (size_t)w;
		d->at += (uint64_t)w;
	}
	if (d->fd >= 0)
		d->code = progress_update(d->p, d->at, d->size);
	return d->code ? 0 : n;
}

/* GET of RANGE ("0-0"), of what has D's ETag if it is known already. */
static int get(struct download *d, const char *path, const char *range, struct err *err)
{
	struct client *cl = d->cl;
	struct curl_slist *headers = client_headers(cl, "application/json");
	char line[ETAG_MAX + 16];
	long status = 0;

	snprintf(line, sizeof(line), "if-range: %s", d->etag);
	if (d->etag[0])
		headers = cl->lib.slist_append(headers, line);
	int r = client_setup(cl, "GET", path, headers, err);
	cl->lib.easy_setopt(cl->curl, CURLOPT_RANGE, range);
	cl->lib.easy_setopt(cl->curl, CURLOPT_HEADERFUNCTION, on_header);
	cl->lib.easy_setopt(cl->curl, CURLOPT_HEADERDATA, d);
	cl->lib.easy_setopt(cl->curl, CURLOPT_WRITEFUNCTION, on_data);
	cl->lib.easy_setopt(cl->curl, CURLOPT_WRITEDATA, d);
	CURLcode c = r ? CURLE_OK : cl->lib.easy_perform(cl->curl);
	cl->lib.easy_getinfo(cl->curl, CURLINFO_RESPONSE_CODE, &status);
	cl->lib.slist_free_all(headers);
	if (r < 0)
		return r;
	if (d->code == -EINTR)
		return err_set(err, -EINTR, "interrupted; the same command goes on from here");
	if (d->code < 0)
		return err_set(err, d->code, "cannot write: %s", strerror(-d->code));
	if (status == 200)
		return err_set(err, -ESTALE, "it has changed meanwhile; begin again");
	if (c != CURLE_OK)
		return client_explain(cl, (int)c, err);
	return status >= 400 ? client_error_of(status, d->refusal.data, d->refusal.len, err) : 0;
}

/* FILE.ETAG.part, from malloc(). */
static char *part_name(const char *file, const char *etag)
{
	char word[ETAG_MAX] = "", *name = NULL;
	size_t n = 0;

	for (const char *p = etag; *p && n < sizeof(word) - 1; p++)
		if ((*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || *p == '-')
			word[n++] = *p;
	return asprintf(&name, "%s.%s.part", file, word) < 0 ? NULL : name;
}

static int fetch_rest(struct download *d, const char *path, const char *part, struct err *err)
{
	char range[32];
	struct stat st;
	AUTO_FD int fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot open '%s': %s", part, strerror(errno));
	d->fd = fd;
	if ((uint64_t)st.st_size > d->size && ftruncate(fd, st.st_size = 0) < 0)
		return err_set(err, -errno, "cannot empty '%s': %s", part, strerror(errno));
	d->at = (uint64_t)st.st_size;
	snprintf(range, sizeof(range), "%" PRIu64 "-", d->at);
	int r = d->at < d->size ? get(d, path, range, err) : 0;
	d->fd = -1;
	if (!r && d->at != d->size)
		r = err_set(err, -EIO, "the daemon has sent %" PRIu64 " of %" PRIu64 " bytes; the same command goes on from here", d->at, d->size);
	return !r && fsync(fd) < 0 ? err_set(err, -errno, "cannot write '%s': %s", part, strerror(errno)) : r;
}

int client_download(struct client *cl, const char *path, const char *file, struct progress *p, struct err *err)
{
	struct download d = { .cl = cl, .p = p, .fd = -1 };
	AUTO(free) char *part = NULL;

	if (!access(file, F_OK))
		return err_set(err, -EEXIST, "'%s' is there already; choose another name", file);
	int r = get(&d, path, "0-0", err);
	if (!r && (!d.etag[0] || !d.size))
		r = err_set(err, -EPROTO, "the daemon does not say what it sends");
	if (!r && !(part = part_name(file, d.etag)))
		r = err_set(err, -ENOMEM, "out of memory");
	if (!r)
		r = fetch_rest(&d, path, part, err);
	if (!r && rename(part, file) < 0)
		r = err_set(err, -errno, "cannot rename '%s': %s", part, strerror(errno));
	free(d.refusal.data);
	return r;
}
