/* SPDX-License-Identifier: Apache-2.0 */
/* fds.h - what a process keeps open. Any thread. */
#ifndef UTIL_FDS_H
#define UTIL_FDS_H

/* Close everything but the three standard descriptors and the N of KEEP, in any order; -1 in there stands for nothing. */
void fds_close_others(const int *keep, unsigned n);

#endif
