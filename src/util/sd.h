/* SPDX-License-Identifier: Apache-2.0 */
/* sd.h - what systemd and services tell each other (sd_listen_fds(3), sd_notify(3)); without systemd nothing. */
#ifndef UTIL_SD_H
#define UTIL_SD_H

struct err;

/* The Unix socket, listening at PATH, that this process was started with. Made close-on-exec. -ENOENT: there is none; -EINVAL: what it was
 * started with is something else, with the sentence. To be called once, before threads: it takes the variables away. */
int sd_take_listener(const char *path, struct err *err);

/* "READY=1", "STOPPING=1"... Any thread. */
void sd_tell(const char *state);

#endif
