/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/fetch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "cli/digest.h"
#include "cli/disk.h"
#include "cli/fetch_guard.h"
#include "cli/fetch_part.h"
#include "cli/late.h"
#include "cli/progress.h"
#include "util/err.h"
#include "util/weburl.h"

enum {
	CONNECT_MS = 20000, SILENCE_S = 60, REDIRECTS_MAX = 8, SKIP_MAX = 64 << 10,
	TRIES_MAX = 6, PAUSE_MS = 250, STEP_MS = 50,    /* tries without a byte more; the first pause, which is doubled each time */
};

struct fetch {
	const struct fetch_spec *s;
	struct late_curl lib;
	CURL *curl;
	struct fetch_part part;
	uint64_t total;                 /* 0: the server does not tell */
	/* Of the answer that is coming: */
	char tag[FETCH_TAG_MAX], date[FETCH_TAG_MAX];
	uint64_t from, whole;           /* as Content-Range says */
	bool has_range, is_begun;
	size_t skipped;                 /* bytes of what nobody wants to read */
	struct err why;                 /* it was ended here */
};

/* --- what the server says ---------------------------------------------------- */

/* The value of the field NAME in LINE of N bytes. */
static bool field(const char *line, size_t n, const char *name, char out[FETCH_TAG_MAX])
{
	size_t len = strlen(name);

	if (n <= len || strncasecmp(line, name, len) != 0 || line[len] != ':')
		return false;
	line += len + 1;
	n -= len + 1;
	while (n && (*line == ' ' || *line == '\t'))
		line++, n--;
	while (n && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' '))
		n--;
	if (n >= FETCH_TAG_MAX || memchr(line, 0, n) || memchr(line, '\n', n))
		return false;
	memcpy(out, line, n);
	out[n] = 0;
	return true;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct fetch *f = arg;
	char range[FETCH_TAG_MAX];

	(void)size;
	/* What came before was of an interim answer. */
	if (n > 5 && !strncmp(line, "HTTP/", 5)) {
		f->has_range = false;
		f->tag[0] = f->date[0] = 0;
	}
	field(line, n, "ETag", f->tag);
	field(line, n, "Last-Modified", f->date);
	if (field(line, n, "Content-Range", range)) {
		f->has_range = sscanf(range, "bytes %" SCNu64 "-%*u/%" SCNu64, &f->from, &f->whole) == 2;
		if (!f->has_range && sscanf(range, "bytes */%" SCNu64, &f->whole) == 1)
			f->from = UINT64_MAX;
	}
	return n;
}

/* What If-Range may have (RFC 9110, section 13.1.5): no weak tag, and a date only where there is no tag. */
static const char *validator(const struct fetch *f)
{
	return !f->tag[0] ? f->date : f->tag[0] == '"' ? f->tag : "";
}

/* Is there room for what is still to come? */
static int check_size(struct fetch *f, struct err *err)
{
	struct statvfs v;

	if (f->s->size_max && f->total > f->s->size_max)
		return err_set(err, -EFBIG, "the file has %" PRIu64 " bytes, and may have %" PRIu64, f->total, f->s->size_max);
	if (fstatvfs(f->part.fd, &v) < 0 || !f->total || f->total <= f->part.at)
		return 0;
	uint64_t room = (uint64_t)v.f_bavail * v.f_frsize, needed = f->total - f->part.at;
	if (needed > room)
		return err_set(err, -ENOSPC, "there is room for %" PRIu64 " bytes, and %" PRIu64 " are to come", room, needed);
	return 0;
}

/* What is there is of another file: -EAGAIN. */
static int start_over(struct fetch *f, const char *why, struct err *err)
{
	int r = fetch_part_restart(&f->part, "", err);

	return r < 0 ? r : err_set(err, -EAGAIN, "%s", why);
}

/* An answer with the file, or the rest of it, begins. */
static int begin(struct fetch *f, long status, struct err *err)
{
	curl_off_t len = -1;
	int r = 0;

	f->is_begun = true;
	f->lib.easy_getinfo(f->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &len);
	if (status == 206 && (!f->part.at || !f->has_range || f->from != f->part.at))
		return err_set(err, -EPROTO, "the server has sent another part of the file than was asked for");
	/* There are servers that have not heard of If-Range. */
	if (status == 206 && strcmp(validator(f), f->part.tag) != 0)
		return start_over(f, "the file has changed on the server", err);
	if (status == 206)
		f->total = f->whole;
	else
		f->total = len > 0 ? (uint64_t)len : 0;
	if (status != 206)
		r = fetch_part_restart(&f->part, validator(f), err);
	return r < 0 ? r : check_size(f, err);
}

static int take(struct fetch *f, const char *data, size_t n, long status, struct err *err)
{
	uint64_t max = f->total ? f->total : f->s->size_max ? f->s->size_max : UINT64_MAX;
	int r = f->is_begun ? 0 : begin(f, status, err);

	if (r < 0)
		return r;
	max = f->total ? f->total : max;
	if (n > max || f->part.at > max - n)
		return err_set(err, -EFBIG, "the server sends more than %" PRIu64 " bytes", max);
	r = fetch_part_write(&f->part, data, n, err);
	if (!r && progress_update(f->s->progress, f->part.at, f->total ? f->total : f->part.at) < 0)
		r = err_set(err, -EINTR, "interrupted; the same goes on from here");
	return r;
}

static size_t on_data(char *data, size_t size, size_t n, void *arg)
{
	struct fetch *f = arg;
	long status = 0;

	(void)size;
	f->lib.easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200 && status != 206)
		return (f->skipped += n) > SKIP_MAX ? 0 : n;
	return take(f, data, n, status, &f->why) < 0 ? 0 : n;
}

static int on_time(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now)
{
	return progress_is_interrupted();
}

static curl_socket_t on_connect(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	const struct fetch *f = arg;

	return fetch_guard_admits(f->s->guard, &a->addr) ? socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol) : CURL_SOCKET_BAD;
}

/* --- one request ---------------------------------------------------- */

static struct curl_slist *set_up(struct fetch *f, const char *url, char *words)
{
	const struct late_curl *lib = &f->lib;
	struct curl_slist *headers = NULL;
	char line[FETCH_TAG_MAX + 16];

	lib->easy_reset(f->curl);
	lib->easy_setopt(f->curl, CURLOPT_URL, url);
	lib->easy_setopt(f->curl, CURLOPT_PROTOCOLS_STR, weburl_is_http(url) ? "http" : "https");
	lib->easy_setopt(f->curl, CURLOPT_PROXY, "");   /* connections to a proxy would all be admitted */
	lib->easy_setopt(f->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	lib->easy_setopt(f->curl, CURLOPT_NOSIGNAL, 1L);
	lib->easy_setopt(f->curl, CURLOPT_USERAGENT, "vivarium/" VIV_VERSION);
	lib->easy_setopt(f->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
	lib->easy_setopt(f->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	lib->easy_setopt(f->curl, CURLOPT_LOW_SPEED_TIME, (long)SILENCE_S);
	lib->easy_setopt(f->curl, CURLOPT_OPENSOCKETFUNCTION, on_connect);
	lib->easy_setopt(f->curl, CURLOPT_OPENSOCKETDATA, f);
	lib->easy_setopt(f->curl, CURLOPT_HEADERFUNCTION, on_header);
	lib->easy_setopt(f->curl, CURLOPT_HEADERDATA, f);
	lib->easy_setopt(f->curl, CURLOPT_WRITEFUNCTION, on_data);
	lib->easy_setopt(f->curl, CURLOPT_WRITEDATA, f);
	lib->easy_setopt(f->curl, CURLOPT_NOPROGRESS, 0L);
	lib->easy_setopt(f->curl, CURLOPT_XFERINFOFUNCTION, on_time);
	lib->easy_setopt(f->curl, CURLOPT_ERRORBUFFER, words);
	if (f->s->ca)
		lib->easy_setopt(f->curl, CURLOPT_CAINFO, f->s->ca);
	if (!f->part.at)
		return NULL;
	snprintf(line, sizeof(line), "%" PRIu64 "-", f->part.at);
	lib->easy_setopt(f->curl, CURLOPT_RANGE, line);
	snprintf(line, sizeof(line), "If-Range: %s", f->part.tag);
	headers = lib->slist_append(NULL, line);
	lib->easy_setopt(f->curl, CURLOPT_HTTPHEADER, headers);
	return headers;
}

/* What an answer of STATUS means, of which libcurl says CODE and WORDS. -EAGAIN: it may be another the next time. */
static int judge(struct fetch *f, CURLcode code, long status, const char *words, struct err *err)
{
	if (f->why.code < 0)
		return err_set(err, f->why.code, "%s", f->why.msg);
	if (progress_is_interrupted())
		return err_set(err, -EINTR, "interrupted; the same goes on from here");
	if (code == CURLE_COULDNT_CONNECT && f->s->guard->refused[0])
		return err_set(err, -EACCES, "%s is an address of this host or of a network that is not the Internet; an administrator can allow it: "
			       "'vivd --fetch-from NETWORK'", f->s->guard->refused);
	if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
		return err_set(err, -EACCES, "the certificate of the server is not known to be good (%s); 'vivd --fetch-ca FILE' names authorities "
			       "of your own", words[0] ? words : f->lib.easy_strerror(code));
	if (code == CURLE_URL_MALFORMAT || code == CURLE_OUT_OF_MEMORY)
		return err_set(err, -EINVAL, "%s", f->lib.easy_strerror(code));
	if (status >= 500 || status == 429 || status == 408)
		return err_set(err, -EAGAIN, "the server answers with status %ld", status);
	if (status >= 400 && status != 416)
		return err_set(err, status == 404 || status == 410 ? -ENOENT : -EACCES, "the server %s (status %ld)",
			       status == 404 || status == 410 ? "has no such file" : "does not give the file", status);
	if (code != CURLE_OK)
		return err_set(err, -EAGAIN, "%s", words[0] ? words : f->lib.easy_strerror(code));
	return 0;
}

/* An answer without an error. 0: the file is whole. */
static int conclude(struct fetch *f, long status, struct err *err)
{
	if (status == 416 && f->part.at && f->whole == f->part.at)
		f->total = f->part.at;
	else if (status == 416)
		return start_over(f, "the server has less of the file than before", err);
	else if (status != 200 && status != 206)
		return err_set(err, -EPROTO, "the server answers with status %ld", status);
	if (!f->part.at)
		return err_set(err, -ENODATA, "the file is empty");
	if (f->total && f->part.at != f->total)
		return err_set(err, -EAGAIN, "the connection has ended before the file");
	return 0;
}

/* Ask URL, and whom it sends us to: those may not be less safe. */
static int request(struct fetch *f, const char *url, struct err *err)
{
	bool needs_tls = !f->s->checksum;
	AUTO(free) char *at = strdup(url);

	for (unsigned i = 0; i <= REDIRECTS_MAX; i++) {
		char words[CURL_ERROR_SIZE] = "", *next = NULL;
		long status = 0;

		needs_tls = needs_tls || (at && weburl_is_https(at));
		int r = at ? weburl_check(at, needs_tls, err) : err_set(err, -ENOMEM, "out of memory");
		if (r < 0)
			return r;
		f->is_begun = f->has_range = false;
		f->skipped = 0;
		f->whole = 0;
		f->why = (struct err)ERR_INIT;
		f->s->guard->refused[0] = 0;
		struct curl_slist *headers = set_up(f, at, words);
		CURLcode code = f->lib.easy_perform(f->curl);
		f->lib.easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
		f->lib.easy_getinfo(f->curl, CURLINFO_REDIRECT_URL, &next);
		next = next ? strdup(next) : NULL;
		f->lib.slist_free_all(headers);
		r = judge(f, code, status, words, err);
		if (r < 0 || status < 300 || status >= 400 || !next) {
			free(next);
			return r < 0 ? r : conclude(f, status, err);
		}
		free(at);
		at = next;
	}
	return err_set(err, -ELOOP, "the server sends from address to address, more than %d times", REDIRECTS_MAX);
}

/* --- all of it ---------------------------------------------------- */

static int pause_for(unsigned ms, struct err *err)
{
	for (; ms && !progress_is_interrupted(); ms = ms > STEP_MS ? ms - STEP_MS : 0)
		usleep(STEP_MS * 1000);
	return progress_is_interrupted() ? err_set(err, -EINTR, "interrupted; the same goes on from here") : 0;
}

static int transfer(struct fetch *f, struct err *err)
{
	unsigned tries = 0;

	for (;;) {
		uint64_t before = f->part.at;
		struct err ignored = ERR_INIT;
		int r = request(f, f->s->url, err);

		if (r < 0)
			fetch_part_sync(&f->part, &ignored);
		/* What cannot be continued begins anew, and would for ever. */
		tries = f->part.at > before && f->part.tag[0] ? 1 : tries + 1;
		if (r != -EAGAIN || tries == (f->s->tries ? f->s->tries : (unsigned)TRIES_MAX))
			return r;
		r = pause_for(PAUSE_MS << tries, err);
		if (r < 0)
			return r;
		*err = (struct err)ERR_INIT;
	}
}

static int check(struct fetch *f, struct err *err)
{
	struct blk_progress tell = disk_progress(f->s->progress);

	if (!f->s->checksum)
		return 0;
	f->s->progress->what = "checking";
	int r = digest_check(f->part.part, f->s->checksum, &tell, err);
	if (r == -EBADMSG)
		fetch_part_discard(&f->part);
	return r;
}

int fetch_file(const struct fetch_spec *s, struct err *err)
{
	struct fetch f = { .s = s, .why = ERR_INIT, .part = { .fd = -1, .note = -1 } };
	int r = weburl_check(s->url, !s->checksum, err);

	if (!r && !access(s->path, F_OK))
		r = err_set(err, -EEXIST, "'%s' is there already; choose another name", s->path);
	if (!r)
		r = late_curl_load(&f.lib, err);
	if (!r && !(f.curl = f.lib.easy_init()))
		r = err_set(err, -ENOMEM, "out of memory");
	if (!r)
		r = fetch_part_open(&f.part, s->path, s->url, err);
	if (!r)
		r = transfer(&f, err);
	if (!r)
		r = check(&f, err);
	if (!r)
		r = fetch_part_finish(&f.part, err);
	fetch_part_close(&f.part);
	if (f.curl)
		f.lib.easy_cleanup(f.curl);
	return r;
}
