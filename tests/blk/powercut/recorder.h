/* SPDX-License-Identifier: Apache-2.0 */
/* recorder.h - a back end below the library that records what happens to the files of an image: every write, hole, new
 * length and flush, files that are made, and new names. One clock orders the events of all files; requests end in random
 * order.
 *
 * There is one recorder per process: the library calls ftruncate(), rename() and fsync() without saying for whom, and ours
 * stand before those of the C library. */
#ifndef POWERCUT_RECORDER_H
#define POWERCUT_RECORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "blk/aio.h"

enum { FILES = 64, FOLDER = FILES /* as a file of its own */ };

enum event_kind { EV_WRITE, EV_ZERO, EV_LENGTH, EV_FLUSH, EV_MADE, EV_RENAMED };
struct event {
	enum event_kind kind;
	unsigned file;
	uint64_t off, len, start, done;         /* times */
	uint8_t *data;
	char from[64], to[64];                  /* EV_MADE: TO, EV_RENAMED */
};

/* A file by what it is, whatever its name: as it was when recording began. */
struct rec_file { dev_t dev; ino_t ino; char name[64]; uint8_t *base; size_t len; off_t size; };

struct recorder {
	struct event *v;
	size_t n, cap;
	uint64_t now;
	bool is_on;
	uint64_t rng;
	struct rec_file file[FILES];
	unsigned n_files;
};
extern struct recorder recorder;
extern const struct aio_ops recorder_aio;

/* The number of the file behind FD; one that is not known has just been made. */
unsigned recorder_file(int fd);

#endif
