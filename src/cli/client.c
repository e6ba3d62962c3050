/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli/client_priv.h"
#include "cli/progress.h"
#include "util/checked.h"
#include "util/dirs.h"
#include "util/log.h"
#include "util/unixsock.h"

enum { START_MS = 10000, START_STEP_MS = 10, POLL_MS = 50, DISK_TURNS = 40, REPLY_MAX = 64 << 20 };

/* --- the daemon ---------------------------------------------------- */

static bool is_there(const char *socket)
{
	AUTO_FD int fd = unixsock_connect(socket, NULL);

	return fd >= 0;
}

static void __attribute__((noreturn)) start_child(const char *vivd, int log)
{
	int null = open("/dev/null", O_RDWR);

	setsid();
	if (dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 && dup2(log, STDERR_FILENO) >= 0) {
		(void)close_range(STDERR_FILENO + 1, ~0u, 0);
		execl(vivd, vivd, "--log-level", "info", NULL);
	}
	_exit(EXIT_FAILURE);
}

/* Who else could put a socket into RUN would be taken for this user's daemon: without XDG_RUNTIME_DIR it is in /tmp. */
static int check_run(const char *run, struct err *err)
{
	struct stat st;

	if (lstat(run, &st) < 0)
		return errno == ENOENT ? 0 : err_set(err, -errno, "cannot look at '%s': %s; set XDG_RUNTIME_DIR to a folder of your own", run, strerror(errno));
	if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 022))
		return 0;
	return err_set(err, -EPERM, "'%s' is not a folder that this user alone can write to: what serves there may be anybody's; remove it, or set "
		       "XDG_RUNTIME_DIR to a folder of your own", run);
}

/* Start this user's daemon, and wait until it serves SOCKET in the folder RUN. */
static int start_daemon(const char *socket, const char *run, struct err *err)
{
	AUTO(free) char *vivd = dirs_program("vivd");
	char log_path[512];
	pid_t pid;

	if (!vivd)
		return err_set(err, -ENOENT,
			       "no daemon serves '%s', and the program 'vivd' is not installed beside this one",
			       socket);
	if (mkdir(run, 0700) < 0 && errno != EEXIST && errno != ENOENT)
		return err_set(err, -errno, "cannot make '%s': %s; set XDG_RUNTIME_DIR to a folder that you can write to", run, strerror(errno));
	snprintf(log_path, sizeof(log_path), "%s/vivd.log", run);
	AUTO_FD int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (log < 0)
		return err_set(err, -errno, "cannot open '%s': %s", log_path, strerror(errno));
	if ((pid = fork()) < 0)
		return err_set(err, -errno, "cannot start '%s': %s", vivd, strerror(errno));
	if (!pid)
		start_child(vivd, log);
	for (unsigned ms = 0; ms < START_MS && !is_there(socket); ms += START_STEP_MS) {
		/* A second daemon that was started at the same time ends, which is fine. */
		usleep(START_STEP_MS * 1000);
	}
	if (is_there(socket))
		return 0;
	return err_set(err, -ECONNREFUSED, "the daemon does not serve '%s'; what it said is in '%s'", socket, log_path);
}

/* The daemon on this host; this user's is started when it is not there. */
static int open_local(struct client *cl, const char *socket, struct err *err)
{
	AUTO(free) char *run = dirs_run();

	if (!run || (!socket && asprintf(&cl->socket, "%s/api.sock", run) < 0) || (socket && !(cl->socket = strdup(socket))))
		return err_set(err, -ENOMEM, "out of memory");
	if (!socket && check_run(run, err) < 0)
		return err->code;
	if (!is_there(cl->socket)) {
		int r = socket ? err_set(err, -ECONNREFUSED, "no daemon serves '%s': start one ('vivd'), or name another's socket, or its --host", socket)
			       : start_daemon(cl->socket, run, err);

		return r;
	}
	return 0;
}

int client_open(struct client **out, const struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = calloc(1, sizeof(*cl));
	const char *socket = cli_str(c, "--socket"), *host = cli_str(c, "--host");

	if (!cl)
		return err_set(err, -ENOMEM, "out of memory");
	if (host && socket)
		return err_set(err, -EINVAL, "--host and --socket are two daemons; give one");
	if (!host && !socket && getenv("VIV_HOST") && getenv("VIV_HOST")[0])
		host = getenv("VIV_HOST");
	cl->project = cli_str(c, "--project");
	int r = late_curl_load(&cl->lib, err);
	if (r < 0)
		return r;
	cl->curl = cl->lib.easy_init();
	if (!cl->curl)
		return err_set(err, -ENOMEM, "cannot set up libcurl");
	/* Any line turns cookies on, and they outlast resets. CURLOPT_COOKIEFILE would, too, but each reset leaks what it has. */
	cl->lib.easy_setopt(cl->curl, CURLOPT_COOKIELIST, "Set-Cookie:");
	r = host ? client_open_remote(cl, host, err) : open_local(cl, socket, err);
	if (r < 0)
		return r;
	*out = take_ptr(&cl);
	return 0;
}

bool client_is_remote(const struct client *cl)
{
	return cl->url != NULL;
}

int client_use_session(struct client *cl, const char *csrf, struct err *err)
{
	free(cl->csrf);
	cl->csrf = csrf ? strdup(csrf) : NULL;
	return csrf && !cl->csrf ? err_set(err, -ENOMEM, "out of memory") : 0;
}

void client_close(struct client *cl)
{
	if (!cl)
		return;
	if (cl->curl)
		cl->lib.easy_cleanup(cl->curl);
	json_decref(cl->known);
	free(cl->token);
	free(cl->csrf);
	free(cl->url);
	free(cl->socket);
	free(cl);
}

/* --- requests ---------------------------------------------------- */

size_t client_on_reply(char *data, size_t size, size_t n, void *arg)
{
	struct client_reply *rep = arg;
	char *more = rep->len + n < REPLY_MAX ? realloc(rep->data, rep->len + n + 1) : NULL;

	(void)size;
	if (!more)
		return 0;
	rep->data = more;
	memcpy(rep->data + rep->len, data, n);
	rep->len += n;
	rep->data[rep->len] = 0;
	return n;
}

/* What is not there is of a kind that a command lists: " - 'viv volume ls' ..." goes to HINT. */
static void hint_at_list(const char *text, char *hint, size_t cap)
{
	char kind[16], list[] = "ls", *words[] = { kind, list };
	int n = 0;

	*hint = 0;
	if (!text || strchr(text, ';') || sscanf(text, "there is no %15[a-z] '", kind) != 1)
		return;
	if (!strcmp(kind, "instance"))
		snprintf(hint, cap, "; 'viv ls' lists those that are there");
	else if (!strcmp(kind, "snapshot"))
		snprintf(hint, cap, "; 'viv snapshot ls MACHINE' lists those that are there");
	else if (cli_find(2, words, &n))
		snprintf(hint, cap, "; 'viv %s ls' lists those that are there", kind);
}

int client_error_of(long status, const char *data, size_t len, struct err *err)
{
	static const struct { const char *code; int error; } codes[] = {
		{ "invalid", EINVAL },    { "not_found", ENOENT }, { "unauthenticated", EACCES },
		{ "forbidden", EPERM },   { "exists", EEXIST },    { "busy", EBUSY },
		{ "changed", ESTALE },    { "too_long", EFBIG },   { "not_supported", ENOTSUP },
		{ "quota", EDQUOT },      { "no_space", ENOSPC },  { "try_again", EAGAIN },
		{ "timeout", ETIMEDOUT }, { "too_many", EAGAIN }, { "offset", ESPIPE },
		{ "read_only", EROFS }, { "disk", EIO },      { "no_agent", ENOTCONN }, { "refused", EREMOTEIO },
	};
	AUTO(json_decref) json_t *doc = data ? json_loadb(data, len, 0, NULL) : NULL;
	const json_t *error = json_object_get(doc, "error");
	const char *code = json_string_value(json_object_get(error, "code")),
		   *text = json_string_value(json_object_get(error, "message"));
	const char *field = json_string_value(json_object_get(error, "field"));
	char hint[80] = "";

	if (code && !strcmp(code, "not_found"))
		hint_at_list(text, hint, sizeof(hint));
	for (unsigned i = 0; code && i < ARRAY_LEN(codes); i++) {
		if (!strcmp(codes[i].code, code))
			return err_set(err, -codes[i].error, "%s%s%s%s", field ? field : "", field ? ": " : "",
				       text ? text : code, hint);
	}
	return err_set(err, -EIO, "the daemon answers with status %ld%s%s", status, text ? ": " : "", text ? text : "");
}

struct curl_slist *client_headers(const struct client *cl, const char *type)
{
	char kind[64];
	AUTO(free) char *line = NULL;

	snprintf(kind, sizeof(kind), "content-type: %s", type);
	struct curl_slist *list = cl->lib.slist_append(NULL, kind);

	if (cl->csrf && asprintf(&line, "x-viv-csrf: %s", cl->csrf) > 0)
		return cl->lib.slist_append(list, line);
	if (cl->token && asprintf(&line, "authorization: Bearer %s", cl->token) > 0)
		return cl->lib.slist_append(list, line);
	return list;
}

int client_explain(const struct client *cl, int r, struct err *err)
{
	if (cl->url && r == CURLE_PEER_FAILED_VERIFICATION)
		return err_set(err, -EACCES, "the certificate of '%s' is not known; 'viv login --host %s' makes it known", cl->url,
			       cl->url);
	if (cl->url && r == CURLE_SSL_PINNEDPUBKEYNOTMATCH)
		return err_set(err, -EACCES, "'%s' shows another key than before: it has a new certificate, or somebody is in "
			       "between; 'viv logout --host %s --forget' forgets the old one", cl->url, cl->url);
	return err_set(err, -ECONNRESET, "cannot talk to the daemon at '%s': %s", cl->url ? cl->url : cl->socket,
		       cl->lib.easy_strerror(r));
}

bool client_names_project(const char *method, const char *path)
{
	/* What is the node's, somebody's own, or the project itself. */
	static const char *const elsewhere[] = { "audit", "events", "login", "logout", "metrics", "node", "openapi.json", "pools", "projects",
						 "session", "setup", "tokens", "usage", "users" };
	const char *kind = path + strlen("/v1/");
	size_t len = strcspn(kind, "/?");

	for (unsigned i = 0; i < ARRAY_LEN(elsewhere); i++)
		if (strlen(elsewhere[i]) == len && !strncmp(kind, elsewhere[i], len))
			return false;
	/* Publishers' are there for all; the task that fetches one is a project's. */
	return strncmp(kind, "catalogues", len) != 0 || strcmp(method, "GET") != 0;
}

/* The address of PATH; from malloc(). */
static char *url_of(const struct client *cl, const char *method, const char *path)
{
	char *project = client_names_project(method, path) ? cl->lib.easy_escape(cl->curl, cl->project, 0) : NULL, *url;
	const char *host = cl->url ? cl->url : "http://viv";
	int n = project ? asprintf(&url, "%s%s%cproject=%s", host, path, strchr(path, '?') ? '&' : '?', project) :
		asprintf(&url, "%s%s", host, path);

	cl->lib.free(project);
	return n < 0 ? NULL : url;
}

int client_setup(struct client *cl, const char *method, const char *path, struct curl_slist *headers, struct err *err)
{
	AUTO(free) char *url = url_of(cl, method, path);

	cl->lib.easy_reset(cl->curl);
	if (cl->url)
		client_set_tls(cl, cl->curl);
	else
		cl->lib.easy_setopt(cl->curl, CURLOPT_UNIX_SOCKET_PATH, cl->socket);
	cl->lib.easy_setopt(cl->curl, CURLOPT_URL, url);
	cl->lib.easy_setopt(cl->curl, CURLOPT_CUSTOMREQUEST, method);
	cl->lib.easy_setopt(cl->curl, CURLOPT_HTTPHEADER, headers);
	cl->lib.easy_setopt(cl->curl, CURLOPT_NOSIGNAL, 1L);
	return url ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int perform(struct client *cl, const char *method, const char *path, const char *body, struct client_reply *rep,
		   struct err *err)
{
	struct curl_slist *headers = client_headers(cl, "application/json");
	long status = 0;
	int bad = client_setup(cl, method, path, headers, err);

	cl->wrong[0] = 0;
	cl->lib.easy_setopt(cl->curl, CURLOPT_WRITEFUNCTION, client_on_reply);
	cl->lib.easy_setopt(cl->curl, CURLOPT_WRITEDATA, rep);
	/* Without a length the server would take the next request on this connection for what is posted. */
	if (body || !strcmp(method, "POST"))
		cl->lib.easy_setopt(cl->curl, CURLOPT_POSTFIELDS, body ? body : "");
	CURLcode r = bad ? CURLE_OUT_OF_MEMORY : cl->lib.easy_perform(cl->curl);
	cl->lib.easy_getinfo(cl->curl, CURLINFO_RESPONSE_CODE, &status);
	cl->lib.slist_free_all(headers);
	if (bad)
		return bad;
	if (r != CURLE_OK)
		return client_explain(cl, r, err);
	if (status < 400)
		return 0;
	AUTO(json_decref) json_t *doc = rep->data ? json_loadb(rep->data, rep->len, 0, NULL) : NULL;
	const char *field = json_string_value(json_object_get(json_object_get(doc, "error"), "field"));

	snprintf(cl->wrong, sizeof(cl->wrong), "%s", field ? field : "");
	return client_error_of(status, rep->data, rep->len, err);
}

const char *client_wrong_field(const struct client *cl)
{
	return cl->wrong;
}

int client_call(struct client *cl, const char *method, const json_t *body, json_t **out, struct err *err,
		const char *fmt, ...)
{
	char path[1024];
	struct client_reply rep = { .data = NULL };
	AUTO(free) char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	if (body && !text)
		return err_set(err, -ENOMEM, "out of memory");
	int r = perform(cl, method, path, text, &rep, err);
	if (!r && out) {
		*out = rep.len ? json_loadb(rep.data, rep.len, 0, NULL) : NULL;
		if (rep.len && !*out)
			r = err_set(err, -EPROTO, "the daemon's answer is no JSON");
	}
	free(rep.data);
	return r;
}

int client_get_bytes(struct client *cl, char **out, size_t *len, struct err *err, const char *fmt, ...)
{
	char path[1024];
	struct client_reply rep = { .data = NULL };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	int r = perform(cl, "GET", path, NULL, &rep, err);
	if (r < 0) {
		free(rep.data);
		return r;
	}
	*out = rep.data;
	*len = rep.len;
	return 0;
}

/* --- waiting ---------------------------------------------------- */

static bool is_among(const char *states, const char *state)
{
	size_t n = strlen(state);

	for (const char *p = states; *p; p += strcspn(p, " "), p += *p == ' ')
		if (strcspn(p, " ") == n && !memcmp(p, state, n))
			return true;
	return false;
}

/* What has ended badly on a disk that is full cannot be noted there either: whoever waits is told what it waits for. LAST is what was told. */
static void tell_of_disk(struct client *cl, char *last, size_t cap)
{
	struct err ignored = ERR_INIT;
	AUTO(json_decref) json_t *node = NULL;
	const json_t *disk = client_call(cl, "GET", NULL, &node, &ignored, "/v1/node") < 0 ? NULL : json_object_get(node, "disk");
	const char *state = json_string_value(json_object_get(disk, "state")), *reason = json_string_value(json_object_get(disk, "reason"));

	if (!state || strcmp(state, "failing") != 0 || !reason || !strcmp(last, reason))
		return;
	log_warn("%s", reason);
	snprintf(last, cap, "%s", reason);
}

int client_wait(struct client *cl, const char *path, const char *states, json_t **out,
		void (*tell)(const char *sentence), struct err *err)
{
	return client_wait_news(cl, path, states, NULL, out, tell, err);
}

int client_wait_news(struct client *cl, const char *path, const char *states, const json_t *before, json_t **out,
		     void (*tell)(const char *sentence), struct err *err)
{
	char last[512] = "", disk[512] = "";

	for (unsigned turn = 1;; turn++) {
		AUTO(json_decref) json_t *doc = NULL;
		int r = client_call(cl, "GET", NULL, &doc, err, "%s", path);

		if (r < 0)
			return r;
		const json_t *status = json_object_get(doc, "status");
		const char *state = json_string_value(json_object_get(status, "state"));
		const char *reason = json_string_value(json_object_get(status, "reason"));

		if (state && is_among(states, state)) {
			if (out)
				*out = json_incref(doc);
			return 0;
		}
		if (state && !strcmp(state, "failed") && !(before && json_equal(status, before)))
			return err_set(err, -EIO, "%s", reason);
		if (tell && reason && strcmp(last, reason) != 0)
			tell(reason);
		snprintf(last, sizeof(last), "%s", reason ? reason : "");
		if (turn % DISK_TURNS == 0)
			tell_of_disk(cl, disk, sizeof(disk));
		if (progress_is_interrupted())
			return err_set(err, -EINTR, "interrupted; what was begun goes on");
		usleep(POLL_MS * 1000);
	}
}
