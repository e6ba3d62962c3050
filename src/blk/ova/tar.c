/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/ova/tar.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"

struct tar_header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
	char magic[6], version[2], uname[32], gname[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "ustar header");

/* Octal digits, or with the first bit set a big-endian number. */
static bool tar_number(const char *field, size_t len, uint64_t *out)
{
	uint64_t v = 0;
	size_t i = 0;

	if (field[0] & 0x80) {
		v = field[0] & 0x7f;
		for (i = 1; i < len; i++) {
			if (v >> 55)
				return false;
			v = v << 8 | (uint8_t)field[i];
		}
		*out = v;
		return true;
	}
	while (i < len && field[i] == ' ')
		i++;
	for (; i < len && field[i] >= '0' && field[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(field[i] - '0');
	for (; i < len; i++)
		if (field[i] && field[i] != ' ')
			return false;
	*out = v;
	return true;
}

static uint64_t tar_sum(const struct tar_header *h)
{
	const uint8_t *p = (const uint8_t *)h;
	uint64_t sum = 0;

	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += i >= offsetof(struct tar_header, checksum) && i < offsetof(struct tar_header, type) ? ' ' : p[i];
	return sum;
}

/* Names are of the archive's own folder: no '/', nothing that prints badly. */
static bool tar_name(const struct tar_header *h, char *out)
{
	const char *from = h->name;

	if (h->prefix[0] && !memcmp(h->magic, "ustar", 6))
		return false;
	if (from[0] == '.' && from[1] == '/')
		from += 2;
	snprintf(out, TAR_NAME_MAX, "%.*s", (int)(sizeof(h->name) - (size_t)(from - h->name)), from);
	for (const char *p = out; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '/')
			return false;
	return out[0] && strcmp(out, ".") && strcmp(out, "..");
}

static int tar_member(const struct ova_source *s, const struct tar_header *h, uint64_t off, struct tar_member *out,
		      struct err *err)
{
	uint64_t sum, len;

	if (memcmp(h->magic, "ustar", 5) || !tar_number(h->checksum, sizeof(h->checksum), &sum) || sum != tar_sum(h))
		return err_set(err, -EINVAL, "'%s' is %s: there is no tar header at byte %" PRIu64, s->name,
			       off ? "damaged" : "no archive", off);
	if (h->type != '0' && h->type != '\0')
		return err_set(err, -EINVAL, "'%s' has a member of type '%c', where only files may be", s->name,
			       h->type > ' ' && h->type < 0x7f ? h->type : '?');
	if (!tar_name(h, out->name))
		return err_set(err, -EINVAL, "'%s' has a member that lies in a folder, or has an impossible name",
			       s->name);
	if (!tar_number(h->size, sizeof(h->size), &len) || !range_fits(off + TAR_BLOCK, len, s->size))
		return err_set(err, -EINVAL, "'%s' has been cut off: it ends in its member '%s'; copy or make it again", s->name, out->name);
	out->off = off + TAR_BLOCK;
	out->len = len;
	return 0;
}

int tar_list(const struct ova_source *s, struct tar_member *list, unsigned max, unsigned *n, struct err *err)
{
	static const struct tar_header zero;
	struct tar_header h;
	uint64_t off = 0;

	*n = 0;
	while (range_fits(off, TAR_BLOCK, s->size)) {
		int r = s->read(s->arg, off, &h, sizeof(h));

		if (r < 0)
			return err_set(err, r, "cannot read '%s': %s", s->name, strerror(-r));
		if (!memcmp(&h, &zero, sizeof(h)))
			break;
		if (*n == max)
			return err_set(err, -EFBIG, "'%s' has more than %u members", s->name, max);
		r = tar_member(s, &h, off, &list[*n], err);
		if (r < 0)
			return r;
		for (unsigned i = 0; i < *n; i++)
			if (!strcmp(list[i].name, list[*n].name))
				return err_set(err, -EINVAL, "'%s' has two members of the name '%s'", s->name,
					       list[i].name);
		off = align_up(list[*n].off + list[*n].len, TAR_BLOCK);
		(*n)++;
	}
	return 0;
}

int tar_header(uint8_t *block, const char *name, uint64_t len, uint64_t mtime)
{
	struct tar_header h = { .magic = "ustar", .version = { '0', '0' }, .type = '0' };

	if (strlen(name) >= sizeof(h.name))
		return -ENAMETOOLONG;
	strcpy(h.name, name);
	snprintf(h.mode, sizeof(h.mode), "%07o", 0644u);
	snprintf(h.uid, sizeof(h.uid), "%07o", 0u);
	snprintf(h.gid, sizeof(h.gid), "%07o", 0u);
	snprintf(h.mtime, sizeof(h.mtime), "%011" PRIo64, mtime & 077777777777);
	if (len < 1ull << 33) {
		snprintf(h.size, sizeof(h.size), "%011" PRIo64, len);
	} else {
		h.size[0] = (char)0x80;
		for (int i = 0; i < 8; i++)
			h.size[11 - i] = (char)(len >> (8 * i));
	}
	snprintf(h.checksum, sizeof(h.checksum), "%06" PRIo64, tar_sum(&h));
	h.checksum[7] = ' ';
	memcpy(block, &h, sizeof(h));
	return 0;
}
