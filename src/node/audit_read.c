/* SPDX-License-Identifier: Apache-2.0 */
/* audit_read.c - reading and checking the audit log. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/audit_files.h"
#include "util/err.h"

/* What ends a line: ,"hash":"64 digits"} */
static const char hash_key[] = ",\"hash\":\"";
enum { TAIL_LEN = sizeof(hash_key) - 1 + SECRET_HASH_LEN + 2 };

void audit_path(char path[AUDIT_PATH_MAX], const char *dir, int64_t first)
{
	snprintf(path, AUDIT_PATH_MAX, "%s/audit-%012" PRId64 ".log", dir, first);
}

/* --- lines ---------------------------------------------------- */

struct audit_lines {
	FILE *f;
	char *line;
	size_t cap;
};

int audit_lines_open(struct audit_lines **out, const char *path, struct err *err)
{
	struct audit_lines *l = calloc(1, sizeof(*l));

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->f = fopen(path, "re");
	if (!l->f) {
		int r = err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));

		free(l);
		return r;
	}
	*out = l;
	return 0;
}

const char *audit_lines_next(struct audit_lines *l, size_t *len)
{
	ssize_t n = getline(&l->line, &l->cap, l->f);

	if (n <= 0 || l->line[n - 1] != '\n')
		return NULL;
	l->line[n - 1] = 0;
	*len = (size_t)n - 1;
	return l->line;
}

void audit_lines_close(struct audit_lines *l)
{
	if (!l)
		return;
	fclose(l->f);
	free(l->line);
	free(l);
}

bool audit_parse(struct audit_record *out, const char *line, size_t len)
{
	char hash[SECRET_HASH_LEN + 1];
	AUTO(json_decref) json_t *doc = json_loadb(line, len, 0, NULL);
	const char *prev = json_string_value(json_object_get(doc, "prev")),
		   *own = json_string_value(json_object_get(doc, "hash"));

	*out = (struct audit_record){ .head.seq = json_integer_value(json_object_get(doc, "seq")) };
	if (out->head.seq < 1 || !prev || !own || strlen(prev) != SECRET_HASH_LEN || strlen(own) != SECRET_HASH_LEN ||
	    len < TAIL_LEN)
		return false;
	memcpy(out->prev, prev, SECRET_HASH_LEN);
	memcpy(out->head.hash, own, SECRET_HASH_LEN);
	AUTO(free) char *bare = strndup(line, len - TAIL_LEN + 1);
	if (!bare)
		return false;
	bare[len - TAIL_LEN] = '}';
	secret_hash(hash, bare, len - TAIL_LEN + 1);
	out->is_hash_right = !memcmp(line + len - TAIL_LEN, hash_key, sizeof(hash_key) - 1) && !strcmp(hash, own);
	return true;
}

/* --- files ---------------------------------------------------- */

struct numbers { int64_t *first; size_t n; };

static void numbers_clear(struct numbers *f)
{
	free(f->first);
}

static int by_number(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* The files in DIR by number. */
static int list_files(struct numbers *out, const char *dir, struct err *err)
{
	DIR *d = opendir(dir);
	const struct dirent *e;

	if (!d)
		return err_set(err, -errno, "cannot open '%s': %s", dir, strerror(errno));
	while ((e = readdir(d)) != NULL) {
		long long first;
		int end = 0;

		if (sscanf(e->d_name, "audit-%12lld.log%n", &first, &end) != 1 || !end || e->d_name[end])
			continue;
		int64_t *more = realloc(out->first, (out->n + 1) * sizeof(*more));
		if (!more) {
			closedir(d);
			return err_set(err, -ENOMEM, "out of memory");
		}
		out->first = more;
		out->first[out->n++] = first;
	}
	closedir(d);
	if (out->n)
		qsort(out->first, out->n, sizeof(*out->first), by_number);
	return 0;
}

int audit_newest(const char *dir, int64_t *first, struct err *err)
{
	__attribute__((cleanup(numbers_clear))) struct numbers f = { NULL, 0 };
	int r = list_files(&f, dir, err);

	if (!r && f.n)
		*first = f.first[f.n - 1];
	return r;
}

int audit_last_of_older(const char *dir, int64_t first, struct audit_head *out, struct err *err)
{
	__attribute__((cleanup(numbers_clear))) struct numbers f = { NULL, 0 };
	int r = list_files(&f, dir, err);
	char path[AUDIT_PATH_MAX];
	off_t whole;

	while (!r && f.n && f.first[f.n - 1] >= first)
		f.n--;
	if (r < 0 || !f.n)
		return r;
	audit_path(path, dir, f.first[f.n - 1]);
	return audit_last(path, out, &whole, err);
}

/* --- the end of a file ---------------------------------------------------- */

enum { TAIL_FIRST = 4096, TAIL_GROWTH = 8 };

/* The last record of TEXT, which begins with a line (IS_WHOLE) or within one. 1: there is one; 0: not in these lines. */
static int find_last(struct audit_head *out, const char *text, size_t len, bool is_whole)
{
	struct audit_record rec;

	while (len) {
		const char *before = memrchr(text, '\n', --len);
		const char *line = before ? before + 1 : text;

		if (!before && !is_whole)
			return 0;
		if (audit_parse(&rec, line, (size_t)(text + len - line))) {
			*out = rec.head;
			return 1;
		}
		len = (size_t)(line - text);
	}
	return 0;
}

/* As audit_last(), of the last LEN of SIZE bytes. 0: that is too little to say. */
static int try_tail(int fd, off_t size, size_t len, struct audit_head *out, off_t *whole)
{
	AUTO(free) char *text = malloc(len);
	ssize_t n = text ? pread(fd, text, len, size - (off_t)len) : -1;

	if (n != (ssize_t)len)
		return text ? (n < 0 ? -errno : -EIO) : -ENOMEM;
	const char *end = memrchr(text, '\n', len);
	bool is_all = (off_t)len == size;

	if (end)
		*whole = size - (off_t)(text + len - end - 1);
	else if (is_all)
		*whole = 0;
	return (end && find_last(out, text, (size_t)(end + 1 - text), is_all)) || is_all;
}

int audit_last(const char *path, struct audit_head *out, off_t *whole, struct err *err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;

	for (size_t len = TAIL_FIRST; !r; len *= TAIL_GROWTH)
		r = try_tail(fd, st.st_size, (off_t)len < st.st_size ? len : (size_t)st.st_size, out, whole);
	return r < 0 ? err_set(err, r, "cannot read '%s': %s", path, strerror(-r)) : 0;
}

/* --- reading ---------------------------------------------------- */

static bool is_wanted(const struct audit_query *q, const json_t *doc)
{
	const char *user = json_string_value(json_object_get(doc, "user")),
		   *project = json_string_value(json_object_get(doc, "project"));

	return (!q->before || json_integer_value(json_object_get(doc, "seq")) < q->before) &&
	       (!q->user || (user && !strcmp(user, q->user))) && (!q->project || (project && !strcmp(project, q->project)));
}

/* The last Q->limit that are wanted of the file at PATH. */
static int read_file(json_t *out, const char *path, const struct audit_query *q, struct err *err)
{
	AUTO(audit_lines_close) struct audit_lines *l = NULL;
	const char *line;
	size_t len;
	int r = audit_lines_open(&l, path, err);

	while (!r && (line = audit_lines_next(l, &len)) != NULL) {
		json_t *doc = json_loadb(line, len, 0, NULL);

		if (!doc || !is_wanted(q, doc)) {
			json_decref(doc);
			continue;
		}
		/* Twice as many are held, so that the front is cut off seldom. */
		if (json_array_size(out) >= 2 * (size_t)q->limit)
			while (json_array_size(out) > q->limit)
				json_array_remove(out, 0);
		json_array_append_new(out, doc);
	}
	while (json_array_size(out) > q->limit)
		json_array_remove(out, 0);
	return r;
}

int audit_read(json_t **out, const struct audit_query *q, struct err *err)
{
	__attribute__((cleanup(numbers_clear))) struct numbers f = { NULL, 0 };
	AUTO(json_decref) json_t *found = json_array();
	int r = list_files(&f, q->dir, err);

	while (!r && f.n && json_array_size(found) < q->limit) {
		AUTO(json_decref) json_t *part = json_array();
		struct audit_query rest = *q;
		char path[AUDIT_PATH_MAX];

		rest.limit -= (unsigned)json_array_size(found);
		audit_path(path, q->dir, f.first[--f.n]);
		if (q->before && f.first[f.n] >= q->before)
			continue;
		r = read_file(part, path, &rest, err);
		if (!r)
			r = json_array_extend(part, found) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
		json_decref(found);
		found = json_incref(part);
	}
	if (!r)
		*out = json_incref(found);
	return r;
}

/* --- checking ---------------------------------------------------- */

static void find_fault(struct audit_check *c, int64_t seq, const char *why)
{
	c->bad = seq;
	snprintf(c->why, sizeof(c->why), "%s", why);
}

static void check_line(struct audit_check *c, const char *line, size_t len, const struct audit_head *known)
{
	struct audit_record rec;

	if (!audit_parse(&rec, line, len)) {
		find_fault(c, c->head.seq + 1, "it is no record");
	} else if (rec.head.seq != c->head.seq + 1) {
		find_fault(c, c->head.seq + 1, "it is missing");
	} else if (!rec.is_hash_right) {
		find_fault(c, rec.head.seq, "it has been altered: its hash is another");
	} else if (strcmp(rec.prev, c->head.hash) != 0) {
		find_fault(c, rec.head.seq, "it does not follow the record before it");
	} else if (rec.head.seq == known->seq && strcmp(rec.head.hash, known->hash) != 0) {
		find_fault(c, rec.head.seq, "it is another one than the store remembers");
	} else {
		c->head = rec.head;
		c->records++;
	}
}

int audit_verify(struct audit_check *out, const char *dir, const struct audit_head *known, struct err *err)
{
	__attribute__((cleanup(numbers_clear))) struct numbers f = { NULL, 0 };
	struct audit_check c = { .records = 0 };
	int r = list_files(&f, dir, err);

	memset(c.head.hash, '0', SECRET_HASH_LEN);
	for (size_t i = 0; !r && !c.bad && i < f.n; i++) {
		AUTO(audit_lines_close) struct audit_lines *l = NULL;
		char path[AUDIT_PATH_MAX];
		const char *line;
		size_t len;

		audit_path(path, dir, f.first[i]);
		r = audit_lines_open(&l, path, err);
		while (!r && !c.bad && (line = audit_lines_next(l, &len)) != NULL)
			check_line(&c, line, len, known);
	}
	if (!r && !c.bad && c.head.seq < known->seq)
		find_fault(&c, c.head.seq + 1, "it and what followed have been cut off");
	if (!r)
		*out = c;
	return r;
}
