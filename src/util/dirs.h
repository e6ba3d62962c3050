/* SPDX-License-Identifier: Apache-2.0 */
/* dirs.h - where the platform keeps things: root's daemon in the system's directories, a user's in that user's
 * (XDG Base Directory Specification 0.8). Any thread. */
#ifndef UTIL_DIRS_H
#define UTIL_DIRS_H

/* State, images, disks: /var/lib/viv or $XDG_DATA_HOME/viv. From malloc(); NULL: out of memory. */
char *dirs_data(void);
/* Sockets: /run/viv or $XDG_RUNTIME_DIR/viv. */
char *dirs_run(void);

/* A folder NAME of files that are installed with this program: ../share/vivarium/NAME or, in a build tree, ../NAME. From malloc(); NULL: it is
 * not there. */
char *dirs_shared(const char *name);
/* A program that is installed with this one: beside it, in ../libexec/vivarium or, in a build tree, ../scripts. From
 * malloc(); NULL: it is not there. */
char *dirs_program(const char *name);

#endif
