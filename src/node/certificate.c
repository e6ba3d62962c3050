/* SPDX-License-Identifier: Apache-2.0 */
#include "node/certificate.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "api/http.h"
#include "node/doc.h"
#include "node/events.h"
#include "node/files.h"
#include "node/node.h"
#include "node/tls.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "util/loop.h"

/* Which files they were. */
struct look {
	struct { dev_t dev; ino_t ino; off_t size; struct timespec changed; } file[2];
};

struct certificate {
	struct node *node;
	char *cert, *key, *address;
	bool is_own;
	struct tls_identity *shown;
	struct look tried, seen;        /* as they were when they were read last; at the last look */
	struct loop_timer timer;
	bool is_busy;                   /* a worker looks at the files; */
	bool is_asked;                  /* somebody wants them to be read after that */
	char refused[256];              /* why the files are not shown; "": they are */
	char problem[320];
};

/* --- what is wrong ---------------------------------------------------- */

static void write_problem(struct certificate *c, time_t now)
{
	char when[DOC_TIME_LEN + 1];
	struct err err = ERR_INIT;

	c->problem[0] = 0;
	doc_time(when, c->shown->ends);
	if (tls_check_time(c->shown, now, &err) < 0)
		snprintf(c->problem, sizeof(c->problem), "%s", err.msg);
	else if (c->refused[0])
		snprintf(c->problem, sizeof(c->problem), "a new certificate is not used: %s", c->refused);
	else if (c->shown->ends - now < CERTIFICATE_WARN_S)
		snprintf(c->problem, sizeof(c->problem), "the certificate ends at %s; replace it before", when);
}

/* Whoever listens is told, and the log, when that is not what was wrong before. */
static void judge(struct certificate *c)
{
	char before[sizeof(c->problem)];

	memcpy(before, c->problem, sizeof(before));
	write_problem(c, time(NULL));
	if (!strcmp(before, c->problem))
		return;
	if (c->problem[0])
		log_warn("%s ('%s')", c->problem, c->cert);
	events_tell_node(c->node, "certificate", certificate_view(c));
}

/* --- the files ---------------------------------------------------- */

static struct look look_at(const char *cert, const char *key)
{
	const char *path[] = { cert, key };
	struct look l;
	struct stat st;

	memset(&l, 0, sizeof(l));       /* also what lies between the fields: it is compared as bytes */
	for (unsigned i = 0; i < ARRAY_LEN(path); i++) {
		if (stat(path[i], &st) < 0)
			continue;
		l.file[i].dev = st.st_dev;
		l.file[i].ino = st.st_ino;
		l.file[i].size = st.st_size;
		l.file[i].changed = st.st_mtim;
	}
	return l;
}

static bool is_same(const struct look *a, const struct look *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* One look, on a worker: the files may lie where a disk hangs. */
struct check {
	struct certificate *c;          /* for the loop; of it the worker reads the names, which stay */
	struct look tried, seen;        /* in: those of before; out: those of now */
	bool is_wanted;                 /* to be read, whether it seems changed or not */
	bool is_old;                    /* our own, which is to be made anew */
	bool is_read;                   /* what follows is from the files */
	int made;                       /* of what is made anew: 0, or why not, in WHY_NOT */
	struct err why_not;
	struct tls_identity *id;
};

static int check_files(void *arg, struct err *err)
{
	struct check *k = arg;
	const struct certificate *c = k->c;
	time_t now = time(NULL);

	if (k->is_old)
		k->made = tls_make_certificate(c->cert, c->key, c->address, now, &k->why_not);
	struct look is = look_at(c->cert, c->key);
	/* Two files are not changed at once: they are judged when they have come to rest. */
	k->is_read = k->is_wanted || (k->is_old && k->made >= 0) || (!is_same(&is, &k->tried) && is_same(&is, &k->seen));
	k->seen = is;
	if (!k->is_read)
		return 0;
	k->tried = is;
	int r = tls_load(&k->id, c->cert, c->key, err);
	return r < 0 ? r : tls_check_time(k->id, now, err);
}

/* Show what the files hold, which is good. */
static int show(struct certificate *c, struct check *k, struct err *err)
{
	if (!strcmp(k->id->fingerprint, c->shown->fingerprint))
		return 0;
	int r = http_set_certificate(c->node->http, k->id->cert, k->id->key, k->id->chain);
	if (r < 0)
		return err_set(err, r, "out of memory");
	log_info("a new certificate is shown from now on; its SHA-256 is %s", k->id->fingerprint);
	tls_identity_free(c->shown);
	c->shown = take_ptr(&k->id);
	return 0;
}

static void begin_check(struct certificate *c, bool is_wanted);

static void checked(void *arg, int r, const struct err *why)
{
	struct check *k = arg;
	struct certificate *c = k->c;
	struct err err = *why;

	c->is_busy = false;
	if (!atomic_load(&c->node->is_closing)) {
		c->seen = k->seen;
		c->tried = k->tried;
		if (k->is_read)
			c->refused[0] = 0;
		if (k->is_read && !r)
			r = show(c, k, &err);
		if (k->is_read && r < 0)
			snprintf(c->refused, sizeof(c->refused), "%.255s", err.msg);
		if (k->made < 0)
			snprintf(c->refused, sizeof(c->refused), "%.255s", k->why_not.msg);
		judge(c);
		if (c->is_asked)
			begin_check(c, true);
	}
	tls_identity_free(k->id);
	free(k);
}

static void begin_check(struct certificate *c, bool is_wanted)
{
	time_t now = time(NULL);
	struct check *k = c->is_busy ? NULL : calloc(1, sizeof(*k));

	c->is_asked |= is_wanted;
	if (!k)
		return; /* the timer, or the end of the one under way, comes again */
	/* Of its own, one that ends soon is made anew; one from the future was made before the clock was set back. */
	*k = (struct check){ .c = c, .tried = c->tried, .seen = c->seen, .is_wanted = c->is_asked,
			     .is_old = c->is_own && (c->shown->begins > now || c->shown->ends - now < TLS_RENEW_S) };
	c->is_asked = false;
	c->is_busy = !work_start(c->node->works, check_files, checked, k);
	if (!c->is_busy)
		free(k);
}

void certificate_reload(struct certificate *c)
{
	if (c)
		begin_check(c, true);
}

static void on_timer(struct loop_timer *t)
{
	struct certificate *c = container_of(t, struct certificate, timer);

	begin_check(c, false);
	judge(c);
	loop_timer_set(t, loop_now_ns() + CERTIFICATE_LOOK_S * 1000000000ull);
}

/* --- life ---------------------------------------------------- */

static int find_files(struct certificate *c, const char *cert, const char *key, struct err *err)
{
	AUTO(free) char *dir = node_path(c->node->data_dir, "tls");

	if (!dir)
		return err_set(err, -ENOMEM, "out of memory");
	c->is_own = !cert;
	c->cert = cert ? strdup(cert) : node_path(dir, "cert.pem");
	c->key = cert ? strdup(key ? key : cert) : node_path(dir, "key.pem");
	if (!c->cert || !c->key)
		return err_set(err, -ENOMEM, "out of memory");
	if (cert)
		return 0;
	int r = files_make_dir(dir, err);

	if (!r)
		r = tls_make_certificate(c->cert, c->key, c->address, time(NULL), err);
	return r < 0 ? r : 0;
}

int certificate_open(struct certificate **out, struct node *n, const char *cert, const char *key, const char *address,
		     struct err *err)
{
	AUTO(certificate_close) struct certificate *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->node = n;
	loop_timer_init(n->loop, &c->timer, on_timer);
	c->address = address ? strdup(address) : NULL;
	if (address && !c->address)
		return err_set(err, -ENOMEM, "out of memory");
	int r = find_files(c, cert, key, err);

	if (!r)
		c->tried = c->seen = look_at(c->cert, c->key);
	if (!r)
		r = tls_load(&c->shown, c->cert, c->key, err);
	if (r < 0)
		return r;
	*out = take_ptr(&c);
	return 0;
}

void certificate_start(struct certificate *c)
{
	/* The server has read the files by itself: what is known here is what has to be shown. */
	(void)http_set_certificate(c->node->http, c->shown->cert, c->shown->key, c->shown->chain);
	judge(c);
	loop_timer_set(&c->timer, loop_now_ns() + CERTIFICATE_LOOK_S * 1000000000ull);
}

void certificate_close(struct certificate *c)
{
	if (!c)
		return;
	loop_timer_cancel(&c->timer);
	tls_identity_free(c->shown);
	free(c->cert);
	free(c->key);
	free(c->address);
	free(c);
}

/* --- showing ---------------------------------------------------- */

const char *certificate_file(const struct certificate *c) { return c->cert; }
const char *certificate_key_file(const struct certificate *c) { return c->key; }
const char *certificate_fingerprint(const struct certificate *c) { return c->shown->fingerprint; }
time_t certificate_ends(const struct certificate *c) { return c->shown->ends; }
const char *certificate_problem(const struct certificate *c) { return c->problem; }

json_t *certificate_view(const struct certificate *c)
{
	char ends[DOC_TIME_LEN + 1];

	if (!c)
		return NULL;
	doc_time(ends, c->shown->ends);
	return json_pack("{s:s, s:s, s:b, s:s}", "sha256", c->shown->fingerprint, "ends", ends, "is_own", c->is_own, "problem",
			 c->problem);
}
