/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include "blk/opts.h"
#include "util/err.h"
#include "util/log.h"

enum { SECRET_STEP = 4096, SECRET_LINE_MAX = 512 };

/* Never realloc(): it would leave a copy behind. */
static int secret_grow(struct blk_secret *s, size_t *cap, struct err *err)
{
	size_t more = *cap ? *cap * 2 : SECRET_STEP;
	uint8_t *data = malloc(more);

	if (!data)
		return err_set(err, -ENOMEM, "out of memory");
	if (s->len)
		memcpy(data, s->data, s->len);
	size_t len = s->len;

	blk_secret_wipe(s);
	s->data = data;
	s->len = len;
	*cap = more;
	return 0;
}

static int secret_read(struct blk_secret *out, int fd, const char *name, struct err *err)
{
	AUTO(blk_secret_wipe) struct blk_secret s = { 0 };
	size_t cap = 0;

	for (;;) {
		int r = s.len < cap ? 0 : secret_grow(&s, &cap, err);

		if (r < 0)
			return r;
		ssize_t n = read(fd, s.data + s.len, cap - s.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, -errno, "cannot read a passphrase from '%s': %s", name, strerror(errno));
		if (!n)
			break;
		s.len += (size_t)n;
		if (s.len > BLK_SECRET_MAX)
			return err_set(err, -EFBIG, "'%s' has more than %d bytes, which is no passphrase", name,
				       BLK_SECRET_MAX);
	}
	if (!s.len)
		return err_set(err, -ENOKEY, "'%s' is empty: there is no passphrase in it", name);
	*out = s;
	s = (struct blk_secret){ 0 };
	return 0;
}

int blk_secret_read_file(struct blk_secret *s, const char *path, struct err *err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return err_set(err, -errno, "cannot open the passphrase's file '%s': %s", path, strerror(errno));
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_mode & 077)
		log_warn("the passphrase in '%s' can be read by others: chmod 600 '%s'", path, path);
	return secret_read(s, fd, path, err);
}

int blk_secret_read_fd(struct blk_secret *s, int fd, struct err *err)
{
	char name[32];

	snprintf(name, sizeof(name), "descriptor %d", fd);
	return secret_read(s, fd, name, err);
}

int blk_secret_set(struct blk_secret *s, const void *data, size_t len, struct err *err)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(copy, data, len);
	s->data = copy;
	s->len = len;
	return 0;
}

int blk_secret_ask(struct blk_secret *s, const char *question, struct err *err)
{
	AUTO_FD int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	struct termios before, silent;
	char line[SECRET_LINE_MAX];

	if (fd < 0 || tcgetattr(fd, &before) < 0)
		return err_set(err, -ENOTTY,
			       "there is no terminal to ask for a passphrase; give it with key-file or key-fd");
	silent = before;
	silent.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
	silent.c_lflag |= ICANON;
	if (dprintf(fd, "%s: ", question) < 0 || tcsetattr(fd, TCSAFLUSH, &silent) < 0)
		return err_set(err, -EIO, "cannot ask for a passphrase on the terminal");
	ssize_t n = read(fd, line, sizeof(line));       /* in canonical mode: one line */

	(void)tcsetattr(fd, TCSAFLUSH, &before);
	(void)!write(fd, "\n", 1);
	if (n > 0 && line[n - 1] == '\n')
		n--;
	int r = n > 0 ? blk_secret_set(s, line, (size_t)n, err) : err_set(err, -ENOKEY, "no passphrase was given");

	explicit_bzero(line, sizeof(line));
	return r;
}

void blk_secret_wipe(struct blk_secret *s)
{
	if (s->data)
		explicit_bzero(s->data, s->len);
	free(s->data);
	*s = (struct blk_secret){ 0 };
}

int blk_secret_from_opts(struct blk_secret *s, const struct blk_opts *o, struct err *err)
{
	bool has_file = o && blk_opts_has(o, "key-file") && blk_opts_is_set(o, "key-file");
	bool has_fd = o && blk_opts_has(o, "key-fd") && blk_opts_is_set(o, "key-fd");

	if (!has_file && !has_fd)
		return 0;
	if (has_file && has_fd)
		return err_set(err, -EINVAL, "key-file and key-fd both say where the passphrase is; give one");
	int r = has_file ? blk_secret_read_file(s, blk_opts_str(o, "key-file"), err) :
		blk_secret_read_fd(s, (int)blk_opts_num(o, "key-fd"), err);

	return r < 0 ? r : 1;
}
