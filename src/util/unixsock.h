/* SPDX-License-Identifier: Apache-2.0 */
/* unixsock.h - Unix stream sockets that have a name in the file system. Any thread. */
#ifndef UTIL_UNIXSOCK_H
#define UTIL_UNIXSOCK_H

#include <sys/types.h>

struct err;

enum { UNIXSOCK_PATH_MAX = 106 };      /* the kernel's limit, less a character for unixsock_listen() */

/* Listen at PATH, which gets the permissions MODE before anybody can connect (0: as the umask
 * says); whoever sees PATH can connect. A socket that an earlier process has left behind is replaced;
 * -EADDRINUSE when one still listens. A non-blocking descriptor, close on exec; the caller unlinks PATH. */
int unixsock_listen(const char *path, mode_t mode, int backlog, struct err *err);

/* Connect to PATH. A blocking descriptor, close on exec. */
int unixsock_connect(const char *path, struct err *err);

#endif
