/* SPDX-License-Identifier: Apache-2.0 */
/* text.c - UUIDs, and names of parent images as Microsoft's formats have them. */
#include "blk/bat/bat.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "util/endian.h"

void bat_uuid_make(uint8_t uuid[16])
{
	if (getrandom(uuid, 16, 0) != 16)
		memset(uuid, 0x5a, 16);
	uuid[7] = (uint8_t)((uuid[7] & 0x0f) | 0x40);
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

const char *bat_uuid_text(const uint8_t u[16], char text[BAT_UUID_TEXT])
{
	snprintf(text, BAT_UUID_TEXT, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[3],
		 u[2],
		 u[1], u[0], u[5], u[4], u[7], u[6], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
	return text;
}

char *bat_from_utf16(const uint8_t *p, size_t units, bool is_big)
{
	char *out = malloc(units * 3 + 1), *o = out;

	for (size_t i = 0; out && i < units; i++) {
		uint32_t c = is_big ? get_be16(p + i * 2) : get_le16(p + i * 2);

		if (!c)
			break;
		if (c >= 0xd800 && c < 0xe000) {
			uint32_t low = i + 1 < units ? (is_big ? get_be16(p + i * 2 + 2) : get_le16(p + i * 2 + 2)) : 0;

			if (c >= 0xdc00 || low < 0xdc00 || low >= 0xe000) {
				free(out);
				return NULL;
			}
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
			*o++ = (char)(0xf0 | c >> 18);
			*o++ = (char)(0x80 | (c >> 12 & 0x3f));
			*o++ = (char)(0x80 | (c >> 6 & 0x3f));
			*o++ = (char)(0x80 | (c & 0x3f));
			i++;
		} else if (c >= 0x800) {
			*o++ = (char)(0xe0 | c >> 12);
			*o++ = (char)(0x80 | (c >> 6 & 0x3f));
			*o++ = (char)(0x80 | (c & 0x3f));
		} else if (c >= 0x80) {
			*o++ = (char)(0xc0 | c >> 6);
			*o++ = (char)(0x80 | (c & 0x3f));
		} else {
			*o++ = c == '\\' ? '/' : (char)c;
		}
	}
	if (out)
		*o = '\0';
	return out;
}

char *bat_path_of(char *path)
{
	char *p = path;

	if (!p)
		return NULL;
	if (((p[0] | 0x20) >= 'a' && (p[0] | 0x20) <= 'z' && p[1] == ':') || !strncmp(p, "//", 2))
		p = strrchr(p, '/') ? strrchr(p, '/') + 1 : p;
	while (!strncmp(p, "./", 2))
		p += 2;
	memmove(path, p, strlen(p) + 1);
	return path;
}

int bat_to_utf16(const char *text, uint16_t *out, size_t cap)
{
	const uint8_t *p = (const uint8_t *)text;
	size_t n = 0;

	while (*p) {
		unsigned len = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 :
			       *p >= 0xf0 && *p < 0xf5 ? 4 : 0;
		uint32_t c = len == 1 ? *p : len ? *p & (0xffu >> (len + 1)) : 0;

		for (unsigned i = 1; i < len; i++) {
			if ((p[i] & 0xc0) != 0x80)
				return -EINVAL;
			c = c << 6 | (p[i] & 0x3f);
		}
		if (!len || n + 2 > cap)
			return -EINVAL;
		if (c >= 0x10000) {
			out[n++] = (uint16_t)(0xd800 + ((c - 0x10000) >> 10));
			c = 0xdc00 + ((c - 0x10000) & 0x3ff);
		}
		out[n++] = c == '/' ? '\\' : (uint16_t)c;
		p += len;
	}
	return (int)n;
}
