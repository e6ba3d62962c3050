/* SPDX-License-Identifier: Apache-2.0 */
/* pid.h - the number of this process where /proc is of: what others on the host know it by, also when it is the first of a PID namespace.
 * While /proc can be seen; afterwards what getpid() says. Any thread. */
#ifndef UTIL_PID_H
#define UTIL_PID_H

#include <sys/types.h>

pid_t pid_of_self(void);

#endif
