/* SPDX-License-Identifier: Apache-2.0 */
/* metadata_answer.h - a request to the metadata service, answered: may it be, and with what. Who asks is known by then. Loop thread. */
#ifndef NODE_METADATA_ANSWER_H
#define NODE_METADATA_ANSWER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct metadata_reply;
struct metadata_request;
struct node;

/* Who asks; all is borrowed. */
struct metadata_caller {
	struct node *node;
	const char *project, *instance, *uid;
	const uint8_t *key;             /* of tokens: METADATA_KEY_LEN bytes */
	/* What stands at PATH, as metadata_get() has it, for the instance whose document is DOC. */
	int (*get)(void *arg, const json_t *doc, const char *path, char **out, size_t *len);
	void *arg;
};

void metadata_answer(const struct metadata_caller *c, const struct metadata_request *rq, struct metadata_reply *reply);

#endif
