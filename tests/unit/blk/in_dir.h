/* SPDX-License-Identifier: Apache-2.0 */
/* in_dir.h - a directory for the files of a test. */
#ifndef TESTS_UNIT_BLK_IN_DIR_H
#define TESTS_UNIT_BLK_IN_DIR_H

/* The path of NAME in a directory of this process, which is made at the first call and removed with all that is in it when
 * the process ends. The last four answers hold. "." is the directory. */
const char *in_dir(const char *name);

#endif
