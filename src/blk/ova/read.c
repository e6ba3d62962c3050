/* SPDX-License-Identifier: Apache-2.0 */
/* read.c - archives: members, descriptor, manifest (DSP0243 1.1, section 5.1: "SHA1(file)= digest"). */
#include "blk/ova/ova_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/cleanup.h"

enum { OVA_CHUNK = 1 << 20 };

static bool ova_ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), k = strlen(end);

	return n > k && !strcasecmp(name + n - k, end);
}

static const struct tar_member *ova_find(const struct ova_archive *a, const char *name)
{
	for (unsigned i = 0; i < a->n_members; i++)
		if (!strcmp(a->members[i].name, name))
			return &a->members[i];
	return NULL;
}

/* A whole small member, with a zero behind it. */
static int ova_text(const struct ova_source *s, const struct tar_member *m, char **out, struct err *err)
{
	if (m->len > OVA_TEXT_MAX)
		return err_set(err, -EFBIG, "'%s' in '%s' is too large", m->name, s->name);
	AUTO(free) char *text = calloc(1, m->len + 1);
	int r = text ? s->read(s->arg, m->off, text, m->len) : -ENOMEM;

	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", s->name, strerror(-r));
	*out = take_ptr(&text);
	return 0;
}

/* --- checksums ---------------------------------------------------------------------------------- */

static int ova_digest(const struct ova_source *s, const struct tar_member *m, const EVP_MD *md, uint8_t *out,
		      unsigned *len)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	AUTO(free) uint8_t *buf = malloc(OVA_CHUNK);
	int r = ctx && buf && EVP_DigestInit_ex(ctx, md, NULL) ? 0 : -ENOMEM;

	for (uint64_t at = 0; !r && at < m->len; at += OVA_CHUNK) {
		size_t n = m->len - at < OVA_CHUNK ? (size_t)(m->len - at) : OVA_CHUNK;

		r = s->read(s->arg, m->off + at, buf, n);
		if (!r && !EVP_DigestUpdate(ctx, buf, n))
			r = -EIO;
	}
	if (!r && !EVP_DigestFinal_ex(ctx, out, len))
		r = -EIO;
	EVP_MD_CTX_free(ctx);
	return r;
}

static const EVP_MD *ova_hash(const char *name)
{
	return !strcasecmp(name, "SHA1") ? EVP_sha1() : !strcasecmp(name, "SHA256") ? EVP_sha256() :
	       !strcasecmp(name, "SHA512") ? EVP_sha512() : NULL;
}

/* One line of the manifest. ONLY: leave out other members; NULL: none. */
static int ova_check_line(const struct ova_source *s, const struct ova_archive *a, char *line, const char *only,
			  struct err *err)
{
	uint8_t got[EVP_MAX_MD_SIZE];
	char hex[2 * EVP_MAX_MD_SIZE + 1] = "", *open = strchr(line, '('), *close = strrchr(line, ')');
	unsigned len = 0;

	if (!open || !close || close < open || !strchr(close, '='))
		return err_set(err, -EINVAL, "the manifest of '%s' is broken", s->name);
	*open = *close = '\0';
	char *want = strchr(close + 1, '=') + 1, *end = line + strlen(line);

	while (end > line && end[-1] == ' ')
		*--end = '\0';
	want += strspn(want, " \t");
	want[strspn(want, "0123456789abcdefABCDEF")] = '\0';
	const EVP_MD *md = ova_hash(line);
	const struct tar_member *m = ova_find(a, open + 1);

	if (only && strcmp(open + 1, only))
		return 0;
	if (!md)
		return err_set(err, -ENOTSUP, "the manifest of '%s' has checksums '%.20s', which are not supported",
			       s->name, line);
	if (!m)
		return err_set(err, -EBADMSG, "the manifest of '%s' names '%.100s', which is not there", s->name,
			       open + 1);
	int r = ova_digest(s, m, md, got, &len);

	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", s->name, strerror(-r));
	for (unsigned i = 0; i < len; i++)
		snprintf(hex + 2 * i, 3, "%02x", got[i]);
	return strcasecmp(hex, want) ? err_set(err, -EBADMSG,
					       "'%s' in '%s' has another checksum than its manifest says: it is "
					       "damaged or was changed", m->name, s->name) : 0;
}

static int ova_check_lines(const struct ova_source *s, const struct ova_archive *a, const char *only, struct err *err)
{
	AUTO(free) char *text = NULL;
	char *save = NULL;
	int r = ova_text(s, &a->members[a->mf], &text, err);

	for (char *line = r ? NULL : strtok_r(text, "\r\n", &save); line && !r; line = strtok_r(NULL, "\r\n", &save))
		if (line[strspn(line, " \t")])
			r = ova_check_line(s, a, line, only, err);
	return r;
}

int ova_check(const struct ova_source *s, const struct ova_archive *a, struct err *err)
{
	if (a->mf < 0)
		return err_set(err, -ENOENT, "'%s' has no manifest: there is nothing to check it against", s->name);
	return ova_check_lines(s, a, NULL, err);
}

/* --- opening ------------------------------------------------------------------------------------ */

static int ova_find_parts(const struct ova_source *s, struct ova_archive *a, struct err *err)
{
	a->ovf = a->mf = -1;
	for (unsigned i = 0; i < a->n_members; i++) {
		if (ova_ends_with(a->members[i].name, ".ovf")) {
			if (a->ovf >= 0)
				return err_set(err, -EINVAL, "'%s' has several descriptors", s->name);
			a->ovf = (int)i;
		}
		if (ova_ends_with(a->members[i].name, ".mf") && a->mf < 0)
			a->mf = (int)i;
	}
	return a->ovf < 0 ? err_set(err, -EINVAL, "'%s' has no descriptor (.ovf)", s->name) : 0;
}

static int ova_place_disks(const struct ova_source *s, struct ova_archive *a, struct err *err)
{
	for (unsigned i = 0; i < a->info.n_disks; i++) {
		struct blk_ova_disk *d = &a->info.disks[i];
		const struct tar_member *m = ova_find(a, d->file);

		if (!m)
			return err_set(err, -EINVAL, "disk '%s' should be '%s' in '%s', which is not there", d->id,
				       d->file, s->name);
		d->off = m->off;
		d->len = m->len;
	}
	return 0;
}

int ova_open(const struct ova_source *s, struct ova_archive *a, struct err *err)
{
	AUTO(free) char *text = NULL;
	int r = tar_list(s, a->members, OVA_MEMBERS_MAX, &a->n_members, err);

	if (!r)
		r = ova_find_parts(s, a, err);
	if (!r && a->mf >= 0)
		r = ova_check_lines(s, a, a->members[a->ovf].name, err);
	if (!r)
		r = ova_text(s, &a->members[a->ovf], &text, err);
	if (!r)
		r = ovf_parse(text, a->members[a->ovf].len, s->name, &a->info, err);
	a->info.has_manifest = a->mf >= 0;
	return r ? r : ova_place_disks(s, a, err);
}

/* --- files -------------------------------------------------------------------------------------- */

static int ova_fd_read(void *arg, uint64_t off, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len) {
		ssize_t n = pread(*(int *)arg, to, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		to += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* An archive begins with the name of a member, a descriptor with '<' after a mark or white space. */
static bool ova_is_descriptor(int fd)
{
	uint8_t head[16] = "";
	const uint8_t *p = head;

	if (pread(fd, head, sizeof(head) - 1, 0) < 1)
		return false;
	p += memcmp(p, "\xef\xbb\xbf", 3) ? 0 : 3;
	return p[strspn((const char *)p, " \t\r\n")] == '<';
}

/* The files that the descriptor names lie in its folder, nowhere else. */
static int ova_find_beside(const char *path, struct blk_ova_info *out, struct err *err)
{
	const char *slash = strrchr(path, '/');
	struct stat st;

	for (unsigned i = 0; i < out->n_disks; i++) {
		struct blk_ova_disk *d = &out->disks[i];
		AUTO(free) char *file = NULL;

		if (!d->file[0] || strchr(d->file, '/') || !strcmp(d->file, ".."))
			return err_set(err, -EINVAL, "disk '%s' of '%s' is '%s', which is not beside it", d->id, path, d->file);
		if (asprintf(&file, "%.*s%s", slash ? (int)(slash - path) + 1 : 0, path, d->file) < 0)
			return err_set(err, -ENOMEM, "out of memory");
		if (lstat(file, &st) < 0)
			return err_set(err, -errno, "disk '%s' of '%s' should be '%s': %s", d->id, path, file, strerror(errno));
		if (!S_ISREG(st.st_mode))
			return err_set(err, -EINVAL, "disk '%s' of '%s' is '%s', which is no file", d->id, path, file);
		d->len = (uint64_t)st.st_size;
	}
	return 0;
}

static int ova_read_descriptor(const struct ova_source *s, struct blk_ova_info *out, struct err *err)
{
	const struct tar_member all = { .len = s->size };
	AUTO(free) char *text = NULL;
	int r = ova_text(s, &all, &text, err);

	if (!r)
		r = ovf_parse(text, s->size, s->name, out, err);
	out->is_unpacked = true;
	return r ? r : ova_find_beside(s->name, out, err);
}

static int ova_with_file(const char *path, struct blk_ova_info *out, struct err *err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO(free) struct ova_archive *a = calloc(1, sizeof(*a));
	struct ova_source s = { .read = ova_fd_read, .arg = &fd, .name = path };
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	if (!a)
		return err_set(err, -ENOMEM, "out of memory");
	s.size = (uint64_t)st.st_size;
	if (ova_is_descriptor(fd))
		return out ? ova_read_descriptor(&s, out, err) :
			     err_set(err, -ENOTSUP, "'%s' is a descriptor; 'sha256sum' and the like compare the files beside it with its manifest",
				     path);
	int r = ova_open(&s, a, err);

	if (!r && out)
		*out = a->info;
	return r || out ? r : ova_check(&s, a, err);
}

int blk_ova_read(const char *path, struct blk_ova_info *out, struct err *err)
{
	return ova_with_file(path, out, err);
}

int blk_ova_verify(const char *path, struct err *err)
{
	return ova_with_file(path, NULL, err);
}
