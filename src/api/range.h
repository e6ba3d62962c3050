/* SPDX-License-Identifier: Apache-2.0 */
/* range.h - the headers Range and Content-Range of a request (RFC 9110 14), as far as one part of a file goes. Any thread. */
#ifndef API_RANGE_H
#define API_RANGE_H

#include <stdint.h>

/* Which part of SIZE bytes does TEXT ("bytes=0-99", "bytes=100-", "bytes=-100") ask for? 1: that in OFF and LEN; 0: all, as it asks for
 * several, in other units or not understandably, which a server may ignore; -ERANGE: for what is not there. */
int http_range(const char *text, uint64_t size, uint64_t *off, uint64_t *len);

/* What does TEXT ("bytes 0-99/1000"), the header Content-Range of a request, say of its content (RFC 9110 14.4, 14.5)? 0; -EINVAL. */
int http_content_range(const char *text, uint64_t *off, uint64_t *len, uint64_t *size);

#endif
