/* SPDX-License-Identifier: Apache-2.0 */
/* desc.c - the descriptor: "Virtual Disk Format 5.0", section "The Descriptor". Lines of "key = value", lines of
 * extents, comments. What is used is checked, the rest is left as it is. */
#include "blk/vmdk/vmdk_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include "util/crc32c.h"

/* The next line at *AT without blanks around it, into BUF; false: no more. *IS_LONG: it did not fit. */
static bool desc_line(const char **at, char *buf, size_t cap, bool *is_long)
{
	const char *p = *at;

	if (!*p)
		return false;
	size_t n = strcspn(p, "\r\n");

	*at = p + n + strspn(p + n, "\r\n");
	while (n && strchr(" \t", *p))
		p++, n--;
	while (n && strchr(" \t", p[n - 1]))
		n--;
	*is_long = n >= cap;
	n = n < cap ? n : cap - 1;
	memcpy(buf, p, n);
	buf[n] = '\0';
	return true;
}

/* The value in a line "KEY = VALUE" or "KEY = "VALUE"", NULL: another key. LINE is changed. */
static char *desc_value(char *line, const char *key)
{
	size_t n = strlen(key);

	if (strncasecmp(line, key, n))
		return NULL;
	char *v = line + n + strspn(line + n, " \t");

	if (*v++ != '=')
		return NULL;
	v += strspn(v, " \t");
	n = strlen(v);
	if (n >= 2 && v[0] == '"' && v[n - 1] == '"') {
		v[n - 1] = '\0';
		v++;
	}
	return v;
}

static bool desc_hex(const char *text, uint32_t *out)
{
	size_t n = strspn(text, "0123456789abcdefABCDEF");

	if (!n || n > 8 || text[n])
		return false;
	*out = (uint32_t)strtoul(text, NULL, 16);
	return true;
}

/* One line with a key that matters. */
static int desc_key(struct vmdk *s, char *line, struct err *err)
{
	char *v;

	if ((v = desc_value(line, "CID"))) {
		if (!desc_hex(v, &s->cid))
			return err_set(err, -EINVAL, "the descriptor of '%s' is damaged: CID '%s'", s->b->name, v);
	} else if ((v = desc_value(line, "parentCID"))) {
		if (!desc_hex(v, &s->parent_cid))
			return err_set(err, -EINVAL, "the descriptor of '%s' is damaged: parentCID '%s'", s->b->name,
				       v);
	} else if ((v = desc_value(line, "createType"))) {
		if (!*v || strlen(v) >= sizeof(s->type))
			return err_set(err, -EINVAL, "the descriptor of '%s' is damaged: createType '%.40s'",
				       s->b->name, v);
		snprintf(s->type, sizeof(s->type), "%s", v);
	} else if ((v = desc_value(line, "parentFileNameHint"))) {
		free(s->parent);
		s->parent = strdup(v);
		if (!s->parent)
			return err_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

static int desc_check_type(const struct vmdk *s, struct err *err)
{
	static const char *const known[] = { "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
					     "twoGbMaxExtentFlat", "streamOptimized", "vmfs", "vmfsSparse", "seSparse",
					     "vmfsThin", "vmfsEagerZeroedThick", "vmfsPreallocated" };

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (!strcasecmp(s->type, known[i]))
			return 0;
	return err_set(err, s->type[0] ? -ENOTSUP : -EINVAL,
		       s->type[0] ? "'%s' is a VMDK image of type '%s', which is not known" :
		       "the descriptor of '%s' has no createType%s", s->b->name, s->type);
}

int vmdk_desc_parse(struct vmdk *s, struct err *err)
{
	const char *at = s->desc;
	char line[VMDK_NAME_MAX + 64];
	bool is_long;
	int r = 0;

	s->cid = s->parent_cid = VMDK_NO_PARENT;
	while (!r && desc_line(&at, line, sizeof(line), &is_long)) {
		if (line[0] == '#')
			continue;
		if (is_long)
			return err_set(err, -EINVAL, "the descriptor of '%s' is damaged: a line is too long",
				       s->b->name);
		r = desc_key(s, line, err);
	}
	return r ? r : desc_check_type(s, err);
}

/* --- extents ---------------------------------------------------------------------------------- */

/* The next word of *AT. */
static char *line_word(char **at)
{
	char *p = *at + strspn(*at, " \t");
	size_t n = strcspn(p, " \t");

	*at = p + n + (p[n] != '\0');
	p[n] = '\0';
	return p;
}

static bool line_number(const char *text, uint64_t *out)
{
	size_t n = strspn(text, "0123456789");

	if (!n || n > 18 || text[n])
		return false;
	*out = strtoull(text, NULL, 10);
	return true;
}

static bool line_kind(const char *type, enum vmdk_kind *kind)
{
	static const struct { const char *name; enum vmdk_kind kind; } types[] = {
		{ "FLAT", VMDK_FLAT }, { "VMFS", VMDK_FLAT }, { "ZERO", VMDK_ZERO }, { "SPARSE", VMDK_SPARSE },
		{ "VMFSSPARSE", VMDK_COWD }, { "SESPARSE", VMDK_SE },
	};

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (!strcmp(type, types[i].name)) {
			*kind = types[i].kind;
			return true;
		}
	}
	return false;
}

/* The rest of a line: "name" and an offset. */
static int line_name(const struct vmdk *s, char *at, struct vmdk_line *out, struct err *err)
{
	at += strspn(at, " \t");
	char *end = *at == '"' ? strchr(at + 1, '"') : NULL;

	if (!end || end == at + 1 || (size_t)(end - at) >= sizeof(out->name))
		return err_set(err, -EINVAL, "the descriptor of '%s' is damaged: an extent without a name", s->b->name);
	*end = '\0';
	snprintf(out->name, sizeof(out->name), "%s", at + 1);
	at = end + 1;
	char *off = line_word(&at);

	if (*off && !line_number(off, &out->off))
		return err_set(err, -EINVAL, "the descriptor of '%s' is damaged: extent '%s' at '%s'", s->b->name,
			       out->name,
			       off);
	return 0;
}

static int line_parse(const struct vmdk *s, char *line, struct vmdk_line *out, struct err *err)
{
	char *at = line, *access = line_word(&at), *sectors = line_word(&at), *type = line_word(&at);

	*out = (struct vmdk_line){ .is_readonly = !strcmp(access, "RDONLY") };
	if (!strcmp(access, "NOACCESS"))
		return err_set(err, -ENOTSUP, "'%s' has an extent that must not be accessed (NOACCESS)", s->b->name);
	if (!line_number(sectors, &out->sectors) || !out->sectors || out->sectors > INT64_MAX / BLK_SECTOR)
		return err_set(err, -EINVAL, "the descriptor of '%s' is damaged: an extent of '%s' sectors", s->b->name,
			       sectors);
	if (!line_kind(type, &out->kind))
		return err_set(err, -ENOTSUP, "'%s' has an extent of type '%s', which is not known", s->b->name, type);
	return out->kind == VMDK_ZERO ? 0 : line_name(s, at, out, err);
}

int vmdk_desc_extent(const struct vmdk *s, const char **at, struct vmdk_line *out, struct err *err)
{
	static const char *const access[] = { "RW ", "RDONLY ", "NOACCESS " };
	char line[VMDK_NAME_MAX + 64];
	bool is_long;

	while (desc_line(at, line, sizeof(line), &is_long)) {
		for (size_t i = 0; i < ARRAY_LEN(access); i++) {
			if (strncmp(line, access[i], strlen(access[i])))
				continue;
			int r = line_parse(s, line, out, err);

			return r < 0 ? r : 1;
		}
	}
	return 0;
}

/* --- the identity of the content --------------------------------------------------------------- */

/* The eight digits after KEY, "CID=" or "parentCID=", at the beginning of a line. */
static char *cid_digits(char *desc, const char *key)
{
	size_t n = strlen(key);

	for (char *line = desc; line && *line; line = strchr(line, '\n')) {
		line += line != desc || *line == '\n';
		if (strncmp(line, key, n))
			continue;
		return strspn(line + n, "0123456789abcdefABCDEF") == 8 ? line + n : NULL;
	}
	return NULL;
}

/* Eight bytes of one sector, so that a power cut leaves the old or the new ones. */
static int cid_write(struct vmdk *s, char *digits, uint32_t cid)
{
	char text[9];

	snprintf(text, sizeof(text), "%08x", cid);
	memcpy(digits, text, 8);
	return blk_co_pwrite(s->b->file, s->desc_off + (uint64_t)(digits - s->desc), text, 8);
}

static bool cid_is_usable(uint32_t cid)
{
	return cid && cid < 0xfffffffe;
}

/* CID 0: any. */
int vmdk_new_cid(struct vmdk *s, uint32_t cid)
{
	char *digits = s->desc ? cid_digits(s->desc, "CID=") : NULL;
	int r = 0;

	co_mutex_lock(&s->cid_lock);
	if (!s->has_new_cid && digits) {
		while (!cid_is_usable(cid) || cid == s->cid)
			if (getrandom(&cid, sizeof(cid), 0) != sizeof(cid))
				cid = s->cid + 1;
		r = cid_write(s, digits, cid);
		if (!r)
			s->cid = cid;
	}
	s->has_new_cid = !r;
	co_mutex_unlock(&s->cid_lock);
	return r;
}

uint32_t vmdk_committed_cid(const struct vmdk *s)
{
	uint8_t both[8];
	uint32_t cid = 0;

	put_le32(both, s->parent_cid);
	put_le32(both + 4, s->cid);
	do
		cid = crc32c(cid, both, sizeof(both));
	while (!cid_is_usable(cid) || cid == s->parent_cid);
	return cid;
}

bool vmdk_has_parent_cid(const struct vmdk *s)
{
	return s->desc && cid_digits(s->desc, "parentCID=");
}

int vmdk_set_parent_cid(struct vmdk *s, uint32_t cid)
{
	char *digits = s->desc ? cid_digits(s->desc, "parentCID=") : NULL;
	int r = digits ? cid_write(s, digits, cid) : -ENOTSUP;

	if (!r)
		s->parent_cid = cid;
	return r;
}

/* --- another size ------------------------------------------------------------------------------- */

/* The digits in the line of the first extent. */
static char *edit_number(char *desc)
{
	for (char *line = desc; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, "RW ", 3))
			continue;
		line += 3 + strspn(line + 3, " \t");
		return strspn(line, "0123456789") ? line : NULL;
	}
	return NULL;
}

/* The end of a comment behind FROM from which N letters can be taken: what comes after it stays where it is. */
static char *edit_comment(char *from, size_t n)
{
	for (char *line = strchr(from, '\n'); line; line = strchr(line + 1, '\n')) {
		size_t len = strcspn(line + 1, "\r\n");

		if (line[1] == '#' && len > n)
			return line + 1 + len;
	}
	return NULL;
}

int vmdk_desc_edit(const struct vmdk *s, uint64_t sectors, struct vmdk_edit *out)
{
	char *text = s->desc ? malloc(s->desc_max + 1) : NULL, digits[24];

	*out = (struct vmdk_edit){ .text = text };
	if (!text)
		return s->desc ? -ENOMEM : -ENOTSUP;
	memcpy(text, s->desc, s->desc_max + 1);
	char *number = edit_number(text), *end;

	if (!number)
		return -ENOTSUP;
	size_t old = strspn(number, "0123456789"), n = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, sectors);

	end = n > old ? edit_comment(number, n - old) : number + old;
	if (!end)
		return -ENOTSUP;
	if (n > old)
		memmove(number + n, number + old, (size_t)(end - number) - n);
	else
		memset(number, ' ', old);
	memcpy(number, digits, n);
	out->from = (size_t)(number - text);
	out->end = (size_t)(end - text);
	return (s->desc_off + out->from) / BLK_SECTOR == (s->desc_off + out->end - 1) / BLK_SECTOR ? 0 : -ENOTSUP;
}

int vmdk_desc_write(struct vmdk *s, const struct vmdk_edit *e)
{
	int r = blk_co_pwrite(s->b->file, s->desc_off + e->from, e->text + e->from, e->end - e->from);

	if (!r)
		r = blk_co_flush(s->b->file);
	if (!r)
		memcpy(s->desc + e->from, e->text + e->from, e->end - e->from);
	return r;
}

/* --- more extents ------------------------------------------------------------------------------- */

/* The last line of an extent. */
static char *last_line(char *desc)
{
	static const char *const access[] = { "RW ", "RDONLY ", "NOACCESS " };
	char *last = NULL;

	for (char *line = desc; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		const char *word = line + strspn(line, " \t");

		for (size_t i = 0; i < ARRAY_LEN(access); i++)
			if (!strncmp(word, access[i], strlen(access[i])))
				last = line;
	}
	return last;
}

int vmdk_desc_grown(const struct vmdk *s, uint64_t sectors, const char *more, char **out)
{
	char *line = s->desc ? last_line(s->desc) : NULL;

	if (!line)
		return -ENOTSUP;
	size_t number = strcspn(line, "0123456789\r\n"), digits = strspn(line + number, "0123456789");
	size_t end = strcspn(line, "\n"), rest = line[end] ? end + 1 : end;

	return asprintf(out, "%.*s%" PRIu64 "%.*s\n%s%s", (int)((size_t)(line - s->desc) + number), s->desc, sectors,
			(int)(end - number - digits), line + number + digits, more, line + rest) < 0 ? -ENOMEM : 0;
}
