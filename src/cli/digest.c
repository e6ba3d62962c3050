/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/cleanup.h"
#include "util/err.h"

DEFINE_AUTO(EVP_MD_CTX *, EVP_MD_CTX_free)

enum { CHUNK = 1 << 20 };

/* LEN bytes of FD, or to its end, of about SIZE. */
static int read_all(EVP_MD_CTX *ctx, int fd, uint64_t len, uint64_t size, const struct blk_progress *p)
{
	AUTO(free) uint8_t *buf = malloc(CHUNK);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t done = 0; !r && done < len;) {
		ssize_t n = read(fd, buf, len - done < CHUNK ? (size_t)(len - done) : CHUNK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		done += (uint64_t)n;
		r = EVP_DigestUpdate(ctx, buf, (size_t)n) ? blk_progress(p, done, size) : -ENOMEM;
	}
	return r;
}

static int digest(int fd, const EVP_MD *md, uint64_t max, uint64_t size, char *text, const struct blk_progress *p)
{
	AUTO(EVP_MD_CTX_free) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t bytes[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	int r = ctx && EVP_DigestInit_ex(ctx, md, NULL) ? read_all(ctx, fd, max, size, p) : -ENOMEM;

	if (!r && !EVP_DigestFinal_ex(ctx, bytes, &len))
		r = -ENOMEM;
	for (unsigned i = 0; !r && i < len; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return r;
}

int digest_part(int fd, uint64_t off, uint64_t size, char text[DIGEST_TEXT_MAX], const struct blk_progress *p)
{
	if (lseek(fd, (off_t)off, SEEK_SET) < 0)
		return -errno;
	return digest(fd, EVP_sha256(), size, size, text, p);
}

int digest_file(const char *path, const char *algorithm, char text[DIGEST_TEXT_MAX], const struct blk_progress *p, struct err *err)
{
	const EVP_MD *md = !strcmp(algorithm, "sha256") ? EVP_sha256() : !strcmp(algorithm, "sha512") ? EVP_sha512() : NULL;
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (!md)
		return err_set(err, -EINVAL, "'%.40s' is no checksum that is known: sha256, sha512", algorithm);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	int r = digest(fd, md, UINT64_MAX, (uint64_t)st.st_size, text, p);
	if (r == -EINTR)
		return err_set(err, r, "interrupted");
	return r < 0 ? err_set(err, r, "cannot read '%s': %s", path, strerror(-r)) : 0;
}

int digest_check(const char *path, const char *wanted, const struct blk_progress *p, struct err *err)
{
	const char *colon = strchr(wanted, ':');
	char algorithm[16], text[DIGEST_TEXT_MAX];

	if (!colon)
		return err_set(err, -EINVAL, "'%.150s' is no checksum: write 'sha256:' or 'sha512:' and its digits", wanted);
	snprintf(algorithm, sizeof(algorithm), "%.*s", (int)(colon - wanted), wanted);
	int r = digest_file(path, algorithm, text, p, err);
	if (!r && strcasecmp(text, colon + 1) != 0)
		r = err_set(err, -EBADMSG, "the %s of '%s' is %s, and not %.128s: it was not sent as it was, or is another file", algorithm, path,
			    text, colon + 1);
	return r;
}
