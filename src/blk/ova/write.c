/* SPDX-License-Identifier: Apache-2.0 */
/* write.c - a new archive: descriptor, disks in its order, manifest. Written once from front to back into a file beside
 * its place, made durable, then given its name. */
#include "blk/ova/ova_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "util/cleanup.h"

/* With what stands behind it, the name of a member of a ustar archive is short enough. */
enum { WRITE_CHUNK = 1 << 20, OVA_MACHINE_NAME_MAX = 70 };

struct ova_writer {
	int fd;
	uint64_t mtime;
	FILE *manifest;
	char *manifest_text;
	size_t manifest_len;
	uint8_t *buf;
	struct err *err;
	const char *path;
	const struct blk_progress *progress;
	uint64_t n_done, n_total;       /* bytes of disks */
};

static int writer_put(struct ova_writer *w, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = write(w->fd, p, len);

		if (n < 0 && errno != EINTR)
			return err_set(w->err, -errno, "cannot write '%s': %s", w->path, strerror(errno));
		p += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int writer_header(struct ova_writer *w, const char *name, uint64_t len)
{
	uint8_t block[TAR_BLOCK];

	if (tar_header(block, name, len, w->mtime) < 0)
		return err_set(w->err, -ENAMETOOLONG, "'%s' is too long a name for a member of an archive", name);
	return writer_put(w, block, sizeof(block));
}

static int writer_pad(struct ova_writer *w, uint64_t len)
{
	static const uint8_t zero[TAR_BLOCK];

	return writer_put(w, zero, (size_t)(align_up(len, TAR_BLOCK) - len));
}

static void writer_note(struct ova_writer *w, const char *name, const uint8_t *digest, unsigned n)
{
	fprintf(w->manifest, "SHA256(%s)= ", name);
	for (unsigned i = 0; i < n; i++)
		fprintf(w->manifest, "%02x", digest[i]);
	fputc('\n', w->manifest);
}

static int writer_text(struct ova_writer *w, const char *name, const char *text, size_t len, bool is_noted)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	int r = writer_header(w, name, len);

	if (!r)
		r = writer_put(w, text, len);
	if (!r)
		r = writer_pad(w, len);
	if (!r && is_noted && EVP_Digest(text, len, digest, &n, EVP_sha256(), NULL))
		writer_note(w, name, digest, n);
	return r;
}

/* LEN bytes of FD: a file that grows or shrinks meanwhile is no disk that is ready. */
static int writer_copy(struct ova_writer *w, const struct blk_ova_member *m, int fd, uint64_t len)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int r = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) ? 0 : err_set(w->err, -ENOMEM, "out of memory");

	for (uint64_t at = 0; !r && at < len;) {
		ssize_t got = read(fd, w->buf, len - at < WRITE_CHUNK ? (size_t)(len - at) : WRITE_CHUNK);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			r = err_set(w->err, got < 0 ? -errno : -EIO, "cannot read '%s': %s", m->path,
				    got < 0 ? strerror(errno) : "it has become shorter");
		else
			r = writer_put(w, w->buf, (size_t)got);
		if (!r)
			EVP_DigestUpdate(ctx, w->buf, (size_t)got);
		at += got > 0 ? (uint64_t)got : 0;
		w->n_done += got > 0 ? (uint64_t)got : 0;
		if (!r && blk_progress(w->progress, w->n_done, w->n_total) < 0)
			r = err_set(w->err, -EINTR, "interrupted");
	}
	if (!r && EVP_DigestFinal_ex(ctx, digest, &n))
		writer_note(w, m->name, digest, n);
	EVP_MD_CTX_free(ctx);
	return r;
}

static int writer_disk(struct ova_writer *w, const struct blk_ova_member *m, int fd, uint64_t len)
{
	int r = writer_header(w, m->name, len);

	if (!r)
		r = writer_copy(w, m, fd, len);
	return r ? r : writer_pad(w, len);
}

static int writer_all(struct ova_writer *w, const struct blk_ova_make *m, const int *fds, const uint64_t *sizes)
{
	static const uint8_t end[2 * TAR_BLOCK];
	AUTO(free) char *ovf = ovf_make(m, sizes);
	char name[BLK_OVA_NAME_MAX];
	int r = ovf ? 0 : err_set(w->err, -ENOMEM, "out of memory");

	snprintf(name, sizeof(name), "%.70s.ovf", m->name);
	if (!r)
		r = writer_text(w, name, ovf, strlen(ovf), true);
	for (unsigned i = 0; !r && i < m->n_disks; i++)
		r = writer_disk(w, &m->disks[i], fds[i], sizes[i]);
	if (r < 0 || fflush(w->manifest))
		return r < 0 ? r : err_set(w->err, -ENOMEM, "out of memory");
	snprintf(name, sizeof(name), "%.70s.mf", m->name);
	r = writer_text(w, name, w->manifest_text, w->manifest_len, false);
	if (!r)
		r = writer_put(w, end, sizeof(end));
	return r;
}

/* --- from outside --------------------------------------------------------------------------------- */

static bool write_is_name(const char *s)
{
	if (!s || !s[0] || s[0] == '.')
		return false;
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || strchr("/:()", *s) || *s == 0x7f)
			return false;
	return true;
}

int blk_ova_check_name(const char *name, struct err *err)
{
	if (!write_is_name(name))
		return err_set(err, -EINVAL, "'%s' cannot name a machine in an archive: no '/', ':' or parentheses, and no "
			       "'.' at its beginning", name);
	return strlen(name) > OVA_MACHINE_NAME_MAX ? err_set(err, -ENAMETOOLONG, "the name of a machine in an archive has at most "
							     "%d bytes", OVA_MACHINE_NAME_MAX) : 0;
}

static int write_check(const struct blk_ova_make *m, struct err *err)
{
	int r = blk_ova_check_name(m->name, err);

	if (r < 0)
		return r;
	if (!m->n_disks || m->n_disks > BLK_OVA_DISKS_MAX)
		return err_set(err, -EINVAL, "an archive has from 1 to %d disks", BLK_OVA_DISKS_MAX);
	for (unsigned i = 0; i < m->n_disks; i++) {
		if (!write_is_name(m->disks[i].name))
			return err_set(err, -EINVAL, "'%s' cannot name a file in an archive", m->disks[i].name);
		for (unsigned k = 0; k < i; k++)
			if (!strcmp(m->disks[i].name, m->disks[k].name))
				return err_set(err, -EINVAL, "two disks have the name '%s'", m->disks[i].name);
	}
	return m->is_replacing || access(m->path, F_OK) < 0 ? 0 : err_set(err, -EEXIST, "'%s' is there already",
									  m->path);
}

static int write_open_disks(const struct blk_ova_make *m, int *fds, uint64_t *sizes, struct err *err)
{
	struct stat st;

	for (unsigned i = 0; i < m->n_disks; i++) {
		fds[i] = open(m->disks[i].path, O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0 || fstat(fds[i], &st) < 0)
			return err_set(err, -errno, "cannot open '%s': %s", m->disks[i].path, strerror(errno));
		sizes[i] = (uint64_t)st.st_size;
	}
	return 0;
}

static int write_file(struct ova_writer *w, const struct blk_ova_make *m, const int *fds, const uint64_t *sizes)
{
	AUTO(free) char *temp = NULL;

	if (asprintf(&temp, "%s.new-%u", m->path, (unsigned)getpid()) < 0)
		return err_set(w->err, -ENOMEM, "out of memory");
	w->fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (w->fd < 0)
		return err_set(w->err, -errno, "cannot create '%s': %s", temp, strerror(errno));
	int r = writer_all(w, m, fds, sizes);

	if (!r && (fsync(w->fd) < 0 || rename(temp, m->path) < 0))
		r = err_set(w->err, -errno, "cannot write '%s': %s", m->path, strerror(errno));
	if (r < 0)
		unlink(temp);
	close(w->fd);
	return r;
}

int blk_ova_write(const struct blk_ova_make *m, struct err *err)
{
	struct ova_writer w = { .fd = -1, .mtime = (uint64_t)time(NULL), .err = err, .path = m->path };
	int fds[BLK_OVA_DISKS_MAX];
	uint64_t sizes[BLK_OVA_DISKS_MAX] = { 0 };
	int r = write_check(m, err);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < m->n_disks; i++)
		fds[i] = -1;
	r = write_open_disks(m, fds, sizes, err);
	w.manifest = open_memstream(&w.manifest_text, &w.manifest_len);
	w.buf = malloc(WRITE_CHUNK);
	if (!r && (!w.manifest || !w.buf))
		r = err_set(err, -ENOMEM, "out of memory");
	w.progress = &m->progress;
	for (unsigned i = 0; !r && i < m->n_disks; i++)
		w.n_total += sizes[i];
	if (!r)
		r = write_file(&w, m, fds, sizes);
	if (w.manifest)
		fclose(w.manifest);
	free(w.manifest_text);
	free(w.buf);
	for (unsigned i = 0; i < m->n_disks; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return r;
}
