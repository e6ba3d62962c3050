/* SPDX-License-Identifier: Apache-2.0 */
#include "node/history.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/endian.h"
#include "util/err.h"

static const struct ring {
	unsigned step;          /* seconds */
	unsigned slots;
} rings[] = { { 5, 720 }, { 60, 1440 }, { 900, 2976 } };

enum { VERSION = 1, HEADER_LEN = 16, SLOT_LEN = 4 * (2 + USAGE_FIELDS) };
static const char magic[4] = "vivH";

static const char *const names[USAGE_FIELDS] = {
	[USAGE_CPU] = "cpu", [USAGE_MEMORY] = "memory", [USAGE_READ] = "read", [USAGE_WRITTEN] = "written",
	[USAGE_RECEIVED] = "received", [USAGE_SENT] = "sent", [USAGE_STORAGE] = "storage",
};

const char *usage_name(enum usage_field f)
{
	return names[f];
}

json_t *usage_json(const struct usage *u)
{
	json_t *o = json_object();

	for (unsigned f = 0; o && f < USAGE_FIELDS; f++)
		json_object_set_new(o, names[f], json_real(u->v[f]));
	return o;
}

/* --- slots ---------------------------------------------------- */

struct slot {
	uint32_t number;        /* of its step */
	double seconds;
	struct usage u;
};

static float get_float(const uint8_t *p)
{
	uint32_t bits = get_le32(p);
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static void put_float(uint8_t *p, double v)
{
	float f = (float)v;
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	put_le32(p, bits);
}

/* False: it is not what was written. */
static bool slot_get(struct slot *s, const uint8_t raw[SLOT_LEN], unsigned step)
{
	s->number = get_le32(raw);
	s->seconds = get_float(raw + 4);
	for (unsigned f = 0; f < USAGE_FIELDS; f++) {
		s->u.v[f] = get_float(raw + 8 + 4 * f);
		if (!isfinite(s->u.v[f]) || s->u.v[f] < 0)
			return false;
	}
	return s->seconds > 0 && s->seconds <= 2.0 * step;
}

static void slot_put(const struct slot *s, uint8_t raw[SLOT_LEN])
{
	put_le32(raw, s->number);
	put_float(raw + 4, s->seconds);
	for (unsigned f = 0; f < USAGE_FIELDS; f++)
		put_float(raw + 8 + 4 * f, s->u.v[f]);
}

static void slot_mix(struct slot *s, const struct usage *u, double seconds)
{
	double all = s->seconds + seconds;

	for (unsigned f = 0; f < USAGE_FIELDS; f++)
		s->u.v[f] = (s->u.v[f] * s->seconds + u->v[f] * seconds) / all;
	s->seconds = all;
}

static off_t ring_at(unsigned ring, uint64_t number)
{
	off_t at = HEADER_LEN;

	for (unsigned i = 0; i < ring; i++)
		at += (off_t)rings[i].slots * SLOT_LEN;
	return at + (off_t)(number % rings[ring].slots) * SLOT_LEN;
}

/* --- writing ---------------------------------------------------- */

static bool has_header(int fd)
{
	uint8_t h[HEADER_LEN];

	return pread(fd, h, sizeof(h), 0) == HEADER_LEN && !memcmp(h, magic, sizeof(magic)) && get_le32(h + 4) == VERSION;
}

static int write_header(int fd)
{
	uint8_t h[HEADER_LEN] = { 0 };

	memcpy(h, magic, sizeof(magic));
	put_le32(h + 4, VERSION);
	if (ftruncate(fd, 0) < 0)
		return -errno;
	ssize_t n = pwrite(fd, h, sizeof(h), 0);
	return n < 0 ? -errno : n == HEADER_LEN ? 0 : -EIO;
}

static int add_to_ring(int fd, unsigned ring, int64_t now, double seconds, const struct usage *u)
{
	uint8_t raw[SLOT_LEN];
	unsigned step = rings[ring].step;
	uint64_t number = (uint64_t)now / step;
	off_t at = ring_at(ring, number);
	struct slot s;

	if (pread(fd, raw, sizeof(raw), at) != SLOT_LEN || !slot_get(&s, raw, step) || s.number != number)
		s = (struct slot){ .number = (uint32_t)number };
	if (seconds > step)
		seconds = step;
	/* The same step twice over: the clock was set back. */
	if (s.seconds + seconds > 2.0 * step)
		s = (struct slot){ .number = (uint32_t)number };
	slot_mix(&s, u, seconds);
	slot_put(&s, raw);
	ssize_t n = pwrite(fd, raw, sizeof(raw), at);
	return n < 0 ? -errno : n == SLOT_LEN ? 0 : -EIO;
}

int history_add(const char *path, int64_t now, double seconds, const struct usage *u, struct err *err)
{
	AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = fd < 0 ? -errno : 0;

	if (now < 0 || now / rings[0].step > UINT32_MAX || !(seconds > 0))
		return err_set(err, -EINVAL, "the clock says %lld, which is no time of a history", (long long)now);
	if (!r && !has_header(fd))
		r = write_header(fd);
	for (unsigned i = 0; !r && i < ARRAY_LEN(rings); i++)
		r = add_to_ring(fd, i, now, seconds, u);
	return r < 0 ? err_set(err, r, "cannot write '%s': %s", path, strerror(-r)) : 0;
}

/* --- reading ---------------------------------------------------- */

/* One ring as it is read: MERGE steps make a value. */
struct view {
	unsigned ring, step, merge, n;
	uint64_t first;         /* number of the first step */
};

static struct view view_of(int64_t now, unsigned span, unsigned points)
{
	struct view v = { .ring = 0 };

	while (v.ring + 1 < ARRAY_LEN(rings) && (uint64_t)rings[v.ring].step * rings[v.ring].slots < span)
		v.ring++;
	v.step = rings[v.ring].step;
	unsigned steps = (span + v.step - 1) / v.step;
	v.merge = (steps + points - 1) / points;
	v.n = (steps + v.merge - 1) / v.merge;
	/* Values begin at multiples of their length, so that they stay the same as time goes on. */
	uint64_t last = (uint64_t)now / v.step / v.merge;
	v.first = last + 1 > v.n ? (last + 1 - v.n) * v.merge : 0;
	return v;
}

/* The average of value I of V, whose ring's bytes are RAW. False: nothing is known. */
static bool view_value(const struct view *v, const uint8_t *raw, unsigned i, struct slot *out)
{
	const struct ring *r = &rings[v->ring];

	*out = (struct slot){ .seconds = 0 };
	for (unsigned k = 0; k < v->merge; k++) {
		uint64_t number = v->first + (uint64_t)i * v->merge + k;
		struct slot s;

		if (slot_get(&s, raw + number % r->slots * SLOT_LEN, r->step) && s.number == number)
			slot_mix(out, &s.u, s.seconds);
	}
	return out->seconds > 0;
}

static json_t *view_json(const struct view *v, const uint8_t *raw)
{
	json_t *fields = json_object(), *list[USAGE_FIELDS];

	for (unsigned f = 0; f < USAGE_FIELDS; f++)
		json_object_set_new(fields, names[f], list[f] = json_array());
	for (unsigned i = 0; i < v->n; i++) {
		struct slot s;
		bool is_known = view_value(v, raw, i, &s);

		for (unsigned f = 0; f < USAGE_FIELDS; f++)
			json_array_append_new(list[f], is_known ? json_real(s.u.v[f]) : json_null());
	}
	return json_pack("{s:I, s:I, s:o}", "from", (json_int_t)(v->first * v->step), "step", (json_int_t)v->step * v->merge,
			 "fields", fields);
}

/* The bytes of ring I, from malloc(); what is not in the file is 0. */
static uint8_t *read_ring(const char *path, unsigned i)
{
	size_t len = (size_t)rings[i].slots * SLOT_LEN;
	uint8_t *raw = calloc(1, len);
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (raw && fd >= 0 && has_header(fd) && pread(fd, raw, len, ring_at(i, 0)) < 0)
		memset(raw, 0, len);
	return raw;
}

int history_read(json_t **out, const char *path, int64_t now, unsigned span, unsigned points, struct err *err)
{
	if (span < rings[0].step || span > HISTORY_SPAN_MAX_S)
		return err_set(err, -EINVAL, "a history is of %u to %d seconds", rings[0].step, HISTORY_SPAN_MAX_S);
	if (!points || points > HISTORY_POINTS_MAX)
		return err_set(err, -EINVAL, "a history has 1 to %d points", HISTORY_POINTS_MAX);
	struct view v = view_of(now < 0 ? 0 : now, span, points);
	AUTO(free) uint8_t *raw = read_ring(path, v.ring);
	*out = raw ? view_json(&v, raw) : NULL;
	return *out ? 0 : err_set(err, -ENOMEM, "out of memory");
}
