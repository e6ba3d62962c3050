/* SPDX-License-Identifier: Apache-2.0 */
/* ui.h - the files of the web console, which the daemon serves beside its API: a folder that the build made. They say
 * nothing about the node, so whoever can connect may read them; what the console does, it does through the API as
 * whoever logs in. Loop thread. */
#ifndef NODE_UI_H
#define NODE_UI_H

#include <stdbool.h>
#include "util/cleanup.h"

struct err;
struct http_request;
struct ui;

/* DIR NULL: the installed one, or that of the build tree; when there is none *OUT is NULL, which ui_answer() takes. */
int ui_open(struct ui **out, const char *dir, struct err *err);
/* NULL is fine. */
void ui_close(struct ui *ui);
DEFINE_AUTO(struct ui *, ui_close)

/* Answers RQ when it asks for one of the files, or for a page of the console, and is true. False: it is for the API. */
bool ui_answer(struct ui *ui, struct http_request *rq);

#endif
