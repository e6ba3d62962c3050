/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/client_priv.h"
#include "cli/progress.h"

struct upload {
	struct progress *p;
	int fd;
	uint64_t base, at, size;        /* in the file; from there on */
	int code;                       /* of the disk or the user: negative errno */
};

static size_t on_read(char *buf, size_t size, size_t n, void *arg)
{
	struct upload *u = arg;
	uint64_t left = u->size - u->at;
	size_t want = left < size * n ? (size_t)left : size * n;
	ssize_t got;

	do {
		got = pread(u->fd, buf, want, (off_t)(u->base + u->at));
	} while (got < 0 && errno == EINTR);
	u->code = got < 0 ? -errno : got || !want ? progress_update(u->p, u->at, u->size) : -EIO;
	if (u->code)
		return CURL_READFUNC_ABORT;
	u->at += (uint64_t)got;
	return (size_t)got;
}

int client_upload(struct client *cl, const char *path, int fd, uint64_t base, uint64_t off, uint64_t size, struct progress *p,
		  struct err *err)
{
	struct upload u = { .p = p, .fd = fd, .base = base, .at = off, .size = size };
	struct client_reply reply = { .data = NULL };
	struct curl_slist *headers = client_headers(cl, "application/octet-stream");
	char range[96];
	long status = 0;

	snprintf(range, sizeof(range), "content-range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, off, size - 1, size);
	headers = cl->lib.slist_append(headers, range);
	/* Nothing is gained by asking before a body whether it is wanted. */
	headers = cl->lib.slist_append(headers, "expect:");
	int r = client_setup(cl, "PUT", path, headers, err);
	cl->lib.easy_setopt(cl->curl, CURLOPT_UPLOAD, 1L);
	cl->lib.easy_setopt(cl->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)(size - off));
	cl->lib.easy_setopt(cl->curl, CURLOPT_READFUNCTION, on_read);
	cl->lib.easy_setopt(cl->curl, CURLOPT_READDATA, &u);
	cl->lib.easy_setopt(cl->curl, CURLOPT_WRITEFUNCTION, client_on_reply);
	cl->lib.easy_setopt(cl->curl, CURLOPT_WRITEDATA, &reply);
	CURLcode c = r ? CURLE_OK : cl->lib.easy_perform(cl->curl);
	cl->lib.easy_getinfo(cl->curl, CURLINFO_RESPONSE_CODE, &status);
	cl->lib.slist_free_all(headers);
	if (!r && u.code == -EINTR)
		r = err_set(err, -EINTR, "interrupted; the same command goes on from here");
	else if (!r && u.code < 0)
		r = err_set(err, u.code, "cannot read the file: %s", strerror(-u.code));
	else if (!r && status >= 400)
		r = client_error_of(status, reply.data, reply.len, err);
	else if (!r && c != CURLE_OK)
		r = client_explain(cl, (int)c, err);
	free(reply.data);
	return r;
}
