/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - disks on web servers, read with range requests over libcurl: http://HOST/PATH, https://HOST/PATH.
 *
 * RFC 9110, section 14 "Range Requests". Redirects are followed when the disk is opened and its address is the last
 * one from then on. A file that changes on the server (ETag, Last-Modified, length) is another disk: reading fails
 * from then on. libcurl's multi interface is driven by our loop; sockets come from a dialer (dial.h). */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include "blk/proto/cache.h"
#include "blk/proto/dial.h"
#include "blk/proto/proto.h"
#include "util/checked.h"
#include "util/log.h"

enum {
	HTTP_SOCKETS = 8,               /* connections at one time */
	HTTP_TRIES = 4, HTTP_PAUSE_MS = 250,    /* doubled each time */
	HTTP_CONNECT_MS = 10000, HTTP_SILENCE_S = 30, HTTP_REDIRECTS = 8,
	HTTP_TAG_MAX = 256, HTTP_CA_MAX = 4 << 20,
};

struct http;

/* A socket of the library, as it wants it watched. */
struct http_socket {
	struct blk_watch watch;
	struct http *h;
	bool is_used;
};

struct http {
	struct blk *b;
	char *url;                      /* after redirects */
	char *ca;                       /* certificates of authorities: the jail lets nobody read them later */
	size_t ca_len;
	char tag[HTTP_TAG_MAX], modified[HTTP_TAG_MAX]; /* "": the server tells none */
	struct curl_slist *resolve;
	struct blk_dialer *dialer;
	CURLM *multi;
	struct http_socket sockets[HTTP_SOCKETS];
	int spare[HTTP_SOCKETS];        /* connected, for the library to take */
	unsigned n_spare, n_open;
	struct blk_watch timer;
	bool has_timer, has_changed;
	struct proto_ready ready;
	struct proto_cache *cache;
	struct co_queue turn;           /* waiting for less than HTTP_SOCKETS transfers */
	unsigned n_transfers;
};

static const struct blk_opt http_open_opts[] = {
	{ "cache", BLK_OPT_STRING, NULL, "folder for a file that keeps what was read, until the disk is closed", 0, 0,
	  NULL },
	{ "cache-size", BLK_OPT_SIZE, "1G", "how large that file may become", 1 << 20, 0, NULL },
	{ "tls-ca", BLK_OPT_STRING, NULL, "https: file with the certificates of authorities to trust", 0, 0, NULL },
	{ .name = NULL },
};

/* --- one transfer ------------------------------------------------------------------------------- */

struct http_get {
	struct http *h;
	struct proto_wait wait;
	uint64_t off, len;              /* wanted */
	uint8_t *buf;
	uint64_t got;
	bool has_range;                 /* the answer says which bytes it has, */
	uint64_t from, to, total;       /* these, of TOTAL */
	char tag[HTTP_TAG_MAX], modified[HTTP_TAG_MAX];
	char why[CURL_ERROR_SIZE];
};

static size_t http_body(char *data, size_t size, size_t n, void *arg)
{
	struct http_get *g = arg;

	(void)size;
	/* More than was asked for: a server without ranges. That ends the transfer. */
	if (n > g->len - g->got)
		return 0;
	memcpy(g->buf + g->got, data, n);
	g->got += n;
	return n;
}

static bool http_field(const char *line, size_t len, const char *name, char *out, size_t cap)
{
	size_t n = strlen(name);

	if (len <= n || strncasecmp(line, name, n) || line[n] != ':')
		return false;
	line += n + 1;
	len -= n + 1;
	while (len && (*line == ' ' || *line == '\t'))
		line++, len--;
	while (len && (line[len - 1] == '\r' || line[len - 1] == '\n' || line[len - 1] == ' '))
		len--;
	if (len >= cap)
		return false;
	memcpy(out, line, len);
	out[len] = '\0';
	return true;
}

static size_t http_header(char *data, size_t size, size_t n, void *arg)
{
	struct http_get *g = arg;
	char range[96];

	(void)size;
	/* A status line: what came before was of a redirect. */
	if (n > 5 && !strncmp(data, "HTTP/", 5)) {
		g->has_range = false;
		g->tag[0] = g->modified[0] = '\0';
	}
	http_field(data, n, "ETag", g->tag, sizeof(g->tag));
	http_field(data, n, "Last-Modified", g->modified, sizeof(g->modified));
	if (http_field(data, n, "Content-Range", range, sizeof(range)))
		g->has_range = sscanf(range, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, &g->from, &g->to,
				      &g->total) == 3;
	return n;
}

/* The library must not resolve names or connect by itself later on: sockets are those that were dialled. */
static curl_socket_t http_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct http *h = arg;

	(void)purpose;
	(void)address;
	return h->n_spare ? h->spare[--h->n_spare] : CURL_SOCKET_BAD;
}

static int http_close_socket(void *arg, curl_socket_t fd)
{
	((struct http *)arg)->n_open--;
	return close(fd);
}

static int http_connected(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	(void)arg;
	(void)fd;
	(void)purpose;
	return CURL_SOCKOPT_ALREADY_CONNECTED;
}

static void http_prepare(CURL *e, struct http_get *g, const char *url)
{
	struct curl_blob ca = { g->h->ca, g->h->ca_len, CURL_BLOB_NOCOPY };
	char range[64];

	snprintf(range, sizeof(range), "%" PRIu64 "-%" PRIu64, g->off, g->off + g->len - 1);
	curl_easy_setopt(e, CURLOPT_URL, url);
	curl_easy_setopt(e, CURLOPT_RANGE, range);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1l);
	curl_easy_setopt(e, CURLOPT_USERAGENT, "vivarium/" VIV_VERSION);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)HTTP_CONNECT_MS);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1l);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)HTTP_SILENCE_S);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, http_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, g);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, http_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, g);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, g->why);
	curl_easy_setopt(e, CURLOPT_PRIVATE, g);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	if (g->h->ca)
		curl_easy_setopt(e, CURLOPT_CAINFO_BLOB, &ca);
}

/* --- events of the library ---------------------------------------------------------------------- */

static void http_finished(struct http *h)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(h->multi, &left))) {
		struct http_get *g = NULL;
		CURLcode code = m->data.result;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &g);
		proto_done(&h->ready, &g->wait, code);
	}
}

static void http_act(struct http *h, curl_socket_t fd, int what)
{
	int running;

	curl_multi_socket_action(h->multi, fd, what, &running);
	http_finished(h);
	proto_wake(&h->ready);
}

static void http_event(struct loop_fd *fd, unsigned events)
{
	struct http_socket *s = container_of(container_of(fd, struct blk_watch, h), struct http_socket, watch);

	http_act(s->h, fd->fd, (events & LOOP_IN ? CURL_CSELECT_IN : 0) | (events & LOOP_OUT ? CURL_CSELECT_OUT : 0) |
		 (events & LOOP_HUP ? CURL_CSELECT_ERR : 0));
}

static void http_timeout(struct loop_fd *fd, unsigned events)
{
	struct http *h = container_of(container_of(fd, struct blk_watch, h), struct http, timer);
	uint64_t n;

	(void)events;
	if (read(fd->fd, &n, sizeof(n)) == sizeof(n))
		http_act(h, CURL_SOCKET_TIMEOUT, 0);
}

static int http_want_timer(CURLM *multi, long ms, void *arg)
{
	struct http *h = arg;
	struct itimerspec t = { .it_value = { ms / 1000, ms % 1000 * 1000000 } };

	(void)multi;
	if (!ms)
		t.it_value.tv_nsec = 1;
	if (ms < 0)
		t = (struct itimerspec){ 0 };
	timerfd_settime(h->timer.h.fd, 0, &t, NULL);
	return 0;
}

static struct http_socket *http_slot(struct http *h)
{
	for (int i = 0; i < HTTP_SOCKETS; i++)
		if (!h->sockets[i].is_used)
			return &h->sockets[i];
	return NULL;
}

static int http_want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *mine)
{
	unsigned events = (what & CURL_POLL_IN ? LOOP_IN : 0u) | (what & CURL_POLL_OUT ? LOOP_OUT : 0u);
	struct http *h = arg;
	struct http_socket *s = mine;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s) {
			blk_watch_del(h->b, &s->watch);
			s->is_used = false;
		}
		return curl_multi_assign(h->multi, fd, NULL) == CURLM_OK ? 0 : -1;
	}
	if (s)
		return blk_watch_mod(h->b, &s->watch, events) < 0 ? -1 : 0;
	s = http_slot(h);
	if (!s || blk_watch_add(h->b, &s->watch, fd, events, http_event) < 0)
		return -1;
	s->h = h;
	s->is_used = true;
	return curl_multi_assign(h->multi, fd, s) == CURLM_OK ? 0 : -1;
}

/* --- reading ------------------------------------------------------------------------------------ */

struct http_dial { struct http *h; int fd; };

static int64_t http_dial(void *arg)
{
	struct http_dial *d = arg;

	d->fd = blk_dialer_connect(d->h->dialer, HTTP_CONNECT_MS);
	return d->fd < 0 ? d->fd : 0;
}

/* A socket for a transfer that finds no idle connection. */
static int http_co_spare(struct http *h)
{
	struct http_dial d = { h, -1 };

	if (h->n_spare || h->n_open >= h->n_transfers)
		return 0;
	h->n_open++;
	int r = (int)blk_co_call(h->b, http_dial, &d);

	if (r < 0)
		h->n_open--;
	else
		h->spare[h->n_spare++] = d.fd;
	return r;
}

/* Is the answer what was asked for? -EAGAIN: it may be the next time. */
static int http_judge(struct http *h, struct http_get *g, CURLcode code, long status)
{
	bool is_same = !strcmp(g->tag, h->tag) && !strcmp(g->modified, h->modified);

	if (status == 412 || status == 404 || status == 410 || status == 416 || status == 200 ||
	    (status == 206 && (!is_same || (g->has_range && g->total != h->b->size)))) {
		log_error("disk '%s' has changed or gone on its server (status %ld): it cannot be read any more",
			  h->url, status);
		h->has_changed = true;
		return -ESTALE;
	}
	if (code != CURLE_OK || status >= 500 || status == 429 || status == 408) {
		log_debug("disk '%s': %s (status %ld)", h->url, g->why, status);
		return -EAGAIN;
	}
	if (status != 206 || !g->has_range || g->from != g->off || g->got != g->len)
		return -EIO;
	return 0;
}

static int http_co_once(struct http *h, struct http_get *g)
{
	CURL *e = curl_easy_init();
	struct curl_slist *match = NULL;
	char line[HTTP_TAG_MAX + 16];
	long status = 0;
	int r = e ? http_co_spare(h) : -ENOMEM;

	if (r < 0) {
		curl_easy_cleanup(e);
		return r == -ENOMEM ? r : -EAGAIN;
	}
	g->got = 0;
	g->wait = proto_wait_init();
	http_prepare(e, g, h->url);
	/* Weak tags must not be used here (RFC 9110, section 13.1.1). */
	if (h->tag[0] == '"') {
		snprintf(line, sizeof(line), "If-Match: %s", h->tag);
		match = curl_slist_append(NULL, line);
		curl_easy_setopt(e, CURLOPT_HTTPHEADER, match);
	}
	curl_easy_setopt(e, CURLOPT_RESOLVE, h->resolve);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, http_open_socket);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, h);
	curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, http_close_socket);
	curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, h);
	curl_easy_setopt(e, CURLOPT_SOCKOPTFUNCTION, http_connected);
	CURLMcode m = curl_multi_add_handle(h->multi, e);
	CURLcode code = m == CURLM_OK ? (CURLcode)proto_wait(&h->ready, &g->wait) : CURLE_OUT_OF_MEMORY;

	curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
	curl_multi_remove_handle(h->multi, e);
	curl_easy_cleanup(e);
	curl_slist_free_all(match);
	return http_judge(h, g, code, status);
}

static int64_t http_pause(void *arg)
{
	usleep(*(unsigned *)arg * 1000);
	return 0;
}

static int http_co_fetch(struct blk *b, uint64_t off, void *buf, size_t len)
{
	struct http *h = b->priv;
	struct http_get g = { .h = h, .off = off, .len = len, .buf = buf };
	unsigned pause_ms = HTTP_PAUSE_MS;
	int r = -EAGAIN;

	while (h->n_transfers >= HTTP_SOCKETS)
		co_queue_wait(&h->turn);
	h->n_transfers++;
	for (int i = 0; i < HTTP_TRIES && r == -EAGAIN && !h->has_changed; i++) {
		if (i)
			blk_co_call(b, http_pause, &pause_ms);
		pause_ms *= i ? 2 : 1;
		r = http_co_once(h, &g);
	}
	h->n_transfers--;
	co_queue_wake_one(&h->turn);
	return r ? -EIO : 0;
}

static int http_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct http *h = b->priv;

	return h->has_changed ? -EIO : proto_cache_co_read(h->cache, off, v.iov->iov_base, len);
}

static int http_co_info(struct blk *b, json_t *out, struct err *err)
{
	const struct http *h = b->priv;

	json_object_set_new(out, "url", json_string(h->url));
	json_object_set_new(out, "etag", json_string(h->tag));
	json_object_set_new(out, "last-modified", json_string(h->modified));
	return 0;
}

/* --- opening: on a thread ------------------------------------------------------------------------- */

struct http_open { struct http *h; const struct blk_opts *opts; const char *url; struct err err; uint64_t size; };

static int http_read_ca(struct http *h, const char *path, struct err *err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot open the certificates in '%s': %s", path, strerror(errno));
	if (st.st_size <= 0 || st.st_size > HTTP_CA_MAX)
		return err_set(err, -EINVAL, "'%s' is no file of certificates", path);
	h->ca = malloc((size_t)st.st_size);
	h->ca_len = (size_t)st.st_size;
	if (!h->ca || read(fd, h->ca, h->ca_len) != (ssize_t)h->ca_len)
		return err_set(err, -EIO, "cannot read the certificates in '%s'", path);
	return 0;
}

static int http_check_first(struct http_open *o, const struct http_get *g, CURLcode code, long status)
{
	if (status == 200 || (status == 206 && !g->has_range))
		return err_set(&o->err, -ENOTSUP, "the server of '%s' cannot send parts of files (range requests), "
			       "which a disk "
			       "needs; download it, or serve it otherwise", o->url);
	if (code != CURLE_OK && !status)
		return err_set(&o->err, code == CURLE_PEER_FAILED_VERIFICATION ? -EACCES : -EIO, "cannot read '%s': "
			       "%s", o->url,
			       g->why[0] ? g->why : curl_easy_strerror(code));
	if (status == 404 || status == 410)
		return err_set(&o->err, -ENOENT, "the server has no '%s'", o->url);
	if (status == 401 || status == 403)
		return err_set(&o->err, -EACCES, "the server does not give us '%s' (status %ld)", o->url, status);
	if (status != 206 || g->from || code != CURLE_OK)
		return err_set(&o->err, -EIO, "the server of '%s' answers with status %ld", o->url, status);
	return 0;
}

/* Where the disk is in the end, for those who connect later: a dialer and the answer of the name's look-up. */
static int http_settle(struct http_open *o, CURL *e)
{
	AUTO(blk_url_fini) struct blk_url u = { 0 };
	struct http *h = o->h;
	char *effective = NULL, entry[400];

	if (curl_easy_getinfo(e, CURLINFO_EFFECTIVE_URL, &effective) != CURLE_OK || !(h->url = strdup(effective)))
		return err_set(&o->err, -ENOMEM, "out of memory");
	int r = blk_url_parse(&u, h->url, &o->err);

	if (r < 0)
		return r;
	unsigned port = u.port ? u.port : !strcmp(u.scheme, "https") ? 443 : 80;

	/* The address does not matter: sockets come connected. */
	snprintf(entry, sizeof(entry), "%s:%u:127.0.0.1", u.host, port);
	h->resolve = strchr(u.host, ':') ? NULL : curl_slist_append(NULL, entry);
	return blk_dialer_new(&h->dialer, &(struct blk_dial){ .host = u.host, .port = (uint16_t)port }, &o->err);
}

static int64_t http_first(void *arg)
{
	struct http_open *o = arg;
	uint8_t byte;
	struct http_get g = { .h = o->h, .len = 1, .buf = &byte };
	const char *ca = blk_opts_str(o->opts, "tls-ca");
	long status = 0;

	curl_global_init(CURL_GLOBAL_DEFAULT);
	if (!ca && !strncmp(o->url, "https:", 6))
		ca = curl_version_info(CURLVERSION_NOW)->cainfo;
	int r = ca ? http_read_ca(o->h, ca, &o->err) : 0;
	CURL *e = curl_easy_init();

	if (r < 0 || !e) {
		curl_easy_cleanup(e);
		return r < 0 ? r : err_set(&o->err, -ENOMEM, "out of memory");
	}
	http_prepare(e, &g, o->url);
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 1l);
	curl_easy_setopt(e, CURLOPT_MAXREDIRS, (long)HTTP_REDIRECTS);
	CURLcode code = curl_easy_perform(e);

	curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
	r = http_check_first(o, &g, code, status);
	if (!r)
		r = http_settle(o, e);
	curl_easy_cleanup(e);
	o->size = g.total;
	memcpy(o->h->tag, g.tag, sizeof(g.tag));
	memcpy(o->h->modified, g.modified, sizeof(g.modified));
	return r;
}

static int http_start(struct http *h, struct err *err)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	h->multi = curl_multi_init();
	if (fd < 0 || !h->multi || blk_watch_add(h->b, &h->timer, fd, LOOP_IN, http_timeout) < 0) {
		if (fd >= 0)
			close(fd);
		return err_set(err, -ENOMEM, "cannot begin to read '%s': out of memory", h->b->name);
	}
	h->has_timer = true;
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, http_want_socket);
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, http_want_timer);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)HTTP_SOCKETS);
	return 0;
}

static int http_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	struct http *h = b->priv;
	struct http_open o = { .h = h, .opts = opts, .url = b->opening->path, .err = ERR_INIT };

	h->b = b;
	int r = (int)blk_co_call(b, http_first, &o);

	if (r < 0)
		return err_set(err, r, "%s", o.err.msg);
	if (o.size > INT64_MAX)
		return err_set(err, -EFBIG, "'%s' is too large", b->name);
	b->size = o.size;
	r = http_start(h, err);
	if (!r)
		r = proto_cache_new(&h->cache, b, blk_opts_str(opts, "cache"), blk_opts_num(opts, "cache-size"),
				    http_co_fetch, err);
	return r;
}

static void http_co_close(struct blk *b)
{
	struct http *h = b->priv;

	if (h->multi)
		curl_multi_cleanup(h->multi);
	if (h->has_timer) {
		blk_watch_del(b, &h->timer);
		close(h->timer.h.fd);
	}
	while (h->n_spare)
		close(h->spare[--h->n_spare]);
	proto_cache_free(h->cache);
	blk_dialer_free(h->dialer);
	curl_slist_free_all(h->resolve);
	free(h->ca);
	free(h->url);
}

static const struct blk_driver http_driver = {
	.name = "http",
	.title = "a file on a web server, for reading",
	.flags = BLK_DRIVER_PROTOCOL,
	.priv_size = sizeof(struct http),
	.open_opts = http_open_opts,
	.co_open = http_co_open,
	.co_close = http_co_close,
	.co_preadv = http_co_preadv,
	.co_info = http_co_info,
	.submit = blk_proto_submit,
};

BLK_PLUGIN(http_driver);
