/* SPDX-License-Identifier: Apache-2.0 */
/* name.c - names of files that stand in images. They are as hostile as the rest of the image. */
#include "blk/core_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The protocol before a colon, as in "nbd://host/export"; 0: a plain path. */
static size_t name_protocol(const char *name)
{
	size_t n = strcspn(name, ":/");

	return name[n] == ':' ? n : 0;
}

static int name_check(const char **name, const char *image, struct err *err)
{
	if (!strncmp(*name, "file:", 5))
		*name += 5;
	size_t n = name_protocol(*name);

	if (n)
		return err_set(err, -ENOTSUP, "'%s' needs '%s', and protocol '%.*s' is not known", image, *name,
			       (int)n, *name);
	if (!**name)
		return err_set(err, -EINVAL, "'%s' names a file without a name", image);
	return 0;
}

/* The directory part of IMAGE, with its slash: as a length. */
static int name_dir(const char *image)
{
	const char *slash = strrchr(image, '/');

	return slash ? (int)(slash - image) + 1 : 0;
}

int blk_name_resolve(char **out, const char *image, const char *name, struct err *err)
{
	int r = name_check(&name, image, err);

	if (r < 0)
		return r;
	if (asprintf(out, "%.*s%s", name[0] == '/' ? 0 : name_dir(image), image, name) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

int blk_name_open_confined(const char *image, const char *name, bool is_readonly, struct err *err)
{
	struct open_how how = { .flags = (is_readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
	int r = name_check(&name, image, err);

	if (r < 0)
		return r;
	AUTO(free) char *dir = strndup(image, (size_t)name_dir(image));

	if (!dir)
		return err_set(err, -ENOMEM, "out of memory");
	AUTO_FD int dir_fd = open(dir[0] ? dir : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = dir_fd < 0 ? -1 : (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));

	if (fd >= 0)
		return fd;
	if (errno == EXDEV || name[0] == '/')
		return err_set(err, -EACCES, "'%s' needs '%s', which is not below its own directory", image, name);
	return err_set(err, -errno, "cannot open '%s', which '%s' needs: %s", name, image, strerror(errno));
}
