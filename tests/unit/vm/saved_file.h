/* SPDX-License-Identifier: Apache-2.0 */
/* saved_file.h - a small saved machine in a memory file, for tests of such files. */
#ifndef TESTS_UNIT_VM_SAVED_FILE_H
#define TESTS_UNIT_VM_SAVED_FILE_H

#include "vm/state_file.h"

enum { SAVED_RAM = 4 << 20 };

struct saved {
	struct gmem *mem;
	int fd;
	uint64_t len;
};

int saved_new_file(void);
/* A machine with two sections and some memory in three pieces; with SEAL (or NULL) encrypted. */
void saved_make(struct saved *s, enum state_packing packing, const struct state_seal *seal);
void saved_fini(struct saved *s);
/* The file FD, which stays open; NULL and a sentence. */
struct state_file *saved_open(int fd, const struct blk_secret *secret, struct err *e);
/* F has its two sections, and nobody has asked for the first one yet. */
void saved_check_sections(struct state_file *f);

#endif
