/* SPDX-License-Identifier: Apache-2.0 */
/* iso.c - sectors: 16 the primary descriptor (ECMA-119, 8.4), 17 that of Joliet, 18 the end of descriptors, 19 to 22 the path
 * tables, 23 and 24 the two root directories, from 25 on the files. */
#include "node/iso.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "util/cleanup.h"
#include "util/endian.h"
#include "util/err.h"

enum {
	SECTOR = 2048,
	AT_PRIMARY = 16, AT_JOLIET, AT_END, AT_PATHS, AT_ROOT = 23, AT_ROOT_JOLIET, AT_FILES,
	PATH_TABLE_LEN = 10,            /* of a root alone */
	RECORD_HEAD = 33, ROOT_RECORD = 34,
	NAME_CAP = 2 * (ISO_NAME_MAX + 2),
};

struct iso {
	uint8_t *bytes;
	uint32_t n_sectors;
	uint32_t at[ISO_FILES_MAX];     /* first sector of each file */
	const struct iso_file *files;
	unsigned n_files;
};

static uint32_t sectors_of(size_t len)
{
	return (uint32_t)((len + SECTOR - 1) / SECTOR);
}

/* Numbers stand there in both byte orders (7.2.3, 7.3.3). */
static void put_both16(uint8_t *p, uint16_t v)
{
	p[0] = p[3] = (uint8_t)v;
	p[1] = p[2] = (uint8_t)(v >> 8);
}

static void put_both32(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = p[7 - i] = (uint8_t)(v >> (8 * i));
}

/* TEXT and blanks; of Joliet in UCS-2, big-endian. */
static void put_text(uint8_t *p, size_t cap, const char *text, bool is_joliet)
{
	size_t step = is_joliet ? 2 : 1, len = strlen(text);

	for (size_t i = 0; i + step <= cap; i += step) {
		p[i] = 0;
		p[i + step - 1] = i / step < len ? (uint8_t)text[i / step] : ' ';
	}
}

/* --- directories (9.1) ---------------------------------------------------- */

/* A record at P; its length. */
static size_t put_record(uint8_t *p, uint32_t sector, uint32_t len, bool is_dir, const uint8_t *name, size_t name_len)
{
	static const uint8_t date[7] = { 70, 1, 1 };    /* the first of 1970: the disk is the same each time */
	size_t total = RECORD_HEAD + name_len + (name_len + 1) % 2;

	p[0] = (uint8_t)total;
	put_both32(p + 2, sector);
	put_both32(p + 10, len);
	memcpy(p + 18, date, sizeof(date));
	p[25] = is_dir ? 2 : 0;
	put_both16(p + 28, 1);
	p[32] = (uint8_t)name_len;
	memcpy(p + RECORD_HEAD, name, name_len);
	return total;
}

/* As the primary directory may have it (7.5): capitals, digits, '_', and a version. Joliet has it as it is. */
static size_t make_name(uint8_t out[NAME_CAP], const char *name, bool is_joliet)
{
	size_t n = 0;

	for (const char *c = name; *c && n < 2 * ISO_NAME_MAX; c++) {
		if (is_joliet)
			out[n++] = 0;
		out[n++] = is_joliet ? (uint8_t)*c : isalnum((unsigned char)*c) || *c == '.' ? (uint8_t)toupper(*c) : '_';
	}
	if (is_joliet)
		return n;
	out[n++] = ';';
	out[n++] = '1';
	return n;
}

static void put_root(struct iso *d, unsigned sector, bool is_joliet)
{
	uint8_t *p = d->bytes + (size_t)sector * SECTOR, name[NAME_CAP];
	static const uint8_t self = 0, above = 1;

	p += put_record(p, sector, SECTOR, true, &self, 1);
	p += put_record(p, sector, SECTOR, true, &above, 1);
	for (unsigned i = 0; i < d->n_files; i++) {
		size_t len = make_name(name, d->files[i].name, is_joliet);

		p += put_record(p, d->at[i], (uint32_t)d->files[i].len, false, name, len);
	}
}

/* --- descriptors ---------------------------------------------------- */

/* A path table of the root alone (9.4), in each byte order. */
static void put_paths(struct iso *d, unsigned sector, unsigned root)
{
	uint8_t *little = d->bytes + (size_t)sector * SECTOR, *big = little + SECTOR;

	little[0] = big[0] = 1;
	put_le32(little + 2, root);
	little[6] = 1;
	big[5] = (uint8_t)root;
	big[7] = 1;
}

static void put_descriptor(struct iso *d, const char *label, bool is_joliet)
{
	unsigned sector = is_joliet ? AT_JOLIET : AT_PRIMARY, paths = is_joliet ? AT_PATHS + 2 : AT_PATHS;
	unsigned root = is_joliet ? AT_ROOT_JOLIET : AT_ROOT;
	uint8_t *p = d->bytes + (size_t)sector * SECTOR;
	static const uint8_t self = 0;

	p[0] = is_joliet ? 2 : 1;
	memcpy(p + 1, "CD001\1", 6);
	put_text(p + 8, 32, "", is_joliet);
	put_text(p + 40, 32, label, is_joliet);
	put_both32(p + 80, d->n_sectors);
	if (is_joliet)
		memcpy(p + 88, "%/E", 3);       /* UCS-2, level 3 */
	put_both16(p + 120, 1);
	put_both16(p + 124, 1);
	put_both16(p + 128, SECTOR);
	put_both32(p + 132, PATH_TABLE_LEN);
	put_le32(p + 140, paths);
	p[151] = (uint8_t)(paths + 1);
	put_record(p + 156, root, SECTOR, true, &self, 1);
	put_text(p + 190, 128, "", is_joliet);
	put_text(p + 318, 128, "", is_joliet);
	put_text(p + 446, 128, "", is_joliet);
	put_text(p + 574, 128, "VIVARIUM", is_joliet);
	put_text(p + 702, 111, "", is_joliet);
	for (unsigned i = 0; i < 4; i++)
		memset(p + 813 + 17 * i, '0', 16);
	p[881] = 1;
	put_paths(d, paths, root);
}

static int save(const struct iso *d, const char *path, struct err *err)
{
	AUTO(free) char *tmp = NULL;
	size_t len = (size_t)d->n_sectors * SECTOR;

	if (asprintf(&tmp, "%s.tmp", path) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	AUTO_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	ssize_t n = fd < 0 ? -1 : write(fd, d->bytes, len);

	if (n < 0 || (size_t)n < len || rename(tmp, path) < 0)
		return err_set(err, n >= 0 && (size_t)n < len ? -ENOSPC : -errno, "cannot write '%s': %s", path,
			       n >= 0 && (size_t)n < len ? "no space left" : strerror(errno));
	return 0;
}

int iso_write(const char *path, const char *label, const struct iso_file *files, unsigned n, struct err *err)
{
	struct iso d = { .n_sectors = AT_FILES, .files = files, .n_files = n };

	if (n > ISO_FILES_MAX || strlen(label) > ISO_LABEL_MAX)
		return err_set(err, -EINVAL, "a disk of %u files called '%s' cannot be made", n, label);
	for (unsigned i = 0; i < n; i++) {
		d.at[i] = d.n_sectors;
		d.n_sectors += sectors_of(files[i].len);
	}
	d.bytes = calloc(d.n_sectors, SECTOR);
	if (!d.bytes)
		return err_set(err, -ENOMEM, "out of memory");
	put_descriptor(&d, label, false);
	put_descriptor(&d, label, true);
	memcpy(d.bytes + (size_t)AT_END * SECTOR, "\377CD001\1", 7);
	put_root(&d, AT_ROOT, false);
	put_root(&d, AT_ROOT_JOLIET, true);
	for (unsigned i = 0; i < n; i++)
		memcpy(d.bytes + (size_t)d.at[i] * SECTOR, files[i].text, files[i].len);
	int r = save(&d, path, err);
	free(d.bytes);
	return r;
}
