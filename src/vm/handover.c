/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/handover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "vm/migrate_link.h"

enum { OPTIONS_MAX = 32 << 10 };

/* What a row of the record means; part of the format. */
enum handed_role { ROLE_MEMORY = 1, ROLE_CONTROL, ROLE_JANITOR, ROLE_LOG, ROLE_NET, ROLE_CONSOLE, ROLE_VSOCK };

/* A descriptor's place: which role, of which device, which part of it. */
struct handed_row {
	uint8_t role, index, part, reserved;
};
_Static_assert(sizeof(struct handed_row) == 4, "docs/formats/migration.md");

void handed_init(struct handed *h)
{
	memset(h, 0xff, sizeof(*h));    /* -1 */
	h->options = NULL;
	h->is_ours = false;
}

void handed_fini(struct handed *h)
{
	free(h->options);
	handed_init(h);
}

static int *handed_at(struct handed *h, struct handed_row r)
{
	switch (r.role) {
	case ROLE_MEMORY:
		return &h->memory;
	case ROLE_CONTROL:
		return &h->control;
	case ROLE_JANITOR:
		return &h->janitor;
	case ROLE_LOG:
		return &h->log;
	case ROLE_VSOCK:
		return &h->vsock;
	case ROLE_NET:
		return r.index < CONFIG_NETS_MAX ? &h->net[r.index] : NULL;
	case ROLE_CONSOLE:
		return r.index < CONFIG_CONSOLES_MAX && r.part < HANDED_PARTS ? &h->console[r.index][r.part] : NULL;
	}
	return NULL;
}

/* Each place, one after the other; false: there are no more. */
static bool handed_next(struct handed_row *r)
{
	if (r->role == ROLE_CONSOLE && ++r->part < HANDED_PARTS)
		return true;
	r->part = 0;
	if ((r->role == ROLE_CONSOLE && ++r->index < CONFIG_CONSOLES_MAX) || (r->role == ROLE_NET && ++r->index < CONFIG_NETS_MAX))
		return true;
	r->index = 0;
	return r->role++ < ROLE_VSOCK;
}

void handed_close(struct handed *h)
{
	struct handed_row r = { .role = ROLE_MEMORY };

	do {
		int *fd = handed_at(h, r);

		auto_fd(fd);
		*fd = -1;
	} while (handed_next(&r));
	handed_fini(h);
}

void handed_take(struct handed *h)
{
	handed_close(h);
	h->is_ours = true;
}

int handover_send(struct migrate_link *l, const struct handed *h, struct err *err)
{
	size_t len = h->options ? strlen(h->options) : 0;
	struct handed_row row[MIGRATE_FDS_MAX], r = { .role = ROLE_MEMORY };
	uint8_t buf[4 + sizeof(row) + OPTIONS_MAX];
	int fds[MIGRATE_FDS_MAX];
	unsigned n = 0;

	do {
		int fd = *handed_at((struct handed *)(uintptr_t)h, r);

		if (fd >= 0 && n < MIGRATE_FDS_MAX) {
			row[n] = r;
			fds[n++] = fd;
		}
	} while (handed_next(&r));
	if (len > OPTIONS_MAX)
		return err_set(err, -E2BIG, "the options of this process are too long to be handed over");
	put_le32(buf, n);
	memcpy(buf + 4, row, n * sizeof(row[0]));
	if (len)
		memcpy(buf + 4 + n * sizeof(row[0]), h->options, len);
	return migrate_send_fds(l, MIGRATE_HANDS, buf, 4 + n * sizeof(row[0]) + len, fds, n, err);
}

static int handover_sort(struct handed *h, const struct migrate_record *rec, int *fds, unsigned n_fds)
{
	uint32_t n = rec->len < 4 ? UINT32_MAX : get_le32(rec->p);

	if (n != n_fds || rec->len - 4 < n * sizeof(struct handed_row))
		return -EPROTO;
	for (uint32_t i = 0; i < n; i++) {
		struct handed_row r;

		memcpy(&r, rec->p + 4 + i * sizeof(r), sizeof(r));
		int *at = handed_at(h, r);
		if (!at || *at >= 0)
			return -EPROTO;
		*at = fds[i];
		fds[i] = -1;
	}
	size_t head = 4 + n * sizeof(struct handed_row);
	h->options = strndup((const char *)rec->p + head, rec->len - head);
	return h->options ? 0 : -ENOMEM;
}

int handover_receive(struct migrate_link *l, struct handed *h, struct err *err)
{
	struct migrate_record rec;
	int fds[MIGRATE_FDS_MAX];
	unsigned n = 0;

	handed_init(h);
	int r = migrate_recv_fds(l, MIGRATE_BIT(MIGRATE_HANDS), &rec, fds, &n, err);
	if (!r && handover_sort(h, &rec, fds, n) < 0)
		r = err_set(err, -EPROTO, "what was handed over makes no sense");
	for (unsigned i = 0; i < n; i++)
		auto_fd(&fds[i]);
	if (r < 0)
		handed_close(h);
	return r;
}
