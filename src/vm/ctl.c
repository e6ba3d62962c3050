/* SPDX-License-Identifier: Apache-2.0 */
/* ctl.c - `viv-vmm ctl`: one request to the control socket of a machine, for people and scripts.
 *
 * Values are typed by the table of requests, in its order or as KEY=VALUE. A file that a request writes
 * is made here, under another name until the machine says that it is whole, and handed over as a descriptor:
 * so the machine needs no right to make files. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "blk/url.h"
#include "util/checked.h"
#include "util/frames.h"
#include "util/unixsock.h"
#include "vm/ctl_priv.h"
#include "vm/migrate.h"
#include "vm/migrate_tls.h"

enum { FILE_MODE = 0600 };

struct ctl {
	const struct control_request *request;
	json_t *params;
	bool is_json;
	int fd[CONTROL_FDS_MAX];        /* new files */
	unsigned n_fds;
	char *path, *tmp_path;          /* of the new file; NULL: none */
	const char *image;              /* to be handed over; NULL: none */
	bool is_image_new;              /* we made it */
	int secret;                     /* a memory file with the passphrase, to be handed over behind all others; -1: none */
	const char *machine;            /* path of its control socket */
	const char *address;            /* to be connected to, and handed over; NULL: none */
	char *console_socket;           /* that plug has made; NULL: none */
	int sock;
	const struct ctl_guard *guard;  /* NULL: an interruption ends this process at once */
};

static int ctl_fail(int status, const struct err *err)
{
	fprintf(stderr, "viv-vmm ctl: %s\n", err->msg);
	return status;
}

/* --- arguments --- */

static int ctl_open_new(struct ctl *c, const char *path, struct err *err)
{
	int fd = ctl_file_make(&c->tmp_path, path, err);

	if (fd < 0)
		return fd;
	c->fd[c->n_fds++] = fd;
	c->path = strdup(path);
	return c->path ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int ctl_take(struct ctl *c, const struct control_param *p, const char *text, struct err *err)
{
	json_t *v = NULL;

	if (p->kind == CONTROL_NEW_FILE)
		return ctl_open_new(c, text, err);
	if (p->kind == CONTROL_SECRET) {
		c->secret = ctl_secret_open(text, err);
		return c->secret < 0 ? c->secret : 0;
	}
	if (p->kind == CONTROL_IMAGE) {
		c->image = text;        /* opened when it is known whether it is new */
		return 0;
	}
	if (p->kind == CONTROL_SOCKET || p->kind == CONTROL_SOCKETS) {
		c->address = text;      /* connected to when it is known how often */
		return 0;
	}
	int r = control_parse_param(&v, p, text, err);
	if (!r && json_object_set_new(c->params, p->name, v) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	return r;
}

/* "--stop" and "stop" are the switch on, "mode=raw" and "--mode=raw" name a parameter. */
static const struct control_param *ctl_named(const struct ctl *c, const char *arg, const char **value)
{
	const char *name = arg[0] == '-' && arg[1] == '-' ? arg + 2 : arg;
	size_t n = strcspn(name, "=");

	for (const struct control_param *p = c->request->params; p && p->name; p++) {
		bool is_bare = p->kind == CONTROL_BOOL || strchr(p->metavar, '[') == p->metavar + n;

		if (strlen(p->name) != n || memcmp(p->name, name, n) || (!name[n] && !is_bare))
			continue;
		*value = name[n] ? name + n + 1 : p->kind == CONTROL_BOOL ? "on" : "";
		return p;
	}
	return NULL;
}

/* Is P always typed with its name? */
static bool ctl_has_name(const struct control_param *p)
{
	size_t n = strlen(p->name);

	return !strncmp(p->metavar, "--", 2) || (!strncmp(p->metavar, p->name, n) && (p->metavar[n] == '=' || p->metavar[n] == '['));
}

static bool ctl_has(const struct ctl *c, const struct control_param *p)
{
	if (p->kind == CONTROL_IMAGE)
		return c->image != NULL;
	if (p->kind == CONTROL_DEVICE || p->kind == CONTROL_FILES)
		return true;            /* not typed */
	if (p->kind == CONTROL_SECRET)
		return c->secret >= 0;
	if (p->kind == CONTROL_SOCKET || p->kind == CONTROL_SOCKETS)
		return c->address != NULL;
	return control_is_fd(p) ? c->path != NULL : json_object_get(c->params, p->name) != NULL;
}

static int ctl_parse_one(struct ctl *c, const char *arg, struct err *err)
{
	const char *value = arg;
	const struct control_param *p = ctl_named(c, arg, &value);

	if (!p && !strncmp(arg, "--", 2))
		return err_set(err, -EINVAL, "'%s' has no parameter '%s'", c->request->name, arg + 2);
	for (const struct control_param *q = c->request->params; !p && q && q->name; q++) {
		if (!ctl_has(c, q) && !ctl_has_name(q))
			p = q;
	}
	if (!p)
		return err_set(err, -EINVAL, "'%s' does not take '%s'", c->request->name, arg);
	if (ctl_has(c, p))
		return err_set(err, -EINVAL, "'%s' is given twice", p->name);
	return ctl_take(c, p, value, err);
}

/* The machine gets the file and the name under which it will be found. */
static int ctl_open_image(struct ctl *c, struct err *err)
{
	bool is_new = json_is_true(json_object_get(c->params, "new"));
	bool is_remote = blk_url_is(c->image);

	if (is_remote && is_new)
		return err_set(err, -EINVAL, "'%s' is not made: what is there is written over", c->image);
	int fd = is_remote ? ctl_target_connect(c->image, err) : open(c->image, O_RDWR | O_CLOEXEC | (is_new ? O_CREAT | O_EXCL : 0), FILE_MODE);

	if (fd < 0 && is_remote)
		return fd;
	if (fd < 0)
		return err_set(err, -errno, "cannot %s '%s': %s", is_new ? "make" : "open", c->image, strerror(errno));
	c->fd[c->n_fds++] = fd;
	c->is_image_new = is_new;
	AUTO(free) char *path = is_remote ? strdup(c->image) : realpath(c->image, NULL);
	json_t *v = path ? json_string(path) : NULL;

	if (!v)
		return err_set(err, -EINVAL, "cannot tell the path of '%s' in UTF-8", c->image);
	return json_object_set_new_nocheck(c->params, "path", v) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

static int ctl_speak_tls(struct ctl *c, struct err *err)
{
	const char *folder = control_get_string(c->params, "tls", NULL), *name = control_get_string(c->params, "tls_name", NULL);

	if (!folder)
		return name ? err_set(err, -EINVAL, "'tls_name' without 'tls'") : 0;
	AUTO(free) char *host = name ? strdup(name) : migrate_host(c->address, err);
	struct migrate_tls t = { .folder = folder, .peer = host, .has_jail = true };

	return host ? migrate_tls_connect(c->fd, c->n_fds, &t, err) : -EINVAL;
}

/* "with-disks" alone is all that the guest can write to. */
static int ctl_name_disks(struct ctl *c, struct err *err)
{
	const char *names = control_get_string(c->params, "with-disks", NULL);
	AUTO(json_decref) json_t *info = NULL;
	json_t *disk;
	size_t i;
	int r = 0;

	if (!names || *names)
		return 0;
	r = ctl_ask(c->machine, "info", NULL, -1, &info, err);
	AUTO(free) char *all = r ? NULL : strdup("");
	json_array_foreach(json_object_get(info, "disks"), i, disk) {
		char *more = NULL;

		if (!all || json_is_true(json_object_get(disk, "readonly")))
			continue;
		if (asprintf(&more, "%s%s%s", all, *all ? "," : "", json_string_value(json_object_get(disk, "name"))) < 0)
			more = NULL;
		free(all);
		all = more;
	}
	if (r < 0)
		return r;
	if (all && !*all)
		return err_set(err, -EINVAL, "with-disks: the machine has no disk that its guest can write to");
	return !all || json_object_set_new(c->params, "with-disks", json_string(all)) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

static int ctl_connect(struct ctl *c, struct err *err)
{
	int r = ctl_name_disks(c, err);
	uint64_t n = control_sockets(c->request, c->params);

	if (r < 0)
		return r;
	if (!n)
		return err_set(err, -EINVAL, "streams: 1 to %d", MIGRATE_STREAMS_MAX);
	if (n > CONTROL_FDS_MAX)
		return err_set(err, -EINVAL, "streams, with-disks: %d connections at most", CONTROL_FDS_MAX);
	while (c->n_fds < n) {
		int fd = migrate_connect(c->address, err);

		if (fd < 0)
			return fd;
		c->fd[c->n_fds++] = fd;
	}
	return ctl_speak_tls(c, err);
}

static int ctl_open_device(struct ctl *c, struct err *err)
{
	const struct control_param *p = c->request->params;
	int fd = -1, r;

	while (p && p->name && p->kind != CONTROL_DEVICE)
		p++;
	if (!p || !p->name)
		return 0;
	r = json_object_get(c->params, "type") ? ctl_plug_open(c->params, &fd, &c->console_socket, err)
					       : ctl_medium_open(c->params, &fd, err);
	if (fd < 0)
		return r;
	c->fd[c->n_fds++] = fd;
	int n = ctl_plug_files(c->params, c->fd + c->n_fds, CONTROL_FDS_MAX - c->n_fds, err);

	c->n_fds += n < 0 ? 0 : (unsigned)n;
	return n < 0 ? n : 0;
}

/* The request's name has been found; its values follow. 0; 1: help was wanted. */
static int ctl_parse(struct ctl *c, int argc, char **argv, struct err *err)
{
	if (!strcmp(c->request->name, "agent-exec"))
		return ctl_agent_exec_parse(c->params, argc, argv, &c->is_json, err);
	for (int i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "--help"))
			return 1;
		if (!strcmp(argv[i], "--json")) {
			c->is_json = true;
			continue;
		}
		int r = ctl_parse_one(c, argv[i], err);
		if (r < 0)
			return r;
	}
	for (const struct control_param *p = c->request->params; p && p->name; p++) {
		if (p->is_required && !ctl_has(c, p))
			return err_set(err, -EINVAL, "'%s' needs %s: %s", c->request->name, p->metavar, p->help);
	}
	int r = c->address ? ctl_connect(c, err) : c->image ? ctl_open_image(c, err) : ctl_open_device(c, err);
	if (!r && c->secret >= 0) {
		c->fd[c->n_fds++] = c->secret;
		c->secret = -1;
	}
	return r;
}

/* --- results --- */

static void ctl_print_value(const char *name, const json_t *v, int depth);

static void ctl_print_members(json_t *v, int depth)
{
	const char *key;
	json_t *e;
	size_t i;

	if (json_is_object(v)) {
		json_object_foreach(v, key, e)
			ctl_print_value(key, e, depth);
	} else {
		json_array_foreach(v, i, e) {
			char number[24];

			snprintf(number, sizeof(number), "%zu", i);
			ctl_print_value(number, e, depth);
		}
	}
}

static void ctl_print_value(const char *name, const json_t *v, int depth)
{
	printf("%*s%s:", 2 * depth, "", name);
	if (json_is_object(v) || json_is_array(v)) {
		printf("%s\n", json_object_size(v) || json_array_size(v) ? "" : " none");
		ctl_print_members((json_t *)v, depth + 1);
		return;
	}
	AUTO(free) char *text = json_is_string(v) ? strdup(json_string_value(v)) : json_dumps(v, JSON_ENCODE_ANY);
	printf(" %s\n", text ? text : "?");
}

static void ctl_print(const struct ctl *c, json_t *v, const char *text)
{
	if (c->is_json)
		printf("%s\n", text);
	else
		ctl_print_members(v, 0);
	fflush(stdout);
}

/* --- files --- */

static void ctl_drop_file(struct ctl *c)
{
	if (c->tmp_path)
		unlink(c->tmp_path);
	if (c->is_image_new)
		unlink(c->image);
	if (c->console_socket)
		unlink(c->console_socket);
}

/* --- talk --- */

static int ctl_send(struct ctl *c, struct err *err)
{
	AUTO(json_decref) json_t *doc = json_pack("{s:s, s:O, s:i}", "request", c->request->name, "params", c->params, "id", 1);
	AUTO(free) char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;

	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	if (strlen(text) > CONTROL_REQUEST_MAX)
		return err_set(err, -EMSGSIZE, "the request is too long: it would have %zu bytes, and may have %d", strlen(text),
			       CONTROL_REQUEST_MAX);
	int r = frames_send(c->sock, text, strlen(text), c->fd, c->n_fds);
	return r < 0 ? err_set(err, r, "cannot send the request: %s", strerror(-r)) : 0;
}

/* The next message. 1; 0: the machine has closed the connection. */
static int ctl_receive(struct ctl *c, char **text, json_t **doc, struct err *err)
{
	size_t len;
	int r = frames_receive(c->sock, CONTROL_REPLY_MAX, text, &len);

	if (r < 0)
		return err_set(err, r, "the connection to the machine broke: %s", strerror(-r));
	if (!r)
		return 0;
	*doc = json_loadb(*text, len, JSON_REJECT_DUPLICATES, NULL);
	return json_is_object(*doc) ? 1 : err_set(err, -EPROTO, "the machine's answer is not understood");
}

static const char *ctl_string(const json_t *doc, const char *key)
{
	const char *text = json_string_value(json_object_get(doc, key));

	return text ? text : "";
}

static void ctl_print_event(const json_t *doc)
{
	printf("%s", ctl_string(doc, "event"));
	if (json_object_get(doc, "job"))
		printf(" %s %s %" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT, ctl_string(doc, "job"), ctl_string(doc, "status"),
		       json_integer_value(json_object_get(doc, "done")), json_integer_value(json_object_get(doc, "total")));
	if (json_object_get(doc, "phase"))
		printf(" %s, %" JSON_INTEGER_FORMAT " bytes left", ctl_string(doc, "phase"),
		       json_integer_value(json_object_get(doc, "left")));
	if (json_object_get(doc, "device"))
		printf(" %s", ctl_string(doc, "device"));
	printf("%s%s\n", json_object_get(doc, "reason") ? ": " : "", ctl_string(doc, "reason"));
}

/* After "events": print until the machine closes. */
static int ctl_follow(struct ctl *c, struct err *err)
{
	for (;;) {
		AUTO(free) char *text = NULL;
		AUTO(json_decref) json_t *doc = NULL;
		int r = ctl_receive(c, &text, &doc, err);

		if (r <= 0)
			return r < 0 ? ctl_fail(CTL_LOST, err) : CTL_DONE;
		if (c->is_json)
			printf("%s\n", text);
		else
			ctl_print_event(doc);
		fflush(stdout);
	}
}

static int ctl_refused(struct ctl *c, json_t *error, const char *text)
{
	const char *message = json_string_value(json_object_get(error, "message"));

	if (c->is_json)
		printf("%s\n", text);
	fprintf(stderr, "viv-vmm ctl: %s\n", message ? message : "the machine refused and gave no reason");
	return CTL_REFUSED;
}

/* For the answer. False: nobody waits for the file any more. A machine that ends when it is saved is in that file, and nowhere else: then
 * there is no way back. */
static bool ctl_wait(const struct ctl *c)
{
	struct pollfd p[] = { { .fd = c->sock, .events = POLLIN }, { .fd = c->guard ? c->guard->fd : -1, .events = POLLIN } };

	if (control_get_bool(c->params, "stop", false))
		return true;
	while (poll(p, ARRAY_LEN(p), -1) < 0)
		continue;
	return p[0].revents;
}

static int ctl_talk(struct ctl *c, struct err *err)
{
	AUTO(free) char *text = NULL;
	AUTO(json_decref) json_t *doc = NULL;
	int r = ctl_send(c, err), said;

	/* A machine that turns us away says why, and may have gone before it was asked. */
	if (r == -EPIPE && (said = ctl_receive(c, &text, &doc, NULL)) > 0)
		r = said;
	else if (!r)
		r = ctl_wait(c) ? ctl_receive(c, &text, &doc, err) : err_set(err, -EINTR, "interrupted; the machine goes on");
	if (!r)
		r = err_set(err, -EPIPE, "the machine has closed the connection without an answer");
	if (r < 0)
		return ctl_fail(r == -EMSGSIZE ? CTL_USAGE : CTL_LOST, err);
	if (json_object_get(doc, "error"))
		return ctl_refused(c, json_object_get(doc, "error"), text);
	if (c->path && ctl_file_keep(c->tmp_path, c->path, err) < 0)
		return ctl_fail(CTL_REFUSED, err);
	if (!strcmp(c->request->name, "events"))
		return ctl_follow(c, err);
	ctl_print(c, json_object_get(doc, "result"), text);
	return CTL_DONE;
}

/* The same, which interrupted leaves no file. */
static int ctl_talk_guarded(void *arg, const struct ctl_guard *g, struct err *err)
{
	struct ctl *c = arg;

	c->guard = g;
	int status = ctl_talk(c, err);

	if (status)
		ctl_drop_file(c);
	return status;
}

int ctl_set_param(json_t *params, const char *request, const char *name, const char *text, struct err *err)
{
	const struct control_request *r = control_find(request, err);
	const struct control_param *p = r ? r->params : NULL;
	json_t *v = NULL;

	while (p && p->name && strcmp(p->name, name))
		p++;
	if (!p || !p->name)
		return err_set(err, -EINVAL, "'%s' has no parameter '%s'", request, name);
	int rc = control_parse_param(&v, p, text, err);

	return rc ? rc : json_object_set_new(params, name, v) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

int ctl_ask(const char *path, const char *name, json_t *params, int fd, json_t **result, struct err *err)
{
	struct ctl c = { .request = control_find(name, err), .fd = { fd }, .n_fds = fd >= 0,
			 .params = params ? params : json_object() };
	AUTO(json_decref) json_t *doc = NULL;
	AUTO(free) char *text = NULL;
	AUTO_FD int sock = unixsock_connect(path, err);
	int r = sock < 0 ? sock : 0;

	c.sock = sock;
	if (!r)
		r = ctl_send(&c, err);
	if (!r)
		r = ctl_receive(&c, &text, &doc, err);
	json_decref(c.params);
	if (r <= 0)
		return r < 0 ? r : err_set(err, -EPIPE, "the machine has closed the connection without an answer");
	json_t *error = json_object_get(doc, "error");
	if (error)
		return err_set(err, strcmp(ctl_string(error, "code"), "EINPROGRESS") ? -EIO : -EINPROGRESS, "%s",
			       ctl_string(error, "message"));
	if (result)
		*result = json_incref(json_object_get(doc, "result"));
	return 0;
}

/* The machine cannot, in its jail. What one that has been taken over calls its socket may be anything of this user's. */
static void ctl_remove_socket(const char *path)
{
	struct stat st;

	if (path && !lstat(path, &st) && S_ISSOCK(st.st_mode))
		unlink(path);
}

static int ctl_run(struct ctl *c, const char *path, int argc, char **argv)
{
	struct err err = ERR_INIT;

	c->machine = path;
	int r = ctl_parse(c, argc, argv, &err);

	if (r > 0) {
		if (!control_print_help(stdout, c->request->name))
			control_print_request(stdout, c->request);
		return CTL_DONE;
	}
	if (r < 0)
		return ctl_fail(CTL_USAGE, &err);
	c->sock = unixsock_connect(path, &err);
	if (c->sock < 0)
		return ctl_fail(CTL_LOST, &err);
	if (c->console_socket && ctl_sweep_start(c->console_socket, c->fd[0], c->sock, &err) < 0)
		return ctl_fail(CTL_REFUSED, &err);
	if (c->path) {
		r = ctl_guarded(ctl_talk_guarded, c, &err);
		free(c->tmp_path);      /* renamed, or removed */
		c->tmp_path = NULL;
		return r < 0 ? ctl_fail(CTL_LOST, &err) : r;
	}
	if (strcmp(c->request->name, "unplug"))
		return ctl_talk(c, &err);
	AUTO(json_decref) json_t *sockets = ctl_plug_sockets(path, control_get_string(c->params, "device", ""));

	r = ctl_talk(c, &err);
	for (size_t i = 0; r == CTL_DONE && i < json_array_size(sockets); i++)
		ctl_remove_socket(json_string_value(json_array_get(sockets, i)));
	return r;
}

/* "agent VERB" is the request agent-VERB, unless there is more to it. */
static char *ctl_agent_request(const char *verb)
{
	static const char *const own[] = { "exec", "read", "write" };
	char *name = NULL;

	for (size_t i = 0; i < ARRAY_LEN(own); i++) {
		if (!strcmp(verb, own[i]))
			return NULL;
	}
	return asprintf(&name, "agent-%s", verb) < 0 ? NULL : name;
}

int ctl_main(int argc, char **argv)
{
	struct ctl c = { .fd = { -1 }, .secret = -1, .sock = -1, .params = json_object() };
	struct err err = ERR_INIT;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		control_print_usage(stdout);
		return CTL_DONE;
	}
	if (argc < 3) {
		control_print_usage(stderr);
		return CTL_USAGE;
	}
	if (argc == 4 && !strcmp(argv[3], "--help") && control_print_help(stdout, argv[2])) {
		json_decref(c.params);
		return CTL_DONE;
	}
	if (!strcmp(argv[2], "fork")) {
		int r = ctl_fork(argv[1], argc - 3, argv + 3, &err);

		json_decref(c.params);
		return r ? ctl_fail(r, &err) : r;
	}
	if (!strcmp(argv[2], "upgrade")) {
		int r = ctl_upgrade(argv[1], argc - 3, argv + 3, &err);

		json_decref(c.params);
		return r ? ctl_fail(r, &err) : r;
	}
	bool is_agent = !strcmp(argv[2], "agent");
	AUTO(free) char *verb = is_agent && argc > 3 ? ctl_agent_request(argv[3]) : NULL;

	if (is_agent && !verb) {
		int r = ctl_agent(argv[1], argc - 3, argv + 3, &err);

		json_decref(c.params);
		return err.code ? ctl_fail(r, &err) : r;
	}
	c.request = control_find(verb ? verb : argv[2], &err);
	if (!c.request)
		return ctl_fail(CTL_USAGE, &err);
	int status = ctl_run(&c, argv[1], argc - 3 - is_agent, argv + 3 + is_agent);
	if (status)
		ctl_drop_file(&c);
	for (unsigned i = 0; i < c.n_fds; i++)
		close(c.fd[i]);
	auto_fd(&c.secret);
	auto_fd(&c.sock);
	json_decref(c.params);
	free(c.path);
	free(c.tmp_path);
	free(c.console_socket);
	return status;
}
