/* SPDX-License-Identifier: Apache-2.0 */
/* output.h - results on standard output: text for people, one JSON document for programs. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <stdint.h>
#include <stdio.h>

struct cli;
struct err;
struct json_t;

/* Print DOC, which is taken, as JSON. -ENOMEM when DOC is NULL. */
int output_json(struct json_t *doc, struct err *err);
/* An error as JSON: {"error": {"status": N, "code": "ENOSPC", "message": "..."}}. */
void output_json_error(int status, int code, const char *message);

/* BYTES for people: "20 GiB", "1.5 MiB", "512 bytes". */
enum { OUTPUT_SIZE_LEN = 32 };
const char *output_size(char buf[OUTPUT_SIZE_LEN], uint64_t bytes);
/* TEXT from an image: control characters, which could do something to the terminal, become '?'. */
void output_text(FILE *to, const char *text);

#endif
