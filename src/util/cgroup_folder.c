/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup_folder.c - where a process's control group is in the file system (proc(5), "/proc/pid/mountinfo"; cgroups(7), "/proc files"). */
#include <stdio.h>
#include <string.h>
#include "util/cgroup.h"

enum { FIELDS = 6 };    /* of a line of mountinfo that are before those that need not be there: number, parent, device, root, place, options */

/* Is WORD one of LIST, LEN bytes long, with commas between? */
static bool has_word(const char *list, size_t len, const char *word)
{
	size_t n = strlen(word);

	for (size_t at = 0; at < len; at++) {
		const char *comma = memchr(list + at, ',', len - at);
		size_t one = comma ? (size_t)(comma - list) - at : len - at;

		if (one == n && !memcmp(list + at, word, n))
			return true;
		at += one;
	}
	return false;
}

/* The group's name in its hierarchy, in a line "NUMBER:CONTROLLERS:NAME". NULL: it is in none. */
static const char *find_group(const char *cgroup, const char *controller, size_t *len)
{
	for (const char *line = cgroup; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		size_t end = strcspn(line, "\n");
		const char *list = memchr(line, ':', end), *name = list ? memchr(list + 1, ':', end - (size_t)(list + 1 - line)) : NULL;

		if (!name)
			continue;
		size_t list_len = (size_t)(name - list - 1);
		if (controller[0] ? !has_word(list + 1, list_len, controller) : (list_len || strncmp(line, "0:", 2) != 0))
			continue;
		*len = end - (size_t)(name + 1 - line);
		return name + 1;
	}
	return NULL;
}

/* What is \040 and the like in TEXT, LEN bytes long, as it is. False: no room. */
static bool decode(const char *text, size_t len, char *out, size_t cap)
{
	size_t n = 0;

	for (size_t at = 0; at < len; at++, n++) {
		unsigned byte = (unsigned char)text[at];

		if (byte == '\\' && at + 3 < len && sscanf(text + at + 1, "%3o", &byte) == 1)
			at += 3;
		if (n + 1 >= cap)
			return false;
		out[n] = (char)byte;
	}
	out[n] = 0;
	return true;
}

/* A line of mountinfo as far as it is of a control group's hierarchy: its fields, type and options of the superblock. */
struct mount {
	const char *field[FIELDS];
	size_t len[FIELDS];
	const char *type, *options;
};

static bool read_mount(const char *line, struct mount *m)
{
	size_t end = strcspn(line, "\n");
	const char *at = line;

	for (unsigned k = 0; k < FIELDS; k++) {
		m->field[k] = at;
		m->len[k] = strcspn(at, " \n");
		at += m->len[k];
		if (*at++ != ' ')
			return false;
	}
	/* Fields that need not be there come before the dash. */
	while (at < line + end && strncmp(at, "- ", 2) != 0) {
		at += strcspn(at, " \n");
		if (*at++ != ' ')
			return false;
	}
	if (at >= line + end)
		return false;
	m->type = at + 2;
	m->options = m->type + strcspn(m->type, " \n");
	m->options += *m->options == ' ';
	m->options += strcspn(m->options, " \n");
	m->options += *m->options == ' ';
	return true;
}

static bool is_of(const struct mount *m, const char *controller)
{
	static const char unified[] = "cgroup2 ", other[] = "cgroup ";

	if (!controller[0])
		return !strncmp(m->type, unified, sizeof(unified) - 1);
	return !strncmp(m->type, other, sizeof(other) - 1) && has_word(m->options, strcspn(m->options, "\n"), controller);
}

bool cgroup_folder(const char *cgroup, const char *mountinfo, const char *controller, char *folder, size_t cap)
{
	size_t len, n;
	const char *group = find_group(cgroup, controller, &len);
	char name[CGROUP_PATH_MAX], root[CGROUP_PATH_MAX];
	struct mount m;

	/* "/..": outside of this process's view. */
	if (!group || len >= sizeof(name) || (len >= 3 && !strncmp(group, "/..", 3)))
		return false;
	snprintf(name, sizeof(name), "%.*s", (int)len, group);
	for (const char *line = mountinfo; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		if (!read_mount(line, &m) || !is_of(&m, controller) || !decode(m.field[3], m.len[3], root, sizeof(root)) ||
		    !decode(m.field[4], m.len[4], folder, cap))
			continue;
		n = strcmp(root, "/") != 0 ? strlen(root) : 0;
		if (strncmp(name, root, n) != 0 || (name[n] && name[n] != '/'))
			continue;
		const char *below = !strcmp(name + n, "/") ? "" : name + n;
		size_t at = strlen(folder);
		if (at + strlen(below) + 1 > cap)
			continue;
		strcpy(folder + at, below);
		return true;
	}
	return false;
}
